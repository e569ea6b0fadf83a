"""The bonds that a molecule has at the start of its dynamics: how long they are, which are lost, and its pieces."""

from itertools import starmap

import numpy as np
from ase import Atoms
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gmnn.elements import COVALENT_RADII, pair_name
from gmnn.neighbors.host import neighbor_pairs

BONDED = 1.3  # summed covalent radii within which two atoms are bonded
LOST = 0.5  # Å beyond its length at the start, from which a bond is lost
FUSED = 0.5  # summed covalent radii within which two atoms are fused


def covalent_radii(numbers: np.ndarray) -> np.ndarray:
    """Covalent radii of atoms, Å; 0 where none is tabulated."""
    known = numbers < len(COVALENT_RADII)
    return np.where(known, COVALENT_RADII[np.where(known, numbers, 1)], 0.0)


def within(
    radii: np.ndarray, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, contact: float = BONDED
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs closer than `contact` summed radii, both directions: i, j and S as in `neighbor_pairs`, lengths in Å."""
    i, j, S = neighbor_pairs(positions, cell, pbc, max(2 * contact * radii.max(), 0.1))
    r = np.linalg.norm(positions[j] + S @ cell - positions[i], axis=1)
    near = r < contact * (radii[i] + radii[j])
    return i[near], j[near], S[near], r[near]


class Bonds:
    """The bonds of an isolated structure; a periodic one, whose bonds may break and form, has none."""

    def __init__(self, atoms: Atoms) -> None:
        self.radii, self.pbc = covalent_radii(atoms.numbers), atoms.pbc.copy()
        self.i, self.j, self.at_start = self._near(atoms.positions) if not atoms.pbc.any() else (np.zeros(0, int),) * 3
        names = starmap(pair_name, zip(atoms.numbers[self.i].tolist(), atoms.numbers[self.j].tolist(), strict=True))
        self.names = np.array(list(names), dtype=object)
        self.pieces_at_start = self._components(self.i, self.j)

    @property
    def kinds(self) -> list[str]:
        """Names of the pairs of elements that are bonded, in alphabetical order."""
        return sorted(set(self.names.tolist()))

    def lengths(self, positions: np.ndarray) -> np.ndarray:
        """Lengths of the bonds in Å.  [..., N, 3] -> [..., B]"""
        return np.linalg.norm(positions[..., self.j, :] - positions[..., self.i, :], axis=-1)

    def longest(self, positions: np.ndarray) -> dict[str, float]:
        """The longest bond of each pair of elements, Å, in a structure or in many [..., N, 3]."""
        lengths = self.lengths(positions)
        return {kind: float(lengths[..., self.names == kind].max()) for kind in self.kinds}

    def lost(self, positions: np.ndarray) -> int:
        """Number of bonds that are longer than at the start by more than 0.5 Å."""
        return int(np.sum(self.lengths(positions) - self.at_start > LOST))

    def fused(self, positions: np.ndarray, cell: np.ndarray) -> bool:
        """Whether two atoms, bonded or not, are closer than half the sum of their covalent radii."""
        return len(within(self.radii, positions, cell, self.pbc, FUSED)[0]) > 0

    def broken(self, positions: np.ndarray, cell: np.ndarray) -> bool:
        """Whether a bond is lost or two atoms are fused."""
        return self.lost(positions) > 0 or self.fused(positions, cell)

    def pieces(self, positions: np.ndarray) -> int:
        """Number of pieces, which bonds that are not lost hold together, those formed since included.  [N, 3] -> []"""
        kept = self.lengths(positions) - self.at_start <= LOST
        if kept.all():
            return self.pieces_at_start
        i, j, _ = self._near(positions)
        return self._components(np.append(self.i[kept], i), np.append(self.j[kept], j))

    def _near(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        i, j, _, r = within(self.radii, positions, np.zeros((3, 3)), np.zeros(3, bool))
        once = i < j
        return i[once], j[once], r[once]

    def _components(self, i: np.ndarray, j: np.ndarray) -> int:
        n = len(self.radii)
        return int(connected_components(coo_array((np.ones(len(i)), (i, j)), (n, n)), directed=False)[0])
