"""Systems of a batch as one set of atoms and back, forces from the derivatives by slots: for the written adjoints."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from gmnn.system import Prediction, System


def joined(system: System) -> System:
    """The atoms of a batch one after the other, [B * N, ...], and the cells [B, 3, 3]; of one system B = 1."""
    n, count = system.numbers.shape[-1], system.numbers.size
    neighbors = system.neighbors.reshape(-1, n, system.neighbors.shape[-1])
    offset = n * jnp.arange(len(neighbors), dtype=neighbors.dtype)[:, None, None]
    joined = jnp.where(neighbors < n, neighbors + offset, count)
    return System(
        system.positions.reshape(count, 3), system.numbers.reshape(count), system.cell.reshape(-1, 3, 3),
        joined.reshape(count, -1), system.shifts.reshape(count, -1, 3),
    )  # fmt: skip


def everyone(system: System, reverse: Any) -> Any:
    """Reverse slots of joined atoms, [N, K], from those of every system."""
    if reverse is None:
        return None
    slots, per_system = system.neighbors.shape[-1], system.neighbors.shape[-2]
    reverse = reverse.reshape(-1, per_system, slots)
    start = per_system * slots * jnp.arange(len(reverse), dtype=reverse.dtype)
    return (reverse + start[:, None, None]).reshape(-1, slots)


def collected(own: Array, onto: Array, neighbors: Array, reverse: Any) -> Array:
    """Forces [N, 3] from dE/d(vector) of the slots [N, K, 3] and its sum over an atom's own slots [N, 3]."""
    count = len(own)
    if reverse is not None:
        there = onto.reshape(-1, 3)[jnp.minimum(reverse, count * reverse.shape[1] - 1)]
        return own - jnp.sum(jnp.where((neighbors < count)[..., None], there, 0.0), axis=1)
    forces = jnp.pad(own, ((0, 1), (0, 0)))  # the last row is nobody's: empty slots
    return forces.at[neighbors.ravel()].add(-onto.reshape(-1, 3))[:count]


def predicted(system: System, members: Array, forces: Array, virial: Array) -> Prediction:
    """From energies of members [N, M], forces and virials [., 3, 3] of joined atoms to those of one system or many."""
    batch, per_system = system.numbers.shape[:-1], system.numbers.shape[-1]
    members = jnp.where(system.numbers[..., None] > 0, members.reshape(*batch, per_system, -1), 0.0)
    energies, virial = jnp.mean(members, axis=-1), virial.reshape(*batch, 3, 3)
    return Prediction(
        jnp.sum(energies, axis=-1), energies, forces.reshape(*batch, per_system, 3),
        0.5 * (virial + jnp.swapaxes(virial, -1, -2)), jnp.sum(members, axis=-2),
    )  # fmt: skip
