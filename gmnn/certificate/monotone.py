"""T2, monotone approach: the distance below which the energy rises at every point of a straight approach of a pair.

docs/certificate.md, "T2", has the statement and the proof.
"""

from typing import NamedTuple

import jax
import numpy as np

from gmnn.certificate import radial_bounds, wall
from gmnn.certificate.lipschitz import MARGIN
from gmnn.model import short_range
from gmnn.model.potential import Potential


class Grid(NamedTuple):
    """Bounds on intervals of everything that depends on a distance, for all pairs of elements.  [E][E]"""

    sensitivity: np.ndarray  # G_e, [E] eV
    bounds: list[list[radial_bounds.Bounds]]
    slopes: list[list[wall.Slopes]]

    def network(self, e: int, f: int, along: bool = False) -> np.ndarray:
        """Bound of the network's force between atoms of elements e and f through their own two centres, eV/Å.  [G]"""
        first, second = self.bounds[e][f], self.bounds[f][e]
        sides = (first.along, second.along) if along else (first.any_way, second.any_way)
        return MARGIN * (self.sensitivity[e] * sides[0] + self.sensitivity[f] * sides[1])


class Monotone(NamedTuple):
    """Radii and bounds of every pair of elements."""

    radii: np.ndarray  # [E, E] Å; NaN where nothing is proved
    network: np.ndarray  # [E, E] Lambda, eV/Å: bound of the network's part of dE/dr wherever the clamp holds
    contacts: np.ndarray  # [E, E] eV/Å: largest contribution of the repulsion of the other atoms


def make_grid(potential: Potential, sensitivity: np.ndarray, rho: np.ndarray) -> Grid:
    """Compute all bounds on one set of intervals per pair; `rho` [E, E] Å are among their ends.

    UserError for a model that is not covered.
    """
    tables = short_range.pair_tables(potential.config, potential.reference)

    def points(e: int, f: int) -> list[float]:
        return [*radial_bounds.switch_points(radial_bounds.radii_of(tables, e, f)), float(rho[e, f])]

    with jax.enable_x64(True):
        bounds = radial_bounds.neighbor_bounds(potential, points)
        n = range(len(bounds))
        upper = {(e, f): wall.slopes(potential, e, f, bounds[e][f].edges) for e in n for f in n if e <= f}
    return Grid(sensitivity, bounds, [[upper[min(e, f), max(e, f)] for f in n] for e in n])


def crowd(terms: np.ndarray, available: np.ndarray | None, n: int) -> float:
    """Largest sum of `n` of the terms [E], each at most `available` [E] times if that is not None."""
    if available is None:
        return float(n * terms.max())
    return float(np.sort(np.repeat(terms, available))[::-1][:n].sum())


def monotone_radii(
    potential: Potential, grid: Grid, rho: np.ndarray, n: int, composition: np.ndarray | None = None
) -> Monotone:
    """Largest r_c of each pair of elements below which dE/dr < 0 is certified.

    `rho` [E, E] Å: no other atom is closer to the two. `n`: at most this many others are within the cutoff of either.
    `composition` [E]: number of atoms of each element, the pair included, or None for any.
    """
    size = len(grid.sensitivity)
    shape = (size, size)
    # largest values, eV/Å, for a mover e and another atom f
    network_most, wall_most, sum_most = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for e in range(size):
        for f in range(size):
            beyond = grid.bounds[e][f].edges[1:] > rho[e, f]
            network, wall_ = grid.network(e, f)[beyond], grid.slopes[e][f].at_most[beyond]
            network_most[e, f], wall_most[e, f] = network.max(initial=0.0), wall_.max(initial=0.0)
            sum_most[e, f] = (network + wall_).max(initial=0.0)
    radii, lambdas, contacts = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    clamp_in = short_range.pair_tables(potential.config, potential.reference).clamp_in
    single = np.eye(size, dtype=int)
    for e in range(size):
        for f in range(e, size):
            others = None if composition is None else composition - single[e] - single[f]
            if others is not None and others.min() < 0:
                continue
            load = [max(crowd(table[m], others, n) for m in (e, f)) for table in (network_most, wall_most, sum_most)]
            centres = grid.network(e, f, along=True)
            ends = grid.bounds[e][f].edges
            clamped = ends[:-1] < clamp_in[e, f] if clamp_in[e, f] > 0 else np.ones(len(centres), bool)
            lambdas[e, f] = lambdas[f, e] = load[0] + centres[clamped].max()
            contacts[e, f] = contacts[f, e] = load[1]
            proved = grid.slopes[e][f].at_least > MARGIN * (centres + load[2])
            last = int(np.argmin(proved)) if not proved.all() else len(proved)
            if last and np.isfinite(load[2]):
                radii[e, f] = radii[f, e] = ends[last]
    return Monotone(radii, lambdas, contacts)
