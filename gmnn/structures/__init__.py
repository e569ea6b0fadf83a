"""Structures read from files: one function for training data, evaluation, selection, dynamics and scans."""

from gmnn.structures.reading import (
    CHARGED,
    bare,
    has_stress,
    read_structure,
    read_structures,
    split_index,
    total_charge,
    warn_of_charge,
)

__all__ = [
    "CHARGED", "bare", "has_stress", "read_structure", "read_structures", "split_index", "total_charge",
    "warn_of_charge",
]  # fmt: skip
