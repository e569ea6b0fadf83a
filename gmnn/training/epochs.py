"""One epoch: the frames of each step, the compiled program of the steps, and the transfer of frames to the device.

Either all frames stay on the device, or portions are sent there while earlier steps run. The order of the frames and
the program are the same in both cases, so both end with the same parameters.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from gmnn.config.reading import Config
from gmnn.config.train import TrainConfig
from gmnn.data.batches import Bucket, rows_of, select
from gmnn.errors import UserError
from gmnn.model.potential import Params, Potential
from gmnn.system import Array
from gmnn.training.distributed.devices import EVERYWHERE, mean_over_devices, put, rows_divided
from gmnn.training.gradient import value_and_gradient
from gmnn.training.objective import Batch
from gmnn.training.optimizer import Moving, advance

SHARE_OF_DEVICE = 0.5  # share of an accelerator's memory for frames, the rest is for the program; no limit on a CPU


class Steps(NamedTuple):
    """The frames of T steps: B frames of one bucket for each step, [M, B] for the M members of a full ensemble."""

    bucket: Array  # [T] int; -1: no step, fills up a portion
    frames: Array  # [T, B] int, places in the bucket
    real: Array  # [T, B] False for a frame that is repeated to fill the batch


def batch_size(config: TrainConfig, buckets: list[Bucket]) -> int:
    """Number of frames of a step."""
    return min(config.batch_size, sum(len(bucket.frames) for bucket in buckets))


def steps_per_epoch(config: TrainConfig, buckets: list[Bucket]) -> int:
    """Number of steps of an epoch. Each bucket makes its own batches, and the last of them may not be full."""
    size = batch_size(config, buckets)
    return sum(-(-len(bucket.frames) // size) for bucket in buckets)


def members(potential: Potential) -> int | None:
    """Number of members of a full ensemble, which are trained side by side; None for a single training."""
    return potential.config.members if potential.config.ensemble == "full" else None


def batches_of(buckets: list[Bucket]) -> tuple[Batch, ...]:
    """Systems and labels of the buckets, without the places of their frames."""
    return tuple((bucket.systems, bucket.labels) for bucket in buckets)


def random_steps(seed: int, sizes: list[int], size: int, n_members: int | None, epoch: Array) -> Steps:
    """Batches of `size` frames that show every frame of buckets of these sizes once, in random order.

    The order depends on seed and epoch alone. A batch that its bucket cannot fill repeats a frame, marked as not real.
    Each member of a full ensemble sees the frames of a bucket in its own order.
    """
    key, mixing = jax.random.split(jax.random.fold_in(jax.random.key(seed), epoch))

    def order(key: Array) -> tuple[Array, Array]:
        keys = jax.random.split(key, len(sizes))
        cut = [rows_of(jax.random.permutation(k, n), n, size) for k, n in zip(keys, sizes, strict=True)]
        chosen, real = (jnp.concatenate(parts) for parts in zip(*cut, strict=True))
        return chosen, real

    chosen, real = order(key) if n_members is None else jax.vmap(order, out_axes=1)(jax.random.split(key, n_members))
    bucket = jnp.concatenate([jnp.full(-(-n // size), k) for k, n in enumerate(sizes)])
    mixed = jax.random.permutation(mixing, len(bucket))
    return Steps(bucket[mixed], chosen[mixed], real[mixed])


def take_steps(
    config: TrainConfig,
    potential: Potential,
    optimizer: optax.GradientTransformation,
    n_steps: int,
    filled_up: bool,
    moving: Moving,
    factor: Array,
    steps: Steps,
    buckets: tuple[Batch, ...],
) -> tuple[Moving, Array]:
    """Take the steps one after the other and return the sum of their losses; the whole run has `n_steps`.

    `filled_up`: some entries are no step (bucket -1). With several devices, each takes its share of the frames of
    every step.
    """
    evaluate = partial(value_and_gradient, potential.member_template, config.loss)

    def value_and_slope(k: int, params: Params, chosen: Array, real: Array, progress: Array) -> tuple[Array, Params]:
        systems, labels = select(buckets[k], chosen)
        labels = labels._replace(weights=labels.weights * real[:, None])
        loss_and_slope = evaluate(params, (systems, labels), progress)
        return mean_over_devices(loss_and_slope) if config.devices > 1 else loss_and_slope

    def one(k: Array, moving: Moving, chosen: Array, real: Array) -> tuple[Moving, Array]:
        branches = [partial(value_and_slope, k) for k in range(len(buckets))]
        arguments = moving.params, chosen, real, jnp.asarray(moving.step) / n_steps
        value, slope = jax.lax.switch(k, branches, *arguments) if len(buckets) > 1 else branches[0](*arguments)
        return advance(optimizer, config.averaging, n_steps, moving, slope, factor), value

    def step(moving: Moving, frames: Steps) -> tuple[Moving, Array]:
        run = partial(one, frames.bucket)
        moving, value = (run if members(potential) is None else jax.vmap(run))(moving, frames.frames, frames.real)
        return moving, jnp.mean(value)

    def step_or_none(moving: Moving, frames: Steps) -> tuple[Moving, Array]:
        no_loss = jnp.zeros((), buckets[0][1].energy.dtype)
        return jax.lax.cond(frames.bucket < 0, lambda moving, _: (moving, no_loss), step, moving, frames)

    moving, values = jax.lax.scan(step_or_none if filled_up else step, moving, steps)
    return moving, jnp.sum(values)


class BatchStream:
    """Steps of an epoch with the frames they need, in one piece or in portions with equal numbers of steps."""

    def __init__(
        self,
        config: Config,
        potential: Potential,
        buckets: list[Bucket],
        budget: float | None,
        mesh: Mesh | None = None,
    ) -> None:
        """Prepare the portions. `budget`: bytes of each device's memory for the frames; None keeps all there."""
        self.mesh = mesh
        size, n_members = batch_size(config.train, buckets), members(potential)
        self.n_steps = self.length = steps_per_epoch(config.train, buckets)
        self.sets = batches_of(buckets)
        self.streamed = budget is not None and budget < _bytes(self.sets)
        if self.streamed:
            step = size * (n_members or 1) * sum(_bytes(s) / len(s[1].energy) for s in self.sets)
            portions = -(-self.n_steps // max(1, int(budget / (2 * step))))  # type: ignore[operator]  # two at a time
            self.length = -(-self.n_steps // portions)
        else:
            self.sets = put(self.sets, mesh)
        divided = rows_divided(1 if n_members is None else 2)
        self.specs = Steps(EVERYWHERE, divided, divided)
        sizes = [len(bucket.frames) for bucket in buckets]
        order = jax.jit(partial(random_steps, config.seed, sizes, size, n_members))
        self._order = order.lower(jnp.zeros((), jnp.int32)).compile()

    @property
    def filled_up(self) -> bool:
        """Whether the last portion is filled up with entries that are no step."""
        return self.n_steps % self.length > 0

    def __call__(self, epoch: int) -> Iterator[tuple[Steps, tuple[Batch, ...]]]:
        """Yield the portions of an epoch. The places of frames refer to the frames of the portion."""
        steps = self._order(jnp.asarray(epoch, jnp.int32))
        if not self.streamed:
            yield self._shared(steps), self.sets
            return
        host = jax.tree.map(np.asarray, steps)
        for start in range(0, self.n_steps, self.length):
            yield self._portion(jax.tree.map(lambda leaf, start=start: leaf[start : start + self.length], host))

    def _portion(self, steps: Steps) -> tuple[Steps, tuple[Batch, ...]]:
        missing = self.length - len(steps.bucket)
        bucket, frames, real = (
            np.concatenate([field, np.repeat(field[:1], missing, axis=0)]) if missing else field for field in steps
        )
        bucket = np.where(np.arange(self.length) < len(steps.bucket), bucket, -1)
        places, needed = np.zeros_like(frames), frames.size
        parts = []
        for k, held in enumerate(self.sets):
            chosen = frames[bucket == k]
            places[bucket == k] = np.arange(chosen.size).reshape(chosen.shape)
            rows = np.concatenate([chosen.ravel(), np.zeros(needed - chosen.size, chosen.dtype)])
            parts.append(jax.tree.map(lambda leaf, rows=rows: leaf[rows], held))
        return self._shared(Steps(bucket, places, real)), put(tuple(parts), self.mesh)

    def _shared(self, steps: Steps) -> Steps:
        """Steps, divided among the devices if there are several."""
        return steps if self.mesh is None else put(steps, self.mesh, self.specs)


def frame_budget(config: TrainConfig, valid: list[Bucket]) -> float | None:
    """Bytes of device memory for the training frames; None without a limit.

    The limit is `train.device_memory_MB`, or half of what an accelerator reports. Validation frames stay on the device;
    UserError if they leave no memory for training frames.
    """
    limit = config.device_memory_MB and 1e6 * config.device_memory_MB
    if limit is None:
        reported = jax.local_devices()[0].memory_stats() or {}
        limit = SHARE_OF_DEVICE * reported["bytes_limit"] if "bytes_limit" in reported else None
    if limit is None:
        return None
    taken = _bytes(batches_of(valid))
    if taken >= limit:
        raise UserError(
            f"the validation frames need {taken / 1e6:.2g} MB of device memory, but {limit / 1e6:.2g} MB are for all "
            "frames (train.device_memory_MB); use fewer of them or raise the limit"
        )
    return limit - taken


def _bytes(tree: object) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


Run = Callable[[Moving, Array, Steps, tuple[Batch, ...]], tuple[Moving, Array]]


def run_epoch(run: Run, feed: BatchStream, epoch: int, moving: Moving, factor: Array) -> tuple[Moving, float]:
    """Run all portions of an epoch and return the sum of the losses of its steps."""
    losses = []
    for steps, sets in feed(epoch):
        moving, value = run(moving, factor, steps, sets)
        losses.append(value)
    return moving, float(sum(losses))
