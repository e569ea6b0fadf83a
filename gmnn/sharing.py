"""One evaluation shared out among the devices of a CPU: each takes some of the atoms, and their results are summed."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec

from gmnn.prepared import cores
from gmnn.system import System

Share = Callable[..., tuple[Array, Array, Array]]
"""What some atoms, rows [b, B], add to energies of atoms [N, M], forces [N, 3] and virials of systems [., 3, 3]; from
parameters, all atoms, the rows and reverse slots or None. Rows beyond the last atom add nothing."""


def in_blocks(count: int, size: int, devices: int = 1) -> Array:
    """Rows of atoms, and some beyond the last, in blocks [b, B] of about `size`: as many for each device."""
    blocks = -(-count // (size * devices)) * devices
    return jnp.arange(blocks * -(-count // blocks)).reshape(blocks, -1)


def shared(share: Share, params: Any, atoms: System, size: int, reverse: Any) -> tuple[Array, Array, Array]:
    """What all atoms add, from joined systems. On several devices `share` gets no reverse slots: a slot's partner may
    be on another device.
    """
    mesh = cores()
    rows = in_blocks(len(atoms.numbers), size, mesh.size)
    if mesh.size == 1:
        return share(params, atoms, rows, reverse)
    split, whole = PartitionSpec("core"), PartitionSpec()
    return jax.shard_map(
        partial(_summed, share), mesh=mesh, in_specs=(whole, whole, split), out_specs=whole, check_vma=False
    )(params, atoms, rows)


def _summed(share: Share, params: Any, atoms: System, rows: Array) -> tuple[Array, Array, Array]:
    """What `share` finds, summed over devices in one go: every meeting of the devices costs time."""
    parts = share(params, atoms, rows, None)
    total = jax.lax.psum(jnp.concatenate([x.ravel() for x in parts]), "core")
    ends = np.cumsum([x.size for x in parts])[:-1]
    first, second, third = (x.reshape(y.shape) for x, y in zip(jnp.split(total, ends), parts, strict=True))
    return first, second, third


def placed(x: Array, rows: Array, count: int) -> Array:
    """What belongs to rows [b, B], [b B, ...], at these places among all atoms, [N, ...], and zero elsewhere."""
    total = rows.size * cores().size
    if total == rows.size:
        return x[:count]
    # rows of one device follow each other
    return jax.lax.dynamic_update_slice_in_dim(jnp.zeros((total, *x.shape[1:]), x.dtype), x, rows[0, 0], 0)[:count]
