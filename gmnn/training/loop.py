"""The training loop: epochs as compiled scans over data on the device, validation, checkpoints, resume.

The order of the frames depends on seed and epoch alone and a state holds every number that changes, so a run that was
stopped, killed or resumed any number of times ends with the parameters of one that was not.
"""

import csv
import io
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from tqdm import tqdm

from gmnn import folder
from gmnn.batches import select
from gmnn.config import Config
from gmnn.errors import UserError
from gmnn.potential import Params, Potential
from gmnn.system import Labels, System
from gmnn.training.objective import Errors, batch_loss, errors
from gmnn.training.optimizer import learning_rate, make_optimizer

COLUMNS = (
    "epoch", "learning_rate", "train_loss", "valid_loss", "valid_energy_mae_meV", "valid_energy_mae_meV_per_atom",
    "valid_forces_mae_meV_per_A", "valid_forces_rmse_meV_per_A", "best_epoch", "seconds",
)  # fmt: skip
Number = Array | np.ndarray


class State(NamedTuple):
    """Everything that changes while training; what a checkpoint holds."""

    params: Params
    optimizer: Any
    average: Params  # exponential moving average of params
    best: Params  # the average with the lowest validation loss
    epoch: Number  # [] int, completed epochs
    step: Number  # [] int, completed steps
    best_epoch: Number  # [] int
    best_loss: Number  # []
    seconds: Number  # [] wall time of training so far, compilation apart
    compile_seconds: Number  # []


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
    train_set: tuple[System, Labels],
    valid_set: tuple[System, Labels],
    path: Path,
    facts: dict[str, Any],
) -> Outcome:
    """Train from the last state in `path`, or from the start, and leave the best potential and the last state there.

    SIGINT and SIGTERM end the run after the epoch in progress, with everything saved. UserError if the loss is no
    longer finite. `facts` go into ``config.json``.
    """
    n_frames = len(train_set[1].energy)
    batch_size = min(config.train.batch_size, n_frames)
    n_steps = n_frames // batch_size
    rate = learning_rate(config.train, n_steps)
    start = potential.init(config.seed)
    optimizer = make_optimizer(config.train, start, n_steps)
    state = _resume(path, _initial(start, optimizer), config.train.epochs)
    history = _History(path / "history.csv", int(state.epoch))

    finished = _is_finished(config, state)
    if not finished:
        clock = time.perf_counter()
        run_epoch, validate = _compile(config, potential, optimizer, state, train_set, valid_set, batch_size, n_steps)
        state = state._replace(compile_seconds=state.compile_seconds + (time.perf_counter() - clock))

    def checkpoint() -> None:
        folder.save_state(path, int(state.epoch), state)
        folder.save(path, potential.with_params(state.best), int(state.epoch), {**facts, "finished": False})

    saved_at = time.perf_counter()
    with _stop_requested() as stop, _progress(config.train.epochs, int(state.epoch)) as report:
        while not finished and not stop():
            clock = time.perf_counter()
            state, train_loss = run_epoch(state, *train_set)
            found = validate(state.average, *valid_set)
            state = _keep_best(state, found, train_loss)
            state = state._replace(seconds=state.seconds + (time.perf_counter() - clock))
            history.append(state, float(rate(int(state.step))), float(train_loss), found)
            report(found, int(state.best_epoch))
            finished = _is_finished(config, state)
            if time.perf_counter() - saved_at >= config.train.checkpoint_seconds:
                checkpoint()
                saved_at = time.perf_counter()
    checkpoint()
    return Outcome(
        potential.with_params(jax.tree.map(np.asarray, state.best)), finished, int(state.epoch), int(state.best_epoch),
        float(state.seconds), float(state.compile_seconds), int(state.step),
    )  # fmt: skip


def _initial(params: Params, optimizer: optax.GradientTransformation) -> State:
    zero, clock = np.zeros((), np.int32), np.zeros((), np.float64)
    return State(params, optimizer.init(params), params, params, zero, zero, zero, np.asarray(np.inf), clock, clock)


def _resume(path: Path, initial: State, epochs: int) -> State:
    template = jax.tree.map(lambda leaf: np.zeros(np.shape(leaf), leaf.dtype), initial)
    return folder.load_state(path, template) or initial


def _is_finished(config: Config, state: State) -> bool:
    patience = config.train.patience
    idle = int(state.epoch) - int(state.best_epoch)
    return int(state.epoch) >= config.train.epochs or (patience is not None and idle >= patience)


