"""Proofs that dE/dr < 0 on a whole approach, by bisection. docs/certificate.md, "T4", has the statement."""

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from gmnn.certificate.enclosure import Enclosure
from gmnn.certificate.motion import Motion
from gmnn.errors import UserError
from gmnn.model.potential import Potential

FIRST = 0.04  # Å, widest interval
LEAST = 1e-5  # Å: narrower intervals are not halved, nor those narrower than a quarter of the radius of a ball
MOST = 20_000  # intervals of one curve
BATCH = 8  # intervals enclosed by one call
LARGEST = 0.1  # Å, of the radius of a ball

Places = list[tuple[float, float]]


@dataclass(frozen=True)
class Proof:
    """What is proved about one approach, from r_start (Å) inwards to contact.

    undecided: intervals (low, high) in Å on which nothing is proved. refuted: intervals on which dE/dr >= 0 is proved,
    for every place in the ball. push: the proved lower bound of -dE/dr in eV/Å on the intervals that are proved; None
    if none is. share: proved part of the path. radius: of the ball, Å.
    """

    label: str
    r_start: float
    radius: float
    undecided: Places
    refuted: Places
    push: float | None
    share: float
    n_intervals: int
    seconds: float

    @property
    def verdict(self) -> str:
        """`proved`, `undecided` or `refuted`."""
        return "refuted" if self.refuted else "undecided" if self.undecided else "proved"

    @property
    def places(self) -> str:
        """Where the proof failed, in words; empty if it did not."""
        parts = [f"{low:.4f}-{high:.4f}" for low, high in self.refuted or self.undecided]
        more = ", ..." if len(parts) > 3 else ""
        return f"at {', '.join(parts[:3])}{more} Å" if parts else ""

    def to_dict(self) -> dict[str, Any]:
        """Return the proof as plain JSON types."""
        return {
            "bond": self.label, "verdict": self.verdict, "r_start": self.r_start, "radius": self.radius,
            "undecided": self.undecided, "refuted": self.refuted, "least_push_eV_per_A": self.push,
            "proved_share": self.share, "n_intervals": self.n_intervals, "seconds": self.seconds,
        }  # fmt: skip


def require_radius(radius: float) -> None:
    """Raise UserError unless this is the radius of a ball that a proof may have, Å."""
    if not 0.0 <= radius <= LARGEST:
        raise UserError(f"The radius of the ball is {radius!r} Å; 0 to {LARGEST} are allowed; choose another.")


def prove(potential: Potential, motion: Motion, label: str, r_end: float) -> Proof:
    """Prove dE/dr < 0 on (0, motion.r_start], or say where that failed.

    Below r_end (Å) the pair's own repulsion enters by a bound that holds down to contact. UserError for a model that is
    not covered.
    """
    require_radius(motion.radius)
    start, enclosure = time.perf_counter(), Enclosure(potential, motion)
    least = max(LEAST, motion.radius / 4.0)
    inside = [r for r in enclosure.breaks if r_end < r < motion.r_start]
    pending = [(a, b, False) for a, b in _cut([r_end, *inside, motion.r_start])] + [(0.0, r_end, True)]
    pending.sort()
    proved: Places = []
    undecided: Places = []
    refuted: Places = []
    push, n_intervals = np.inf, 0
    while pending:
        core = pending[-1][2]
        batch = [pending.pop() for _ in range(min(BATCH, len(pending))) if pending[-1][2] == core]
        low, high = np.array([(a, b) for a, b, _ in batch]).T
        lower, upper = enclosure.slopes(low, high, core)
        n_intervals += len(batch)
        for k, (a, b, _) in enumerate(batch):
            middle = 0.5 * (a + b)
            if upper[k] < 0.0:
                proved.append((a, b))
                push = min(push, -float(upper[k]))
            elif lower[k] >= 0.0:
                refuted.append((a, b))
            elif b - a <= least or n_intervals + len(pending) >= MOST or not a < middle < b:
                undecided.append((a, b))
            else:
                pending += [(a, middle, core), (middle, b, core)]
        pending.sort()
    share = sum(b - a for a, b in proved) / motion.r_start if undecided or refuted else 1.0
    return Proof(
        label, motion.r_start, motion.radius, _merged(undecided), _merged(refuted), float(push) if proved else None,
        share, n_intervals, time.perf_counter() - start,
    )  # fmt: skip


def _cut(ends: list[float]) -> Places:
    """Intervals of at most FIRST between ascending ends."""
    places: Places = []
    for a, b in pairwise(ends):
        inner = np.linspace(a, b, int(np.ceil((b - a) / FIRST)) + 1)
        places += [(float(x), float(y)) for x, y in pairwise(inner)]
    return places


def _merged(places: Places) -> Places:
    """Adjoining intervals as one, from outside inwards."""
    merged: Places = []
    for a, b in sorted(places, reverse=True):
        if merged and merged[-1][0] == b:
            merged[-1] = (a, merged[-1][1])
        else:
            merged.append((a, b))
    return merged
