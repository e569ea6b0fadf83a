"""The loss of a batch as JAX alone differentiates it: the second way to its gradient."""

from typing import Any

from jax import Array

from gmnn.config.train import LossConfig
from gmnn.model.potential import Potential
from gmnn.training import objective


def batch_loss(
    potential: Potential, config: LossConfig, params: dict[str, Any], batch: objective.Batch, progress: float = 1.0
) -> Array:
    """The loss from predictions, []."""
    systems, labels = batch
    return objective.batch_loss(config, potential.predict(params, systems), labels, systems, progress)