def _compile(
    config: Config,
    potential: Potential,
    optimizer: optax.GradientTransformation,
    state: State,
    train_set: tuple[System, Labels],
    valid_set: tuple[System, Labels],
    batch_size: int,
    n_steps: int,
) -> tuple[Callable[..., tuple[State, Array]], Callable[..., Errors]]:
    """The two programs of a run, compiled ahead: one epoch, one validation."""
    n_frames = len(train_set[1].energy)
    gradient = jax.value_and_grad(partial(batch_loss, potential, config.train))

    def epoch(
        params: Params, opt: Any, average: Params, epoch: Array, step: Array, systems: System, labels: Labels
    ) -> tuple[tuple, Array]:
        key = jax.random.fold_in(jax.random.key(config.seed), epoch)
        order = jax.random.permutation(key, n_frames)[: n_steps * batch_size].reshape(n_steps, batch_size)

        def one(carry: tuple, chosen: Array) -> tuple[tuple, Array]:
            params, opt, average, step = carry
            value, slope = gradient(params, *select((systems, labels), chosen))
            update, opt = optimizer.update(slope, opt, params)
            params = optax.apply_updates(params, update)
            decay = jnp.minimum(config.train.ema_decay, (1.0 + step) / (10.0 + step))  # short memory at the start
            average = jax.tree.map(lambda a, p: a + (1.0 - decay).astype(a.dtype) * (p - a), average, params)
            return (params, opt, average, step + 1), value

        carry, values = jax.lax.scan(one, (params, opt, average, step), order)
        return carry, jnp.mean(values)

    moving = (state.params, state.optimizer, state.average, jnp.asarray(state.epoch), jnp.asarray(state.step))
    compiled = jax.jit(epoch).lower(*moving, *train_set).compile()
    chunk = max(d for d in range(1, 33) if len(valid_set[1].energy) % d == 0)  # no remainder: one body to compile
    chunk = chunk if chunk >= 8 else 32
    check = jax.jit(partial(errors, potential, config.train, chunk=chunk))
    validate = check.lower(state.average, *valid_set).compile()

    def run(state: State, systems: System, labels: Labels) -> tuple[State, Array]:
        inputs = (state.params, state.optimizer, state.average, jnp.asarray(state.epoch), jnp.asarray(state.step))
        (params, opt, average, step), value = compiled(*inputs, systems, labels)
        return state._replace(params=params, optimizer=opt, average=average, step=step, epoch=state.epoch + 1), value

    return run, validate


def _keep_best(state: State, found: Errors, train_loss: Array) -> State:
    loss = float(found.loss)
    if not (math.isfinite(loss) and math.isfinite(float(train_loss))):
        raise UserError(
            f"the loss is no longer finite in epoch {int(state.epoch)}; lower train.learning_rate or look for frames "
            "with extreme labels. What was saved before is kept"
        )
    if loss < float(state.best_loss):
        return state._replace(best=state.average, best_loss=np.asarray(loss), best_epoch=np.asarray(state.epoch))
    return state


class _History:
    """``history.csv``: one line per epoch, cut back to the epoch a resumed run continues from."""

    def __init__(self, path: Path, epoch: int) -> None:
        self.path = path
        kept = [line for line in path.read_text().splitlines() if line.count(",") == len(COLUMNS) - 1] if epoch else []
        rows = [line for line in kept if line.split(",")[0].isdigit() and int(line.split(",")[0]) <= epoch]
        folder.write_text(path, "\n".join([",".join(COLUMNS), *rows]) + "\n")

    def append(self, state: State, rate: float, train_loss: float, found: Errors) -> None:
        values = [
            int(state.epoch), rate, train_loss, float(found.loss), *(1e3 * float(value) for value in found[1:]),
            int(state.best_epoch), float(state.seconds),
        ]  # fmt: skip
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(f"{v:.8g}" if isinstance(v, float) else v for v in values)
        with open(self.path, "a") as file:
            file.write(line.getvalue())


@contextmanager
def _stop_requested() -> Iterator[Callable[[], bool]]:
    """Within this context the first SIGINT or SIGTERM asks to stop; the second acts as usual."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    previous: dict[int, Any] = {}

    def ask(number: int, frame: object) -> None:
        asked.set()
        signal.signal(number, previous[number])

    for ending in (signal.SIGINT, signal.SIGTERM):
        previous[ending] = signal.signal(ending, ask)
    try:
        yield asked.is_set
    finally:
        for asked_for, handler in previous.items():
            signal.signal(asked_for, handler)


@contextmanager
def _progress(epochs: int, done: int) -> Iterator[Callable[[Errors, int], None]]:
    """A bar with the current errors on a terminal, a line every tenth of the run elsewhere."""
    with tqdm(total=epochs, initial=done, unit="epoch", disable=None, dynamic_ncols=True) as bar:
        count = done

        def report(found: Errors, best: int) -> None:
            nonlocal count
            count += 1
            force, energy = 1e3 * float(found.forces_mae), 1e3 * float(found.energy_mae)
            text = f"F {force:.1f} meV/Å, E {energy:.1f} meV, best epoch {best}"
            bar.set_postfix_str(text)
            bar.update()
            if bar.disable and (count % max(1, epochs // 10) == 0 or count == epochs):
                print(f"epoch {count}/{epochs}: validation {text}", flush=True)

        yield report
