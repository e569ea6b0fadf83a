"""One step of velocity Verlet, BAOAB, stochastic velocity rescaling or Nosé-Hoover chains: pure functions.

Units are those of ASE: eV, Å, amu; times are in Å sqrt(amu/eV) = 10.18 fs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from ase import units
from jax import Array

from gmnn.config.choices import Ensemble

ENSEMBLES = get_args(Ensemble)
ACTS_IN_DRIFT = {"nve": False, "langevin": True, "bussi": False, "nose_hoover": False, "minimise": False}
KEEPS_MOMENTUM = {"nve": True, "langevin": False, "bussi": True, "nose_hoover": True, "minimise": True}
LINKS = 3  # thermostats in a chain
_W = 1 / (2 - 2 ** (1 / 3))
WEIGHTS = (_W, 1 - 2 * _W, _W)  # of the fourth-order sub-steps of Suzuki and Yoshida


def ramp(first: Any, last: Any, done: Any) -> Any:
    """Go from `first` to `last`, linear in the share of steps `done`; constant before 0 and after 1."""
    return first + (last - first) * done.clip(0.0, 1.0)


@dataclass(frozen=True)
class Bath:
    """What holds the temperature, and how tightly."""

    ensemble: str = "nve"
    """`nve`, `langevin` (friction), `bussi` or `nose_hoover` (relaxation); `minimise`: FIRE."""
    first_K: float = 0.0
    """Temperature at the first step, K."""
    last_K: float = 0.0
    """Temperature after `steps` steps, linear between, K."""
    steps: int = 1
    friction_per_ps: float = 10.0
    relaxation_fs: float = 100.0
    fmax_eV_per_A: float = 0.01
    """`minimise` stops once no force on a free atom is larger."""

    def temperature(self, step: Any) -> Any:
        """k_B T at a step, eV. On the host the step must be a NumPy number."""
        return thermal_energies((self,), step)[0]


def thermal_energies(baths: Sequence[Bath], step: Any) -> Any:
    """k_B T at a step of baths that differ in their temperatures alone, [R] eV. On the host it is a NumPy number."""
    first, last = (np.array([getattr(bath, end) for bath in baths]) for end in ("first_K", "last_K"))
    return units.kB * ramp(first, last, step / baths[0].steps)


class State(NamedTuple):
    """All that determines the next steps, together with their number; floats on host or device."""

    positions: Any  # [N, 3] Å, not wrapped
    velocities: Any  # [N, 3] Å / time; zero for fixed atoms
    cell: Any  # [3, 3] Å, rows; changes only where a pressure is held
    chain: Any  # [2, LINKS] Nosé-Hoover chain: positions, velocities in 1 / time
    pace: Any  # [3] FIRE: time step, mixing, steps downhill so far


class Phase(NamedTuple):
    """A state and what was computed for it."""

    state: State
    forces: Array  # [N, 3] eV/Å
    energies: Array  # [N] eV
    virial: Array  # [3, 3] eV
    members: Array  # [M] eV, energies of the members of an ensemble; zero without one


def drift(
    bath: Bath, thermal: Array, time: Array, x: Array, v: Array, forces: Array, push: Array, noise: Array
) -> tuple[Array, Array]:
    """Positions after a step of length `time`, which may be 0, and velocities before the half kick of the new forces.

    `thermal` is k_B T in eV, `push` [N, 1] is 1 / mass, 0 for fixed atoms. `langevin` is BAOAB of Leimkuhler and
    Matthews, J. Chem. Phys. 138, 174102 (2013), without its last B.
    """
    v = v + 0.5 * time * push * forces
    if not ACTS_IN_DRIFT[bath.ensemble]:
        return x + time * v, v
    x = x + 0.5 * time * v
    keep = jnp.exp(-bath.friction_per_ps * 1e-3 / units.fs * time)
    width = jnp.sqrt((1.0 - keep**2) * thermal * push)
    v = keep * v + width * noise
    return x + 0.5 * time * v, v


def rescale(bath: Bath, thermal: Array, time: Array, v: Array, masses: Array, freedom: int, key: Array) -> Array:
    """Velocities after the stochastic rescaling of Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007), A7.

    `thermal`: k_B T in eV; `freedom`: number of degrees of freedom; masses [N, 1] amu.
    """
    kinetic = jnp.maximum(0.5 * jnp.sum(masses * v**2), jnp.finfo(v.dtype).tiny)
    keep = jnp.exp(-time / (bath.relaxation_fs * units.fs))
    share = (1.0 - keep) * 0.5 * thermal / kinetic
    first, second = jax.random.split(key)
    gaussian = jax.random.normal(first, (), v.dtype)
    rest = 2.0 * jax.random.gamma(second, 0.5 * (freedom - 1), (), v.dtype) if freedom > 1 else 0.0
    square = keep + share * (gaussian**2 + rest) + 2.0 * gaussian * jnp.sqrt(keep * share)
    return v * jnp.sqrt(square)


def chained(
    bath: Bath, thermal: Array, time: Array, v: Array, masses: Array, freedom: int, chain: Array
) -> tuple[Array, Array]:
    """Velocities and chain after half a step of a Nosé-Hoover chain; `thermal` is k_B T in eV.

    Martyna, Tuckerman, Tobias, Klein, Mol. Phys. 87, 1117 (1996), section 3, with masses Q_1 = freedom kT tau^2 and
    Q_k = kT tau^2 of the links.
    """
    rate = (bath.relaxation_fs * units.fs) ** -2
    hot = jnp.sum(masses * v**2) / (freedom * thermal)  # 2 K / freedom kT
    scale, place, speed = jnp.ones((), v.dtype), list(chain[0]), list(chain[1])

    def push(k: int) -> Array:  # acceleration of a link
        if k == 0:
            return rate * (hot * scale**2 - 1)
        return (freedom if k == 1 else 1) * speed[k - 1] ** 2 - rate

    def kick(k: int, t: Array) -> None:
        slow = jnp.exp(-0.125 * t * speed[k + 1]) if k + 1 < LINKS else 1.0
        speed[k] = (speed[k] * slow + 0.25 * t * push(k)) * slow

    for weight in WEIGHTS:
        t = weight * time
        for k in reversed(range(LINKS)):
            kick(k, t)
        scale = scale * jnp.exp(-0.5 * t * speed[0])
        place = [x + 0.5 * t * u for x, u in zip(place, speed, strict=True)]
        for k in range(LINKS):
            kick(k, t)
    return v * scale, jnp.stack([jnp.stack(place), jnp.stack(speed)])


def chain_energy(bath: Bath, freedom: int, chain: np.ndarray, step: int) -> float:
    """Contribution of a chain to the energy that a bath of constant temperature conserves, eV; computed on the host."""
    weights = np.where(np.arange(LINKS) == 0, freedom, 1)
    links = 0.5 * (bath.relaxation_fs * units.fs) ** 2 * chain[1] ** 2 + chain[0]
    return float(bath.temperature(np.float64(step))) * float(np.sum(weights * links))
