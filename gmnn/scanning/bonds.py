"""Which pairs of atoms of a structure are its bonds.

In an isolated structure two atoms are bonded within 1.3 sums of their covalent radii (Cordero et al., Dalton Trans.
2832 (2008), in ase.data). In a periodic one the bonds are nearest neighbours: of every pair of elements that is bonded
by this rule, with no atom between, the pairs within 5 % of its shortest distance, and of these the three shortest. If
no pair is bonded, as in solid argon, the closest pair of elements takes their place. With a cutoff in Å, every pair
within it is a bond; 1.6 Å is the rule of the scan protocol S0.
"""

import math
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from gmnn.scanning.paths import BONDED

S0_CUTOFF = 1.6  # Å
SHELL = 1.05  # shortest distances of a pair of elements within which its atoms are nearest neighbours
BETWEEN = 1.05  # (a² + b²) / c² up to which an atom is between two others; 1 on the sphere
MOST_ALIKE = 3  # bonds of one pair of elements in a periodic structure
REACHES = (BONDED, 2.0, 3.0)  # sums of covalent radii within which nearest neighbours are looked for
WIDTH, SHARE = 6.0, 2.2  # Å and longest bonds that a cell must at least be wide


class Bonds(NamedTuple):
    """Pairs (i, j), i < j, sorted; the rule in words; how many pairs of the rule are left out."""

    pairs: list[tuple[int, int]]
    rule: str
    n_left_out: int = 0


def find_bonds(atoms: Atoms, cutoff: float | None = None) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, sorted, of the rule at the top of this file; with `cutoff` all within it, in Å."""
    return bonds_of(atoms, cutoff).pairs


def bonds_of(atoms: Atoms, cutoff: float | None = None) -> Bonds:
    """The bonds of a structure with the rule that made them."""
    if cutoff is not None:
        return Bonds(sorted(_distances(atoms, cutoff)), f"pairs within {cutoff:g} Å")
    if not atoms.pbc.any():
        reach = BONDED * covalent_radii[atoms.numbers]
        return Bonds(sorted(_distances(atoms, reach)), f"pairs within {BONDED:g} sums of covalent radii")
    return _nearest(atoms)


def _nearest(atoms: Atoms) -> Bonds:
    for reach in REACHES:
        distances = _distances(atoms, reach * covalent_radii[atoms.numbers])
        if distances:
            break
    distances = _unshadowed(distances)
    alike: dict[tuple[int, ...], list[tuple[float, tuple[int, int]]]] = {}
    for pair, distance in distances.items():
        kind = tuple(sorted(int(z) for z in atoms.numbers[list(pair)]))
        alike.setdefault(kind, []).append((round(distance, 6), pair))
    if reach > BONDED and alike:
        kind = min(alike, key=lambda kind: min(alike[kind])[0] / sum(covalent_radii[list(kind)]))
        alike = {kind: alike[kind]}
    chosen, n_nearest = [], 0
    for pairs in alike.values():
        nearest = sorted(entry for entry in pairs if entry[0] <= SHELL * min(pairs)[0])
        n_nearest += len(nearest)
        chosen += [pair for _, pair in nearest[:MOST_ALIKE]]
    rule = f"nearest neighbours, at most the {MOST_ALIKE} shortest of each pair of elements"
    return Bonds(sorted(chosen), rule, n_nearest - len(chosen))


def _unshadowed(distances: dict[tuple[int, int], float]) -> dict[tuple[int, int], float]:
    """The pairs without an atom between them: inside, or nearly, of the sphere that has the pair as its diameter."""
    squares: dict[int, dict[int, float]] = {}
    for (i, j), r in distances.items():
        squares.setdefault(i, {})[j] = squares.setdefault(j, {})[i] = r * r

    def free(i: int, j: int) -> bool:
        between = (squares[i][k] + squares[j][k] for k in squares[i].keys() & squares[j].keys())
        return min(between, default=math.inf) > BETWEEN * squares[i][j]

    return {pair: r for pair, r in distances.items() if free(*pair)}


def _distances(atoms: Atoms, cutoff: float | np.ndarray) -> dict[tuple[int, int], float]:
    """Distance in Å, of the nearest image, of every pair (i, j), i < j, within a cutoff or the sum of two radii."""
    if not len(atoms):
        return {}
    distances: dict[tuple[int, int], float] = {}
    for i, j, r in zip(*neighbor_list("ijd", atoms, cutoff), strict=True):
        if i < j:
            pair = int(i), int(j)
            distances[pair] = min(float(r), distances.get(pair, math.inf))
    return distances


def roomy(atoms: Atoms) -> tuple[Atoms, tuple[int, int, int]]:
    """Repeat a periodic structure until no bond reaches its own image; return it with the copies along each vector.

    Along periodic directions the result is at least 6 Å and 2.2 of the longest bonds wide.
    """
    if not atoms.pbc.any() or atoms.cell.rank < 3:
        return atoms, (1, 1, 1)
    lengths = [1.0 / length for length in np.linalg.norm(atoms.cell.reciprocal(), axis=1)]
    copies = _copies(atoms, lengths, WIDTH)
    repeated = atoms.repeat(copies) if max(copies) > 1 else atoms
    bonds = bonds_of(repeated).pairs
    longest = max((repeated.get_distance(i, j, mic=True) for i, j in bonds), default=0.0)
    copies = _copies(atoms, lengths, max(WIDTH, SHARE * longest))
    return (atoms.repeat(copies) if max(copies) > 1 else atoms), copies


def _copies(atoms: Atoms, lengths: list[float], width: float) -> tuple[int, int, int]:
    n = [
        math.ceil(width / length - 1e-9) if periodic else 1 for length, periodic in zip(lengths, atoms.pbc, strict=True)
    ]
    return n[0], n[1], n[2]
