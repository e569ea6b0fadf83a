"""The one data type for a system, and the types for its labels and its predictions.

Index letters in the whole package: i centre, k neighbour slot, j the atom in that slot, a b c Cartesian,
r s t radial channel, n basis function, f feature, e element among the trained ones.
Units: eV, Å. Cells hold their vectors as rows, as in ASE.
"""

from typing import Any, NamedTuple

Array = Any  # numpy on the host, jax inside a traced function


class System(NamedTuple):
    """Atoms with their dense neighbour slots; a batch of systems has a leading axis on every field.

    The vector of slot k is ``positions[j] + shifts[i, k] @ cell - positions[i]`` with ``j = neighbors[i, k]``.
    """

    positions: Array  # [N, 3] Å
    numbers: Array  # [N] int32, atomic number, 0 = padding
    cell: Array  # [3, 3] Å, rows; zeros where there is no cell
    neighbors: Array  # [N, K] int32, N = empty slot
    shifts: Array  # [N, K, 3] int32, cell vectors added to atom j


class Labels(NamedTuple):
    """Reference values for training. Padded atoms and missing labels hold zeros, which have no weight."""

    energy: Array  # [] eV, atomic references subtracted in float64
    forces: Array  # [N, 3] eV/Å
    stress: Array  # [3, 3] eV/Å^3, ASE's sign: positive under tension
    weights: Array  # [3] weights of energy, forces and stress in the loss; 0 where the label is missing


class Prediction(NamedTuple):
    """Predictions of the potential for one system, without the atomic references E0."""

    energy: Array  # [] eV
    energies: Array  # [N] eV, sums to ``energy``
    forces: Array  # [N, 3] eV/Å
    virial: Array  # [3, 3] eV, dE/d(strain), symmetric; divided by the volume it is the stress in ASE's sign
    members: Array  # [M] eV, energies of the members of an ensemble, whose mean is ``energy``; [1] without one
    grades: Array | None = None  # [N], 1 = the largest of the validation frames (model/grade.py); None if not asked for
