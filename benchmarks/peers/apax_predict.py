"""Energies and forces of an Apax model for the frames of a file; run by Apax's own Python, which has no gmnn.

python apax_predict.py MODEL FRAMES.extxyz OUT.npz
"""

import sys

import ase.io
import numpy as np
from apax.md import ASECalculator

model, frames, out = sys.argv[1:]
predicted = ASECalculator(model).batch_eval(ase.io.read(frames, ":"))
np.savez(
    out,
    energies=np.array([atoms.get_potential_energy() for atoms in predicted]),
    forces=np.concatenate([atoms.get_forces() for atoms in predicted]),
)
