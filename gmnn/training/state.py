"""The state of a training, which a checkpoint holds and a resumed run begins with."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax

from gmnn.model import folder
from gmnn.model.potential import Params
from gmnn.system import Array
from gmnn.training.optimizer import Moving


class State(NamedTuple):
    """Everything that changes during training."""

    moving: Moving  # parameters, optimiser, average, steps
    best: Params  # the average with the lowest validation loss
    epoch: Array  # [] int, completed epochs
    best_epoch: Array  # [] int
    best_loss: Array  # []
    rate_factor: Array  # [] factor of the learning rate, lowered at plateaus
    lowered_epoch: Array  # [] int, epoch in which the rate was last lowered
    seconds: Array  # [] wall time of training so far, without compilation
    compile_seconds: Array  # []


def initial(params: Params, optimizer: optax.GradientTransformation, members: int | None = None) -> State:
    """State before the first step. Everything in `moving` has a leading axis for the members of a full ensemble."""
    zero, clock = np.zeros((), np.int32), np.zeros((), np.float64)
    start = optimizer.init(params) if members is None else jax.vmap(optimizer.init)(params)
    steps = zero if members is None else np.zeros(members, np.int32)
    moving = Moving(params, start, params, steps)
    return State(moving, params, zero, zero, np.asarray(np.inf), np.ones((), np.float32), zero, clock, clock)


def resume(path: Path, start: State) -> State:
    """Load the last state saved in a model folder; return `start` if there is none."""
    template = jax.tree.map(lambda leaf: np.zeros(np.shape(leaf), leaf.dtype), start)
    return folder.load_state(path, template) or start
