"""Whether dynamics lost a bond of a molecule, or fused two atoms."""

import numpy as np
from ase import Atoms

from gmnn.elements import covalent_radius
from gmnn.neighbors.host import neighbor_pairs

BONDED = 1.25  # summed covalent radii within which two atoms of a molecule are bonded
LOST, FUSED = 0.5, 0.5  # Å beyond the length at the start; summed covalent radii


def bonded(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of bonded atoms or images, i < j, with their lengths: i, j [B] and r [B] in Å, shortest first."""
    radii = np.array([covalent_radius(z) for z in atoms.numbers])
    i, j, r = _pairs(atoms.positions, atoms.cell.array, atoms.pbc, 2 * BONDED * radii.max())
    order = np.argsort(r, kind="stable")
    i, j, r = i[order], j[order], r[order]
    near = (r < BONDED * (radii[i] + radii[j])) & (i < j)
    return i[near], j[near], r[near]


class Bonds:
    """The bonds of an isolated structure; a periodic one, whose bonds may break and form, has none."""

    def __init__(self, atoms: Atoms) -> None:
        self.radii, self.pbc = np.array([covalent_radius(z) for z in atoms.numbers]), atoms.pbc
        self.i, self.j, self.lengths = (x[:0] if atoms.pbc.any() else x for x in bonded(atoms))

    def lost(self, positions: np.ndarray) -> int:
        """Number of bonds that are longer than at the start by more than 0.5 Å."""
        r = np.linalg.norm(positions[self.j] - positions[self.i], axis=1)
        return int(np.sum(r - self.lengths > LOST))

    def broken(self, positions: np.ndarray, cell: np.ndarray) -> bool:
        """Whether a bond is lost or two atoms are fused."""
        return self.lost(positions) > 0 or self.fused(positions, cell)

    def fused(self, positions: np.ndarray, cell: np.ndarray) -> bool:
        """Whether two atoms are closer than half the sum of their covalent radii."""
        i, j, r = _pairs(positions, cell, self.pbc, 2 * FUSED * self.radii.max())
        return bool((r < FUSED * (self.radii[i] + self.radii[j])).any())


def _pairs(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs within a reach, both directions: i, j [P] and lengths [P] in Å."""
    i, j, S = neighbor_pairs(positions, cell, pbc, reach)
    return i, j, np.linalg.norm(positions[j] + S @ cell - positions[i], axis=1)
