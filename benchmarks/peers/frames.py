"""Frames with their labels as ASE has them, for other programs."""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from gmnn.config.reading import read_config
from gmnn.data import Dataset, split


def labelled(part: Dataset) -> list[Atoms]:
    """Copies in eV and Å; missing stresses are left out."""
    frames = [Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in part.atoms]
    for atoms, energy, forces, stress in zip(frames, part.energies, part.forces, part.stresses, strict=True):
        labels = {"energy": float(energy), "forces": forces}
        if np.isfinite(stress).all():
            labels["stress"] = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        atoms.calc = SinglePointCalculator(atoms, **labels)
    return frames


def split_frames(config: Path, *overrides: str) -> tuple[list[Atoms], list[Atoms], list[Atoms]]:
    """Training, validation and test frames as a training with this configuration splits them."""
    parts = split(read_config(str(config), list(overrides)))
    assert parts.test is not None
    return labelled(parts.train), labelled(parts.valid), labelled(parts.test)
