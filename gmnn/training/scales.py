"""Scales that are measured on the training data before the first step: bounds of the moments, size of the features."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np

from gmnn.potential import Potential
from gmnn.system import System

FEATURE_FRAMES = 200  # frames over which the scales are measured


def scale_features(potential: Potential, systems: System, seed: int) -> Potential:
    """The potential whose features have root mean square 1 over the training frames at the initial parameters.

    The largest norms of the moments, which scale their bound, are measured first.
    """
    params = potential.init(seed)
    some = jax.tree.map(lambda leaf: leaf[:FEATURE_FRAMES], systems)
    numbers = np.asarray(some.numbers)
    if potential.config.core.bounded_moments:
        norms = np.asarray(jax.jit(jax.vmap(partial(potential.moment_norms, params)))(some), float)
        largest = largest_norms(norms, numbers, potential.reference.elements)
        potential = replace(potential, reference=replace(potential.reference, moment_scale=largest))
    features = np.asarray(jax.jit(jax.vmap(partial(potential.features, params)))(some), float)
    return replace(potential, reference=replace(potential.reference, feature_scale=feature_scales(features, numbers)))


def largest_norms(norms: np.ndarray, numbers: np.ndarray, elements: tuple[int, ...]) -> tuple[float, ...]:
    """Largest of the norms [n, N] of each element; the largest of all, or 1, for atoms without neighbours."""
    largest = [float(norms[numbers == z].max(initial=0.0)) for z in elements]
    return tuple(value if value > 0 else max(*largest, 1.0) for value in largest)


def feature_scales(features: np.ndarray, numbers: np.ndarray) -> tuple[float, ...]:
    """Root mean square of the features [n, N, F] over real atoms.

    Features that (almost) vanish in the data keep the scale of a typical one, so that none is blown up elsewhere.
    """
    rms = np.sqrt(np.mean(features[numbers > 0] ** 2, axis=0))
    typical = np.median(rms[rms > 0]) if (rms > 0).any() else 1.0
    return tuple(map(float, np.where(rms > 1e-3 * typical, rms, typical)))
