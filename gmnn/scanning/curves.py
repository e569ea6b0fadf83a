"""Many curves computed together: their nodes, the points between them, and the rounding errors of their energies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmnn.scanning.evaluate import Evaluate, Samples
from gmnn.scanning.metrics import standard_errors
from gmnn.scanning.paths import Approach, Array, Integers, dense_nodes

STENCIL_STEP = 1e-4  # relative to r, between the five points of a stencil
STANDARD_ERRORS = 6.0  # by which rounding may change an energy


@dataclass(frozen=True)
class Points:
    """Points of many curves: curve [m], table (r, E, dE/dr) [3, m], node [m]: True if set in advance."""

    curve: Integers
    table: Array
    node: NDArray[np.bool_]

    def merge(self, others: Sequence["Points"]) -> "Points":
        """All points in order of the curves, from outside inwards on each."""
        parts = [self, *others]
        curve = np.concatenate([part.curve for part in parts])
        table = np.concatenate([part.table for part in parts], axis=1)
        order = np.lexsort((-table[0], curve))
        return Points(curve[order], table[:, order], np.concatenate([part.node for part in parts])[order])


class Curves:
    """Approaches with equal numbers of atoms, the function that evaluates them, and the results of its first call.

    nodes: `Points` of all curves. places [C, P] Å: where the rounding of E is measured, from r_start to r_end in equal
    ratios. stencils: table [3, C, P, 5] of five points around each place, in steps of 1e-4 r. further: table [3, n] of
    each curve at the additional distances [n] of the argument. messages: texts of failed points by (curve, r).
    """

    def __init__(
        self,
        approaches: Sequence[Approach],
        evaluate: Evaluate,
        n_nodes: int,
        n_places: int,
        further: Sequence[Array] | None = None,
    ) -> None:
        self.approaches, self.evaluate = list(approaches), evaluate
        self.messages: dict[tuple[int, float], str] = {}
        self.numbers = np.array([path.numbers for path in approaches])
        self.tangents = np.array([path.tangent for path in approaches])
        at_zero = [path.positions - path.distance * path.tangent for path in approaches]
        self.origins = np.array(at_zero)  # positions on the line, extrapolated to r = 0
        self.starts = np.array([path.r_start for path in approaches])
        self.ends = np.array([path.r_end for path in approaches])
        self._compute_first(n_nodes, n_places, further or [np.zeros(0)] * len(approaches))

    def _compute_first(self, n_nodes: int, n_places: int, further: Sequence[Array]) -> None:
        """Compute the nodes, the stencils and the further points in one call."""
        dense = dense_nodes(self.starts, self.ends, n_nodes)
        nodes = [
            np.linspace(path.r_start, path.r_end, path.n_points) if path.n_points else row
            for path, row in zip(self.approaches, dense, strict=True)
        ]
        self.places = np.geomspace(self.starts, self.ends, n_places, axis=1)
        stencils = self.places[..., None] + (STENCIL_STEP * self.places)[..., None] * np.arange(-2, 3)
        indices, counts = np.arange(len(nodes)), [[len(row) for row in rows] for rows in (nodes, further)]
        curve = np.concatenate(
            [np.repeat(indices, counts[0]), np.repeat(indices, 5 * n_places), np.repeat(indices, counts[1])]
        )
        table = self.compute(curve, np.concatenate([*nodes, stencils.ravel(), *further]))
        first, second = sum(counts[0]), sum(counts[0]) + stencils.size
        self.nodes = Points(curve[:first], table[:, :first], np.full(first, True))
        self.stencils = table[:, first:second].reshape(3, *stencils.shape)
        self.further = np.split(table[:, second:], np.cumsum(counts[1])[:-1], axis=1)
        self.errors = standard_errors(self.stencils[1])

    def compute(self, curve: Integers, r: Array) -> Array:
        """Table (r, E, dE/dr) [3, m] of points at distances r [m] (Å) of the curves [m], from one call."""
        tangents = self.tangents[curve]
        with np.errstate(all="ignore"):  # 0/0 in an evaluator shows as nan in the result
            energies, forces = self.evaluate(self.origins[curve] + r[:, None, None] * tangents, self.numbers[curve])
            slopes = -np.einsum("mna,mna->m", np.asarray(forces, float), tangents)
        for k, text in getattr(self.evaluate, "messages", {}).items():
            self.messages[int(curve[k]), float(r[k])] = text
        return np.stack([r, np.asarray(energies, float), slopes])

    def middles(self, curve: Integers, a: Array, b: Array) -> Points:
        """The points midway between a and b, [3, m] each."""
        return Points(curve, self.compute(curve, 0.5 * (a[0] + b[0])), np.full(len(curve), False))

    def rounding(self, curve: Integers, r: Array) -> Array:
        """Allowance for rounding of E at the distances r [m] (Å) of the curves [m]: six standard errors, eV."""
        last = self.errors.shape[1] - 1
        share = np.log(r / self.starts[curve]) / np.log(self.ends / self.starts)[curve]
        place = np.clip(last * share, 0.0, last)
        k = np.minimum(place.astype(int), last - 1)
        weight = place - k
        return STANDARD_ERRORS * ((1.0 - weight) * self.errors[curve, k] + weight * self.errors[curve, k + 1])

    def samples(self, k: int, table: Array) -> Samples:
        """Points [3, n] of curve k, with the messages of the failed ones."""
        r, energies, slopes = table
        return Samples(r, energies, slopes, tuple(self.messages.get((k, x), "") for x in r.tolist()))
