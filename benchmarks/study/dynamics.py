"""Dynamics of many copies of one molecule at once, Langevin (NVT) and velocity Verlet (NVE), and what became of them.

A pair inside half its covalent sum, or a number that is not finite, is a fusion; a bond of the start that is longer
by more than 0.5 Å is lost, which no core can prevent. Units: eV, Å, fs, amu.

`gmnn.md.Dynamics` cannot run this: it keeps no time of the first fusion. Here fused and exploded copies are what is
counted, three temperatures run side by side, and the check is made at every step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms, units
from ase.data import atomic_masses, covalent_radii

from benchmarks.study.models import predict
from gmnn.md.bonds import FUSED, LOST
from gmnn.model.network import constants
from gmnn.model.potential import Potential
from gmnn.scanning.bonds import find_bonds

ACCELERATION = 1.0 / (units._amu * 1e-20 / (units._e * 1e-30))  # eV/Å/amu in Å/fs^2
BOLTZMANN = units.kB  # eV/K


@dataclass(frozen=True)
class Run:
    """What became of every copy: times in fs, infinite where nothing happened."""

    fused: np.ndarray  # [R]
    lost: np.ndarray  # [R]
    closest: np.ndarray  # [R, pairs] smallest distance of every pair, Å
    energies: np.ndarray  # [segments, R] potential + kinetic, eV
    temperature: np.ndarray  # [segments, R] K
    time: float  # fs


def simulate(
    potential: Potential,
    atoms: Atoms,
    positions: np.ndarray,
    velocities: np.ndarray,
    *,
    step: float,
    n_steps: int,
    temperature: np.ndarray | None = None,
    friction: float = 0.01,
    seed: int = 0,
    segment: int = 1000,
    precision: str = "float32",
    report: Callable[[int], None] = lambda done: None,
) -> Run:
    """Run R copies [R, N, 3] for n_steps of `step` fs: BAOAB at temperature [R] K, or velocity Verlet without one.

    BAOAB: Leimkuhler and Matthews, J. Chem. Phys. 138, 174102 (2013); friction in 1/fs.
    """
    with jax.enable_x64(precision == "float64"):
        cast = partial(jnp.asarray, dtype=precision)
        values = jax.tree.map(cast, constants(potential.config, potential.reference))
        params = jax.tree.map(cast, potential.trained)
        world = _world(atoms, cast)
        state = _start(potential, values, params, world, cast(positions), cast(velocities), seed)
        bath = cast(np.zeros(len(positions)) if temperature is None else temperature)
        decay = 0.0 if temperature is None else friction
        advance = _compiled(potential, world, step, decay, segment)
        energies, temperatures = [], []
        for done in range(0, n_steps, segment):
            state, (energy, kinetic) = advance(values, params, bath, state)
            energies.append(np.asarray(energy, float))
            temperatures.append(np.asarray(kinetic, float) * 2.0 / (3.0 * len(atoms) * BOLTZMANN))
            report(done + segment)
        closest = np.asarray(state["closest"], float)
        fused, lost = np.asarray(state["fused"], float) * step, np.asarray(state["lost"], float) * step
    return Run(fused, lost, closest, np.array(energies), np.array(temperatures), n_steps * step)


class _World(NamedTuple):
    """Constants of one molecule on the device."""

    numbers: Any  # [N]
    masses: Any  # [1, N, 1] amu
    sums: Any  # [pairs] summed covalent radii, Å
    pairs: tuple[np.ndarray, np.ndarray]  # the atoms of every pair
    bonds: tuple[np.ndarray, ...]  # and of every bond of the start
    lengths: Any  # [bonds] Å


def _world(atoms: Atoms, cast: Callable) -> _World:
    pairs = np.triu_indices(len(atoms), 1)
    sums = covalent_radii[atoms.numbers[pairs[0]]] + covalent_radii[atoms.numbers[pairs[1]]]
    ends = tuple(np.array(find_bonds(atoms)).T)
    lengths = np.linalg.norm(atoms.positions[ends[1]] - atoms.positions[ends[0]], axis=1)
    masses = atomic_masses[atoms.numbers]
    numbers = jnp.asarray(atoms.numbers, jnp.int32)
    return _World(numbers, cast(masses)[None, :, None], cast(sums), pairs, ends, cast(lengths))


def _predict(potential: Potential, world: _World, values: Any, params: Any, x: Any) -> tuple[Any, Any]:
    return jax.vmap(lambda positions: predict(potential, values, params, positions, world.numbers))(x)


def _start(potential: Potential, values: Any, params: Any, world: _World, x: Any, v: Any, seed: int) -> dict[str, Any]:
    forces = jax.jit(partial(_predict, potential, world))(values, params, x)[1]
    copies = len(x)
    never = jnp.full(copies, jnp.inf, x.dtype)
    return {
        "x": x, "v": v, "f": forces, "fused": never, "lost": never, "time": jnp.zeros((), x.dtype),
        "closest": jnp.full((copies, len(world.sums)), jnp.inf, x.dtype), "key": jax.random.key(seed),
    }  # fmt: skip


def _compiled(potential: Potential, world: _World, step: float, friction: float, segment: int) -> Callable[..., Any]:
    keep = float(np.exp(-friction * step))

    def leap(values: Any, params: Any, bath: Any, state: dict[str, Any], _: Any) -> tuple[dict[str, Any], Any]:
        x, v = state["x"], state["v"] + 0.5 * step * ACCELERATION * state["f"] / world.masses
        key, now = jax.random.split(state["key"])
        if friction > 0:
            x = x + 0.5 * step * v
            width = jnp.sqrt(BOLTZMANN * bath[:, None, None] * ACCELERATION / world.masses)
            v = keep * v + np.sqrt(1.0 - keep**2) * width * jax.random.normal(now, v.shape, v.dtype)
            x = x + 0.5 * step * v
        else:
            x = x + step * v
        energy, forces = _predict(potential, world, values, params, x)
        v = v + 0.5 * step * ACCELERATION * forces / world.masses
        apart = jnp.linalg.norm(x[:, world.pairs[1]] - x[:, world.pairs[0]], axis=-1)
        bond = jnp.linalg.norm(x[:, world.bonds[1]] - x[:, world.bonds[0]], axis=-1)
        time = state["time"] + 1.0
        fused = ~jnp.isfinite(energy) | ~jnp.all(apart > FUSED * world.sums[None], axis=1)
        lost = ~jnp.all(bond - world.lengths[None] <= LOST, axis=1)
        new = {
            "x": x, "v": v, "f": forces, "key": key, "time": time,
            "fused": jnp.where(fused, jnp.minimum(state["fused"], time), state["fused"]),
            "lost": jnp.where(lost, jnp.minimum(state["lost"], time), state["lost"]),
            "closest": jnp.minimum(state["closest"], apart),
        }  # fmt: skip
        kinetic = 0.5 * jnp.sum(world.masses * v**2, axis=(1, 2)) / ACCELERATION
        return new, (energy + kinetic, kinetic)

    @jax.jit
    def advance(values: Any, params: Any, bath: Any, state: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        state, (energies, kinetic) = jax.lax.scan(partial(leap, values, params, bath), state, None, segment)
        return state, (energies[-1], jnp.mean(kinetic, axis=0))

    return advance


def maxwell(atoms: Atoms, temperature: float, copies: int, rng: np.random.Generator) -> np.ndarray:
    """Velocities [copies, N, 3] in Å/fs at a temperature, centre of mass at rest."""
    masses = atomic_masses[atoms.numbers][:, None]
    v = np.sqrt(BOLTZMANN * temperature * ACCELERATION / masses) * rng.normal(size=(copies, len(atoms), 3))
    return v - np.sum(masses * v, axis=1, keepdims=True) / masses.sum()
