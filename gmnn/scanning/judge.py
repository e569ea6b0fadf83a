"""Judge approaches in bulk: all curves of equally many atoms are evaluated, and refined, together.

A curve passes if dE/dr < 0 (from forces), E rises inwards and both are numbers at every point that is looked at: nodes
spaced as in the bond scan, then points between them. An interval is halved, again and again, where the cubic through
its ends with their slopes turns, where it mispredicts the slope of a third point, where dE/dr changes sign at its ends,
and where E is so flat that a feature narrower than the interval could turn it. The halvings also locate the turns.

Rounding: energies count as known to `rounding` · max(|E|, 1 eV); below that a fall between inserted points is none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gmnn.scanning.metrics import hermite
from gmnn.scanning.paths import Approach, Array, Integers, dense_nodes
from gmnn.scanning.refine import SURPRISE

Evaluate = Callable[[Array, Integers], tuple[Array, Array]]
Progress = Callable[[int, int, str], None]

N_NODES, N_ROUNDS = 64, 8
ROUNDING = 1e-9  # relative, far above float64's own and far below what a scan asks for
FLAT, FINE = 10.0, 0.005  # eV/Å, Å: intervals with an end flatter than FLAT are halved until they are below FINE
MAX_INSERTED = 300  # points added to one curve
BATCH_POINTS = 200_000  # nodes evaluated by one call


@dataclass(frozen=True)
class Verdict:
    """What became of one approach.

    r_fail (Å): where E stops rising, the outermost place of trouble; None for a pass. worst_drop (eV): how far E lies
    below the highest energy outside it, at worst_r (Å). ceiling: E(r_fail) − E(r_start) in eV, the height of the wall
    that was left; None for a pass. least_push: the smallest −dE/dr on the curve (eV/Å); nan where nothing is finite.
    reason: one line, "" for a pass. points: [n, 3] of r, E, dE/dr from outside inwards if asked for, else None.
    """

    suite: str
    label: str
    kind: str
    passed: bool
    r_start: float
    r_fail: float | None
    worst_drop: float
    worst_r: float
    ceiling: float | None
    least_push: float
    n_points: int
    reason: str
    points: Array | None = None


def judge(
    approaches: Sequence[Approach],
    evaluate: Evaluate,
    *,
    n_nodes: int = N_NODES,
    n_rounds: int = N_ROUNDS,
    rounding: float = ROUNDING,
    batch_points: int = BATCH_POINTS,
    keep: bool = False,
    progress: Progress | None = None,
) -> list[Verdict]:
    """One verdict per approach, in order. Units eV, Å.

    evaluate(positions [B, N, 3], numbers [B, N]) -> (energies [B], forces [B, N, 3]); what cannot be computed is nan,
    and an attribute `messages` of it may say why, {index in the call: text}. n_nodes: points of a curve set in advance;
    n_rounds: how often an interval may be halved; rounding: relative error of E, 1e-9 for float64; batch_points: nodes
    of one call, what bounds the memory; keep: put the points into the verdicts; progress(done, total, label) is called
    after every batch.
    """
    verdicts: dict[int, Verdict] = {}
    by_size: dict[int, list[int]] = {}
    for k, approach in enumerate(approaches):
        by_size.setdefault(len(approach.numbers), []).append(k)
    size = max(1, batch_points // n_nodes)
    for same_size in by_size.values():
        for begin in range(0, len(same_size), size):
            chosen = same_size[begin : begin + size]
            curves = _Curves([approaches[k] for k in chosen], evaluate, rounding)
            points = _refined(curves, curves.nodes(n_nodes), n_rounds)
            verdicts |= dict(zip(chosen, _verdicts(curves, points, keep), strict=True))
            if progress is not None:
                progress(len(verdicts), len(approaches), approaches[chosen[-1]].label)
    return [verdicts[k] for k in range(len(approaches))]


@dataclass(frozen=True)
class _Points:
    """Points of many curves: curve [m], table (r, E, dE/dr) [3, m], node [m]: True if set in advance."""

    curve: Integers
    table: Array
    node: NDArray[np.bool_]

    def merge(self, others: list["_Points"]) -> "_Points":
        """All points, curve by curve, from outside inwards."""
        parts = [self, *others]
        curve = np.concatenate([part.curve for part in parts])
        table = np.concatenate([part.table for part in parts], axis=1)
        order = np.lexsort((-table[0], curve))
        return _Points(curve[order], table[:, order], np.concatenate([part.node for part in parts])[order])


@dataclass
class _Curves:
    """Approaches of equally many atoms and the function that computes them; messages: of failed points, (curve, r)."""

    approaches: list[Approach]
    evaluate: Evaluate
    rounding: float
    messages: dict[tuple[int, float], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.numbers = np.array([one.numbers for one in self.approaches])
        self.tangents = np.array([one.tangent for one in self.approaches])
        at_zero = [one.positions - one.distance * one.tangent for one in self.approaches]
        self.origins = np.array(at_zero)  # where the line would be at r = 0

    def points(self, curve: Integers, r: Array, node: bool = False) -> _Points:
        tangents = self.tangents[curve]
        with np.errstate(all="ignore"):  # 0/0 in an evaluator shows as nan in the result
            energies, forces = self.evaluate(self.origins[curve] + r[:, None, None] * tangents, self.numbers[curve])
            slopes = -np.einsum("mna,mna->m", np.asarray(forces, float), tangents)
        for k, text in getattr(self.evaluate, "messages", {}).items():
            self.messages[int(curve[k]), float(r[k])] = text
        return _Points(curve, np.stack([r, np.asarray(energies, float), slopes]), np.full(len(r), node))

    def nodes(self, n_nodes: int) -> _Points:
        """The nodes of all curves, evaluated."""
        starts, ends = (np.array([getattr(one, name) for one in self.approaches]) for name in ("r_start", "r_end"))
        dense = dense_nodes(starts, ends, n_nodes)
        own = [
            np.linspace(one.r_start, one.r_end, one.n_points) if one.n_points else row
            for one, row in zip(self.approaches, dense, strict=True)
        ]
        return self.points(np.repeat(np.arange(len(own)), [len(row) for row in own]), np.concatenate(own), node=True)

    def tolerance(self, energies: Array) -> Array:
        return self.rounding * np.maximum(np.abs(energies), 1.0)


def _refined(curves: _Curves, nodes: _Points, n_rounds: int) -> _Points:
    """The nodes and the points of n_rounds of halvings, all doubtful intervals of all curves together."""
    curve, table = nodes.curve[:-1], nodes.table
    a, b = table[:, :-1], table[:, 1:]
    with np.errstate(all="ignore"):
        usable = (curve == nodes.curve[1:]) & np.isfinite(a + b).all(axis=0)
        doubtful = _is_doubtful(curves, a, b)
        surprise = _surprises(curves, a[:, :-1], b[:, :-1], b[:, 1:]) & (nodes.curve[:-2] == nodes.curve[2:])
    doubtful[:-1] |= surprise
    doubtful[1:] |= surprise
    doubtful &= usable
    curve, a, b = curve[doubtful], a[:, doubtful], b[:, doubtful]
    inserted: list[_Points] = []
    n_inserted = np.zeros(len(curves.approaches), int)
    for _ in range(n_rounds):
        n_inserted += np.bincount(curve, minlength=len(n_inserted))
        within = n_inserted[curve] <= MAX_INSERTED
        curve, a, b = curve[within], a[:, within], b[:, within]
        if not len(curve):
            break
        middles = curves.points(curve, 0.5 * (a[0] + b[0]))
        inserted.append(middles)
        m = middles.table
        good = np.isfinite(m).all(axis=0)
        with np.errstate(all="ignore"):
            both = _surprises(curves, a, m, b)
            outer = good & (both | _is_doubtful(curves, a, m))
            inner = good & (both | _is_doubtful(curves, m, b))
        curve = np.concatenate([curve[outer], curve[inner]])
        a, b = np.hstack([a[:, outer], m[:, inner]]), np.hstack([m[:, outer], b[:, inner]])
    return nodes.merge(inserted)


def _surprises(curves: _Curves, a: Array, m: Array, b: Array) -> NDArray[np.bool_]:
    """[n] True where the slope at m is not the one of the cubic through a and b, points (r, E, dE/dr) [3, n]."""
    limit = SURPRISE * 0.5 * (np.abs(a[2]) + np.abs(b[2])) + 2.0 * curves.tolerance(b[1]) / np.abs(b[0] - a[0])
    return np.abs(m[2] - hermite(a, b, m[0])[1]) > limit


def _is_doubtful(curves: _Curves, a: Array, b: Array) -> NDArray[np.bool_]:
    """[n] True where a turn may hide between a and b, or is known to lie there."""
    width, noise = np.abs(b[0] - a[0]), 2.0 * curves.tolerance(b[1])
    rises = (a[2] < 0) & (b[2] < 0)
    cubic_turns = np.zeros(a.shape[1], bool)
    for part in (0.25, 0.5, 0.75):
        cubic_turns |= hermite(a, b, a[0] + part * (b[0] - a[0]))[1] > noise / width
    flat = (np.minimum(np.abs(a[2]), np.abs(b[2])) < FLAT) & (width > FINE)
    return ((a[2] < 0) != (b[2] < 0)) | (rises & (flat | cubic_turns | (b[1] - a[1] < -noise)))


def _verdicts(curves: _Curves, points: _Points, keep: bool) -> list[Verdict]:
    counts = np.bincount(points.curve, minlength=len(curves.approaches))
    begins = np.cumsum(counts) - counts
    rank = np.arange(len(points.curve)) - begins[points.curve]
    r, energies, slopes = np.full((3, len(counts), counts.max()), np.nan)  # curve by curve, padded with nan
    r[points.curve, rank], energies[points.curve, rank], slopes[points.curve, rank] = points.table
    node = np.zeros(r.shape, bool)
    node[points.curve, rank] = points.node
    finite = np.isfinite(energies) & np.isfinite(slopes)
    trouble = (slopes >= 0) | (np.isfinite(r) & ~finite)
    highest = np.maximum.accumulate(np.where(finite, energies, -np.inf), axis=1)
    with np.errstate(invalid="ignore"):
        rise = np.diff(energies, axis=1)
        both_nodes = node[:, :-1] & node[:, 1:]
        trouble[:, :-1] |= np.where(both_nodes, rise <= 0, rise < -curves.tolerance(energies[:, 1:]))
        drops = np.where(finite, highest - energies, 0.0)
    worst, first = np.argmax(drops, axis=1), np.argmax(trouble, axis=1)
    failed, push = np.asarray(trouble.any(axis=1)), np.min(np.where(finite, -slopes, np.inf), axis=1)
    verdicts = []
    for k, approach in enumerate(curves.approaches):
        row, drop, worst_r = slice(0, counts[k]), float(drops[k, worst[k]]), float(r[k, worst[k]])
        r_fail, ceiling, reason = None, None, ""
        if failed[k]:
            at = int(first[k])
            r_fail = float(r[k, at])
            if finite[k, at]:
                at = int(np.argmax(np.where(finite[k, : at + 1], energies[k, : at + 1], -np.inf)))
                r_fail, ceiling = float(r[k, at]), float(energies[k, at] - energies[k, np.argmax(finite[k])])
                reason = _stall(r_fail, ceiling, drop, worst_r)
            else:
                message = curves.messages.get((k, r_fail), "energy or force not finite")
                reason = f"{message} at {r_fail:.3f} Å"
        verdicts.append(
            Verdict(
                approach.suite, approach.label, approach.kind, not failed[k], approach.r_start, r_fail, drop, worst_r,
                ceiling, float(push[k]) if np.isfinite(push[k]) else np.nan, int(counts[k]), reason,
                np.stack([r[k, row], energies[k, row], slopes[k, row]], axis=1) if keep else None,
            )
        )  # fmt: skip
    return verdicts


def _stall(r_fail: float, ceiling: float, drop: float, worst_r: float) -> str:
    if drop == 0.0:
        return f"the force at {r_fail:.3f} Å does not push outwards although the energy never falls"
    return (
        f"stops rising at {r_fail:.3f} Å, {ceiling:.3g} eV above the start; lies up to {drop:.2g} eV deeper at "
        f"{worst_r:.3f} Å"
    )
