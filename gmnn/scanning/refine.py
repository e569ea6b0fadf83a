"""Points between the nodes of the strict scan: no turn of the energy may hide there, and each turn is located.

A cubic through two neighbours with their slopes predicts the slope between them. Where a third point contradicts it,
or where the energies contradict the slopes, the interval is halved, again and again; where dE/dr changes sign, its
root is bisected.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from ase.calculators.calculator import BaseCalculator

from gmnn.scanning.evaluate import Samples, evaluate
from gmnn.scanning.metrics import hermite, scatter
from gmnn.scanning.paths import Array, BondPath

SURPRISE = 0.05  # of the mean |dE/dr| of an interval: a larger miss of the cubic halves it again
N_HALVINGS, MAX_INSERTED, N_BISECTIONS = 8, 400, 18


@dataclass(frozen=True)
class Rounding:
    """What rounding may do to an energy along a curve: errors [m] in eV at places [m] in Å, from outside inwards."""

    places: Array
    errors: Array

    def of(self, distances: Any) -> Any:
        """Six standard errors in eV, at one distance or an array of them (Å)."""
        return 6.0 * np.interp(distances, self.places[::-1], self.errors[::-1])


def estimate_rounding(places: Array, stencils: Array) -> Rounding:
    """From energies [m, 5] (eV) at tiny equal steps: at each place the largest scatter there and at both neighbours.

    Nowhere less than the median of all, since coarse rounding leaves no scatter at all where E is flat.
    """
    scatter_here = scatter(stencils)
    padded = np.pad(scatter_here, 1)
    near = np.max([padded[:-2], padded[1:-1], padded[2:]], axis=0)
    return Rounding(places, np.maximum(near, np.median(scatter_here)))


def inserted_points(path: BondPath, calculator: BaseCalculator, base: Samples, rounding: Rounding) -> Samples:
    """Points between the nodes: halvings where the curve surprises, bisected roots of dE/dr where it turns."""
    points = np.stack([base.distances, base.energies, base.slopes], axis=1)
    inserted = base.select(slice(0, 0))
    finite = base.finite
    pairs = [(a, b) for a, b, ok in zip(points[:-1], points[1:], finite[1:] & finite[:-1], strict=True) if ok]
    doubtful = {k for k, (a, b) in enumerate(pairs) if _hides_a_turn(a, b, rounding)}
    for k, (left, right) in enumerate(pairwise(pairs)):
        if left[1][0] == right[0][0] and _surprises(left[0], left[1], right[1], rounding):
            doubtful |= {k, k + 1}
    active = [pairs[k] for k in sorted(doubtful)]
    for _ in range(N_HALVINGS):
        if not active or len(inserted.distances) + len(active) > MAX_INSERTED:
            break
        middles = evaluate(path, np.array([0.5 * (a[0] + b[0]) for a, b in active]), calculator)
        inserted = inserted.merge(middles)
        rows = np.stack([middles.distances, middles.energies, middles.slopes], axis=1)
        halves = []
        for (a, b), m in zip(active, rows, strict=True):
            if not np.isfinite(m).all():
                continue
            both = _surprises(a, m, b, rounding)
            halves += [pair for pair in ((a, m), (m, b)) if both or _hides_a_turn(*pair, rounding)]
        active = halves
    return inserted.merge(_roots(path, calculator, base.merge(inserted)))


def _surprises(a: Array, m: Array, b: Array, rounding: Rounding) -> bool:
    """True if the slope at m is not the one of the cubic through a and b, points (r, E, dE/dr)."""
    expected = hermite(a, b, m[0])[1]
    limit = SURPRISE * 0.5 * (abs(a[2]) + abs(b[2])) + 2.0 * rounding.of(b[0]) / abs(b[0] - a[0])
    return bool(abs(m[2] - expected) > limit)


def _hides_a_turn(a: Array, b: Array, rounding: Rounding) -> bool:
    """True if both slopes say that E rises inwards, but the energies, or the cubic between, say otherwise."""
    if a[2] >= 0 or b[2] >= 0:
        return False
    slopes = hermite(a, b, a[0] + (b[0] - a[0]) * np.array([0.25, 0.5, 0.75]))[1]
    noise = 2.0 * rounding.of(b[0])
    return bool(np.any(slopes > noise / abs(b[0] - a[0])) or b[1] - a[1] < -noise)


def _roots(path: BondPath, calculator: BaseCalculator, samples: Samples) -> Samples:
    """The points dE/dr = 0, bisected together, one for each change of sign between neighbours (the last step kept)."""
    s = samples.slopes
    turns = np.flatnonzero(np.isfinite(s[1:] + s[:-1]) & ((s[1:] < 0) != (s[:-1] < 0)))[:MAX_INSERTED]
    outer, inner, outer_rises = samples.distances[turns], samples.distances[turns + 1], s[turns] < 0
    found = samples.select(slice(0, 0))
    for _ in range(N_BISECTIONS if len(turns) else 0):
        found = evaluate(path, 0.5 * (outer + inner), calculator)
        move_outer = (found.slopes < 0) == outer_rises
        outer, inner = np.where(move_outer, found.distances, outer), np.where(move_outer, inner, found.distances)
    return found
