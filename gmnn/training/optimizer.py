"""Adam with its own rate for each group of parameters, weight decay, linear warm-up and cosine decay to zero."""

import jax
import optax

from gmnn.config import TrainConfig
from gmnn.potential import Params


def learning_rate(config: TrainConfig, steps_per_epoch: int) -> optax.Schedule:
    """Step -> learning rate of a group with multiple 1."""
    warmup = round(config.warmup_epochs * steps_per_epoch)
    total = max(config.epochs * steps_per_epoch, warmup + 1)
    peak = config.learning_rate
    return optax.warmup_cosine_decay_schedule(0.0 if warmup else peak, peak, warmup, total)


def make_optimizer(config: TrainConfig, params: Params, steps_per_epoch: int) -> optax.GradientTransformation:
    """One Adam per top-level group of the parameters; a group with rate 0 stays as it is."""
    schedule = learning_rate(config, steps_per_epoch)

    def adam(multiple: float) -> optax.GradientTransformation:
        if multiple == 0:
            return optax.set_to_zero()
        decay = [optax.add_decayed_weights(config.weight_decay, mask=_weights)] if config.weight_decay else []
        rate = optax.scale_by_schedule(lambda step: -multiple * schedule(step))
        return optax.chain(optax.scale_by_adam(), *decay, rate)

    groups = {group: adam(getattr(config.rates, group)) for group in params}
    labels = {group: jax.tree.map(lambda _, group=group: group, tree) for group, tree in params.items()}
    return optax.multi_transform(groups, labels)


def _weights(params: Params) -> Params:
    """True for the weight matrices of the readout, the parameters that decay."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1] == jax.tree_util.DictKey("kernel"), params)
