"""Factors from the units of a file to eV and Å (CODATA 2014, as in ASE), and tensors from the forms in files.

Virial of a file = - virial_sign * volume * stress, stress of a file = stress_sign * stress, with stress in ASE's sign.
"""

from typing import NamedTuple

import numpy as np
from ase import units
from ase.stress import voigt_6_to_full_3x3_stress

from gmnn.config.data import UnitsConfig

ENERGIES = {
    "eV": 1.0,
    "meV": 1e-3,
    "kcal/mol": units.kcal / units.mol,
    "kJ/mol": units.kJ / units.mol,
    "Hartree": units.Hartree,
    "Ry": units.Rydberg,
}
LENGTHS = {"Å": 1.0, "angstrom": 1.0, "Bohr": units.Bohr, "nm": units.nm}
PRESSURES = {"GPa": units.GPa, "MPa": 1e-3 * units.GPa, "kbar": 1e3 * units.bar, "bar": units.bar}
ASYMMETRY = 0.01  # relative to the largest component; a larger one is not a stress
FROM_VASP = [0, 1, 2, 4, 5, 3]  # places of xx yy zz yz xz xy among VASP's xx yy zz xy yz zx
SMALL = 1e-5  # eV/Å^3, asymmetry that any code may have


class Factors(NamedTuple):
    """Factors by which the numbers of a file are multiplied."""

    energy: float  # to eV; virials too
    length: float  # to Å
    forces: float  # to eV/Å
    stress: float  # to eV/Å^3


def factors(declared: UnitsConfig) -> Factors:
    """Factors for the declared units."""
    energy, length = ENERGIES[declared.energy], LENGTHS[declared.length]
    forces = energy / length if declared.forces is None else _quotient(declared.forces, 1)
    if declared.stress is None:
        stress = energy / length**3
    else:
        stress = PRESSURES.get(declared.stress) or _quotient(declared.stress.removesuffix("^3"), 3)
    return Factors(energy, length, forces, stress)


def _quotient(unit: str, power: int) -> float:
    energy, _, length = unit.rpartition("/")
    return ENERGIES[energy] / LENGTHS[length] ** power


def tensor(value: np.ndarray) -> np.ndarray | None:
    """Convert a tensor from [3, 3], [9] or ASE's Voigt order [6] to [3, 3]; None for any other shape."""
    if value.shape == (6,):
        return voigt_6_to_full_3x3_stress(value)
    return value.reshape(3, 3) if value.shape in ((3, 3), (9,)) else None


def vasp_stress(value: np.ndarray) -> np.ndarray | None:
    """Convert VASP's stress, kbar and positive under compression, to ASE's, [3, 3] eV/Å^3; None for a wrong shape."""
    full = tensor(value[FROM_VASP] if value.shape == (6,) else value)
    return None if full is None else -PRESSURES["kbar"] * full


def asymmetric(stress: np.ndarray) -> bool:
    """Whether a stress [3, 3] eV/Å^3 is too asymmetric to be rounding."""
    return bool(np.abs(stress - stress.T).max() > max(ASYMMETRY * np.abs(stress).max(), SMALL))
