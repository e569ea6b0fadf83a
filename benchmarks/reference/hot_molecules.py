"""Frames of ethanol and benzene by GFN2-xTB for benchmarks/grade.py: at 500 K to learn from, hot ones to judge by.

    python benchmarks/reference/hot_molecules.py --ethanol ethanol_gfn2_md1000.xyz --benzene rmd17_benzene1.xyz OUT

Needs `tblite`. OUT gets ethanol_hot.xyz and benzene_hot.xyz, Langevin dynamics at 1,000 K with a frame every
20 fs after 200 fs, and benzene_gfn2.xyz, 300 structures of the rMD17 file with new labels. What is there stays.
"""

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from tblite.ase import TBLite

FRAMES, EVERY, BEFORE = 150, 40, 400  # frames of a trajectory, steps of 0.5 fs between them and before the first
TEMPERATURES = {"ethanol": 1000.0, "benzene": 1000.0}


def labelled(atoms: Atoms) -> Atoms:
    """A copy with energy, eV, and forces, eV/Å."""
    frame = Atoms(atoms.numbers, atoms.positions)
    frame.calc = TBLite(method="GFN2-xTB", verbosity=0)
    frame.calc = SinglePointCalculator(frame, energy=frame.get_potential_energy(), forces=frame.get_forces())
    return frame


def hot(start: Atoms, temperature_K: float) -> list[Atoms]:
    """Frames of Langevin dynamics."""
    rng, atoms = np.random.default_rng(0), Atoms(start.numbers, start.positions)
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature_K, rng=rng)
    dynamics = Langevin(atoms, 0.5 * units.fs, temperature_K=temperature_K, friction=0.02 / units.fs, rng=rng)
    dynamics.run(BEFORE)
    frames = []
    for _ in range(FRAMES):
        dynamics.run(EVERY)
        frames.append(labelled(atoms))
    return frames


def main() -> None:
    """Write the files that are not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ethanol", required=True)
    parser.add_argument("--benzene", required=True)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(exist_ok=True, parents=True)
    benzene = arguments.out / "benzene_gfn2.xyz"
    if not benzene.exists():
        write(benzene, [labelled(atoms) for atoms in read(arguments.benzene, "0:900:3")], "extxyz")
    for name, temperature_K in TEMPERATURES.items():
        target = arguments.out / f"{name}_hot.xyz"
        if not target.exists():
            write(target, hot(read(getattr(arguments, name), "0"), temperature_K), "extxyz")


if __name__ == "__main__":
    main()
