"""The training loop: epochs as compiled scans over data on the device, validation, checkpoints, resume.

The order of the frames depends on seed and epoch alone and a state holds every number that changes, so a run that was
stopped, killed or resumed any number of times ends with the parameters of one that was not.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from gmnn import folder
from gmnn.batches import Bucket, rows_of, select
from gmnn.config import Config
from gmnn.config.train import TrainConfig
from gmnn.errors import UserError
from gmnn.potential import Params, Potential
from gmnn.training.history import History, progress, stop_requested
from gmnn.training.objective import Batch, Errors, batch_loss, errors
from gmnn.training.optimizer import Moving, advance, learning_rate, make_optimizer
from gmnn.training.state import State, initial, resume


@dataclass(frozen=True)
class Outcome:
    """A finished or interrupted training."""

    potential: Potential  # with the best averaged parameters
    finished: bool
    epochs: int
    best_epoch: int
    seconds: float
    compile_seconds: float
    steps: int


def train(
    config: Config,
    potential: Potential,
    train_set: list[Bucket],
    valid_set: list[Bucket],
    path: Path,
    facts: dict[str, Any],
) -> Outcome:
    """Train from the last state in `path`, or from the start, and leave the best potential and the last state there.

    SIGINT and SIGTERM end the run after the epoch in progress, with everything saved. UserError if the loss is no
    longer finite. `facts` go into ``config.json``.
    """
    sets = _batches(train_set), _batches(valid_set)
    n_steps = steps_per_epoch(config.train, train_set)
    rate = learning_rate(config.train, n_steps)
    start = potential.init(config.seed) if potential.params is None else jax.tree.map(jnp.asarray, potential.params)
    optimizer = make_optimizer(config.train, start, n_steps)
    state = resume(path, initial(start, optimizer, _members(potential)))
    history = History(path / "history.csv", int(state.epoch))

    finished = _is_finished(config.train, state)
    if not finished:
        clock = time.perf_counter()
        run_epoch, validate = _compile(config, potential, optimizer, state, sets)
        state = state._replace(compile_seconds=state.compile_seconds + (time.perf_counter() - clock))

    def checkpoint() -> None:
        folder.save_state(path, int(state.epoch), state)
        folder.save(path, potential.with_params(state.best), int(state.epoch), {**facts, "finished": False})

    saved_at = time.perf_counter()
    with stop_requested() as stop, progress(config.train.epochs, int(state.epoch)) as report:
        while not finished and not stop():
            clock = time.perf_counter()
            moving, train_loss = run_epoch(state.moving, jnp.asarray(state.epoch), state.rate_factor, sets[0])
            state = state._replace(moving=moving, epoch=state.epoch + 1)
            found = validate(moving.average, sets[1])
            state = _judge(config.train, state, found, train_loss)
            state = state._replace(seconds=state.seconds + (time.perf_counter() - clock))
            now = float(rate(np.max(state.moving.step))) * float(state.rate_factor)
            history.append(state, now, float(train_loss), found)
            report(found, int(state.best_epoch))
            finished = _is_finished(config.train, state)
            if time.perf_counter() - saved_at >= config.train.checkpoint_seconds:
                checkpoint()
                saved_at = time.perf_counter()
    checkpoint()
    return Outcome(
        potential.with_params(jax.tree.map(np.asarray, state.best)), finished, int(state.epoch), int(state.best_epoch),
        float(state.seconds), float(state.compile_seconds), int(np.max(state.moving.step)),
    )  # fmt: skip


def steps_per_epoch(config: TrainConfig, buckets: list[Bucket]) -> int:
    """Every bucket makes batches of its own, the last of them perhaps not full."""
    size = _batch_size(config, _batches(buckets))
    return sum(-(-len(bucket.frames) // size) for bucket in buckets)


def _batches(buckets: list[Bucket]) -> tuple[Batch, ...]:
    return tuple((bucket.systems, bucket.labels) for bucket in buckets)


def _batch_size(config: TrainConfig, sets: tuple[Batch, ...]) -> int:
    return min(config.batch_size, sum(len(labels.energy) for _, labels in sets))


def _members(potential: Potential) -> int | None:
    """Of a full ensemble, the trainings that run side by side; None for one training."""
    return potential.config.members if potential.config.ensemble == "full" else None


def _is_finished(config: TrainConfig, state: State) -> bool:
    idle = int(state.epoch) - int(state.best_epoch)
    return int(state.epoch) >= config.epochs or (config.patience is not None and idle >= config.patience)


def _compile(
    config: Config,
    potential: Potential,
    optimizer: optax.GradientTransformation,
    state: State,
    sets: tuple[tuple[Batch, ...], tuple[Batch, ...]],
) -> tuple[Callable[..., tuple[Moving, Array]], Callable[..., Errors]]:
    """The two programs of a run, compiled ahead: one epoch, one validation."""
    sizes = [len(labels.energy) for _, labels in sets[0]]
    epoch = partial(_epoch, config, potential, optimizer, sizes, _batch_size(config.train, sets[0]))
    inputs = jax.tree.map(jnp.asarray, (state.moving, state.epoch, state.rate_factor))
    run = jax.jit(epoch).lower(*inputs, sets[0]).compile()
    check = jax.jit(partial(errors, potential, config.train.loss))
    return run, check.lower(state.moving.average, sets[1]).compile()


def _epoch(
    config: Config,
    potential: Potential,
    optimizer: optax.GradientTransformation,
    sizes: list[int],
    batch_size: int,
    moving: Moving,
    epoch: Array,
    factor: Array,
    buckets: tuple[Batch, ...],
) -> tuple[Moving, Array]:
    """All batches of all buckets once, in random order; and their mean loss.

    A batch that a bucket cannot fill repeats a frame without weight, so that every frame counts once. Members of a full
    ensemble see the frames of a bucket in orders of their own.
    """
    members = _members(potential)
    key, mixing = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), epoch))

    def order(key: Array) -> tuple[Array, Array]:  # frames of every step, and which of them count.  2 x [steps, batch]
        keys = jax.random.split(key, len(sizes))
        cut = [rows_of(jax.random.permutation(k, n), n, batch_size) for k, n in zip(keys, sizes, strict=True)]
        chosen, real = (jnp.concatenate(parts) for parts in zip(*cut, strict=True))
        return chosen, real

    chosen, real = order(key) if members is None else jax.vmap(order, out_axes=1)(jax.random.split(key, members))
    which = jnp.concatenate([jnp.full(-(-n // batch_size), k) for k, n in enumerate(sizes)])
    mixed = jax.random.permutation(mixing, len(which))
    n_steps = len(which) * config.train.epochs
    loss = partial(batch_loss, potential.single, config.train.loss)

    def value_and_slope(k: int, params: Params, chosen: Array, real: Array, progress: Array) -> tuple[Array, Params]:
        systems, labels = select(buckets[k], chosen)
        labels = labels._replace(weights=labels.weights * real[:, None])
        return jax.value_and_grad(loss)(params, (systems, labels), progress)

    def one(k: Array, moving: Moving, chosen: Array, real: Array) -> tuple[Moving, Array]:
        branches = [partial(value_and_slope, k) for k in range(len(sizes))]
        arguments = moving.params, chosen, real, jnp.asarray(moving.step) / n_steps
        value, slope = jax.lax.switch(k, branches, *arguments) if len(sizes) > 1 else branches[0](*arguments)
        return advance(optimizer, config.train.averaging, n_steps, moving, slope, factor), value

    def step(moving: Moving, frames: tuple[Array, Array, Array]) -> tuple[Moving, Array]:
        k, *rows = frames
        run = partial(one, k) if members is None else jax.vmap(partial(one, k))
        moving, value = run(moving, *rows)
        return moving, jnp.mean(value)

    moving, values = jax.lax.scan(step, moving, (which[mixed], chosen[mixed], real[mixed]))
    return moving, jnp.sum(values) * batch_size / sum(sizes)


def _judge(config: TrainConfig, state: State, found: Errors, train_loss: Array) -> State:
    """Keep the best average; lower the rate at a plateau; UserError for a loss that is not finite."""
    loss = float(found.loss)
    if not (math.isfinite(loss) and math.isfinite(float(train_loss))):
        raise UserError(
            f"the loss is no longer finite in epoch {int(state.epoch)}; lower train.learning_rate or look for frames "
            "with extreme labels. What was saved before is kept"
        )
    if loss < float(state.best_loss):
        return state._replace(best=state.moving.average, best_loss=np.asarray(loss), best_epoch=state.epoch)
    schedule = config.schedule
    last = max(int(state.best_epoch), int(state.lowered_epoch))
    if schedule.form == "plateau" and int(state.epoch) - last >= schedule.patience:
        factor = np.asarray(state.rate_factor * schedule.factor, np.float32)
        return state._replace(rate_factor=factor, lowered_epoch=state.epoch)
    return state
