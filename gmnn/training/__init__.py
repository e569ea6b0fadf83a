"""Training: scales measured on the data, objective, optimiser, loop with checkpoints, several seeds at once."""

from gmnn.training.finetune import fit_references, start_from
from gmnn.training.loop import TrainingResult, train
from gmnn.training.optimizer import direction
from gmnn.training.scales import scale_features

__all__ = [
    "TrainingResult", "direction", "fit_references", "scale_features", "start_from", "train",
]  # fmt: skip
