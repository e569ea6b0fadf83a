"""Radial basis functions and cutoff functions: pure functions of a distance in Å."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gmnn.config.model import ModelConfig


def polynomial_cutoff(r: Array, r_max: float) -> Array:
    """f_c = 1 - 10 x^3 + 15 x^4 - 6 x^5, x = r / r_max: C2 at 0 and at r_max, 0 beyond.  [...] -> [...]"""
    x = jnp.clip(r / r_max, 0.0, 1.0)
    return (1.0 - x) ** 3 * (1.0 + 3.0 * x + 6.0 * x**2)


def cosine_cutoff(r: Array, r_max: float) -> Array:
    """f_c = (1 + cos(pi r / r_max)) / 2: C1 at r_max, 0 beyond (Behler and Parrinello, PRL 98, 146401 (2007))."""
    return 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(r / r_max, 0.0, 1.0)))


def amplitudes(n_basis: int, smoothness: float) -> np.ndarray:
    """c_n proportional to (n + 1)^-smoothness, of unit mean square.  [n_basis]"""
    falling = np.arange(1.0, n_basis + 1) ** -smoothness
    return falling / np.sqrt(np.mean(falling**2))


def sinc(y: Array) -> Array:
    """sin(pi y) / (pi y), 1 at 0.  [...] -> [...]"""
    nonzero = jnp.where(y == 0, 1.0, y)
    return jnp.where(y == 0, 1.0, _sine(nonzero) / (np.pi * nonzero))


@jax.custom_jvp
def _sine(y: Array) -> Array:
    """sin(pi y) to rounding by its series on half a period, in vectors; XLA takes sines one by one on a CPU."""
    return _series(y, 1)


@jax.custom_jvp
def _cosine(y: Array) -> Array:
    """cos(pi y)."""
    return _series(y, 0)


_sine.defjvps(lambda along, _, y: np.pi * _cosine(y) * along)
_cosine.defjvps(lambda along, _, y: -np.pi * _sine(y) * along)


def _series(y: Array, first: int) -> Array:
    """(-1)^k sum_j (-1)^j (pi t)^(2j + first) / (2j + first)! with y = k + t, |t| <= 1/2."""
    whole = jnp.round(y)
    t = y - whole
    terms = 7 if y.dtype == jnp.float32 else 12
    total = jnp.zeros_like(y)
    for power in range(2 * terms - 2 + first, -1, -2):
        total = total * (t * t) + (-1.0) ** (power // 2) * np.pi**power / math.factorial(power)
    odd = whole - 2.0 * jnp.floor(0.5 * whole)
    return (1.0 - 2.0 * odd) * (total * t if first else total)


def bessel_basis(r: Array, r_max: float, n_basis: int, smoothness: float = 0.0) -> Array:
    """phi_n = c_n (-1)^n sqrt(2) pi / r_max^(3/2) [sinc((n+1) r/r_max) + sinc((n+2) r/r_max)].

    sinc x = sin(pi x) / (pi x). Family of Kocer, Mason, Erturk, J. Chem. Phys. 150, 154102 (2019), with equal or
    falling amplitudes c_n instead of their normalisation, which favours high frequencies.  [...] -> [..., n_basis]
    """
    n = np.arange(n_basis)
    amplitude = (-1.0) ** n * np.sqrt(2.0) * np.pi / r_max**1.5 * amplitudes(n_basis, smoothness)
    amplitude = jnp.asarray(amplitude, r.dtype)
    x = (r / r_max)[..., None]
    orders = jnp.arange(1, n_basis + 2, dtype=r.dtype).reshape((1,) * r.ndim + (-1,))
    waves = sinc(x * orders)
    return amplitude.reshape((1,) * r.ndim + (-1,)) * (waves[..., :-1] + waves[..., 1:])


def gaussian_basis(r: Array, r_max: float, n_basis: int, r_min: float) -> Array:
    """phi_n = (2 beta / pi)^(1/4) exp(-beta (r - c_n)^2), beta = n_basis^2 / r_max^2.  [...] -> [..., n_basis]

    Centres equally spaced on [r_min, r_max] (Zaverkin and Kaestner, JCTC 16, 5410 (2020), eqs. 6-7).
    """
    centres = jnp.linspace(r_min, r_max, n_basis, dtype=r.dtype).reshape((1,) * r.ndim + (-1,))
    beta = (n_basis / r_max) ** 2
    return (2.0 * beta / np.pi) ** 0.25 * jnp.exp(-beta * (r[..., None] - centres) ** 2)


def cutoff_function(config: ModelConfig) -> Callable[[Array], Array]:
    """The configured f_c(r)."""
    choice = {"polynomial": polynomial_cutoff, "cosine": cosine_cutoff}[config.cutoff]
    return lambda r: choice(r, config.r_max)


def radial_basis(config: ModelConfig) -> Callable[[Array], Array]:
    """The configured basis phi(r), [...] -> [..., n_basis], without the cutoff function."""
    choice = {
        "bessel": lambda r: bessel_basis(r, config.r_max, config.n_basis, config.smoothness),
        "gaussian": lambda r: gaussian_basis(r, config.r_max, config.n_basis, config.r_min),
    }
    return choice[config.basis]
