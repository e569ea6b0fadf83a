"""Learning from a teacher: label few frames, train, explore by dynamics, label what left the data, until it holds."""

from gmnn.learning.run import learn

__all__ = ["learn"]
