"""One epoch: the frames of every step, the compiled program that takes the steps, and how frames reach the device.

All frames are on the device, or portions of them are sent there while the steps before are taken. The order of the
frames and the program are the same, so that both ways end with the same parameters.
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

SHARE_OF_DEVICE = 0.5  # of the memory of an accelerator for frames, the rest for the program; without limit on a CPU


class Steps(NamedTuple):
    """What each of T steps is taken on: B frames of one bucket, of a full ensemble [M, B]."""

    bucket: Array  # [T] int; -1: no step, where a portion is filled up
    frames: Array  # [T, B] int, places in the bucket
    real: Array  # [T, B] False for a frame that stands there a second time to fill the batch


def batch_size(config: TrainConfig, buckets: list[Bucket]) -> int:
    """Frames of a step."""
    return min(config.batch_size, sum(len(bucket.frames) for bucket in buckets))


def steps_per_epoch(config: TrainConfig, buckets: list[Bucket]) -> int:
    """Every bucket makes batches of its own, the last of them perhaps not full."""
    size = batch_size(config, buckets)
    return sum(-(-len(bucket.frames) // size) for bucket in buckets)


def members(potential: Potential) -> int | None:
    """Of a full ensemble, the trainings that run side by side; None for one training."""
    return potential.config.members if potential.config.ensemble == "full" else None


def batches_of(buckets: list[Bucket]) -> tuple[Batch, ...]:
    """Systems and labels alone."""
    return tuple((bucket.systems, bucket.labels) for bucket in buckets)


def random_steps(seed: int, sizes: list[int], size: int, n_members: int | None, epoch: Array) -> Steps:
    """Batches of `size` frames that show every frame of buckets of these sizes once, in random order.

    The order depends on seed and epoch alone. A batch that a bucket cannot fill repeats a frame that is then not real.
    Members of a full ensemble see the frames of a bucket in orders of their own.
    """
    key, mixing = jax.random.split(jax.random.fold_in(jax.random.key(seed), epoch))

    def order(key: Array) -> tuple[Array, Array]:
        keys = jax.random.split(key, len(sizes))
        cut = [rows_of(jax.random.permutation(k, n), n, size) for k, n in zip(keys, sizes, strict=True)]
        chosen, real = (jnp.concatenate(parts) for parts in zip(*cut, strict=True))
        return chosen, real

    chosen, real = order(key) if n_members is None else jax.vmap(order, out_axes=1)(jax.random.split(key, n_members))
    which = jnp.concatenate([jnp.full(-(-n // size), k) for k, n in enumerate(sizes)])
    mixed = jax.random.permutation(mixing, len(which))
    return Steps(which[mixed], chosen[mixed], real[mixed])


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
    """The steps one after the other, and the sum of their losses; of `n_steps` in the whole run.

    `filled_up`: some steps are none. Of several devices, each has its share of the frames of every step.
    """
    of_batch = partial(value_and_gradient, potential.member_template, config.loss)

    def value_and_slope(k: int, params: Params, chosen: Array, real: Array, progress: Array) -> tuple[Array, Params]:
        systems, labels = select(buckets[k], chosen)
        labels = labels._replace(weights=labels.weights * real[:, None])
        found = of_batch(params, (systems, labels), progress)
        return mean_over_devices(found) if config.devices > 1 else found

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
        none = jnp.zeros((), buckets[0][1].energy.dtype)
        return jax.lax.cond(frames.bucket < 0, lambda moving, _: (moving, none), step, moving, frames)

    moving, values = jax.lax.scan(step_or_none if filled_up else step, moving, steps)
    return moving, jnp.sum(values)


class BatchStream:
    """Steps of an epoch with the frames they need, in one piece or in portions of equally many steps."""

    def __init__(
        self,
        config: Config,
        potential: Potential,
        buckets: list[Bucket],
        budget: float | None,
        mesh: Mesh | None = None,
    ) -> None:
        """`budget`: bytes of memory of every device for the frames; None: they are all kept there."""
        self.mesh = mesh
        size, several = batch_size(config.train, buckets), members(potential)
        self.n_steps = self.length = steps_per_epoch(config.train, buckets)
        self.sets = batches_of(buckets)
        self.streamed = budget is not None and budget < _bytes(self.sets)
        if self.streamed:
            step = size * (several or 1) * sum(_bytes(s) / len(s[1].energy) for s in self.sets)
            portions = -(-self.n_steps // max(1, int(budget / (2 * step))))  # type: ignore[operator]  # two at a time
            self.length = -(-self.n_steps // portions)
        else:
            self.sets = put(self.sets, mesh)
        divided = rows_divided(1 if several is None else 2)
        self.specs = Steps(EVERYWHERE, divided, divided)
        sizes = [len(bucket.frames) for bucket in buckets]
        order = jax.jit(partial(random_steps, config.seed, sizes, size, several))
        self._order = order.lower(jnp.zeros((), jnp.int32)).compile()

    @property
    def filled_up(self) -> bool:
        """Whether the last portion holds steps that are none."""
        return self.n_steps % self.length > 0

    def __call__(self, epoch: int) -> Iterator[tuple[Steps, tuple[Batch, ...]]]:
        """The portions of an epoch; the places of frames are those in the portion."""
        steps = self._order(jnp.asarray(epoch, jnp.int32))
        if not self.streamed:
            yield self._shared(steps), self.sets
            return
        host = jax.tree.map(np.asarray, steps)
        for start in range(0, self.n_steps, self.length):
            yield self._portion(jax.tree.map(lambda leaf, start=start: leaf[start : start + self.length], host))

    def _portion(self, steps: Steps) -> tuple[Steps, tuple[Batch, ...]]:
        none = self.length - len(steps.bucket)
        bucket, frames, real = (
            np.concatenate([field, np.repeat(field[:1], none, axis=0)]) if none else field for field in steps
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
        """Divided among the devices, if there are several."""
        return steps if self.mesh is None else put(steps, self.mesh, self.specs)


def frame_budget(config: TrainConfig, valid: list[Bucket]) -> float | None:
    """Bytes of device memory for the training frames; None without a limit. UserError if validation leaves none.

    The limit is `train.device_memory_MB`, or half of what an accelerator reports; validation frames stay there.
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
    """All portions of an epoch; the sum of the losses of its steps."""
    total = []
    for steps, sets in feed(epoch):
        moving, value = run(moving, factor, steps, sets)
        total.append(value)
    return moving, float(sum(total))
