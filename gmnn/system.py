"""The one data type for a system, and the types for what is known and what is predicted about it.

Index letters used in the whole package: i centre, k neighbour slot, j the atom in that slot, a b c Cartesian,
r s t radial channel, n basis function, f feature, e element among the trained ones.
Units: eV, Å. Cells hold their vectors as rows, as in ASE.
"""

from typing import Any, NamedTuple

Array = Any  # numpy on the host, jax inside a traced function


class System(NamedTuple):
    """Atoms with their dense neighbour slots; with a leading axis on every field it is a batch.

    The vector of slot k is ``positions[j] + shifts[i, k] @ cell - positions[i]`` with ``j = neighbors[i, k]``.
    """

    positions: Array  # [N, 3] Å
    numbers: Array  # [N] int32, atomic number, 0 = padding
    cell: Array  # [3, 3] Å, rows; zeros where there is no cell
    neighbors: Array  # [N, K] int32, N = empty slot
    shifts: Array  # [N, K, 3] int32, cell vectors added to atom j


class Labels(NamedTuple):
    """What training compares with; padded atoms and missing labels hold zeros, which no weight lets count."""

    energy: Array  # [] eV, atomic references subtracted in float64
    forces: Array  # [N, 3] eV/Å
    stress: Array  # [3, 3] eV/Å^3, ASE's sign: positive under tension
    weights: Array  # [3] of energy, forces and stress of this frame in the loss; 0 where the label is missing


class Prediction(NamedTuple):
    """What the potential says of one system, without the atomic references E0."""

    energy: Array  # [] eV
    energies: Array  # [N] eV, sums to ``energy``
    forces: Array  # [N, 3] eV/Å
    virial: Array  # [3, 3] eV, dE/d(strain), symmetric; divided by the volume it is the stress in ASE's sign
    members: Array  # [M] eV, energies of the members of an ensemble, with the mean ``energy``; [1] without one
