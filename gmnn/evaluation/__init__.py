"""Errors of a trained potential on labelled frames, and the room that its bounded readout has left."""

from gmnn.evaluation.comparison import Comparison
from gmnn.evaluation.predict import compare
from gmnn.evaluation.readout import head_room, repulsion_table, used_up
from gmnn.evaluation.uncertainty import Spreads, calibration, spreads

__all__ = [
    "Comparison", "Spreads", "calibration", "compare", "head_room", "repulsion_table", "spreads", "used_up",
]  # fmt: skip
