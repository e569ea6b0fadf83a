"""Frames of ethanol with one bond compressed, for the arm of the study that adds such frames to the training set.

    pip install pyscf ase numpy
    python benchmarks/reference/make_compressed.py ethanol_compressed.extxyz

Frame k takes frame k of the embedded set and drives bond k mod 8 (as the scan does: H moves, two heavy atoms move
alike) to 0.50 ... 0.90 of its length; 0.50 is about where other projects stop. MP2/def2-SVP as the embedded set. Can be
stopped and started again.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from make_ethanol import label  # noqa: E402

from gmnn.data.embedded import ethanol  # noqa: E402
from gmnn.scanning.bonds import find_bonds  # noqa: E402
from gmnn.scanning.paths import bond_path  # noqa: E402

N_FRAMES, SHORTEST, LONGEST = 48, 0.5, 0.9


def compressed() -> list[Atoms]:
    """The unlabelled frames, the same at every call."""
    frames = ethanol()
    bonds = find_bonds(frames[0])
    shares = SHORTEST + (LONGEST - SHORTEST) * np.random.default_rng(0).permutation(N_FRAMES) / (N_FRAMES - 1)
    moved = []
    for k, share in enumerate(shares):
        path = bond_path(frames[k], *bonds[k % len(bonds)])
        atoms = path.at(share * path.distance)
        atoms.info = {"bond": path.label, "share": float(share)}
        moved.append(Atoms(atoms.numbers, atoms.positions, info=atoms.info))
    return moved


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output")
    output = parser.parse_args().output
    with tempfile.TemporaryDirectory() as folder:
        source = str(Path(folder) / "frames.extxyz")
        write(source, compressed())
        label(source, output)
