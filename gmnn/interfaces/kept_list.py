"""The neighbour list that a calculator keeps from call to call, and the shapes for which it compiles programs."""

from typing import NamedTuple

import numpy as np
from ase import Atoms

from gmnn.errors import UserError
from gmnn.neighbors.host import SAME_PLACE, capacity
from gmnn.system import System

OWN_SHAPES = 4  # numbers of atoms that get arrays without spare rows
SPARE = 1.6  # factor by which slots may be more than needed, where a program for them is there
MOST_SHAPES = 64  # shapes whose programs are kept, some MB each


class KeptList(NamedTuple):
    """A neighbour list that is used until an atom has moved by half the skin."""

    built: Atoms  # the structure of the list
    home: np.ndarray  # positions in the list, brought into the cell and padded, [N, 3] Å
    system: System  # on the device
    near: tuple[np.ndarray, np.ndarray, np.ndarray]  # i, j and S @ cell of pairs that may meet while it is used

    def describes(self, atoms: Atoms) -> bool:
        """Whether species, cell and periodicity of a structure with as many atoms are those of the list."""
        return (
            np.array_equal(self.built.numbers, atoms.numbers)
            and np.array_equal(self.built.cell.array, atoms.cell.array)
            and np.array_equal(self.built.pbc, atoms.pbc)
        )


class Shapes:
    """Shapes of arrays for structures of any size: few programs are compiled, and few are kept.

    The first numbers of atoms have arrays of just that size; later ones share those of a ladder that grows by a
    quarter.
    """

    def __init__(self) -> None:
        self._sizes: set[int] = set()
        self._compiled: set[tuple[int, int]] = set()

    def fit(self, atoms: int, slots: int) -> tuple[int, int, bool]:
        """Return rows >= atoms, the slots, and whether so many shapes are compiled that all should be forgotten."""
        if len(self._sizes) < OWN_SHAPES:
            self._sizes.add(atoms)
        rows = atoms if atoms in self._sizes else capacity(atoms)
        slots = min((k for n, k in self._compiled if n == rows and slots <= k <= SPARE * slots), default=slots)
        full = (rows, slots) not in self._compiled and len(self._compiled) >= MOST_SHAPES
        if full:
            self._compiled.clear()
        self._compiled.add((rows, slots))
        return rows, slots, full


def near_pairs(system: System, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return i, j and the shift in Å of the pairs of a System without padding that are within `reach` Å."""
    i, slot = np.nonzero(system.neighbors < len(system.numbers))
    j, shifts = system.neighbors[i, slot], system.shifts[i, slot] @ system.cell
    near = np.linalg.norm(system.positions[j] + shifts - system.positions[i], axis=1) <= reach
    return i[near], j[near], shifts[near]


def require_apart(positions: np.ndarray, i: np.ndarray, j: np.ndarray, shifts: np.ndarray) -> None:
    """Raise UserError if two atoms of these pairs are at the same place."""
    same = np.flatnonzero(np.linalg.norm(positions[j] + shifts - positions[i], axis=1) < SAME_PLACE)
    if len(same):
        raise UserError(f"atoms {i[same[0]]} and {j[same[0]]} are at the same place; remove one of them")
