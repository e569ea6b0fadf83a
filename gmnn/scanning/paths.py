"""Straight motions that bring atoms of a structure together, and how bonds are driven.

In the scan protocol S0 the heavy atom of a bond to hydrogen stays and H moves along the bond vector; in every other
bond both atoms move, symmetrically about their midpoint. All other atoms stay where they are. The unit is Å.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.geometry import find_mic
from numpy.typing import NDArray

from gmnn.errors import UserError

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

R_MIN = 0.1  # Å, where S0 ends
R_LEAST = 1e-3  # Å, the smallest end; closer, energies of point charges leave the range of single precision
N_FRAMES = 20  # points of one S0 curve
MOST_FRAMES = 10_000
N_NODES = 201  # nodes of one curve in the scan of bonds
GEOMETRIC_BELOW = 0.45  # Å, below which the spacing of the nodes falls with r
RHO = 0.8  # contact below which a third atom disturbs a curve, and at which most suites start
BONDED = 1.3  # contact within which two atoms are bonded; H2 and F2 at rest have 1.2
OUTWARD_STEP, OUTWARD = 0.02, 2.0  # Å; bond lengths to which a bond is stretched
CHUNK = 4096  # curves whose contacts are computed together


@dataclass(frozen=True, eq=False)
class Approach:
    """Positions x(r) = positions + (r − distance) · tangent, from r = r_start inwards to r_end.

    numbers [N], positions [N, 3] at r = distance, tangent [N, 3] = ∂x/∂r without unit, so that dE/dr = −Σ F · tangent.
    members: the atoms that are brought together; r is the distance of the first two. n_points: if not 0, the number of
    evenly spaced nodes that replace the judge's. frame: the structure that the path belongs to, with its cell; None for
    isolated atoms.
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
    frame: Atoms | None = None

    @property
    def kind(self) -> str:
        """Symbols of the atoms brought together, the lightest first, such as `H-O`; `all` for more than three atoms."""
        if len(self.members) > 3:
            return "all"
        return "-".join(chemical_symbols[z] for z in sorted(self.numbers[list(self.members)]))

    def positions_at(self, distances: Array) -> Array:
        """Positions [n, N, 3] at the distances [n]."""
        return self.positions + (np.asarray(distances) - self.distance)[:, None, None] * self.tangent

    def at(self, distance: float) -> Atoms:
        """The structure at one distance (Å), without constraints and without a calculator."""
        atoms = Atoms(self.numbers) if self.frame is None else self.frame.copy()
        atoms.set_constraint()
        atoms.positions = self.positions_at(np.array([distance]))[0]
        return atoms


def bond_name(numbers: Integers, i: int, j: int) -> str:
    """Symbols and indices of two atoms, such as `O6-H8`."""
    return f"{atom_name(numbers, i)}-{atom_name(numbers, j)}"


def atom_name(numbers: Integers, k: int) -> str:
    """Symbol and index of an atom, such as `O6`."""
    return f"{chemical_symbols[numbers[k]]}{k}"


def _is_xh(number_i: int, number_j: int) -> bool:
    return (number_i == 1) != (number_j == 1)


def bond_path(atoms: Atoms, i: int, j: int) -> Approach:
    """The S0 motion of two atoms from their distance to 0.1 Å; in a periodic cell towards the nearest image.

    The label and the members have the lower index first. Raises UserError if i and j are not two atoms of the structure
    or lie on top of each other.
    """
    if not 0 <= min(i, j) < max(i, j) < len(atoms):
        raise UserError(
            f"A bond needs two different atoms of the structure, got the indices {i} and {j}; "
            f"allowed are 0 to {len(atoms) - 1}; correct the pair."
        )
    i, j = min(i, j), max(i, j)
    vector = atoms.get_distance(i, j, mic=True, vector=True)
    distance, tangent = s0_motion(atoms.numbers, i, j, vector)
    frame = atoms.copy()
    frame.set_constraint()
    label = bond_name(atoms.numbers, i, j)
    return Approach(
        "bonds", label, frame.numbers, frame.positions, tangent, (i, j), distance, distance, R_MIN, frame=frame
    )


def s0_motion(numbers: Integers, i: int, j: int, vector: Array) -> tuple[float, Array]:
    """Distance (Å) and tangent [N, 3] of the S0 motion of atoms i and j; vector [3] (Å) leads from i to j.

    Raises UserError if the atoms lie on top of each other.
    """
    distance = float(np.linalg.norm(vector))
    if distance < 1e-6:
        raise UserError(
            f"Atoms {i} and {j} lie {distance:.1e} Å apart, which gives their bond no direction; "
            "distances above 1e-6 Å are allowed; start from a structure without coinciding atoms."
        )
    direction = vector / distance
    share_j = 0.5
    if _is_xh(numbers[i], numbers[j]):
        share_j = 1.0 if numbers[j] == 1 else 0.0
    tangent = np.zeros((len(numbers), 3))
    tangent[j] = share_j * direction
    tangent[i] = (share_j - 1.0) * direction
    return distance, tangent


