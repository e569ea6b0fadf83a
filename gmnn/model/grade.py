"""The grade of an atom, which says how far it is from all that the potential has learnt.

It is the Mahalanobis distance of the activations h of the last hidden layer from those of the element's atoms in the
training frames, divided by the largest one in the validation frames. With the mean m and the covariance C of an element

    grade^2 = (h - m) C^-1 (h - m) = rest |h - m|^2 - |rows (h - m)|^2,

where C has its RANK largest eigenvalues, and one value, `1 / rest`, in all other directions.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

RANK = 64  # directions of an element that have a variance of their own
LEAST = 1e-3  # smallest variance of a direction, in units of the mean over all directions and elements


class Grade(NamedTuple):
    """What the grades of a potential are computed from; of a full ensemble with a leading axis [M]."""

    center: Any  # [E, H] mean of the activations
    rows: Any  # [E, K, H]
    rest: Any  # [E]; infinite for an element without training atoms


def distances(grade: Grade, activations: Array, e_i: Array) -> Array:
    """Grades of atoms from their activations, of one member.  [H, N], [N] -> [N]"""
    apart = activations - grade.center[e_i].T
    shown = jnp.einsum("ekh,hn->ekn", grade.rows, apart, precision=jax.lax.Precision.HIGHEST)
    inside = jnp.take_along_axis(jnp.sum(shown**2, axis=1), e_i[None], axis=0)[0]
    return jnp.sqrt(jnp.maximum(grade.rest[e_i] * jnp.sum(apart**2, axis=0) - inside, 0.0))


class Moments:
    """Count, sum and sum of squares of the activations of each element, added up in float64."""

    def __init__(self, n_elements: int, width: int) -> None:
        self.count = np.zeros(n_elements)
        self.first = np.zeros((n_elements, width))
        self.second = np.zeros((n_elements, width, width))

    def add(self, activations: np.ndarray, e_i: np.ndarray) -> None:
        """Add atoms, [n, H] and [n]."""
        for e in np.unique(e_i):
            some = activations[e_i == e].astype(float)
            self.count[e] += len(some)
            self.first[e] += some.sum(axis=0)
            self.second[e] += some.T @ some

    def grade(self) -> Grade:
        """Return the grade before it is scaled: its mean square over the training atoms is about H."""
        width = self.first.shape[1]
        known = np.maximum(self.count, 1.0)
        center = self.first / known[:, None]
        covariance = self.second / known[:, None, None] - center[:, :, None] * center[:, None, :]
        least = LEAST * float(np.einsum("ehh,e->", covariance, self.count)) / (self.count.sum() * width)
        least = max(least, float(np.finfo(np.float32).tiny))
        rank = min(RANK, width)
        rows, rest = np.zeros((len(known), rank, width)), np.full(len(known), np.inf)
        for e in np.flatnonzero(self.count):
            variances, vectors = np.linalg.eigh(covariance[e])
            variances = np.maximum(variances[::-1], least)
            others = float(np.mean(variances[rank:])) if rank < width else float(variances[-1])
            rest[e] = 1.0 / others
            rows[e] = np.sqrt(np.maximum(rest[e] - 1.0 / variances[:rank], 0.0))[:, None] * vectors.T[::-1][:rank]
        return Grade(center, rows, rest)


def scaled(grade: Grade, largest: float) -> Grade:
    """Divide by the largest distance over the validation frames."""
    return Grade(grade.center, grade.rows / largest, grade.rest / largest**2)
