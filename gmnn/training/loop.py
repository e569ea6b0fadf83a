"""The training loop: epochs as compiled scans, validation, checkpoints, resume.

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

from gmnn import folder
from gmnn.batches import Bucket
from gmnn.config import Config
from gmnn.config.train import TrainConfig
from gmnn.errors import UserError
from gmnn.potential import Potential
from gmnn.training.epochs import Feed, Run, batch_size, batches_of, frame_budget, members, run_epoch, take_steps
from gmnn.training.history import History, progress, stop_requested
from gmnn.training.objective import Batch, Errors, errors
from gmnn.training.optimizer import learning_rate, make_optimizer
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
    programs: int  # compiled for this run: the order of an epoch, its steps, validation; 0 if nothing was left to do
    steps: int
    streamed: bool  # frames were sent to the device in portions


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
    feed = Feed(config, potential, train_set, frame_budget(config.train, valid_set))
    valid = jax.device_put(batches_of(valid_set))
    n_steps = feed.n_steps
    rate = learning_rate(config.train, n_steps)
    start = potential.init(config.seed) if potential.params is None else jax.tree.map(jnp.asarray, potential.params)
    optimizer = make_optimizer(config.train, start, n_steps)
    state = resume(path, initial(start, optimizer, members(potential)))
    history = History(path / "history.csv", int(state.epoch))

    finished = _is_finished(config.train, state)
    programs = 0 if finished else 3
    if not finished:
        clock = time.perf_counter()
        run, validate = _compile(config, potential, optimizer, state, feed, valid)
        state = state._replace(compile_seconds=state.compile_seconds + (time.perf_counter() - clock))

    def checkpoint() -> None:
        folder.save_state(path, int(state.epoch), state)
        folder.save(path, potential.with_params(state.best), int(state.epoch), {**facts, "finished": False})

    per_frame = batch_size(config.train, train_set) / sum(len(bucket.frames) for bucket in train_set)
    saved_at = time.perf_counter()
    with stop_requested() as stop, progress(config.train.epochs, int(state.epoch)) as report:
        while not finished and not stop():
            clock = time.perf_counter()
            moving, total = run_epoch(run, feed, int(state.epoch), state.moving, state.rate_factor)
            train_loss = total * per_frame
            state = state._replace(moving=moving, epoch=state.epoch + 1)
            found = validate(moving.average, valid)
            state = _judge(config.train, state, found, train_loss)
            state = state._replace(seconds=state.seconds + (time.perf_counter() - clock))
            now = float(rate(np.max(state.moving.step))) * float(state.rate_factor)
            history.append(state, now, train_loss, found)
            report(found, int(state.best_epoch))
            finished = _is_finished(config.train, state)
            if time.perf_counter() - saved_at >= config.train.checkpoint_seconds:
                checkpoint()
                saved_at = time.perf_counter()
    checkpoint()
    return Outcome(
        potential.with_params(jax.tree.map(np.asarray, state.best)), finished, int(state.epoch), int(state.best_epoch),
        float(state.seconds), float(state.compile_seconds), programs, int(np.max(state.moving.step)), feed.streamed,
    )  # fmt: skip


def _is_finished(config: TrainConfig, state: State) -> bool:
    idle = int(state.epoch) - int(state.best_epoch)
    return int(state.epoch) >= config.epochs or (config.patience is not None and idle >= config.patience)


def _compile(
    config: Config,
    potential: Potential,
    optimizer: optax.GradientTransformation,
    state: State,
    feed: Feed,
    valid: tuple[Batch, ...],
) -> tuple[Run, Callable[..., Errors]]:
    """The two large programs of a run, compiled ahead: the steps of an epoch or of a portion of it, one validation."""
    n_steps = feed.n_steps * config.train.epochs
    take = partial(take_steps, config.train, potential, optimizer, n_steps, feed.filled_up)
    moving, factor = jax.tree.map(jnp.asarray, (state.moving, state.rate_factor))
    run = jax.jit(take).lower(moving, factor, *next(feed(0))).compile()
    check = jax.jit(partial(errors, potential, config.train.loss))
    return run, check.lower(state.moving.average, valid).compile()


def _judge(config: TrainConfig, state: State, found: Errors, train_loss: float) -> State:
    """Keep the best average; lower the rate at a plateau; UserError for a loss that is not finite."""
    loss = float(found.loss)
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
