"""The zero of energy: whether labels have another one than a potential, and the atomic energies that move it.

Two methods, or two pseudopotentials, give the same atoms energies that differ by a constant for every element. Forces
know nothing of it.
"""

from dataclasses import dataclass

import numpy as np

from gmnn.evaluation.comparison import Comparison

DEGENERATE = 1e-5  # singular values of the fractions of elements below this share of the largest are zero
FAR = 50.0  # meV/atom, root mean square; a smaller shift is not worth a word
TIMES = 10.0  # a shift is one of the zero if it is larger than the rest of the errors by this factor


@dataclass(frozen=True)
class Change:
    """Change of the atomic energies that brings predictions to the zero of labels, and what determines it."""

    energies: np.ndarray  # [E] eV, to be added to E0; 0 for elements that no frame has
    rank: int  # of the compositions of frames with several atoms
    by_atoms: np.ndarray  # [E] bool, whether frames of single atoms took part in an element's
    undetermined: np.ndarray  # [E] bool, elements that are in the frames, but determined only in sums with others
    absent: np.ndarray  # [E] bool, elements that no frame has


def labelled(comparison: Comparison, elements: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Atoms of each element [n, E] and label minus prediction [n] eV of the frames with an energy, and their places."""
    frames = np.repeat(np.arange(len(comparison.sizes)), comparison.sizes)
    counts = np.zeros((len(comparison.sizes), len(elements)))
    np.add.at(counts, (frames, np.searchsorted(elements, comparison.numbers)), 1.0)
    there = np.flatnonzero(~np.isnan(comparison.energies[:, 0]))
    return counts[there], (comparison.energies[:, 0] - comparison.energies[:, 1])[there], there


def fit_change(counts: np.ndarray, errors: np.ndarray, single: np.ndarray) -> Change:
    """Fit the change of the atomic energies to label minus prediction of frames.

    Frames of several atoms determine it by least squares of the energy per atom, so that the mean error becomes zero.
    Frames of isolated atoms (`single` [n] bool) determine what these leave open, since a potential that never learnt
    them errs there. What then is open takes the smallest change.
    """
    sizes, n_elements = counts.sum(axis=1), counts.shape[1]
    fractions, rest = counts[~single] / sizes[~single, None], errors[~single] / sizes[~single]
    change, free = _solved(fractions, rest)
    rank, before = n_elements - free.shape[1], free
    atoms = counts[single].argmax(axis=1)
    kinds = np.unique(atoms)
    if len(kinds) and free.shape[1]:
        wanted = np.array([errors[single][atoms == e].mean() for e in kinds])
        along, still = _solved(free[kinds], wanted - change[kinds])
        change, free = change + free @ along, free @ still
    absent = counts.sum(axis=0) == 0
    loose = _reached(free) & ~absent
    return Change(np.where(absent, 0.0, change), rank, _reached(before) & ~loose & ~absent, loose, absent)


def _solved(matrix: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest least-squares solution [E], and a basis of what the equations leave open [E, k]."""
    if not len(matrix):
        return np.zeros(matrix.shape[1]), np.eye(matrix.shape[1])
    tall, small = np.linalg.qr(matrix)  # the singular vectors of many frames would not fit into memory
    left, sizes, right = np.linalg.svd(small, full_matrices=True)
    rank = int(np.sum(sizes > DEGENERATE * max(sizes.max(), 1.0)))
    along = right[:rank].T @ ((left[:, :rank].T @ (tall.T @ values)) / sizes[:rank])
    return along, right[rank:].T


def _reached(basis: np.ndarray) -> np.ndarray:
    """Whether each element has a part in the directions of a basis.  [E] bool"""
    return np.abs(basis).max(axis=1, initial=0.0) > DEGENERATE


def shift(counts: np.ndarray, errors: np.ndarray) -> tuple[float, float] | None:
    """Mean of label minus prediction and the spread about a shift per element, meV/atom; None if the zero is the same.

    The zero differs if the shift is above FAR and TIMES the spread. There must be more frames than it has parameters.
    """
    finite = np.isfinite(errors)
    counts, errors = counts[finite], errors[finite]
    if not len(errors):
        return None
    sizes = counts.sum(axis=1)
    per_atom, fractions = 1e3 * errors / sizes, counts / sizes[:, None]
    change, free = _solved(fractions, per_atom)
    more = len(errors) - (counts.shape[1] - free.shape[1])
    if more < 1:
        return None
    moved = fractions @ change
    spread = float(np.sqrt(np.sum((per_atom - moved) ** 2) / more))
    size = float(np.sqrt(np.mean(moved**2)))
    return (float(per_atom.mean()), spread) if size > max(FAR, TIMES * spread) else None


def sentence(source: str, of: str, found: tuple[float, float]) -> str:
    """Say that the labels of `source` have another zero than `of`, by how much."""
    mean, spread = found
    return (
        f"the energies of {source} have another zero than {of}: they lie {1e-3 * mean:+.4f} eV/atom from it on "
        f"average, with a spread of {1e-3 * spread:.4f} eV/atom about a shift per element"
    )
