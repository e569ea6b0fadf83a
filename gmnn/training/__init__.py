"""Training: scales measured on the data, objective, optimiser, loop with checkpoints, several seeds at once."""

from gmnn.training.loop import Outcome, train
from gmnn.training.scales import scale_features
from gmnn.training.seeds import Member, SeedTrainer

__all__ = ["Member", "Outcome", "SeedTrainer", "scale_features", "train"]
