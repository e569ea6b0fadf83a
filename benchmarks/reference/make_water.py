"""Frames of water that no simulation near room temperature visits, for the training of configs/water_boxes.yaml.

    pip install tblite
    python benchmarks/reference/make_water.py stretched --data FILE --model models/water --count 22 water_far.extxyz
    python benchmarks/reference/make_water.py pushed --data FILE --model models/water --count 40 water_far.extxyz
    python benchmarks/reference/make_water.py hot --data FILE --model models/water --count 13 water_far.extxyz

FILE: liquid water with energies and forces; of it the frames that MODEL was trained on. `stretched` moves single
hydrogen atoms along their bonds, 0.80 ... 1.75 Å, and molecules as wholes; `pushed` moves pairs of molecules until an
atom of one and an atom of the other are as near as CONTACTS says, `oxygens` until their oxygen atoms are; `hot` takes
what MODEL itself makes of a frame at 600 K after 10 ... 200 fs, which fell apart under the first potentials; `run`
takes frames of a trajectory (`--trajectory`) from the place where it is lost (`--first`). The label of a frame is that
of the frame it came from plus the difference that GFN1-xTB (Grimme, Bannwarth, Shushkov, J. Chem. Theory Comput. 13,
1989 (2017)) finds between the two; of a `run`, xTB's own, the energy plus what it misses on average. Can be stopped and
started again: frames that the output holds are not made again. The three commands make 67 frames, as some are beyond
the limits below, on one core in fifteen minutes. Sixteen `oxygens` and two `run`s of twelve, at 1,000 K (lost after 10
ps) and 2,000 K, and forty `crowded`, made the 137 that configs/water_boxes.yaml has besides the boxes.
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
CONTACTS = {  # Å, and of all pairs the share of this kind
    "pushed": {(1, 1): (0.65, 1.8, 0.5), (8, 1): (1.05, 1.7, 0.15), (1, 8): (1.05, 1.7, 0.15), (8, 8): (1.9, 2.6, 0.2)},
    "oxygens": {(8, 8): (1.35, 2.2, 1.0)},
    "crowded": {(8, 8): (2.0, 2.5, 1.0)},
}
OTHERS = {(1, 1): 1.6, (8, 1): 1.6, (1, 8): 1.6, (8, 8): 2.5}  # Å: no other pair of two molecules comes nearer
PAIRS = 8  # of molecules that are pushed together in a frame


def main() -> None:
    """Make, label, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["stretched", *CONTACTS, "hot", "run"])
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--temperature", type=float, default=600.0)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trajectory")
    parser.add_argument("--first", type=int, default=0, help="frame of the trajectory")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    split = json.loads((arguments.model / "split.json").read_text(encoding="utf-8"))["splits"]
    training = split["train"]["indices"][:BASES]
    name = f"hot{arguments.temperature:.0f}" if arguments.kind == "hot" else arguments.kind
    done = ase.io.read(arguments.output, ":") if arguments.output.is_file() else []
    present = {atoms.info["origin"] for atoms in done}
    for k in tqdm(range(arguments.count), disable=None):
        origin = f"{Path(arguments.trajectory).parent.name if name == 'run' else name} {arguments.seed} {k}"
        if origin in present:
            continue
        rng = np.random.default_rng([arguments.seed, k, len(name)])
        place = training[int(rng.integers(len(training)))]
        base = ase.io.read(arguments.data, place)
        if name == "run":
            moved = ase.io.read(arguments.trajectory, arguments.first + k)
        elif arguments.kind == "hot":
            moved = hot(base, rng, arguments)
        else:
            moved = stretched(base, rng) if name == "stretched" else pushed(base, rng, CONTACTS[name])
        try:
            labelled = label(moved, arguments.data, training[: BASES // 4] if name == "run" else [place])
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
    shift, angle = rng.choice([0.0, 0.1, 0.25]), rng.choice([0.0, 5.0, 15.0])
    for o, own in molecules(base):
        bonds = find_mic(base.positions[own] - base.positions[o], base.cell)[0]
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


def pushed(base: Atoms, rng: np.random.Generator, contacts: dict, pairs: int = PAIRS) -> Atoms:
    """Pairs of molecules moved towards each other, each half the way, until one atom touches one of the other."""
    atoms, whole = Atoms(base.numbers, base.positions, cell=base.cell, pbc=base.pbc), molecules(base)
    kind = np.zeros(len(base), int)
    for m, (o, own) in enumerate(whole):
        kind[[o, *own]] = m
    least = np.array([[OTHERS[a, b] for b in base.numbers] for a in base.numbers])
    apart, left, used = kind[:, None] != kind, pairs, set[int]()
    for _ in range(1000):
        if not left:
            break
        zs = list(contacts)[rng.choice(len(contacts), p=[share for *_, share in contacts.values()])]
        a = int(rng.choice(np.flatnonzero(base.numbers == zs[0])))
        r = atoms.get_distances(a, range(len(atoms)), mic=True)
        near = np.flatnonzero((base.numbers == zs[1]) & (kind != kind[a]) & (r < 3.5))
        b = int(rng.choice(near)) if len(near) else a
        if {kind[a], kind[b]} & used or a == b:
            continue
        tried, target = atoms.copy(), rng.uniform(*contacts[zs][:2])
        step = 0.5 * (1.0 - target / r[b]) * atoms.get_distance(a, b, mic=True, vector=True)
        tried.positions[kind == kind[a]] += step
        tried.positions[kind == kind[b]] -= step
        close = apart & (tried.get_all_distances(mic=True) < least)
        close[[a, b], [b, a]] = False
        if not close[(kind == kind[a]) | (kind == kind[b])].any():
            atoms, left, used = tried, left - 1, used | {kind[a], kind[b]}
    return atoms


def molecules(atoms: Atoms) -> list[tuple[int, np.ndarray]]:
    """Of every molecule its oxygen and its hydrogens."""
    oxygen, hydrogen = np.flatnonzero(atoms.numbers == 8), np.flatnonzero(atoms.numbers == 1)
    owner = atoms.get_all_distances(mic=True)[np.ix_(oxygen, hydrogen)].argmin(0)
    return [(int(o), hydrogen[owner == m]) for m, o in enumerate(oxygen)]


def hot(base: Atoms, rng: np.random.Generator, arguments: argparse.Namespace) -> Atoms:
    """What the model makes of a frame in a while at a temperature."""
    from gmnn import md
    from gmnn.model import folder

    start = Atoms(base.numbers, base.positions, cell=base.cell, pbc=base.pbc)
    bath = md.Bath("langevin", arguments.temperature, arguments.temperature, friction_per_ps=50.0)
    dynamics = md.Dynamics(start, folder.load(str(arguments.model)), bath, 0.25, seed=int(rng.integers(1 << 30)))
    dynamics.run(4 * int(rng.integers(10, 200)))
    return dynamics.now.snapshot(start)


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


def label(moved: Atoms, data: str, places: list[int]) -> Atoms:
    """The moved frame with xTB's energy and forces, corrected by what they miss in the frame it came from.

    Of several frames it came from none: the energy is corrected by their mean, forces are not.
    """
    atoms = Atoms(moved.numbers, moved.positions, cell=moved.cell, pbc=moved.pbc)
    (energy, forces), missing = xtb(atoms), [difference(data, place) for place in places]
    more, push = np.mean([e for e, _ in missing]), missing[0][1] if len(missing) == 1 else 0.0
    atoms.calc = SinglePointCalculator(atoms, energy=energy + more, forces=forces + push)
    return atoms


if __name__ == "__main__":
    main()
