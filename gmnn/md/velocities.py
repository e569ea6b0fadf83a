"""Which atoms move, and with which velocities they start."""

import numpy as np
from ase import Atoms, units
from ase.constraints import FixAtoms
from ase.md.velocitydistribution import Stationary, ZeroRotation

from gmnn.errors import UserError
from gmnn.md.integrators import KEEPS_MOMENTUM, Bath


def fixed_atoms(atoms: Atoms) -> np.ndarray:
    """Which atoms do not move, [N] bool; UserError for constraints other than FixAtoms."""
    fixed = np.zeros(len(atoms), bool)
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            raise UserError(f"the structure has a constraint {type(constraint).__name__}; only FixAtoms can be used")
        fixed[constraint.get_indices()] = True
    return fixed


def degrees_of_freedom(atoms: Atoms, fixed: np.ndarray, bath: Bath) -> int:
    """3 per free atom, less what the dynamics conserve: the momentum and an isolated molecule's angular momentum."""
    free = 3 * int(np.sum(~fixed))
    if not KEEPS_MOMENTUM[bath.ensemble] or fixed.any():
        return free
    rotations = 0 if atoms.pbc.any() else {1: 0, 2: 2}.get(len(atoms), 3)
    return max(0, free - 3 - rotations)


def maxwell(atoms: Atoms, temperature_K: float, fixed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random velocities at a temperature, [N, 3]; without momentum and a molecule's rotation if no atom is fixed."""
    moving = Atoms(atoms.numbers, atoms.positions, masses=atoms.get_masses(), cell=atoms.cell, pbc=atoms.pbc)
    width = np.sqrt(units.kB * temperature_K / moving.get_masses())[:, None]
    moving.set_velocities(np.where(fixed[:, None], 0.0, width * rng.normal(size=(len(atoms), 3))))
    if not fixed.any() and len(atoms) > 1:
        Stationary(moving)
        if not atoms.pbc.any():
            ZeroRotation(moving)
        kinetic = moving.get_kinetic_energy()
        freedom = degrees_of_freedom(atoms, fixed, Bath("nve"))
        if kinetic > 0 and freedom > 0:
            moving.set_velocities(moving.get_velocities() * np.sqrt(0.5 * freedom * units.kB * temperature_K / kinetic))
    return moving.get_velocities()


def repeated(atoms: Atoms, repeat: tuple[int, int, int], seed: int) -> tuple[Atoms, float]:
    """Repeat a structure, and return it with the kinetic temperature in K of its free atoms, 0 without velocities.

    All atoms get new velocities with the same kinetic energy per free atom, because copies with equal velocities would
    move as one. Positions and fixed atoms repeat.
    """
    copies = atoms.repeat(repeat)
    free = int(np.sum(~fixed_atoms(atoms)))
    moving = np.where(fixed_atoms(atoms)[:, None], 0.0, atoms.get_velocities())
    kinetic = 0.5 * float(np.sum(atoms.get_masses()[:, None] * moving**2))
    if not kinetic > 0:
        return copies, 0.0
    temperature_K = 2 * kinetic / (3 * free * units.kB)
    velocities = maxwell(copies, temperature_K, fixed_atoms(copies), np.random.default_rng(seed))
    new = 0.5 * float(np.sum(copies.get_masses()[:, None] * velocities**2))
    velocities *= np.sqrt(kinetic * len(copies) / len(atoms) / new)
    copies.set_velocities(velocities)
    return copies, temperature_K
