"""Labelled frames as arrays on the device: systems with their neighbours, labels without the atomic references."""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from gmnn.neighbors import make_system, stack
from gmnn.potential import Potential
from gmnn.system import Labels, System

if TYPE_CHECKING:  # reading frames needs packages that evaluating them does not
    from gmnn.dataset import Dataset


def make_batch(dataset: "Dataset", potential: Potential, dtype: str = "float32") -> tuple[System, Labels]:
    """All frames padded to one shape, [n, ...] on every field. E0 is subtracted in float64 before the cast."""
    r_max = potential.config.r_max
    systems = stack([make_system(a.positions, a.numbers, a.cell.array, a.pbc, r_max) for a in dataset.atoms])
    energies = dataset.energies - np.array([potential.offsets(a.numbers).sum() for a in dataset.atoms])
    forces = np.zeros_like(systems.positions)
    for k, frame in enumerate(dataset.forces):
        forces[k, : len(frame)] = frame
    return on_device(systems, dtype), Labels(jnp.asarray(energies, dtype), jnp.asarray(forces, dtype))


def on_device(system: System, dtype: str) -> System:
    """The same system as device arrays, real numbers as `dtype`."""
    return jax.tree.map(lambda x: jnp.asarray(x, dtype if np.issubdtype(x.dtype, np.floating) else x.dtype), system)


def select(tree: tuple, chosen: jax.Array) -> tuple:
    """The given members of a batch."""
    return jax.tree.map(lambda leaf: leaf[chosen], tree)
