"""Labelled frames: read from any file that ASE reads, checked and split; and the atomic references in float64.

Whatever the units of a file, frames hold energies in eV, forces in eV/Å, stresses in eV/Å^3, positions in Å.
"""

from gmnn.data.frames import Dataset, Splits
from gmnn.data.reading import read_dataset
from gmnn.data.references import Regression, closest_distances, fit_reference, isolated_atoms, read_nlh, regression
from gmnn.data.splitting import split

__all__ = [
    "Dataset",
    "Regression",
    "Splits",
    "closest_distances",
    "fit_reference",
    "isolated_atoms",
    "read_dataset",
    "read_nlh",
    "regression",
    "split",
]
