"""Frames of water that no simulation near room temperature visits, for the training of configs/water_far.yaml.

    pip install tblite
    python benchmarks/reference/make_water.py stretched --data FILE --model models/water --count 22 water_far.extxyz
    python benchmarks/reference/make_water.py hot --data FILE --model models/water --count 13 water_far.extxyz

FILE: liquid water with energies and forces; of it the frames that MODEL was trained on. `stretched` moves single
hydrogen atoms along their bonds, 0.80 ... 1.75 Å, and molecules as wholes; `hot` takes what MODEL itself makes of a
frame at 600 K after 10 ... 200 fs, which falls apart under the potential of configs/water.yaml. The label of a frame is
that of the frame it came from plus the difference that GFN1-xTB (Grimme, Bannwarth, Shushkov, J. Chem. Theory Comput.
13, 1989 (2017)) finds between the two. Can be stopped and started again: frames that the output holds are not made
again. These two commands make 27 frames, on one core in five minutes.
"""

import argparse
import json
import os
from functools import cache
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from ase.calculators.singlepoint import SinglePointCalculator
from ase.geometry import find_mic
from tblite.ase import TBLite
from tqdm import tqdm

LARGEST_FORCE, HIGHEST = 25.0, 0.8  # eV/Å and eV per atom above the frame it came from: beyond, a frame is of no use
BASES = 24  # frames that others are made of
LONGEST, SHORTEST, SHARE = 1.75, 0.80, 0.12  # of bonds that are moved, Å, and how many of them


def main() -> None:
    """Make, label, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["stretched", "hot"])
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--temperature", type=float, default=600.0)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    split = json.loads((arguments.model / "split.json").read_text())["splits"]
    training = split["train"]["indices"][:BASES]
    name = arguments.kind if arguments.kind == "stretched" else f"hot{arguments.temperature:.0f}"
    done = ase.io.read(arguments.output, ":") if arguments.output.is_file() else []
    present = {atoms.info["origin"] for atoms in done}
    for k in tqdm(range(arguments.count), disable=None):
        origin = f"{name} {arguments.seed} {k}"
        if origin in present:
            continue
        rng = np.random.default_rng([arguments.seed, k, len(name)])
        place = training[int(rng.integers(len(training)))]
        base = ase.io.read(arguments.data, place)
        moved = stretched(base, rng) if name == "stretched" else hot(base, rng, arguments)
        try:
            labelled = label(arguments.data, place, moved)
        except CalculationFailed:  # xTB does not converge for some that are very far
            continue
        above = labelled.get_potential_energy() - base.get_potential_energy()
        if np.abs(labelled.get_forces()).max() > LARGEST_FORCE or above > HIGHEST * len(base):
            continue
        labelled.info |= {"config_type": "far", "origin": origin}
        done.append(labelled)
        beside = arguments.output.with_suffix(".part.extxyz")
        ase.io.write(beside, done)
        os.replace(beside, arguments.output)


def stretched(base: Atoms, rng: np.random.Generator) -> Atoms:
    """Some hydrogen atoms on other places of their bonds, some molecules moved and turned."""
    atoms = Atoms(base.numbers, base.positions, cell=base.cell, pbc=base.pbc)
    oxygen, hydrogen = np.flatnonzero(base.numbers == 8), np.flatnonzero(base.numbers == 1)
    vectors = np.array([find_mic(base.positions[hydrogen] - base.positions[o], base.cell)[0] for o in oxygen])
    owner = np.linalg.norm(vectors, axis=2).argmin(0)
    shift, angle = rng.choice([0.0, 0.1, 0.25]), rng.choice([0.0, 5.0, 15.0])
    for m, o in enumerate(oxygen):
        own, bonds = hydrogen[owner == m], vectors[m, owner == m]
        lengths = np.linalg.norm(bonds, axis=1)
        if rng.random() < 0.5:  # a molecule as a whole
            axis = rng.normal(size=3) * np.deg2rad(angle)
            bonds = bonds + np.cross(axis, bonds)
            atoms.positions[o] += shift * rng.normal(size=3)
        for h, bond, length in zip(own, bonds, lengths, strict=True):
            bond = bond * length / np.linalg.norm(bond)
            bond = bond + rng.choice([0.0, 0.05]) * rng.normal(size=3)
            if rng.random() < SHARE:
                bond *= rng.uniform(SHORTEST, LONGEST) / np.linalg.norm(bond)
            atoms.positions[h] = atoms.positions[o] + bond
    return atoms


def hot(base: Atoms, rng: np.random.Generator, arguments: argparse.Namespace) -> Atoms:
    """What the model makes of a frame in a while at a temperature."""
    from gmnn import folder, md

    start = Atoms(base.numbers, base.positions, cell=base.cell, pbc=base.pbc)
    bath = md.Bath("langevin", arguments.temperature, arguments.temperature, friction_per_ps=50.0)
    dynamics = md.Dynamics(start, folder.load(str(arguments.model)), bath, 0.25, seed=int(rng.integers(1 << 30)))
    dynamics.run(4 * int(rng.integers(10, 200)))
    return dynamics.snapshot()


@cache
def difference(data: str, place: int) -> tuple[float, np.ndarray]:
    """What the label of a frame has beyond xTB: energy in eV, forces [N, 3] in eV/Å."""
    base = ase.io.read(data, place)
    energy, forces = xtb(base)
    return base.get_potential_energy() - energy, base.get_forces() - forces


def xtb(atoms: Atoms) -> tuple[float, np.ndarray]:
    """GFN1-xTB's energy and forces."""
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    bare.calc = TBLite(method="GFN1-xTB", verbosity=0)
    return bare.get_potential_energy(), bare.get_forces()


def label(data: str, place: int, moved: Atoms) -> Atoms:
    """The moved frame with xTB's energy and forces, corrected by what they miss in the frame it came from."""
    atoms = Atoms(moved.numbers, moved.positions, cell=moved.cell, pbc=moved.pbc)
    (energy, forces), (more, push) = xtb(atoms), difference(data, place)
    atoms.calc = SinglePointCalculator(atoms, energy=energy + more, forces=forces + push)
    return atoms


if __name__ == "__main__":
    main()
