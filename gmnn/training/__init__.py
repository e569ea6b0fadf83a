"""Training: objective, optimiser, loop with checkpoints."""

from gmnn.training.loop import Outcome, scale_features, train

__all__ = ["Outcome", "scale_features", "train"]
