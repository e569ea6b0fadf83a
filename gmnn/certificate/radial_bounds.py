"""Certified bounds of what one neighbour adds to the moments of a centre, and of its derivative by the distance.

They come from a grid of distances and a bound of the next derivative between its points: docs/certificate.md,
"One neighbour".
"""

from collections.abc import Callable
from functools import lru_cache
from math import comb, factorial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gmnn.certificate import coverage
from gmnn.config.model import ModelConfig
from gmnn.model import radial, short_range
from gmnn.model.potential import Potential

GRID = 3000  # distances, equally spaced in log r
SHORTEST = 1e-4  # Å, the first of these distances; one interval leads from there to contact
TINY = 1e-30  # Å, replaces the lower end 0 in divisions
FINE = 4000  # intervals on which the radial functions' own derivatives are bounded
ROUNDING = 1.0 + 1e-9
CLAMP_BEND = (1.875, 5.0284)  # largest |second derivative| of a clamp of depth 1/2 and 1, times its width
STEP_BEND = 10.0 / np.sqrt(3.0) * ROUNDING  # the same of the quintic step, times the square of its width


class Bounds(NamedTuple):
    """Upper bounds on every interval of distances, for a centre e and a neighbour f.

    Both bound |dC|, the change of the neighbour's contribution C to the moments of the centre, per unit displacement.
    """

    edges: np.ndarray  # [G + 1] Å
    along: np.ndarray  # [G] for a change of the distance at fixed direction
    any_way: np.ndarray  # [G] for any displacement of the neighbour


def edges(config: ModelConfig, points: list[float]) -> np.ndarray:
    """Ends of the intervals from contact to the cutoff, Å; `points` are among them.  [G + 1]"""
    grid = np.geomspace(SHORTEST, config.r_max, GRID)
    return np.sort(np.concatenate([[0.0], grid, np.clip(points, SHORTEST, config.r_max)]))


def basis(config: ModelConfig) -> Callable[[Array], Array]:
    """Return the function phi_n(r) f_c(r), [G] -> [G, n_basis]."""
    functions, cutoff = radial.radial_basis(config), radial.cutoff_function(config)
    return lambda r: functions(r) * cutoff(r)[..., None]


