"""One step of velocity Verlet, BAOAB or stochastic velocity rescaling: pure functions.

Units of ASE: eV, Å, amu; times in Å sqrt(amu/eV), of which one is 10.18 fs.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ase import units
from jax import Array


@dataclass(frozen=True)
class Bath:
    """What holds the temperature, and how tightly."""

    ensemble: str = "nve"
    """`nve`, `langevin` (friction) or `bussi` (relaxation)."""
    first_K: float = 0.0
    """Temperature at the first step, K."""
    last_K: float = 0.0
    """And after `steps` steps, linear between, K."""
    steps: int = 1
    friction_per_ps: float = 10.0
    relaxation_fs: float = 100.0

    def temperature(self, step: Array) -> Array:
        """k_B T at a step, eV."""
        done = jnp.clip(step / self.steps, 0.0, 1.0)
        return units.kB * (self.first_K + (self.last_K - self.first_K) * done)


class Phase(NamedTuple):
    """Positions and velocities, and what was computed there."""

    positions: Array  # [N, 3] Å, not wrapped
    velocities: Array  # [N, 3] Å / time; zero for fixed atoms
    forces: Array  # [N, 3] eV/Å
    energies: Array  # [N] eV


def drift(bath: Bath, time: Array, phase: Phase, push: Array, noise: Array, step: Array) -> tuple[Array, Array]:
    """Positions, and velocities before the half kick of the new forces, after a step of length `time`, which may be 0.

    `push` [N, 1] is 1 / mass, 0 for fixed atoms. Langevin: BAOAB of Leimkuhler and Matthews, J. Chem. Phys. 138, 174102
    (2013), without its last B.
    """
    v = phase.velocities + 0.5 * time * push * phase.forces
    if bath.ensemble != "langevin":
        return phase.positions + time * v, v
    x = phase.positions + 0.5 * time * v
    keep = jnp.exp(-bath.friction_per_ps * 1e-3 / units.fs * time)
    width = jnp.sqrt((1.0 - keep**2) * bath.temperature(step).astype(v.dtype) * push)
    v = keep * v + width * noise
    return x + 0.5 * time * v, v


def rescale(bath: Bath, time: Array, v: Array, masses: Array, freedom: int, key: Array, step: Array) -> Array:
    """Velocities after the stochastic rescaling of Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007), A7.

    `freedom`: number of degrees of freedom; masses [N, 1] amu.
    """
    kinetic = 0.5 * jnp.sum(masses * v**2)
    keep = jnp.exp(-time / (bath.relaxation_fs * units.fs))
    share = (1.0 - keep) * 0.5 * bath.temperature(step).astype(v.dtype) / kinetic
    first, others = jax.random.split(key)
    one = jax.random.normal(first, (), v.dtype)
    rest = 2.0 * jax.random.gamma(others, 0.5 * (freedom - 1), (), v.dtype) if freedom > 1 else 0.0
    square = keep + share * (one**2 + rest) + 2.0 * one * jnp.sqrt(keep * share)
    return v * jnp.sqrt(square)
