"""Labels from any ASE calculator, in processes and interpreters of its own."""

from gmnn.teaching.answers import Answer, Failure, Label
from gmnn.teaching.differences import Differences, differences
from gmnn.teaching.labels import LabelStore
from gmnn.teaching.pool import Pool
from gmnn.teaching.teachers import Teacher, presets

__all__ = ["Answer", "Differences", "Failure", "Label", "LabelStore", "Pool", "Teacher", "differences", "presets"]