def s0_distances(path: Approach, n_frames: int = N_FRAMES, r_min: float = R_MIN) -> Array:
    """The distances [n_frames] of one S0 curve in Å, linear in the frame index, both ends included.

    X–H bonds run from twice the bond length d of the structure to r_min, all others from d to r_min.
    """
    moves_hydrogen = _is_xh(*path.numbers[list(path.members)])
    start = 2.0 * path.distance if moves_hydrogen else path.distance
    return np.linspace(start, r_min, n_frames)


def dense_nodes(r_start: Any, r_min: Any, n_nodes: int = N_NODES) -> Array:
    """Distances [n_nodes] from r_start to r_min (Å): even spacing down to 0.45 Å, then spacing ∝ r (geometric).

    r_start and r_min may be arrays [C]; the result is then [C, n_nodes].
    """
    knee = np.clip(GEOMETRIC_BELOW, r_min, r_start)
    outside, inside = r_start - knee, knee * np.log(knee / r_min)
    s = np.linspace(0.0, outside + inside, n_nodes, axis=-1)
    r_start, knee, outside = (np.asarray(value)[..., None] for value in (r_start, knee, outside))
    nodes = np.where(s < outside, r_start - s, knee * np.exp(-(s - outside) / knee))
    nodes[..., 0], nodes[..., -1] = r_start[..., 0], r_min
    return nodes


def outward_distances(path: Approach, r_eq: float) -> Array:
    """Distances [m] of the stretched bond in Å, falling to just outside r_eq: from two bond lengths, or less.

    It ends where an atom of the bond comes nearer to a third one than contact 0.8, or than 1.3 if the two are not
    bonded, because another bond may form there.
    """
    distances = np.arange(r_eq + OUTWARD_STEP, OUTWARD * path.distance, OUTWARD_STEP)
    return distances[~np.logical_or.accumulate(_meets_another(path, distances))][::-1]


def _meets_another(path: Approach, distances: Array) -> NDArray[np.bool_]:
    """Whether an atom of the bond is too near to a third atom at each of the distances.  [m]"""
    others = np.delete(np.arange(len(path.numbers)), list(path.members))
    meets = np.zeros(len(distances), bool)
    for k in path.members[:2]:
        sums = covalent_radii[path.numbers[others]] + covalent_radii[path.numbers[k]]
        positions = np.concatenate([path.positions[None], path.positions_at(distances)])
        vectors = (positions[:, others] - positions[:, [k]]).reshape(-1, 3)
        if path.frame is not None and path.frame.pbc.any():
            vectors = find_mic(vectors, path.frame.cell, path.frame.pbc)[0]
        contact = np.linalg.norm(vectors, axis=1).reshape(len(positions), len(others)) / sums
        limit = np.minimum(np.where(contact[0] > BONDED, BONDED, RHO), contact[0] - 1e-9)
        meets |= (contact[1:] < limit).any(axis=1)
    return meets


def covalent_sum(numbers: Integers, i: int, j: int) -> float:
    """Sum of the covalent radii of atoms i and j."""
    return float(covalent_radii[numbers[i]] + covalent_radii[numbers[j]])


def contacts(positions: Array, numbers: Integers) -> Array:
    """All contacts [..., P] of structures [..., N, 3]: distances over sums of covalent radii; nan stays nan.

    The pairs are in the order of np.triu_indices(N, 1).
    """
    first, second = np.triu_indices(len(numbers), 1)
    sums = covalent_radii[numbers[first]] + covalent_radii[numbers[second]]
    return np.linalg.norm(positions[..., second, :] - positions[..., first, :], axis=-1) / sums


def third_contacts(approaches: Sequence[Approach]) -> Array:
    """The closest third contact on each path, [C], exact; inf where there is none.

    A third contact is that of two atoms that move relative to each other and are not both members.
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
    numbers = np.array([path.numbers for path in approaches])
    positions = np.array([path.positions for path in approaches])
    tangents = np.array([path.tangent for path in approaches])
    limits = np.array([(path.r_end - path.distance, path.r_start - path.distance) for path in approaches])
    member = np.zeros(numbers.shape, bool)
    for row, path in zip(member, approaches, strict=True):
        row[list(path.members)] = True
    offset, speed = positions[:, second] - positions[:, first], tangents[:, second] - tangents[:, first]
    square = np.sum(speed**2, axis=-1)
    third = (square > 1e-20) & ~(member[:, first] & member[:, second])
    nearest = -np.sum(offset * speed, axis=-1) / np.where(third, square, 1.0)  # where a straight line comes closest
    step = np.clip(nearest, limits[:, :1], limits[:, 1:])
    distances = np.linalg.norm(offset + step[..., None] * speed, axis=-1)
    sums = covalent_radii[numbers[:, first]] + covalent_radii[numbers[:, second]]
    return np.min(np.where(third, distances / sums, np.inf), axis=1, initial=np.inf)


def without_third_contacts(approaches: Sequence[Approach]) -> tuple[list[Approach], int]:
    """The approaches whose third contacts all stay at 0.8 or above, and the number of those left out."""
    closest = third_contacts(approaches)
    undisturbed = [path for path, contact in zip(approaches, closest, strict=True) if contact >= RHO]
    return undisturbed, len(approaches) - len(undisturbed)
