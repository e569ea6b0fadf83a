"""T3, many close pairs at once: distances that no stationary point of an isolated group of atoms contains.

docs/certificate.md, "T3", has the statement and the proof.
"""

import numpy as np

from gmnn.certificate import wall
from gmnn.certificate.lipschitz import MARGIN
from gmnn.certificate.monotone import Grid


def virial_bound(grid: Grid, composition: np.ndarray) -> float:
    """Upper bound of the network's virial |sum_i x_i dE/dx_i| over all geometries of these atoms, eV.

    `composition` [E]: number of atoms of each element.
    """
    total = 0.0
    for e, count in enumerate(composition):
        for f, others in enumerate(composition - np.eye(len(composition), dtype=int)[e]):
            bounds = grid.bounds[e][f]
            stretch = float((bounds.along * bounds.edges[1:]).max())
            total += float(count) * float(grid.sensitivity[e]) * max(int(others), 0) * stretch
    return MARGIN * total


def stationary_radii(grid: Grid, composition: np.ndarray) -> np.ndarray:
    """Largest r* of each pair of elements with r |V'(r)| > virial bound for every r <= r*.  [E, E] Å

    Radii are NaN where nothing is proved or the structure has no such pair. All are NaN if the repulsion of any pair of
    the structure is not certified to fall, because the proof needs V' <= 0 for every pair.
    """
    size = len(composition)
    radii, bound = np.full((size, size), np.nan), virial_bound(grid, composition)
    present = [(e, f) for e in range(size) for f in range(e, size) if wall.has_pair(composition, e, f)]
    if not all(np.isfinite(grid.slopes[e][f].at_most[1:]).all() for e, f in present):
        return radii
    for e, f in present:
        ends, at_least = grid.bounds[e][f].edges, grid.slopes[e][f].at_least
        inner = np.where(ends[:-1] > 0, ends[:-1] * at_least, ends[1:] * at_least)  # first interval: r |V'| >= V(r)
        proved = inner > bound
        last = int(np.argmin(proved)) if not proved.all() else len(proved)
        if last:
            radii[e, f] = radii[f, e] = ends[last]
    return radii
