"""Several devices: every one takes its share of the frames of a step, and the gradients are averaged over them.

Parameters, optimiser and frames are on every device; only which frames a step is taken on is divided. With one device
nothing here acts, and the programs are those of one device.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gmnn.config.train import TrainConfig
from gmnn.errors import UserError
from gmnn.system import Array

AXIS = "frames"  # of the mesh
EVERYWHERE = PartitionSpec()


def share_of_process(config: TrainConfig, n_processes: int) -> int:
    """Devices of each process; UserError if they do not come out even."""
    if config.devices % n_processes:
        raise UserError(
            f"train.devices is {config.devices}, the number of devices of all processes together, but must be a "
            f"multiple of the number of processes, {n_processes}"
        )
    return config.devices // n_processes


def check_batch(config: TrainConfig, n_frames: int) -> None:
    """UserError if the devices cannot share the frames of a step evenly; `n_frames`: for training."""
    size = min(config.batch_size, n_frames)
    if size % config.devices:
        whole = config.devices * max(1, size // config.devices)
        why = "train.batch_size" if size == config.batch_size else "all training frames, fewer than train.batch_size"
        raise UserError(
            f"a step has {size} frames ({why}), but must have a multiple of train.devices, {config.devices}, so that "
            f"every device takes as many; set train.batch_size to {whole}, or train.devices to a divisor of {size}"
        )


def mesh_of(config: TrainConfig) -> Mesh | None:
    """The devices of a training, as many of every process; None for one.

    UserError if there are not enough, or if processes have different numbers of them.
    """
    n_processes = jax.process_count()
    each = share_of_process(config, n_processes)
    if config.devices == 1:
        return None
    devices: list[list[Any]] = [[] for _ in range(n_processes)]
    for device in jax.devices():
        devices[device.process_index].append(device)
    counts = [len(several) for several in devices]
    fewest, most = min(counts), max(counts)
    if fewest < each:
        here = f"process {counts.index(fewest)} has" if n_processes > 1 else "there is only"
        more = "" if n_processes > 1 else ", or start a process on every machine with --process (docs/training.md)"
        raise UserError(
            f"train.devices is {config.devices}, {each} in every process, but {here} {fewest} ({jax.default_backend()})"
            f"; set train.devices to at most {fewest * n_processes}{more}"
        )
    if fewest < most:
        raise UserError(
            f"process {counts.index(fewest)} has {fewest} devices, but process {counts.index(most)} has {most}; show "
            "as many to every process, for GPUs with CUDA_VISIBLE_DEVICES"
        )
    return Mesh(np.array([device for several in devices for device in several[:each]]), (AXIS,))


def rows_divided(axis: int) -> PartitionSpec:
    """Every device has its share of this axis."""
    return PartitionSpec(*[None] * axis, AXIS)


def put(tree: Any, mesh: Mesh | None, spec: Any = EVERYWHERE) -> Any:
    """Arrays of the host, equal in all processes, on the devices; `spec` for all of them or a tree of such."""
    if mesh is None:
        return jax.device_put(tree)
    specs = jax.tree.map(lambda _: spec, tree) if isinstance(spec, PartitionSpec) else spec

    def one(leaf: Any, spec: PartitionSpec) -> jax.Array:
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, NamedSharding(mesh, spec), lambda place: leaf[place])

    return jax.tree.map(one, tree, specs)


def on_each(mesh: Mesh | None, function: Callable[..., Any], in_specs: Any) -> Callable[..., Any]:
    """The function run by every device on its share of the arguments; results are to be the same on all."""
    if mesh is None:
        return function
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=EVERYWHERE, check_vma=False)


def mean_over_devices(tree: Any) -> Any:
    """In a function that runs on each device: the mean of what they have, in one message."""
    flat, restore = ravel_pytree(tree)
    return restore(jax.lax.pmean(flat, AXIS))


def sum_over_devices(values: list[Array]) -> list[Array]:
    """In a function that runs on each device: the sums of what they have, [] each, in one message."""
    return list(jax.lax.psum(jnp.stack(values), AXIS))


def own_columns(rows: Array, n_devices: int) -> Array:
    """In a function that runs on each device: its share of the last axis.  [C, B] -> [C, B / n_devices]"""
    width = rows.shape[1] // n_devices
    return jax.lax.dynamic_slice_in_dim(rows, jax.lax.axis_index(AXIS) * width, width, axis=1)
