"""Phonons of a crystal with ase.phonons: silicon, bands and density of states.

python examples/phonons.py [MODEL]        default: examples/silicon; prints three frequencies, draws phonons.png
"""

import shutil
import sys
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
from ase import units
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.phonons import Phonons

from gmnn import Calculator

SUPERCELL = (4, 4, 4)  # of the primitive cell: 128 atoms
THZ = units.invcm * 33.35641  # eV


def main(model: str = str(Path(__file__).with_name("silicon"))) -> dict[str, float]:
    """Relax the cell, displace, diagonalise; -> frequencies at special points, THz."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    calculator = Calculator(model, dtype="float64")
    atoms = bulk("Si", "diamond", a=5.47)
    atoms.calc = calculator
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-4, steps=200)
    place = tempfile.mkdtemp()
    try:
        phonons = Phonons(atoms, calculator, supercell=SUPERCELL, delta=0.02, name=f"{place}/phonon")
        phonons.run()
        phonons.read(acoustic=True)
    finally:
        shutil.rmtree(place)
    path = atoms.cell.bandpath("GXULGK", npoints=120)
    bands, dos = phonons.get_band_structure(path), phonons.get_dos(kpts=(12, 12, 12)).sample_grid(npts=200, width=2e-4)
    points = {"optical at Γ": ([0, 0, 0], 5), "LA/LO at X": ([0.5, 0, 0.5], 3), "TA at X": ([0.5, 0, 0.5], 0)}
    found = {name: phonons.band_structure([k])[0][branch] / THZ for name, (k, branch) in points.items()}
    print(f"a {np.sqrt(2) * atoms.cell.cellpar()[0]:.3f} Å; " + ", ".join(f"{k} {v:.2f} THz" for k, v in found.items()))
    _, (left, right) = pyplot.subplots(1, 2, sharey=True, width_ratios=[3, 1], figsize=(7, 4))
    bands.plot(ax=left, emin=0, emax=1.1 * bands.energies.max())
    left.set_ylabel("energy, eV")
    right.fill_betweenx(dos.get_energies(), dos.get_weights())
    right.set(xlabel="density of states", xticks=[])
    pyplot.savefig("phonons.png", dpi=150)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
