"""Times of an Apax model for one structure; run by Apax's own Python, which has no gmnn.

    python apax_speed.py MODEL STRUCTURE.extxyz

For every line of standard input a line of JSON with seconds: `calculator N`, N calls of its ASE calculator, positions
moved by 1e-5 Å before each; `batch N`, one documented `batch_eval` of N copies moved likewise, its lists included.
"""

import json
import sys
import time

import ase.io
import numpy as np
from apax.md import ASECalculator

model, structure = sys.argv[1:]
atoms = ase.io.read(structure)
atoms.calc = ASECalculator(model)
rng = np.random.default_rng(0)
home = atoms.positions.copy()


def moved():
    """Positions of the structure, a little off."""
    return home + 1e-5 * rng.normal(size=home.shape)


def calculator(count):
    """Seconds of each of some calls."""
    seconds = []
    for _ in range(count):
        atoms.positions = moved()
        clock = time.perf_counter()
        atoms.get_forces()
        atoms.get_potential_energy()
        seconds.append(time.perf_counter() - clock)
    return seconds


def batch(count):
    """Seconds of one batch over the number of copies."""
    frames = [atoms.copy() for _ in range(count)]
    for frame in frames:
        frame.positions = moved()
    clock = time.perf_counter()
    atoms.calc.batch_eval(frames, batch_size=min(count, 8), silent=True)
    return [(time.perf_counter() - clock) / count]


for line in sys.stdin:
    kind, count = line.split()
    print("RESULT", json.dumps({"calculator": calculator, "batch": batch}[kind](int(count))), flush=True)
