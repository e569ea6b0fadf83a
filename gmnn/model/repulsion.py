"""Universal ZBL repulsion in physical units and its windows: pure functions of distances and atomic numbers.

Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Matter (Pergamon, 1985):
U(r) = k_e Z1 Z2 / r * phi(r / a), a = 0.46850 / (Z1^0.23 + Z2^0.23) Å. The potential uses V = s U chi with a strength
s >= floor > 0 and a window chi that equals 1 up to r_on > 0, so that V diverges at contact whatever is trained.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from gmnn.config.model import ModelConfig, ZBLConfig
from gmnn.elements import pair_name
from gmnn.errors import UserError
from gmnn.model import short_range
from gmnn.reference import Reference

COULOMB = 14.3996454784  # e^2 / (4 pi eps0), eV Å
SCREENING_LENGTH = 0.46850  # Å
COEFFICIENTS = (0.18175, 0.50986, 0.28022, 0.02817)  # sum to 1: the bare nuclei at contact
EXPONENTS = (3.19980, 0.94229, 0.40290, 0.20162)


def zbl(r: Array, z1: Array, z2: Array, coefficients: Sequence[float] = COEFFICIENTS) -> Array:
    """U(r) in eV for distances r in Å; z1, z2 are atomic numbers of r's dtype and shape (or broadcastable)."""
    x = r * (z1**0.23 + z2**0.23) / SCREENING_LENGTH
    screening = sum(c * jnp.exp(-e * x) for c, e in zip(coefficients, EXPONENTS, strict=True))
    return COULOMB * z1 * z2 / r * screening


def nlh(r: Array, z1: Array, z2: Array, coefficients: Array) -> Array:
    """k_e Z1 Z2 / r sum_k a_k exp(-b_k r) in eV, with the six published numbers a1, b1 ... a3, b3 on the last axis.

    Nordlund, Lehtola, Hobler, Phys. Rev. A 111, 032818 (2025); b in 1/Å. Made to be accurate above 30 eV.
    """
    a, b = coefficients[..., 0::2], coefficients[..., 1::2]
    return COULOMB * z1 * z2 / r * sum(a[..., k] * jnp.exp(-b[..., k] * r) for k in range(3))


def exponential(r: Array, coefficients: Array) -> Array:
    """A exp(-b r) / r^2 in eV with A in eV Å^2 and b in 1/Å on the last axis: a repulsion that Apax trains."""
    return coefficients[..., 0] * jnp.exp(-coefficients[..., 1] * r) / r**2


def smooth_window(r: Array, r_on: Array, r_off: Array) -> Array:
    """1 up to r_on, 0 from r_off, 1 - 10 u^3 + 15 u^4 - 6 u^5 between, u = (r - r_on)/(r_off - r_on): C2.

    Written as a product, which rounding cannot make negative.
    """
    u = jnp.clip((r - r_on) / (r_off - r_on), 0.0, 1.0)
    return (1.0 - u) ** 3 * (1.0 + 3.0 * u + 6.0 * u**2)


def cosine_window(r: Array, r_off: Array) -> Array:
    """(1 + cos(pi r / r_off)) / 2, 0 from r_off: C1, and below 1 everywhere but at contact."""
    return 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(r / r_off, 0.0, 1.0)))


def window(config: ZBLConfig, r: Array, r_on: Array, r_off: Array) -> Array:
    """The configured chi(r), non-increasing in [0, 1]."""
    choice = {
        "cosine": lambda: cosine_window(r, r_off),
        "covalent": lambda: smooth_window(r, r_on, r_off),
        "closest": lambda: smooth_window(r, r_on, r_off),
    }  # fmt: skip
    return choice[config.window]()


def element_pairs(n_elements: int) -> np.ndarray:
    """Index of the unordered pair of elements, [E, E] -> 0 ... E (E + 1) / 2 - 1."""
    table = np.zeros((n_elements, n_elements), int)
    upper = np.triu_indices(n_elements)
    table[upper] = np.arange(len(upper[0]))
    return np.maximum(table, table.T)


def pair_energy(
    config: ModelConfig, reference: Reference, strength: Any, r: Array, e_i: Any, e_j: Any, r_on: Any, r_off: Any
) -> Array:
    """V = s U(r) chi(r) in eV for r in Å; elements by their index, every other argument of r's rank or a number."""
    numbers = jnp.asarray(reference.elements, r.dtype)
    z_i, z_j = numbers[e_i], numbers[e_j]
    if config.repulsion == "zbl":
        bare = zbl(r, z_i, z_j, config.zbl.coefficients or COEFFICIENTS)
    elif config.repulsion == "nlh":
        bare = nlh(r, z_i, z_j, _screening(config, reference, "train it with a file", r.dtype, e_i, e_j))
    elif config.repulsion == "exponential":
        bare = exponential(r, _screening(config, reference, "only imported potentials have them", r.dtype, e_i, e_j))
    else:
        raise UserError(f"model.repulsion is {config.repulsion}, which has no formula here")
    return strength * bare * window(config.zbl, r, r_on, r_off)


def _screening(config: ModelConfig, reference: Reference, source: str, dtype: Any, e_i: Any, e_j: Any) -> Array:
    """Coefficients of the pairs of elements, on the last axis; UserError where the data gave none."""
    if not reference.screening:
        raise UserError(f"model.repulsion is {config.repulsion}, but there are no coefficients of it; {source}")
    return jnp.asarray(reference.screening, dtype)[jnp.asarray(element_pairs(len(reference.elements)))[e_i, e_j]]


def strength_floors(config: ModelConfig, elements: tuple[int, ...]) -> np.ndarray:
    """Lower limit of the strength of each unordered pair of elements.  [pairs]"""
    upper = zip(*np.triu_indices(len(elements)), strict=True)
    return np.array([config.zbl.floors.get(pair_name(elements[e], elements[f]), config.zbl.floor) for e, f in upper])


def strengths(params: dict, config: ModelConfig, elements: tuple[int, ...]) -> np.ndarray:
    """Strength s of the repulsion of every pair of elements, in units of the physical one.  [E, E]"""
    if not config.zbl.trainable:
        return np.full((len(elements), len(elements)), config.zbl.strength)
    trained = np.asarray(params["repulsion"]["strength"], float)
    return (strength_floors(config, elements) + np.logaddexp(0.0, trained))[element_pairs(len(elements))]


def pair_potential(params: dict, config: ModelConfig, reference: Reference) -> Callable[[Array, int, int], Array]:
    """V(r, e, f) = s U(r) chi(r) in eV of the pair of the e-th and f-th element, for r in Å of any shape; 0 without."""
    if config.repulsion == "none":
        return lambda r, e, f: jnp.zeros_like(r)
    strength = strengths(params, config, reference.elements)
    radii = short_range.pair_tables(config, reference)

    def energy(r: Array, e: int, f: int) -> Array:
        s, r_on, r_off = (float(table[e, f]) for table in (strength, radii.r_on, radii.r_off))
        return pair_energy(config, reference, s, r, e, f, r_on, r_off)

    return energy
