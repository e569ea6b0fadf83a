"""The path over a barrier: the hydroxyl group of ethanol turned from gauche to trans, with ASE's nudged elastic band.

python examples/neb.py [MODEL]        default: examples/ethanol; prints the barrier, draws neb.png
"""

import sys
from pathlib import Path

import matplotlib
from ase import Atoms
from ase.mep import NEB, NEBTools
from ase.optimize import BFGS

from gmnn import Calculator
from gmnn.data.embedded import ethanol

CH3, CH2, OXYGEN, HYDROGEN = 0, 1, 6, 8  # along the chain
IMAGES, FMAX = 7, 0.03  # eV/Å


def main(model: str = str(Path(__file__).with_name("ethanol"))) -> float:
    """Relax both ends, find the path between them; -> barrier, eV."""
    matplotlib.use("Agg")
    calculator = Calculator(model, dtype="float64")
    start, end = turned(60, calculator), turned(180, calculator)
    images = [start, *(start.copy() for _ in range(IMAGES - 2)), end]
    for image in images:
        image.calc = calculator  # one for all: they are computed one after the other
    band = NEB(images, climb=True, allow_shared_calculator=True, method="improvedtangent")
    band.interpolate("idpp")
    BFGS(band, logfile=None).run(fmax=FMAX, steps=300)
    tools = NEBTools(images)
    barrier, difference = tools.get_barrier()
    print(f"barrier {1000 * barrier:.0f} meV, trans {1000 * difference:+.0f} meV from gauche")
    tools.plot_band().savefig("neb.png", dpi=150)
    return barrier


def turned(angle: float, calculator: Calculator) -> Atoms:
    """The minimum nearest to a dihedral angle C-C-O-H, degrees."""
    frame = ethanol()[0]
    atoms = Atoms(frame.numbers, frame.positions, calculator=calculator)
    atoms.set_dihedral(CH3, CH2, OXYGEN, HYDROGEN, angle, indices=[HYDROGEN])
    BFGS(atoms, logfile=None).run(fmax=FMAX / 2, steps=300)
    return atoms


if __name__ == "__main__":
    main(*sys.argv[1:])
