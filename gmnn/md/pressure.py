"""Stochastic cell rescaling, which holds the pressure of a structure that is periodic along three directions.

Isotropic: Bernetti and Bussi, J. Chem. Phys. 153, 114107 (2020); with the shape of the cell: Del Tatto, Raiteri,
Bernetti, Bussi, Appl. Sci. 12, 1139 (2022). Here both are a strain at every step. Its exponential multiplies cell and
positions from the right, the inverse of the exponential the velocities.
"""

from dataclasses import dataclass
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from ase import units
from jax import Array

from gmnn.config.choices import Pressure
from gmnn.md.integrators import ramp

KINDS = get_args(Pressure)
LARGEST = 0.1  # strain in one step, beyond which results are meaningless
ORDER = 6  # of the series of the exponential, whose error is 1e-10 at the largest strain


@dataclass(frozen=True)
class Piston:
    """What holds the pressure, and how tightly."""

    kind: str = "none"
    """`isotropic`: the volume changes; `anisotropic`: the shape of the cell as well."""
    first_GPa: float = 0.0
    """Pressure at the first step, GPa."""
    last_GPa: float = 0.0
    """Pressure after `steps` steps, linear between, GPa."""
    steps: int = 1
    relaxation_fs: float = 1000.0
    """Time in which a volume of the stated compressibility relaxes, fs."""
    compressibility_per_GPa: float = 0.45

    def pressure(self, step: Any) -> Any:
        """Pressure at a step, eV/Å^3."""
        return units.GPa * ramp(self.first_GPa, self.last_GPa, step / self.steps)


def strain(piston: Piston, time: Array, inside: Array, cell: Array, thermal: Array, key: Array, step: Array) -> Array:
    """Strain [3, 3], symmetric, in a step of length `time`; NaN where it is larger than LARGEST.

    inside: sum m v v - virial [3, 3] eV, the pressure times the volume; thermal: k_B T, eV. With the logarithm of the
    volume as variable, the published isotropic equation has the drift (beta / tau) (P - P_0) and the noise
    sqrt(2 k_B T beta / (V tau)). The anisotropic one has a third of the drift, with tensors, and a third of the
    variance for every element of a matrix; its antisymmetric half, a rotation, is left out.
    """
    dtype = cell.dtype
    volume = jnp.abs(jnp.linalg.det(cell))
    rate = time * piston.compressibility_per_GPa / units.GPa / (piston.relaxation_fs * units.fs)
    unit = jnp.eye(3, dtype=dtype)
    excess = inside / volume - piston.pressure(step).astype(dtype) * unit
    width = jnp.sqrt(2.0 * thermal * rate / (3.0 * volume))
    if piston.kind == "isotropic":
        noise = jax.random.normal(key, (), dtype)
        change = unit * (rate * jnp.trace(excess) / 9.0 + width * noise / jnp.sqrt(jnp.asarray(3.0, dtype)))
    else:
        noise = jax.random.normal(key, (3, 3), dtype)
        change = rate / 3.0 * excess + 0.5 * width * (noise + noise.T)
    return jnp.where(jnp.max(jnp.abs(change)) < LARGEST, change, jnp.nan)


def stretch(strain: Array) -> Array:
    """exp(strain) [3, 3], for strains up to LARGEST."""
    unit = total = jnp.eye(3, dtype=strain.dtype)
    for k in reversed(range(1, ORDER + 1)):
        total = unit + times(strain, total) / k
    return total


def times(vectors: Array, matrix: Array) -> Array:
    """Row vectors times a matrix, in full precision.  [., 3], [3, 3] -> [., 3]"""
    return jnp.matmul(vectors, matrix, precision="highest")


def least_stretch(deformation: Array) -> Array:
    """Lower bound of the factor by which a deformation x -> x F shortens any vector; exact for F ~ 1.  [3, 3] -> []

    The smallest eigenvalue of a symmetric 3 x 3 matrix is at least a third of its trace less sqrt(2/3) times the norm
    of the rest.
    """
    square = times(deformation.T, deformation)
    mean = jnp.trace(square) / 3.0
    rest = jnp.sum((square - mean * jnp.eye(3, dtype=square.dtype)) ** 2)
    return jnp.sqrt(jnp.maximum(0.0, mean - jnp.sqrt(rest * (2.0 / 3.0))))


def tensor(masses: np.ndarray, velocities: np.ndarray, virial: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Pressure, positive where the structure pushes outward, [3, 3] GPa; computed on the host."""
    kinetic = np.einsum("i,ia,ib->ab", masses, velocities, velocities)
    return (kinetic - virial) / abs(np.linalg.det(cell)) / units.GPa
