"""Scales measured on the training data before the first step: bounds of the moments and sizes of the features."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from gmnn.model.potential import Potential
from gmnn.system import System

FEATURE_FRAMES = 200  # frames over which the scales are measured


def scale_features(potential: Potential, buckets: list[System], seed: int) -> Potential:
    """Scale the features to root mean square 1 over the training frames at the initial parameters.

    The largest norms of the moments, which scale their bound, are measured first. Members of a full ensemble share the
    scales: the largest norms of all members and the root mean square over all of them.
    """
    start = potential.with_params(potential.init(seed))
    total = sum(len(systems.numbers) for systems in buckets)
    shares = [max(1, FEATURE_FRAMES * len(systems.numbers) // total) for systems in buckets]
    sample = [jax.tree.map(lambda leaf, n=n: leaf[:n], s) for s, n in zip(buckets, shares, strict=True)]
    numbers = np.concatenate([np.asarray(systems.numbers).ravel() for systems in sample])
    if potential.config.core.bounded_moments:
        norms = np.max([_over(member, Potential.moment_norms, sample) for member in start.member_potentials], axis=0)
        largest = largest_norms(norms, numbers, potential.reference.elements)
        potential = replace(potential, reference=replace(potential.reference, moment_scale=largest))
        start = replace(start, reference=potential.reference)
    scales = [feature_scales(_over(member, Potential.features, sample), numbers) for member in start.member_potentials]
    together = tuple(map(float, np.sqrt(np.mean(np.square(scales), axis=0))))
    return replace(potential, reference=replace(potential.reference, feature_scale=together))


def _over(potential: Potential, method: Callable[..., Any], buckets: list[System]) -> np.ndarray:
    """Values of a method of the potential for every atom, padding included.  [atoms, ...] float64"""
    evaluate = jax.jit(jax.vmap(partial(method, potential), (None, 0)))
    batches = [np.asarray(evaluate(potential.trained, systems), float) for systems in buckets]
    return np.concatenate([values.reshape(-1, *values.shape[2:]) for values in batches])


def largest_norms(norms: np.ndarray, numbers: np.ndarray, elements: tuple[int, ...]) -> tuple[float, ...]:
    """Largest of the norms [...] of each element; the largest of all, at least 1, for atoms without neighbours."""
    largest = [float(norms[numbers == z].max(initial=0.0)) for z in elements]
    return tuple(value if value > 0 else max(*largest, 1.0) for value in largest)


def feature_scales(features: np.ndarray, numbers: np.ndarray) -> tuple[float, ...]:
    """Root mean square of the features [..., F] over real atoms.

    Features that (almost) vanish in the data keep the scale of a typical one, so that none is blown up elsewhere.
    """
    rms = np.sqrt(np.mean(features[numbers > 0] ** 2, axis=0))
    typical = np.median(rms[rms > 0]) if (rms > 0).any() else 1.0
    return tuple(map(float, np.where(rms > 1e-3 * typical, rms, typical)))
