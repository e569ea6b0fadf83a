"""Optimisers of optax with a rate for each group of parameters, weight decay, clipping, schedules and averaging."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from gmnn.config.train import AveragingConfig, OptimizerConfig, TrainConfig
from gmnn.errors import UserError
from gmnn.model.potential import Params


class Moving(NamedTuple):
    """What a step of the optimiser changes."""

    params: Params
    optimizer: Any
    average: Params
    step: Array | np.ndarray  # [] int, completed steps


def learning_rate(config: TrainConfig, steps_per_epoch: int) -> optax.Schedule:
    """Learning rate as a function of the step, for a group with multiple 1 and without the factors of a plateau."""
    schedule, peak = config.schedule, config.learning_rate
    warmup = round(schedule.warmup_epochs * steps_per_epoch)
    total = max(config.epochs * steps_per_epoch, warmup + 1)
    final = schedule.final if schedule.final is not None else 1e-3 if schedule.form == "exponential" else 0.0

    def share(step: Array) -> Array:  # share of the peak, after the warm-up
        done = jnp.clip((step - warmup) / (total - warmup), 0.0, 1.0)
        if schedule.form in ("constant", "plateau"):
            return jnp.ones_like(done)
        if schedule.form == "exponential":
            return final**done
        phase = done * schedule.cycles if schedule.form == "cyclic" else done
        phase = jnp.where(done < 1.0, phase - jnp.floor(phase), 1.0)
        return final + (1.0 - final) * 0.5 * (1.0 + jnp.cos(jnp.pi * phase))

    return lambda step: peak * jnp.minimum(jnp.asarray(step) / max(warmup, 1) if warmup else 1.0, 1.0) * share(step)


def make_optimizer(config: TrainConfig, params: Params, steps_per_epoch: int) -> optax.GradientTransformation:
    """Make one optimiser per top-level group of the parameters. A group with rate 0 stays as it is."""
    schedule = learning_rate(config, steps_per_epoch)

    def of(multiple: float) -> optax.GradientTransformation:
        if multiple == 0:
            return optax.set_to_zero()
        decay = [optax.add_decayed_weights(-config.weight_decay, mask=_weights)] if config.weight_decay else []
        rate = optax.scale_by_schedule(lambda step: multiple * schedule(step))
        return optax.chain(direction(config.optimizer), *decay, rate)

    groups = {group: of(getattr(config.rates, group)) for group in params}
    labels = {group: jax.tree.map(lambda _, group=group: group, tree) for group, tree in params.items()}
    clips = [clip_spikes(config.clip_spikes)] if config.clip_spikes is not None else []
    if config.clip_norm is not None:
        clips.append(optax.clip_by_global_norm(config.clip_norm))
    return optax.chain(*clips, optax.multi_transform(groups, labels))


def clip_spikes(factor: float, decay: float = 0.99) -> optax.GradientTransformation:
    """Limit the norm of each gradient to `factor` times the running mean of the clipped norms before it.

    A step of Adam is no shorter for a gradient a hundred times the usual, but goes where that one batch points, and so
    do the next ten. Late in a training, where norms are far below a fixed limit, this can bring the bounded readout to
    its floor, where no slope leads back. The mean can grow by a fiftieth a step, so it soon follows norms that stay
    large.
    """

    def init(_: Params) -> Array:
        return jnp.zeros((), "float32")

    def update(gradient: Params, mean: Array, params: Params | None = None) -> tuple[Params, Array]:
        columns = [jnp.sum(jnp.atleast_1d(leaf) ** 2, axis=0) for leaf in jax.tree.leaves(gradient)]
        columns = jax.lax.optimization_barrier(columns)  # in one sum, a CPU takes as long as for all of Adam
        norm = jnp.sqrt(sum(jnp.sum(column) for column in columns)).astype(mean.dtype)
        limit = jnp.where(mean > 0, factor * mean, jnp.inf)
        clipped = jnp.minimum(norm, limit)
        share = jnp.where(norm > limit, limit / norm, 1.0)
        after = jnp.where(mean > 0, decay * mean + (1.0 - decay) * clipped, clipped)
        return jax.tree.map(lambda g: share.astype(g.dtype) * g, gradient), after

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


def direction(config: OptimizerConfig) -> optax.GradientTransformation:
    """Make the optimiser at learning rate 1. UserError for a name or an argument that optax does not have."""
    make: Callable[..., Any] | None = getattr(optax, config.name, None)
    takes = inspect.signature(make).parameters if callable(make) and not inspect.isclass(make) else {}
    if make is None or "learning_rate" not in takes:
        raise UserError(
            f"train.optimizer.name is {config.name!r}, which is not an optimiser of optax; examples are adam, lamb, "
            "lion, nadam, radam and sgd"
        )
    unknown = [name for name in config.arguments if name not in takes or name == "learning_rate"]
    if unknown:
        known = ", ".join(name for name in takes if name != "learning_rate")
        raise UserError(f"train.optimizer.arguments names {', '.join(unknown)}; optax.{config.name} takes {known}")
    for name, value in config.arguments.items():
        if isinstance(value, bool) and not isinstance(takes[name].default, bool | None):
            raise UserError(f"train.optimizer.arguments.{name} is {value}, but optax.{config.name} takes a number")
    made = make(learning_rate=1.0, **config.arguments)
    toy = {"a": jnp.ones((2, 2))}
    try:
        jax.eval_shape(lambda: made.update(toy, made.init(toy), toy))
    except Exception as error:  # optax and JAX raise many kinds for arguments of a wrong type or number
        raise UserError(
            f"train.optimizer.name is {config.name!r}, which needs more than gradients or other arguments "
            f"({' '.join(str(error).split())[:120]}); examples that do not are adam, lamb, lion, nadam, radam and sgd"
        ) from None
    return made


def advance(
    optimizer: optax.GradientTransformation,
    averaging: AveragingConfig,
    n_steps: int,
    moving: Moving,
    gradient: Params,
    factor: Array | float = 1.0,
) -> Moving:
    """Take one of `n_steps` steps. `factor` multiplies the learning rate."""
    update, state = optimizer.update(gradient, moving.optimizer, moving.params)
    params = optax.apply_updates(moving.params, jax.tree.map(lambda u: jnp.asarray(factor, u.dtype) * u, update))
    weight = _weight(averaging, moving.step, n_steps)
    average = jax.tree.map(lambda a, p: a + weight.astype(a.dtype) * (p - a), moving.average, params)
    return Moving(params, state, average, moving.step + 1)


def _weight(averaging: AveragingConfig, step: Array | np.ndarray, n_steps: int) -> Array:
    """Weight of the new parameters in the average after `step` earlier steps.  []"""
    if averaging.form == "ema":
        return 1.0 - jnp.minimum(averaging.decay, (1.0 + jnp.asarray(step)) / (10.0 + step))  # short early memory
    first = round(averaging.start * n_steps) if averaging.form == "swa" else n_steps
    return 1.0 / jnp.maximum(jnp.asarray(step) - first + 1.0, 1.0)


def _weights(params: Params) -> Params:
    """Mask of the parameters that decay: True for the weight matrices of the readout."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1] == jax.tree_util.DictKey("kernel"), params)
