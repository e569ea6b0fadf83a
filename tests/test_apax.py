"""Models trained with Apax 0.14 give the same energies and forces here (benchmarks/peers/apax_reference.py)."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from jax import tree_util

import gmnn
from gmnn import Calculator, apax
from gmnn.commands.import_apax import main
from gmnn.errors import UserError
from gmnn.model import scale_shift
from gmnn.model_config import ModelConfig, ZBLConfig
from gmnn.potential import Potential

GOLDEN = Path(__file__).parent / "golden" / "apax"
NAMES = ("ethanol", "ethanol_zbl", "ethanol_exponential", "water_zbl")
ENERGY, FORCE = 1e-6, 1e-5  # eV/atom, eV/Å
FLOAT32 = 5e-7  # of a number: Apax computes its repulsions in float32 whatever is asked for


def unseen(name: str) -> tuple[list[Atoms], np.ndarray, np.ndarray]:
    """Frames that the model never saw, the later ones compressed, and Apax's energies [n] and forces [n, N, 3]."""
    found = np.load(GOLDEN / name / "unseen.npz")
    cells = zip(found["positions"], found["cells"], strict=True)
    frames = [Atoms(found["numbers"], x, cell=cell, pbc=found["pbc"]) for x, cell in cells]
    return frames, found["energies"], found["forces"].reshape(found["positions"].shape)


def predicted(model: Potential | Path, frames: list[Atoms]) -> tuple[np.ndarray, np.ndarray]:
    done = Calculator(model, dtype="float64").batch_eval(frames)
    return np.array([a.get_potential_energy() for a in done]), np.array([a.get_forces() for a in done])


@pytest.mark.parametrize("name", NAMES)
def test_same_energies_and_forces(name: str, tmp_path: Path) -> None:
    """Through the command and the model folder, on 20 frames (4 of water)."""
    assert main([str(GOLDEN / name), str(tmp_path / "out")]) == 0
    frames, energies, forces = unseen(name)
    ours, our_forces = predicted(tmp_path / "out", frames)
    n = len(frames[0])
    print(name, np.abs(ours - energies).max() / n, np.abs(our_forces - forces).max(), np.abs(forces).max())
    strong = name == "ethanol_exponential"
    assert (np.abs(ours - energies) / n <= ENERGY + strong * FLOAT32 * np.ptp(energies) / n).all()
    assert (np.abs(our_forces - forces) <= FORCE + strong * FLOAT32 * np.abs(forces).max(axis=(1, 2), keepdims=True)).all()
