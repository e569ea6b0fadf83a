"""Bonds of a structure and the straight motion that drives one of them together.

The scan protocol S0: every pair within 1.6 Å is a bond. In a bond of hydrogen to a heavier atom the heavy atom stays
and H moves along the bond vector; in every other bond both atoms move, symmetrically about their midpoint. All other
atoms stay where they are. Units: Å.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from gmnn.errors import UserError

Array = NDArray[np.float64]

BOND_CUTOFF = 1.6  # Å, the rule of S0
R_MIN = 0.1  # Å, where S0 ends
N_FRAMES = 20  # points of one S0 curve


@dataclass(frozen=True)
class BondPath:
    """Positions x(r) = x(d) + (r − d) · tangent, a straight line in the distance r of atoms i and j.

    tangent [N, 3] is ∂x/∂r, without unit, so that dE/dr = −Σ F · tangent (eV/Å); d (Å) is the distance in `atoms`.
    """

    atoms: Atoms
    i: int
    j: int
    distance: float
    tangent: Array

    @property
    def label(self) -> str:
        """Symbol and index of both atoms, the lower index first: `O6-H8`."""
        symbols = self.atoms.symbols
        return f"{symbols[self.i]}{self.i}-{symbols[self.j]}{self.j}"

    @property
    def numbers(self) -> tuple[int, int]:
        """Atomic numbers of i and j."""
        return int(self.atoms.numbers[self.i]), int(self.atoms.numbers[self.j])

    @property
    def moves_hydrogen(self) -> bool:
        """True for X–H, where only H moves; False where both atoms move."""
        return _is_xh(*self.numbers)

    def at(self, distance: float) -> Atoms:
        """The structure with atoms i and j `distance` Å apart, without constraints and without a calculator."""
        atoms = self.atoms.copy()
        atoms.set_constraint()
        atoms.positions = self.atoms.positions + (distance - self.distance) * self.tangent
        return atoms


def _is_xh(number_i: int, number_j: int) -> bool:
    return (number_i == 1) != (number_j == 1)


def find_bonds(atoms: Atoms) -> list[tuple[int, int]]:
    """Every unique pair (i, j), i < j, with a distance (nearest image) below 1.6 Å, sorted."""
    first, second = neighbor_list("ij", atoms, BOND_CUTOFF)
    return sorted({(int(i), int(j)) for i, j in zip(first, second, strict=True) if i < j})


def bond_path(atoms: Atoms, i: int, j: int) -> BondPath:
    """The S0 motion of atoms i and j; in a periodic cell along the vector to the nearest image.

    Raises UserError if i and j are no two atoms of the structure or lie on top of each other.
    """
    if not 0 <= min(i, j) < max(i, j) < len(atoms):
        raise UserError(
            f"A bond needs two different atoms of the structure, got the indices {i} and {j}; "
            f"allowed are 0 to {len(atoms) - 1}; correct the pair."
        )
    i, j = min(i, j), max(i, j)
    vector = atoms.get_distance(i, j, mic=True, vector=True)
    distance, tangent = s0_motion(atoms.numbers, i, j, vector)
    frozen = atoms.copy()
    frozen.set_constraint()
    return BondPath(frozen, i, j, distance, tangent)


def s0_motion(numbers: "NDArray[np.int64]", i: int, j: int, vector: Array) -> tuple[float, Array]:
    """Distance (Å) and tangent [N, 3] of the S0 motion of atoms i and j, vector [3] (Å) leading from i to j.

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


def s0_distances(path: BondPath, n_frames: int = N_FRAMES, r_min: float = R_MIN) -> Array:
    """The distances [n_frames] of one S0 curve in Å, linear in the frame index, both ends included.

    X–H bonds run from twice the bond length d of the structure to r_min, all others from d to r_min.
    """
    start = 2.0 * path.distance if path.moves_hydrogen else path.distance
    return np.linspace(start, r_min, n_frames)
