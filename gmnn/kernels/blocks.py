"""One evaluation shared among the devices of a CPU: each takes some of the atoms, and the results are summed."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec

from gmnn.device import cores
from gmnn.system import Prediction, System


class Contributions(NamedTuple):
    """What some atoms, rows [b, B], contribute to all. Rows beyond the last atom add nothing."""

    members: Array  # [N, M] eV
    forces: Array  # [N, 3] eV/Å
    virials: Array  # [., 3, 3] eV, of every system
    grades: Array | None  # [N]; None if not asked for


class Part(NamedTuple):
    """Results for the first C of N atoms, which alone have neighbour slots."""

    energies: Array  # [C] eV
    forces: Array  # [N, 3] eV/Å, of these energies
    virials: Array  # [C, 3, 3] eV, or their sum [1, 3, 3]
    grades: Array | None = None  # [C]; None if not asked for


Share = Callable[..., Contributions]
"""Contributions of some atoms. Takes parameters, all atoms, the rows, and reverse slots or None."""


def in_blocks(count: int, size: int, devices: int = 1) -> Array:
    """Rows of atoms, and some beyond the last, in blocks [b, B] of about `size`, equally many for each device."""
    blocks = -(-count // (size * devices)) * devices
    return jnp.arange(blocks * -(-count // blocks)).reshape(blocks, -1)


def shard_atoms(share: Share, params: Any, atoms: System, size: int, reverse: Any) -> Contributions:
    """Evaluate `share` for all atoms of joined systems.

    On several devices `share` gets no reverse slots: a slot's partner may be on another device.
    """
    mesh = cores()
    rows = in_blocks(len(atoms.numbers), size, mesh.size)
    if mesh.size == 1:
        return share(params, atoms, rows, reverse)
    split, whole = PartitionSpec("core"), PartitionSpec()
    return jax.shard_map(
        partial(_summed, share), mesh=mesh, in_specs=(whole, whole, split), out_specs=whole, check_vma=False
    )(params, atoms, rows)


def _summed(share: Share, params: Any, atoms: System, rows: Array) -> Contributions:
    """Results of `share`, summed over devices in one call: every synchronisation of the devices is expensive."""
    together, apart = ravel_pytree(share(params, atoms, rows, None))
    return apart(jax.lax.psum(together, "core"))


def scatter_rows(x: Array, rows: Array, count: int) -> Array:
    """Put values of rows [b, B], [b B, ...], at these places among all atoms, [N, ...], and zero elsewhere."""
    total = rows.size * cores().size
    if total == rows.size:
        return x[:count]
    # rows of one device follow each other
    return jax.lax.dynamic_update_slice_in_dim(jnp.zeros((total, *x.shape[1:]), x.dtype), x, rows[0, 0], 0)[:count]


def joined(system: System) -> System:
    """The atoms of a batch one after the other, [B * N, ...], and the cells [B, 3, 3]; B = 1 for one system."""
    n, count = system.numbers.shape[-1], system.numbers.size
    neighbors = system.neighbors.reshape(-1, n, system.neighbors.shape[-1])
    offset = n * jnp.arange(len(neighbors), dtype=neighbors.dtype)[:, None, None]
    joined = jnp.where(neighbors < n, neighbors + offset, count)
    return System(
        system.positions.reshape(count, 3), system.numbers.reshape(count), system.cell.reshape(-1, 3, 3),
        joined.reshape(count, -1), system.shifts.reshape(count, -1, 3),
    )  # fmt: skip


def offset_reverse_slots(system: System, reverse: Any) -> Any:
    """Reverse slots of joined atoms, [N, K], from those of every system."""
    if reverse is None:
        return None
    slots, per_system = system.neighbors.shape[-1], system.neighbors.shape[-2]
    reverse = reverse.reshape(-1, per_system, slots)
    start = per_system * slots * jnp.arange(len(reverse), dtype=reverse.dtype)
    return (reverse + start[:, None, None]).reshape(-1, slots)


def scatter_forces(own: Array, onto: Array, neighbors: Array, reverse: Any) -> Array:
    """Forces [N, 3] from dE/d(vector) of the slots, `onto` [N, K, 3], and its sum over the slots, `own` [N, 3]."""
    count = len(own)
    if reverse is not None:
        partners = onto.reshape(-1, 3)[jnp.minimum(reverse, count * reverse.shape[1] - 1)]
        return own - jnp.sum(jnp.where((neighbors < count)[..., None], partners, 0.0), axis=1)
    forces = jnp.pad(own, ((0, 1), (0, 0)))  # the last row is for empty slots
    return forces.at[neighbors.ravel()].add(-onto.reshape(-1, 3))[:count]


def to_prediction(
    system: System, members: Array, forces: Array, virial: Array, grades: Array | None = None
) -> Prediction:
    """Prediction of one system or many from the `Contributions` of all of its joined atoms."""
    batch, per_system = system.numbers.shape[:-1], system.numbers.shape[-1]
    members = jnp.where(system.numbers[..., None] > 0, members.reshape(*batch, per_system, -1), 0.0)
    energies, virial = jnp.mean(members, axis=-1), virial.reshape(*batch, 3, 3)
    return Prediction(
        jnp.sum(energies, axis=-1), energies, forces.reshape(*batch, per_system, 3),
        0.5 * (virial + jnp.swapaxes(virial, -1, -2)), jnp.sum(members, axis=-2),
        None if grades is None else jnp.where(system.numbers > 0, grades.reshape(system.numbers.shape), 0.0),
    )  # fmt: skip
