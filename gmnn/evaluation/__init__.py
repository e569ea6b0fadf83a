"""Errors of a trained potential on labelled frames, and the room that its bounded readout has left."""

from gmnn.evaluation.comparison import Comparison
from gmnn.evaluation.grade import add_grades, with_grades
from gmnn.evaluation.predict import compare
from gmnn.evaluation.readout import head_room, repulsion_table, used_up
from gmnn.evaluation.uncertainty import Spreads, spreads

__all__ = [
    "Comparison", "Spreads", "add_grades", "compare", "head_room", "repulsion_table", "spreads",
    "used_up", "with_grades",
]  # fmt: skip
