"""Certified bounds, on intervals, of the slope of the trained repulsion V = s U chi of one pair of elements.

docs/certificate.md, "The repulsion", has the derivation. U = k_e Z1 Z2 / r * phi(r), phi is a sum of exponentials
and chi the window.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from gmnn.certificate import coverage
from gmnn.certificate.radial_bounds import ROUNDING, STEP_BEND, TINY, derivative, radii_of
from gmnn.config.coverage import uncovered
from gmnn.model import repulsion, short_range
from gmnn.model.potential import Potential
from gmnn.model.repulsion import element_pairs, pair_potential, strengths


class Slopes(NamedTuple):
    """Bounds of |V'| on every interval, eV/Å."""

    at_least: np.ndarray  # [G]
    at_most: np.ndarray  # [G]


def screening(potential: Potential, e: int, f: int) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients a and exponents b [1/Å] of phi(r) = sum_k a_k exp(-b_k r)."""
    config, elements = potential.config, potential.reference.elements
    if config.repulsion == "nlh":
        numbers = np.array(potential.reference.screening[element_pairs(len(elements))[e, f]])
        return numbers[0::2], numbers[1::2]
    if config.repulsion == "zbl":
        length = repulsion.SCREENING_LENGTH / (elements[e] ** 0.23 + elements[f] ** 0.23)
        return np.array(config.zbl.coefficients or repulsion.COEFFICIENTS), np.array(repulsion.EXPONENTS) / length
    raise coverage.refusal("a sum of exponentials", f"model.repulsion: {config.repulsion}")


def falls(potential: Potential, e: int, f: int) -> bool:
    """Whether V is certified to be positive, non-increasing and divergent at contact (up to where its window closes).

    For s > 0 and b >= 0 it is sufficient that, in ascending order of b, all partial sums of a and of a b are >= 0 and
    the total of a is positive. The result is False for a model that is not covered.
    """
    if uncovered(potential.config, coverage.WALL):
        return False
    a, b = screening(potential, e, f)
    order = np.argsort(b)
    partial = np.cumsum(a[order]), np.cumsum((a * b)[order])
    strength = strengths(potential.trained, potential.config, potential.reference.elements)[e, f]
    return bool(strength > 0 and (b >= 0).all() and min(p.min() for p in partial) >= 0 and partial[0][-1] > 0)


def all_fall(potential: Potential, counts: np.ndarray) -> bool:
    """Whether V is certified to fall for every pair among `counts` [E] atoms of each element."""
    present = [(e, f) for e in range(len(counts)) for f in range(e, len(counts)) if has_pair(counts, e, f)]
    return all(falls(potential, e, f) for e, f in present)


def has_pair(counts: np.ndarray, e: int, f: int) -> bool:
    """Whether `counts` [E] atoms of each element contain a pair of the elements e and f."""
    return bool(counts[e] >= 2 if e == f else min(counts[e], counts[f]) >= 1)


def energy(potential: Potential, e: int, f: int) -> Callable[[Array], Array]:
    """Return V(r) in eV of the pair from the trained parameters in float64; call it with x64 enabled."""
    function = pair_potential(potential.trained, potential.config, potential.reference)
    return lambda r: function(r, e, f)


def slopes(potential: Potential, e: int, f: int, ends: np.ndarray) -> Slopes:
    """Bounds of |V'| on the intervals between `ends` [G + 1], Å.

    They are 0 for a model without repulsion, and 0 and inf if V is not certified to fall.
    """
    low, high = ends[:-1], ends[1:]
    if not falls(potential, e, f):
        without = not uncovered(potential.config, coverage.NO_WALL)
        return Slopes(np.zeros(len(low)), np.full(len(low), 0.0 if without else np.inf))
    function = energy(potential, e, f)
    middle = jnp.asarray(0.5 * (low + high))
    reach = 0.5 * (high - low) * _bend(potential, e, f, low, high)
    steep = np.abs(np.asarray(derivative(function)(middle)))
    secant = np.asarray(function(jnp.asarray(high))) / high  # |V'(r)| >= V(r) / r >= V(high) / high
    return Slopes(np.maximum(secant, steep - reach) / ROUNDING, ROUNDING * (steep + reach))


def _bend(potential: Potential, e: int, f: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Upper bound of |V''| on the intervals, eV/Å^2."""
    config, elements = potential.config, potential.reference.elements
    radii = radii_of(short_range.pair_tables(config, potential.reference), e, f)
    strength = strengths(potential.trained, config, elements)[e, f]
    a, b = screening(potential, e, f)
    charge = repulsion.COULOMB * elements[e] * elements[f] * strength
    phi = [np.abs(a) * b**p @ np.exp(-np.outer(b, low)) for p in range(3)]
    r = np.maximum(low, TINY)
    u = [phi[0] / r, phi[1] / r + phi[0] / r**2, phi[2] / r + 2.0 * phi[1] / r**2 + 2.0 * phi[0] / r**3]
    if config.zbl.window == "cosine":
        first, second = np.pi / (2.0 * radii.r_off), np.pi**2 / (2.0 * radii.r_off**2)
    elif config.zbl.window in ("closest", "covalent"):
        first, second = 1.875 / (radii.r_off - radii.r_on), STEP_BEND / (radii.r_off - radii.r_on) ** 2
    else:
        raise coverage.refusal("a bound of the repulsion", f"model.zbl.window: {config.zbl.window}")
    closing = (low < radii.r_off) & (high > radii.r_on)
    bend = u[2] + np.where(closing, 2.0 * first * u[1] + second * u[0], 0.0)
    return charge * np.where(low < radii.r_off, bend, 0.0)
