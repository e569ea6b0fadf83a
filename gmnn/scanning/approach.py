"""Straight paths on which atoms are brought together, as plain arrays: made by the thousand, judged in bulk.

All lengths in Å. The covalent radii are Cordero's (Dalton Trans. 2832 (2008), in ase.data); "contact" is a distance
divided by the sum of the two covalent radii.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray

from gmnn.scanning.paths import Array

Integers = NDArray[np.int64]

RHO = 0.8  # contact below which a third atom disturbs a curve, and at which most suites start
CHUNK = 4096  # curves whose contacts are looked at together


@dataclass(frozen=True, eq=False)
class Approach:
    """Positions x(r) = positions + (r − distance) · tangent, from r = r_start inwards to r_end.

    numbers [N], positions [N, 3] at r = distance, tangent [N, 3] = ∂x/∂r without unit, so that dE/dr = −Σ F · tangent.
    members: the atoms that are brought together; r is the distance of the first two. n_points: if not 0, evenly spaced
    nodes that take the place of the judge's.
    """

    suite: str
    label: str
    numbers: Integers
    positions: Array
    tangent: Array
    members: tuple[int, ...]
    distance: float
    r_start: float
    r_end: float
    n_points: int = 0

    @property
    def kind(self) -> str:
        """Symbols of the atoms brought together, the lighter first: `H-O`; `all` if they are more than three."""
        if len(self.members) > 3:
            return "all"
        return "-".join(chemical_symbols[z] for z in sorted(self.numbers[list(self.members)]))

    def positions_at(self, distances: Array) -> Array:
        """Positions [n, N, 3] at the distances [n]."""
        return self.positions + (np.asarray(distances) - self.distance)[:, None, None] * self.tangent


def covalent_sum(numbers: Integers, i: int, j: int) -> float:
    """Sum of the covalent radii of atoms i and j."""
    return float(covalent_radii[numbers[i]] + covalent_radii[numbers[j]])


def contacts(positions: Array, numbers: Integers) -> Array:
    """All contacts [..., P] of structures [..., N, 3], pairs in the order of np.triu_indices(N, 1); nan stays nan."""
    first, second = np.triu_indices(len(numbers), 1)
    sums = covalent_radii[numbers[first]] + covalent_radii[numbers[second]]
    return np.linalg.norm(positions[..., second, :] - positions[..., first, :], axis=-1) / sums


def third_contacts(approaches: Sequence[Approach]) -> Array:
    """The closest third contact on each path, [C], exact; inf where there is none.

    Third contacts are those of all pairs but the members' own whose two atoms move relative to each other.
    """
    closest = np.full(len(approaches), np.inf)
    by_size: dict[int, list[int]] = {}
    for k, approach in enumerate(approaches):
        by_size.setdefault(len(approach.numbers), []).append(k)
    for same_size in by_size.values():
        for begin in range(0, len(same_size), CHUNK):
            chosen = same_size[begin : begin + CHUNK]
            closest[chosen] = _third_contacts([approaches[k] for k in chosen])
    return closest


def _third_contacts(approaches: Sequence[Approach]) -> Array:
    first, second = np.triu_indices(len(approaches[0].numbers), 1)
    numbers = np.array([one.numbers for one in approaches])
    positions = np.array([one.positions for one in approaches])
    tangents = np.array([one.tangent for one in approaches])
    limits = np.array([(one.r_end - one.distance, one.r_start - one.distance) for one in approaches])
    member = np.zeros(numbers.shape, bool)
    for row, one in zip(member, approaches, strict=True):
        row[list(one.members)] = True
    apart, speed = positions[:, second] - positions[:, first], tangents[:, second] - tangents[:, first]
    square = np.sum(speed**2, axis=-1)
    third = (square > 1e-20) & ~(member[:, first] & member[:, second])
    nearest = -np.sum(apart * speed, axis=-1) / np.where(third, square, 1.0)  # where a straight line comes closest
    step = np.clip(nearest, limits[:, :1], limits[:, 1:])
    distances = np.linalg.norm(apart + step[..., None] * speed, axis=-1)
    sums = covalent_radii[numbers[:, first]] + covalent_radii[numbers[:, second]]
    return np.min(np.where(third, distances / sums, np.inf), axis=1, initial=np.inf)


def without_third_contacts(approaches: Sequence[Approach]) -> tuple[list[Approach], int]:
    """The approaches whose third contacts all stay at 0.8 or above, and how many were left out."""
    kept = [one for one, closest in zip(approaches, third_contacts(approaches), strict=True) if closest >= RHO]
    return kept, len(approaches) - len(kept)
