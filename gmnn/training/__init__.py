"""Training from a configuration to a model folder, and its parts: scales, objective, optimiser, loop."""

from gmnn.training.finetune import energy_differences, fit_references, start_from
from gmnn.training.loop import TrainingResult, optimise
from gmnn.training.optimizer import direction
from gmnn.training.run import train
from gmnn.training.scales import scale_features

__all__ = [
    "TrainingResult", "direction", "energy_differences", "fit_references", "optimise", "scale_features", "start_from",
    "train",
]  # fmt: skip
