"""Distorted frames beyond the data, labelled with the differences that a cheap method gives.

The label of a distorted frame, energy and forces alike, is that of its original frame plus cheap(distorted) -
cheap(frame). It is exact at no distortion, and elsewhere as wrong as the *changes* of the cheap method.
"""

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.calculators.singlepoint import SinglePointCalculator

from gmnn.data import Dataset
from gmnn.elements import covalent_radius
from gmnn.neighbors.host import neighbor_pairs
from gmnn.structures import bare

RATTLE = (0.02, 0.12)  # Å, standard deviations of a frame's displacements
STRETCHED, STRETCH = 3, (0.1, 1.0)  # most atoms moved in half of the frames, Å away from their nearest neighbour
CONTACT = 0.6  # summed covalent radii; closer pairs are left to the repulsion
HIGHEST, LARGEST_FORCE = 0.7, 20.0  # eV per atom above the original frame, eV/Å; frames beyond are useless
KIND, RISE = "distorted", "rise_eV"  # config_type; key of the energy above the original frame
WEIGHT, RATE = 0.03, 3e-3  # of training, to start with: docs/dataset.md


def distorted(atoms: Atoms, rng: np.random.Generator) -> Atoms | None:
    """Copy with all atoms displaced and some pulled from their nearest neighbour; None if two atoms come too close."""
    moved = bare(atoms)
    moved.positions += rng.uniform(*RATTLE) * rng.normal(size=(len(moved), 3))
    if rng.random() < 0.5:
        for _ in range(rng.integers(1, STRETCHED + 1)):
            _stretch(moved, int(rng.integers(len(moved))), rng.uniform(*STRETCH))
    i, j, _, r = _pairs(moved)
    radii = np.array([covalent_radius(z) for z in moved.numbers])
    return moved if (r >= CONTACT * (radii[i] + radii[j])).all() else None


def _stretch(atoms: Atoms, atom: int, by: float) -> None:
    """Move an atom away from its nearest neighbour, if it has one, `by` Å."""
    i, _, vectors, r = _pairs(atoms)
    neighbours = np.flatnonzero(i == atom)
    if len(neighbours):
        nearest = neighbours[np.argmin(r[neighbours])]
        atoms.positions[atom] -= by * vectors[nearest] / r[nearest]


def _pairs(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs within twice the longest bond: i, j [P], vectors [P, 3] and lengths [P] in Å."""
    reach = 4.0 * max(covalent_radius(z) for z in atoms.numbers)
    i, j, S = neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, reach)
    vectors = atoms.positions[j] + S @ atoms.cell.array - atoms.positions[i]
    return i, j, vectors, np.linalg.norm(vectors, axis=1)


def labelled(
    data: Dataset, frames: np.ndarray, calculator: BaseCalculator, rng: np.random.Generator
) -> Iterator[Atoms | None]:
    """Yield a distorted copy of each chosen frame with energy (eV) and forces (eV/Å), or None if it is useless.

    `frames` are indices of frames that have both labels. A copy is useless if a pair is too close, if its energy or
    forces are out of all proportion, or if the calculator fails.
    """
    known: dict[int, tuple[float, np.ndarray]] = {}
    for k in map(int, frames):
        atoms = data.atoms[k]
        moved = distorted(atoms, rng)
        if moved is None:
            yield None
            continue
        if k not in known:
            known[k] = _evaluated(atoms, calculator)
        try:
            energy, forces = _evaluated(moved, calculator)
        except Exception:  # of any kind: a calculator may fail to converge far from any minimum
            yield None
            continue
        rise = energy - known[k][0]
        if not (rise < HIGHEST * len(atoms) and np.abs(forces).max() < LARGEST_FORCE):
            yield None
            continue
        moved.info.update({"config_type": KIND, RISE: rise})
        forces = data.forces[k] + forces - known[k][1]
        moved.calc = SinglePointCalculator(moved, energy=float(data.energies[k]) + rise, forces=forces)
        yield moved


def _evaluated(atoms: Atoms, calculator: BaseCalculator) -> tuple[float, np.ndarray]:
    """Energy and forces [N, 3]; ValueError if they have another shape or are not finite."""
    frame = bare(atoms)
    frame.calc = calculator
    energy, forces = np.array(frame.get_potential_energy(), float), np.array(frame.get_forces(), float)
    if energy.size != 1 or forces.shape != (len(frame), 3):
        raise ValueError(f"energy and forces have the shapes {energy.shape} and {forces.shape}")
    if not (np.isfinite(energy).all() and np.isfinite(forces).all()):
        raise ValueError("energy or forces are not finite")
    return energy.item(), forces
