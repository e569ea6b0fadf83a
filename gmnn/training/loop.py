"""The training loop: epochs as compiled scans, validation, checkpoints, resume.

The order of the frames depends on seed and epoch alone, and a state holds every number that changes. A run that was
stopped, killed or resumed any number of times therefore ends with the parameters of an uninterrupted run.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gmnn.config.reading import Config
from gmnn.config.train import TrainConfig
from gmnn.data.batches import Bucket
from gmnn.errors import UserError
from gmnn.model import folder
from gmnn.model.potential import Potential
from gmnn.training.distributed.devices import EVERYWHERE, check_batch, mesh_of, on_each, put
from gmnn.training.distributed.processes import Group
from gmnn.training.epochs import BatchStream, Run, batch_size, batches_of, frame_budget, members, run_epoch, take_steps
from gmnn.training.gradient import with_fast_functions
from gmnn.training.objective import Batch, Errors, errors
from gmnn.training.optimizer import learning_rate, make_optimizer
from gmnn.training.progress import History, progress, stop_requested
from gmnn.training.state import State, initial, resume


@dataclass(frozen=True)
class TrainingResult:
    """A finished or interrupted training."""

    potential: Potential  # with the best averaged parameters
    finished: bool
    epochs: int
    best_epoch: int
    seconds: float
    compile_seconds: float
    programs: int  # compiled for this run: the order of an epoch, its steps, validation; 0 if nothing was left to do
    steps: int
    streamed: bool  # whether frames were sent to the device in portions
    metrics: dict[str, Any] = field(default_factory=dict)  # errors and more, as in metrics.json; empty if not finished


def optimise(
    config: Config,
    potential: Potential,
    train_set: list[Bucket],
    valid_set: list[Bucket],
    path: Path,
    facts: dict[str, Any],
    group: Group | None = None,
) -> TrainingResult:
    """Train from the last state in `path`, or from the start, and save the best potential and the last state there.

    SIGINT and SIGTERM end the run after the epoch in progress, with everything saved. UserError if the loss is no
    longer finite or if there are fewer devices than the configuration asks for. `facts` go into ``config.json``. All
    processes of a `group` call this with the same arguments; the first reads and writes `path`.
    """
    group = group or Group()
    check_batch(config.train, sum(len(bucket.frames) for bucket in train_set))
    mesh = mesh_of(config.train)
    if group.size > 1:
        group.check_same(folder.tree_digest((batches_of(train_set), batches_of(valid_set))), "other frames")
    budget = group.broadcast(frame_budget(config.train, valid_set))
    feed = BatchStream(config, potential, train_set, budget, mesh)
    valid = put(batches_of(valid_set), mesh)
    n_steps = feed.n_steps
    rate = learning_rate(config.train, n_steps)
    start = potential.init(config.seed) if potential.params is None else jax.tree.map(jnp.asarray, potential.params)
    optimizer = make_optimizer(config.train, start, n_steps)
    state = initial(start, optimizer, members(potential))
    state = group.tree_of_first(resume(path, state) if group.first else state)
    if mesh is not None:
        state = state._replace(moving=put(state.moving, mesh))
    history = History(path / "history.csv", int(state.epoch)) if group.first else None

    finished = _is_finished(config.train, state)
    programs = 0 if finished else 3
    if not finished:
        clock = time.perf_counter()
        run, validate = _compile(config, potential, optimizer, state, feed, valid)
        state = state._replace(compile_seconds=state.compile_seconds + (time.perf_counter() - clock))

    def checkpoint() -> None:
        if not group.first:
            return
        folder.save_state(path, int(state.epoch), state)
        folder.save(path, potential.with_params(state.best), int(state.epoch), {**facts, "finished": False})

    per_frame = batch_size(config.train, train_set) / sum(len(bucket.frames) for bucket in train_set)
    saved_at = time.perf_counter()
    with stop_requested() as stop, progress(config.train.epochs, int(state.epoch), group.first) as report:
        while not finished and not group.any(stop()):
            clock = time.perf_counter()
            factor = state.rate_factor if mesh is None else put(state.rate_factor, mesh)
            moving, total = run_epoch(run, feed, int(state.epoch), state.moving, factor)
            train_loss = total * per_frame
            state = state._replace(moving=moving, epoch=state.epoch + 1)
            valid_errors = validate(moving.average, valid)
            state = _judge(config.train, state, *group.broadcast((float(valid_errors.loss), train_loss)))
            state = state._replace(seconds=state.seconds + (time.perf_counter() - clock))
            if history is not None:
                current_rate = float(rate(np.max(np.asarray(state.moving.step)))) * float(state.rate_factor)
                history.append(state, current_rate, train_loss, valid_errors)
            report(valid_errors, int(state.best_epoch))
            finished = _is_finished(config.train, state)
            if time.perf_counter() - saved_at >= config.train.checkpoint_seconds:
                checkpoint()
                saved_at = time.perf_counter()
    checkpoint()
    return TrainingResult(
        potential.with_params(jax.tree.map(np.asarray, state.best)), finished, int(state.epoch), int(state.best_epoch),
        float(state.seconds), float(state.compile_seconds), programs, int(np.max(np.asarray(state.moving.step))),
        feed.streamed,
    )  # fmt: skip


def _is_finished(config: TrainConfig, state: State) -> bool:
    idle = int(state.epoch) - int(state.best_epoch)
    return int(state.epoch) >= config.epochs or (config.patience is not None and idle >= config.patience)


def _compile(
    config: Config,
    potential: Potential,
    optimizer: optax.GradientTransformation,
    state: State,
    feed: BatchStream,
    valid: tuple[Batch, ...],
) -> tuple[Run, Callable[..., Errors]]:
    """Compile the two large programs of a run ahead: the steps of an epoch or of a portion of it, and a validation."""
    n_steps, fast = feed.n_steps * config.train.epochs, with_fast_functions(potential)
    take = partial(take_steps, config.train, fast, optimizer, n_steps, feed.filled_up)
    moving, factor = state.moving, state.rate_factor
    moving, factor = (
        jax.tree.map(jnp.asarray, (moving, factor)) if feed.mesh is None else put((moving, factor), feed.mesh)
    )
    shared = on_each(feed.mesh, take, (EVERYWHERE, EVERYWHERE, feed.specs, EVERYWHERE))
    run = jax.jit(shared).lower(moving, factor, *next(feed(0))).compile()
    check = on_each(feed.mesh, partial(errors, fast, config.train.loss, n_devices=config.train.devices), EVERYWHERE)
    return run, jax.jit(check).lower(state.moving.average, valid).compile()


def _judge(config: TrainConfig, state: State, loss: float, train_loss: float) -> State:
    """Keep the best average and lower the rate at a plateau; UserError for a loss that is not finite."""
    if not (math.isfinite(loss) and math.isfinite(train_loss)):
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
