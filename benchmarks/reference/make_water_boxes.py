"""Small boxes of distorted water, 24 molecules each, for a potential that holds at 1,000 K: many, as they are cheap.

    pip install tblite
    python benchmarks/reference/make_water_boxes.py --model models/water boxes.extxyz
    cat water_far.extxyz boxes.extxyz > water_boxes.extxyz

MODEL moves replicas of a box of 8.95 Å at 300 K, whose molecules are then bent, stretched and pushed together, several
in every frame, labelled by what MODEL says of the undistorted frame, which it knows, plus the difference that GFN1-xTB
finds between the two (`box`). Other replicas it moves at 1,000 and 1,500 K, where it gets lost in what it does not
know: these frames are taken as they are, with the forces of xTB, no better than 0.2 eV/Å, and its energy plus what it
misses on average (`hot`). Ten minutes on one core. What the potential gains and loses is in docs/md.md.
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from ase.calculators.singlepoint import SinglePointCalculator
from make_water import HIGHEST, LARGEST_FORCE, molecules, pushed, xtb
from tqdm import tqdm

from gmnn import md
from gmnn.interfaces.calculator import Calculator
from gmnn.model import folder
from gmnn.model.potential import Potential

SIDE, MOLECULES, REPLICAS, DISTORTIONS = 8.95, 24, 4, 2
CONTACTS = {  # Å, and share
    (1, 1): (0.55, 1.8, 0.4), (8, 1): (0.95, 1.7, 0.2), (1, 8): (0.95, 1.7, 0.2), (8, 8): (1.3, 2.6, 0.2),
}  # fmt: skip
LENGTHS, ANGLES = (0.75, 1.9), (30.0, 180.0)  # Å, degrees
SAMPLED = {300.0: 40, 1000.0: 20, 1500.0: 10}  # K, and frames of every replica, 50 fs apart


def main() -> None:
    """Move, distort, label, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    seen = dynamics(folder.load(str(arguments.model)), arguments.seed, rng)
    known, done, tried, usual, missing = Calculator(arguments.model, path="fast"), [], 0, np.inf, []
    for base in tqdm(seen[300.0], disable=None):
        energy, forces = xtb(base)
        usual = min(usual, energy)
        missing.append(known.get_potential_energy(base) - energy)
        for _ in range(DISTORTIONS):
            tried += 1
            done += labelled(distorted(base, rng), usual, missing[-1], known.get_forces(base) - forces, "box")
    for atoms in tqdm(seen[1000.0] + seen[1500.0], disable=None):
        tried += 1
        done += labelled(atoms, usual, float(np.mean(missing)), 0.0, "hot")
    ase.io.write(arguments.output, done)
    print(f"{len(done)} of {tried} frames")


def labelled(atoms: Atoms, usual: float, energy: float, forces: np.ndarray | float, kind: str) -> list[Atoms]:
    """The frame with xTB's energy, eV, and forces, eV/Å, and what these lack; nothing if it is of no use."""
    try:
        found = xtb(atoms)
    except CalculationFailed:  # of some that are very far
        return []
    if np.abs(found[1]).max() > LARGEST_FORCE or found[0] - usual > HIGHEST * len(atoms):
        return []
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, info={"config_type": kind})
    bare.calc = SinglePointCalculator(bare, energy=found[0] + energy, forces=found[1] + forces)
    return [bare]


def dynamics(potential: Potential, seed: int, rng: np.random.Generator) -> dict[float, list[Atoms]]:
    """Frames of the liquid by temperature, K."""
    start = md.Dynamics(lattice(rng), potential, md.Bath("minimise", fmax_eV_per_A=0.5))
    start.run(500)
    box, found = start.now.snapshot(start.atoms), {}
    for T, count in SAMPLED.items():
        bath = md.Bath("langevin", T, T, friction_per_ps=20.0)
        run = md.Dynamics(box, potential, bath, 0.5, seed=seed, replicas=REPLICAS)
        run.run(2000 if T == 300.0 else 200)
        frames = []
        for _ in range(count):
            run.run(100)
            frames += [one.snapshot(run.atoms) for one in run.replicas]
        found[T] = frames
        box = frames[0] if T == 300.0 else box
    return found


def lattice(rng: np.random.Generator) -> Atoms:
    """Molecules in random directions on a lattice with gaps."""
    sites = rng.permutation(np.indices((3, 3, 3)).reshape(3, -1).T)[:MOLECULES] * SIDE / 3
    half = np.deg2rad(104.5 / 2)
    atoms = Atoms(cell=[SIDE] * 3, pbc=True)
    for site in sites:
        one = Atoms(
            "OHH", 0.97 * np.array([[0, 0, 0], [np.cos(half), np.sin(half), 0], [np.cos(half), -np.sin(half), 0]])
        )
        one.euler_rotate(*rng.uniform(0, 360, 3))
        one.translate(site)
        atoms += one
    return atoms


def distorted(base: Atoms, rng: np.random.Generator) -> Atoms:
    """A third of the molecules bent and stretched, two pairs pushed together."""
    atoms = pushed(base, rng, CONTACTS, pairs=2)
    for o, own in molecules(base):
        if rng.random() > 1 / 3:
            continue
        bonds = atoms.get_distances(o, own, mic=True, vector=True)
        one, other = bonds / np.linalg.norm(bonds, axis=1)[:, None]
        across = other - one * (one @ other)
        across /= np.linalg.norm(across)
        angle = np.deg2rad(rng.uniform(*ANGLES)) if rng.random() < 0.6 else np.arccos(np.clip(one @ other, -1, 1))
        lengths = np.linalg.norm(bonds, axis=1)
        for k in range(2):
            if rng.random() < 0.3:
                lengths[k] = rng.uniform(*LENGTHS)
        atoms.positions[own[0]] = atoms.positions[o] + lengths[0] * one
        atoms.positions[own[1]] = atoms.positions[o] + lengths[1] * (np.cos(angle) * one + np.sin(angle) * across)
    return atoms


if __name__ == "__main__":
    main()
