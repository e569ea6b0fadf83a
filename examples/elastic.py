"""Lattice constant, bulk modulus and elastic constants of a cubic crystal from the stress of strained cells.

python examples/elastic.py [MODEL]        default: examples/silicon
"""

import sys
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from gmnn import Calculator

STRAIN = 0.005


def main(model: str = str(Path(__file__).with_name("silicon"))) -> dict[str, float]:
    """Print and return them, Å and GPa."""
    atoms = bulk("Si", "diamond", a=5.47, cubic=True)
    atoms.calc = Calculator(model, dtype="float64")
    found = elastic(atoms)
    print(", ".join(f"{name} {value:.4g}" for name, value in found.items()))
    return found


def elastic(atoms: Atoms) -> dict[str, float]:
    """Of a cubic crystal with its calculator, whose cell is relaxed first; atoms relax in every strained cell."""
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-4, steps=200)
    a = atoms.cell.cellpar()[:3].mean()

    def stress(strain: np.ndarray) -> np.ndarray:
        one = atoms.copy()
        one.calc = atoms.calc
        one.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
        BFGS(one, logfile=None).run(fmax=1e-4, steps=200)
        return one.get_stress(voigt=False) / units.GPa

    e = np.zeros((2, 3, 3))
    e[0, 0, 0], e[1, 1, 2], e[1, 2, 1] = STRAIN, STRAIN / 2, STRAIN / 2
    axial = (stress(e[0]) - stress(-e[0])) / (2 * STRAIN)
    shear = (stress(e[1]) - stress(-e[1])) / (2 * STRAIN)
    c11, c12, c44 = axial[0, 0], 0.5 * (axial[1, 1] + axial[2, 2]), shear[1, 2]
    values = {"a_A": a, "B_GPa": (c11 + 2 * c12) / 3, "C11_GPa": c11, "C12_GPa": c12, "C44_GPa": c44}
    return {name: float(value) for name, value in values.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