def derivative(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Return the derivative of a function that acts on each number of an array."""
    return lambda r: jax.jvp(function, (r,), (jnp.ones_like(r),))[1]


def _basis_suprema(config: ModelConfig) -> np.ndarray:
    """Analytic upper bounds of the p-th derivatives of phi_n f_c on (0, r_max), p = 0 ... 3.  [4, n_basis]"""
    r_max, n = config.r_max, np.arange(config.n_basis)
    what = "a bound of the radial functions"
    if config.basis == "bessel":
        amplitude = np.sqrt(2.0) * np.pi / r_max**1.5 * radial.amplitudes(config.n_basis, config.smoothness)
        waves = [((np.pi * (n + 1) / r_max) ** p + (np.pi * (n + 2) / r_max) ** p) / (p + 1) for p in range(4)]
        functions = amplitude * np.array(waves)
    elif config.basis == "gaussian":
        beta = (config.n_basis / r_max) ** 2
        height = (2.0 * beta / np.pi) ** 0.25
        hermite = [1.0, *(1.0865 * np.sqrt(factorial(p)) for p in (1, 2, 3))]  # Cramer's inequality
        functions = np.outer([height * (2.0 * beta) ** (0.5 * p) * hermite[p] for p in range(4)], np.ones(len(n)))
    else:
        raise coverage.refusal(what, f"model.basis: {config.basis}")
    if config.cutoff == "polynomial":
        cutoff = np.array([1.0, 1.875, STEP_BEND, 60.0]) / r_max ** np.arange(4)
    elif config.cutoff == "cosine":
        cutoff = np.array([1.0, *(0.5 * (np.pi / r_max) ** p for p in (1, 2, 3))])
    else:
        raise coverage.refusal(what, f"model.cutoff: {config.cutoff}")
    leibniz = [sum(comb(p, q) * cutoff[q] * functions[p - q] for q in range(p + 1)) for p in range(4)]
    return ROUNDING * np.array(leibniz)


def radial_suprema(config: ModelConfig, coefficients: np.ndarray) -> np.ndarray:
    """Upper bounds of |R'| and |R''| (vectors over channels) on (0, r_max).  [..., S, n] -> [..., 2]"""
    third = np.linalg.norm(np.abs(coefficients) @ _basis_suprema(config)[3], axis=-1)
    step = config.r_max / FINE
    largest = [np.linalg.norm(coefficients @ value.T, axis=-2).max(axis=-1) for value in _fine_derivatives(config)]
    second = largest[1] + 0.5 * step * third
    return ROUNDING * np.stack([largest[0] + 0.5 * step * second, second], axis=-1)


@lru_cache(maxsize=8)
def _fine_derivatives(config: ModelConfig) -> tuple[np.ndarray, np.ndarray]:
    """First and second derivative of phi_n f_c at midpoints of the FINE intervals, float64.  [FINE, n_basis] each"""
    with jax.enable_x64(True):
        middles = jnp.asarray((np.arange(FINE) + 0.5) * (config.r_max / FINE))
        first = derivative(basis(config))
        return np.asarray(first(middles)), np.asarray(derivative(first)(middles))


@lru_cache(maxsize=8)
def _basis_and_slope(config: ModelConfig) -> Callable[[Array], tuple[Array, Array]]:
    """Return the compiled function phi_n f_c with its derivative.  [G] -> 2 x [G, n_basis]"""
    return jax.jit(lambda r: (basis(config)(r), derivative(basis(config))(r)))


def neighbor_bounds(potential: Potential, points: Callable[[int, int], list[float]]) -> list[list[Bounds]]:
    """Bounds for every centre e and neighbour f, [E][E]; `points(e, f)` are further ends of intervals, Å.

    UserError for a model that is not covered.
    """
    config, reference = potential.config, potential.reference
    coverage.require(config, coverage.FORCE, "a bound of what a neighbour adds to the moments")
    tables = short_range.pair_tables(config, reference)
    coefficients = np.asarray(potential.trained["radial"]["coefficients"], float)
    suprema = radial_suprema(config, coefficients)
    elements = range(len(reference.elements))

    def pair(e: int, f: int) -> Bounds:
        return _pair(config, radii_of(tables, e, f), coefficients[e, f], suprema[e, f], edges(config, points(e, f)))

    return [[pair(e, f) for f in elements] for e in elements]


def radii_of(tables: short_range.PairTables, e: int, f: int) -> short_range.PairTables:
    """The radii of one pair of elements, [] Å each."""
    return short_range.PairTables(*(np.asarray(table[e, f]) for table in tables))


def switch_points(radii: short_range.PairTables) -> list[float]:
    """Distances of one pair at which a formula changes, Å."""
    return [*map(float, radii), float(radii.clamp_in + radii.clamp_width)]


def _pair(
    config: ModelConfig,
    radii: short_range.PairTables,
    coefficients: np.ndarray,
    suprema: np.ndarray,
    ends: np.ndarray,
) -> Bounds:
    low, high = ends[:-1], ends[1:]
    middle, half = jnp.asarray(0.5 * (low + high)), 0.5 * (high - low)

    def seen(r: Array) -> Array:
        return short_range.clamped_distance(r, radii, config.core)

    def shown(r: Array) -> Array:
        return (
            short_range.gate(r, jnp.asarray(radii.gate_in), jnp.asarray(radii.gate_out))
            if config.core.gate
            else jnp.ones_like(r)
        )

    def inside(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        return (low < stop) & (high > start)

    spread = np.asarray(seen(jnp.asarray(high)) - seen(jnp.asarray(low)))
    slope, rise = np.asarray(derivative(seen)(middle)), np.asarray(derivative(shown)(middle))
    if config.core.clamp:
        acting = inside(radii.clamp_in, radii.clamp_in + radii.clamp_width)
        bend = np.interp(config.core.depth, (0.5, 1.0), CLAMP_BEND)
        slope = slope + np.where(acting, half * bend / max(radii.clamp_width, 1e-12), 0.0)
    if config.core.gate:
        acting = inside(radii.gate_in, radii.gate_out)
        rise = rise + np.where(acting, half * STEP_BEND / max(radii.gate_out - radii.gate_in, 1e-12) ** 2, 0.0)
    gate = np.asarray(shown(jnp.asarray(high)))
    value, change = (
        np.linalg.norm(np.asarray(x) @ coefficients.T, axis=-1) for x in _basis_and_slope(config)(seen(middle))
    )
    value = value + spread * suprema[0]
    change = (change + spread * suprema[1]) * slope
    along = np.sqrt(change**2 + 3.0 * (gate * change + rise * value) ** 2)
    across = np.sqrt(6.0) * gate * value / np.maximum(low, TINY)
    return Bounds(ends, ROUNDING * along, ROUNDING * np.maximum(along, across))
