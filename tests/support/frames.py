"""Small labelled data sets with random labels."""

import numpy as np
from ase import Atoms

from gmnn.data import Dataset

NAMES = ("crystal", "triclinic", "molecule", "slab")


def labelled(structures: dict[str, Atoms], names: tuple[str, ...] = NAMES) -> Dataset:
    """Structures of different size and periodicity with random labels; stresses where there are three cell vectors."""
    rng = np.random.default_rng(5)
    atoms = [structures[name] for name in names]
    stresses = np.full((len(atoms), 3, 3), np.nan)
    for k, a in enumerate(atoms):
        if a.cell.rank == 3:
            half = 0.01 * rng.normal(size=(3, 3))
            stresses[k] = half + half.T
    forces = [rng.normal(size=(len(a), 3)) for a in atoms]
    n = len(atoms)
    energies = np.array([-7000.0 * len(a) for a in atoms]) + rng.normal(size=n)
    return Dataset(atoms, energies, forces, stresses, np.ones(n), "test", "", np.arange(n))
