"""Families of approaches: which atoms are brought together, in which way, from where to where.

All but `bonds_of_frame`, `dimers` and `deep` start at contact 0.8, or at r_eq or the frame's distance if closer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations, combinations_with_replacement

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii

from gmnn.scanning.bonds import find_bonds
from gmnn.scanning.paths import (
    R_MIN,
    RHO,
    Approach,
    Array,
    Integers,
    atom_name,
    bond_name,
    bond_path,
    contacts,
    covalent_sum,
    s0_motion,
)
from gmnn.scanning.reference import ReferenceCurve, mismatch
from gmnn.scanning.scan import MARGIN, SHORTEST_BOND, equilibrium_distance

RATTLE, COMPRESSION = (0.1, 0.3), (0.7, 1.0)  # Å, standard deviation of a coordinate; factor on all coordinates
DEEP_START, DEEP_END, DEEP_POINTS = 0.30, 0.03, 30  # Å, Å, as in "Attracting Trouble" (2026)
SCALED_TO = 0.1  # of the molecule's size

Bonds = Mapping[tuple[int, int], float]  # r_eq (Å) by pair: the topology of frame 0


def equilibrium_bonds(
    atoms: Atoms, reference: Mapping[str, ReferenceCurve] | None = None
) -> dict[tuple[int, int], float]:
    """Bonds of a frame with r_eq (Å) of each, from its reference curve or else by the rule of the bond scan."""
    bonds = {}
    for i, j in find_bonds(atoms):
        path = bond_path(atoms, i, j)
        curve = (reference or {}).get(path.label)
        if curve is not None and mismatch(curve, path) is not None:
            curve = None
        bonds[i, j] = equilibrium_distance(path, curve)[0]
    return bonds


def bonds_of_frame(atoms: Atoms, bonds: Bonds) -> list[Approach]:
    """Drive the bonds in S0 motion from r_eq − 0.05 Å to 0.1 Å; no curve is left out."""
    return [replace(bond_path(atoms, i, j), r_start=r_eq - MARGIN) for (i, j), r_eq in bonds.items()]


def driven_bonds(suite: str, positions: Sequence[Array], numbers: Integers, bonds: Bonds) -> list[Approach]:
    """Drive the bonds of frame 0 in other structures [N, 3] in S0 motion, from min(r_eq, contact 0.8) to 0.1 Å."""
    approaches = []
    for frame, x in enumerate(positions):
        for (i, j), r_eq in bonds.items():
            distance, tangent = s0_motion(numbers, i, j, x[j] - x[i])
            start = min(r_eq, RHO * covalent_sum(numbers, i, j))
            label = f"{bond_name(numbers, i, j)}@{frame}"
            approaches.append(Approach(suite, label, numbers, x, tangent, (i, j), distance, start, R_MIN))
    return approaches


def rattled(frames: Sequence[Atoms], bonds: Bonds, n: int, rng: np.random.Generator) -> list[Approach]:
    """Apply `driven_bonds` to n copies of each frame, every coordinate moved at random with σ from 0.1 to 0.3 Å."""
    sigmas = np.linspace(*RATTLE, n)
    moved = [frame.positions + sigma * rng.standard_normal((len(frame), 3)) for frame in frames for sigma in sigmas]
    return driven_bonds("rattled", moved, frames[0].numbers, bonds)


def compressed(frames: Sequence[Atoms], bonds: Bonds, n: int) -> list[Approach]:
    """Apply `driven_bonds` to n copies of each frame, the whole molecule scaled by factors from 0.7 to below 1."""
    factors = np.linspace(*COMPRESSION, n, endpoint=False)
    scaled = [_scaled(frame.positions, factor) for frame in frames for factor in factors]
    return driven_bonds("compressed", scaled, frames[0].numbers, bonds)


def hottest(frames: Sequence[Atoms], n: int) -> list[Atoms]:
    """Return the n frames of highest energy; frames without an energy come last, in their order."""
    energies = [frame.calc.results.get("energy", -np.inf) if frame.calc is not None else -np.inf for frame in frames]
    return [frames[k] for k in np.argsort(-np.array(energies, float), kind="stable")[:n]]


def nonbonded(frames: Sequence[Atoms], bonds: Bonds) -> list[Approach]:
    """Drive the lighter atom (of equals the later one) of every pair that is no bond straight to its partner.

    The path runs from contact 0.8 to 0.1 Å; where the contact in the frame is below 0.8, it starts there, but at least
    at 0.75. All other atoms stay.
    """
    approaches = []
    for index, atoms in enumerate(frames):
        for pair in combinations(range(len(atoms)), 2):
            if pair in bonds:
                continue
            i, j = sorted(pair, key=lambda k: (-atoms.numbers[k], k))
            vector = atoms.positions[j] - atoms.positions[i]
            distance = float(np.linalg.norm(vector))
            tangent = np.zeros((len(atoms), 3))
            tangent[j] = vector / distance
            covalent = covalent_sum(atoms.numbers, i, j)
            start = min(max(distance, SHORTEST_BOND * covalent), RHO * covalent)
            label = f"{bond_name(atoms.numbers, *pair)}@{index}"
            approaches.append(
                Approach("nonbonded", label, atoms.numbers, atoms.positions, tangent, (i, j), distance, start, R_MIN)
            )
    return approaches


def directions(frames: Sequence[Atoms], n: int, rng: np.random.Generator) -> list[Approach]:
    """Approach every atom from n directions by the other atoms in turn, from contact 0.8 to 0.1 Å.

    The directions are a Fibonacci sphere, rotated at random for every atom. The other atoms take turns in random order.
    The mover leaves its place in the molecule; all other atoms stay.
    """
    approaches = []
    for index, atoms in enumerate(frames):
        for target in range(len(atoms)):
            others = rng.permutation(np.delete(np.arange(len(atoms)), target))
            for k, direction in enumerate(fibonacci_sphere(n) @ random_rotation(rng).T):
                mover = int(others[k % len(others)])
                start = RHO * covalent_sum(atoms.numbers, target, mover)
                positions, tangent = atoms.positions.copy(), np.zeros((len(atoms), 3))
                positions[mover], tangent[mover] = positions[target] + start * direction, direction
                label = f"{atom_name(atoms.numbers, mover)}>{atom_name(atoms.numbers, target)}/{k}@{index}"
                approaches.append(
                    Approach(
                        "directions", label, atoms.numbers, positions, tangent, (target, mover), start, start, R_MIN
                    )
                )
    return approaches


def dimers(numbers: Integers) -> list[Approach]:
    """Drive isolated dimers of every pair of elements, equal ones included, from contact 0.75 to 0.1 Å.

    They start below 0.8 because the bonds of N2 and CO, 1.098 and 1.128 Å, are at contacts 0.77 and 0.79.
    """
    approaches = []
    tangent = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    for z in combinations_with_replacement(np.unique(numbers), 2):
        start = SHORTEST_BOND * float(covalent_radii[list(z)].sum())
        label = f"{chemical_symbols[z[0]]}-{chemical_symbols[z[1]]}"
        approaches.append(Approach("dimers", label, np.array(z), start * tangent, tangent, (0, 1), start, start, R_MIN))
    return approaches


def three(frames: Sequence[Atoms], bonds: Bonds, n: int, rng: np.random.Generator) -> list[Approach]:
    """Move three atoms with a bond among them to their centroid together, in proportion; at most n triples per frame.

    r is the distance of the two in closest contact. It runs from contact 0.8 (or that of the frame, if closer) to
    0.1 Å. Contacts within the triple do not exclude a curve; contacts with the atoms that stay do.
    """
    approaches = []
    for index, atoms in enumerate(frames):
        triples = [t for t in combinations(range(len(atoms)), 3) if any(p in bonds for p in combinations(t, 2))]
        if len(triples) > n:
            triples = [triples[k] for k in np.sort(rng.choice(len(triples), n, replace=False))]
        for triple in triples:
            label = f"{'-'.join(atom_name(atoms.numbers, k) for k in triple)}@{index}"
            approaches.append(_converging("three", label, atoms, triple))
    return approaches


def scaling(frames: Sequence[Atoms]) -> list[Approach]:
    """Shrink the whole molecule about its centroid to a tenth of its size.

    r is the distance of the two atoms in closest contact. It runs from contact 0.8 (or that of the frame, if closer) to
    a tenth of their distance in the frame, at most 0.1 Å.
    """
    return [
        _converging("scaling", f"molecule@{index}", atoms, tuple(range(len(atoms))))
        for index, atoms in enumerate(frames)
    ]


def deep(frames: Sequence[Atoms]) -> list[Approach]:
    """Drive every atom and its nearest neighbour in S0 motion from 0.30 to 0.03 Å.

    The 30 points are as in "Attracting Trouble" (2026). The judge's rule is stricter than the published one, which
    examines only the energies of these points.
    """
    approaches = []
    for index, atoms in enumerate(frames):
        distances = atoms.get_all_distances() + np.diag(np.full(len(atoms), np.inf))
        pairs = {(min(i, int(j)), max(i, int(j))) for i, j in enumerate(np.argmin(distances, axis=1))}
        for i, j in sorted(pairs):
            distance, tangent = s0_motion(atoms.numbers, i, j, atoms.positions[j] - atoms.positions[i])
            label = f"{bond_name(atoms.numbers, i, j)}@{index}"
            approaches.append(
                Approach(
                    "deep", label, atoms.numbers, atoms.positions, tangent, (i, j),
                    distance, DEEP_START, DEEP_END, DEEP_POINTS,
                )
            )  # fmt: skip
    return approaches


def fibonacci_sphere(n: int) -> Array:
    """Return n unit vectors [n, 3], nearly evenly spread (spherical Fibonacci lattice, offset by half a step)."""
    z = 1.0 - (2.0 * np.arange(n) + 1.0) / n
    angle = np.pi * (3.0 - np.sqrt(5.0)) * np.arange(n)
    rim = np.sqrt(1.0 - z**2)
    return np.stack([rim * np.cos(angle), rim * np.sin(angle), z], axis=1)


def random_rotation(rng: np.random.Generator) -> Array:
    """Return a rotation matrix [3, 3], uniform over all rotations (Q of Gaussian numbers, signs fixed)."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)


def _converging(suite: str, label: str, atoms: Atoms, members: tuple[int, ...]) -> Approach:
    index = np.array(members)
    inside = atoms.positions[index]
    close = contacts(inside, atoms.numbers[index])
    nearest = int(np.argmin(close))
    i, j = (int(index[row[nearest]]) for row in np.triu_indices(len(index), 1))
    distance = float(np.linalg.norm(atoms.positions[j] - atoms.positions[i]))
    tangent = np.zeros((len(atoms), 3))
    tangent[index] = (inside - inside.mean(axis=0)) / distance
    start = min(distance, RHO * covalent_sum(atoms.numbers, i, j))
    end = min(SCALED_TO * distance, R_MIN) if suite == "scaling" else R_MIN
    ordered = (i, j, *(k for k in members if k not in (i, j)))
    return Approach(suite, label, atoms.numbers, atoms.positions, tangent, ordered, distance, start, end)


def _scaled(positions: Array, factor: float) -> Array:
    centre = positions.mean(axis=0)
    return centre + factor * (positions - centre)
