"""Judge approaches, of bonds and of all suites, by one rule. Curves of equally many atoms are evaluated together.

A curve passes if dE/dr < 0 (from forces), E rises inwards and both are finite at every point that is examined: nodes
set in advance, then points between them. An interval is halved repeatedly where the cubic through its ends with their
slopes turns, where that cubic mispredicts the slope of a third point, where dE/dr has different signs at its ends,
where E falls although the forces push outwards, and where E is so flat that a feature narrower than the interval could
turn it. Bisection then locates the outermost places where a turn, a fall or a failure begins.

From node to node E must rise, by however little. Between inserted points a fall within the rounding of E does not
count. The rounding is measured on every curve (`Curves.rounding`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmnn.scanning.curves import Curves, Points
from gmnn.scanning.evaluate import Evaluate
from gmnn.scanning.metrics import hermite
from gmnn.scanning.paths import Approach, Array, Integers

Progress = Callable[[int, int, str], None]
Mask = NDArray[np.bool_]

N_NODES, N_ROUNDS = 64, 8
N_PLACES = 4  # on each curve, where the rounding of E is measured
SURPRISE = 0.05  # relative to the mean |dE/dr| of an interval; where the cubic misses by more, it is halved again
FLAT, FINE = 10.0, 0.005  # eV/Å, Å: intervals with an end flatter than FLAT are halved until shorter than FINE
MAX_INSERTED = 400  # points added to one curve by halvings
N_BISECTIONS, MAX_LOCATED = 12, 4  # steps; places on one curve
BATCH_POINTS = 200_000  # points set in advance that are evaluated by one call


@dataclass(frozen=True)
class Verdict:
    """The verdict on one approach.

    r_fail (Å): the outermost place where E stops rising or is not finite; None for a pass. worst_drop (eV): the largest
    depth of E below the highest energy outside it, found at worst_r (Å). ceiling: E(r_fail) − E(r_start) in eV, the
    height of the remaining wall; None for a pass or where E or dE/dr is not finite. least_push: the smallest −dE/dr on
    the curve (eV/Å); nan if nothing is finite. reason: one line, "" for a pass. points: [n, 3] of r, E, dE/dr from
    outside inwards if requested, else None.
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
    n_places: int = N_PLACES,
    batch_points: int = BATCH_POINTS,
    keep: bool = False,
    progress: Progress | None = None,
) -> list[Verdict]:
    """Return one verdict per approach, in order. The units are eV and Å.

    evaluate(positions [B, N, 3], numbers [B, N]) -> (energies [B], forces [B, N, 3]) gives nan for what it cannot
    compute; its attribute `messages`, if it has one, gives the reasons, {index in the call: text}. n_nodes: points of a
    curve set in advance. n_rounds: how often an interval may be halved. n_places: number of places on a curve where the
    rounding of E is measured, at least 2. batch_points: points of the first call, which bounds the memory. keep: put
    the points into the verdicts. progress(done, total, label) is called after every batch.
    """
    verdicts: dict[int, Verdict] = {}
    by_size: dict[int, list[int]] = {}
    for k, approach in enumerate(approaches):
        by_size.setdefault(len(approach.numbers), []).append(k)
    size = max(1, batch_points // (n_nodes + 5 * n_places))
    for same_size in by_size.values():
        for begin in range(0, len(same_size), size):
            chosen = same_size[begin : begin + size]
            curves = Curves([approaches[k] for k in chosen], evaluate, n_nodes, n_places)
            verdicts |= dict(zip(chosen, judge_points(curves, refine(curves, n_rounds), keep=keep), strict=True))
            if progress is not None:
                progress(len(verdicts), len(approaches), approaches[chosen[-1]].label)
    return [verdicts[k] for k in range(len(approaches))]


def refine(curves: Curves, n_rounds: int = N_ROUNDS) -> Points:
    """The nodes, the points of n_rounds of halvings, and the points that locate where trouble begins."""
    points = _halve(curves, n_rounds)
    return points.merge(_locate(curves, points))


def _halve(curves: Curves, n_rounds: int) -> Points:
    """The nodes and the midpoints of doubtful intervals, computed for all curves together."""
    nodes = curves.nodes
    curve, a, b, same = _intervals(nodes)
    with np.errstate(all="ignore"):
        usable = same & np.isfinite(a + b).all(axis=0)
        doubtful = _is_doubtful(curves, curve, a, b)
        surprise = same[:-1] & same[1:] & _surprises(curves, curve[:-1], a[:, :-1], b[:, :-1], b[:, 1:])
    doubtful[:-1] |= surprise
    doubtful[1:] |= surprise
    doubtful &= usable
    curve, a, b = curve[doubtful], a[:, doubtful], b[:, doubtful]
    inserted: list[Points] = []
    n_inserted = np.zeros(len(curves.approaches), int)
    for _ in range(n_rounds):
        n_inserted += np.bincount(curve, minlength=len(n_inserted))
        within = n_inserted[curve] <= MAX_INSERTED
        curve, a, b = curve[within], a[:, within], b[:, within]
        if not len(curve):
            break
        inserted.append(curves.middles(curve, a, b))
        m = inserted[-1].table
        good = np.isfinite(m).all(axis=0)
        with np.errstate(all="ignore"):
            unexpected = _surprises(curves, curve, a, m, b)
            outer = good & (unexpected | _is_doubtful(curves, curve, a, m))
            inner = good & (unexpected | _is_doubtful(curves, curve, m, b))
        curve = np.concatenate([curve[outer], curve[inner]])
        a, b = np.hstack([a[:, outer], m[:, inner]]), np.hstack([m[:, outer], b[:, inner]])
    return nodes.merge(inserted)


def _locate(curves: Curves, points: Points) -> list[Points]:
    """The midpoints of N_BISECTIONS halvings of the outermost intervals of each curve in which trouble begins."""
    curve, a, b, same = _intervals(points)
    index = np.flatnonzero(same & _changes(curves, curve, a, b))
    rank = np.arange(len(index)) - np.searchsorted(curve[index], curve[index])
    index = index[rank < MAX_LOCATED]
    curve, a, b = curve[index], a[:, index], b[:, index]
    inserted: list[Points] = []
    for _ in range(N_BISECTIONS if len(index) else 0):
        inserted.append(curves.middles(curve, a, b))
        m = inserted[-1].table
        outer = _changes(curves, curve, a, m)
        a, b = np.where(outer, a, m), np.where(outer, m, b)
    return inserted


def _intervals(points: Points) -> tuple[Integers, Array, Array, Mask]:
    """The curve of a, neighbouring points a and b, [3, m - 1] each, and True where b is of the same curve."""
    return points.curve[:-1], points.table[:, :-1], points.table[:, 1:], points.curve[:-1] == points.curve[1:]


def _surprises(curves: Curves, curve: Integers, a: Array, m: Array, b: Array) -> Mask:
    """[n] True where the slope at m is not that of the cubic through a and b; points are (r, E, dE/dr) [3, n]."""
    noise = 2.0 * curves.rounding(curve, b[0])
    limit = SURPRISE * 0.5 * (np.abs(a[2]) + np.abs(b[2])) + noise / np.abs(b[0] - a[0])
    return np.abs(m[2] - hermite(a, b, m[0])[1]) > limit


def _is_doubtful(curves: Curves, curve: Integers, a: Array, b: Array) -> Mask:
    """[n] True where a turn lies or may hide between a and b."""
    width, noise = np.abs(b[0] - a[0]), 2.0 * curves.rounding(curve, b[0])
    rises = (a[2] < 0) & (b[2] < 0)
    cubic_turns = np.zeros(a.shape[1], bool)
    for part in (0.25, 0.5, 0.75):
        cubic_turns |= hermite(a, b, a[0] + part * (b[0] - a[0]))[1] > noise / width
    flat = (np.minimum(np.abs(a[2]), np.abs(b[2])) < FLAT) & (width > FINE)
    return ((a[2] < 0) != (b[2] < 0)) | (rises & (flat | cubic_turns | (b[1] - a[1] < -noise)))


def _changes(curves: Curves, curve: Integers, a: Array, b: Array) -> Mask:
    """[n] True where dE/dr changes sign between a and b, E falls, or one of a and b is not finite."""
    finite_a, finite_b = (np.isfinite(point).all(axis=0) for point in (a, b))
    with np.errstate(invalid="ignore"):
        turns = ((a[2] < 0) != (b[2] < 0)) | (b[1] - a[1] < -curves.rounding(curve, b[0]))
    return np.where(finite_a & finite_b, turns, finite_a != finite_b)


def judge_points(curves: Curves, points: Points, *, keep: bool = False) -> list[Verdict]:
    """Judge the curves from all their points; keep: put the points into the verdicts."""
    counts = np.bincount(points.curve, minlength=len(curves.approaches))
    begins = np.cumsum(counts) - counts
    rank = np.arange(len(points.curve)) - begins[points.curve]
    r, energies, slopes = np.full((3, len(counts), counts.max()), np.nan)  # curve by curve, padded with nan
    r[points.curve, rank], energies[points.curve, rank], slopes[points.curve, rank] = points.table
    finite = np.isfinite(energies) & np.isfinite(slopes)
    trouble = (slopes >= 0) | (np.isfinite(r) & ~finite)
    trouble[points.curve, rank] |= _falls(curves, points)
    highest = np.maximum.accumulate(np.where(finite, energies, -np.inf), axis=1)
    with np.errstate(invalid="ignore"):
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
                reason = stall_reason(r_fail, ceiling, drop, worst_r)
            else:
                reason = failure_reason(curves.messages.get((k, r_fail), ""), r_fail)
        verdicts.append(
            Verdict(
                approach.suite, approach.label, approach.kind, not failed[k], approach.r_start, r_fail, drop, worst_r,
                ceiling, float(push[k]) if np.isfinite(push[k]) else np.nan, int(counts[k]), reason,
                np.stack([r[k, row], energies[k, row], slopes[k, row]], axis=1) if keep else None,
            )
        )  # fmt: skip
    return verdicts


def _falls(curves: Curves, points: Points) -> Mask:
    """[m] True at points below their outer neighbour by more than rounding, and at nodes not above the previous one.

    E stops rising at the highest point up to there.
    """
    r, energies, _ = points.table
    falls = np.zeros(len(r), bool)
    nodes = np.flatnonzero(points.node)
    with np.errstate(invalid="ignore"):
        falls[nodes[1:]] = np.diff(energies[nodes]) <= 0
        falls[nodes[1:]] &= np.diff(points.curve[nodes]) == 0
        below = np.diff(energies) < -curves.rounding(points.curve[1:], r[1:])
    falls[1:] |= below & (np.diff(points.curve) == 0)
    return falls


def stall_reason(r_fail: float, ceiling: float, drop: float, worst_r: float, zero: str = "the start") -> str:
    """The failure of a curve that stops rising at r_fail (Å), `ceiling` eV above `zero`, explained in one line."""
    if drop == 0.0:
        return f"the force at {r_fail:.3f} Å does not push outwards although the energy never falls"
    return (
        f"stops rising at {r_fail:.3f} Å, {ceiling:.3g} eV above {zero}; lies up to {drop:.2g} eV deeper at "
        f"{worst_r:.3f} Å"
    )


def failure_reason(message: str, r: float) -> str:
    """The failure of a curve that could not be computed at r (Å), explained in one line."""
    return f"{message or 'energy or force not finite'} at {r:.3f} Å"
