"""The compiled program of many steps, in which the neighbour list is made where atoms have moved far enough."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gmnn import cell_list
from gmnn.md.integrators import Bath, Phase, State, chained, drift, rescale
from gmnn.system import Prediction, System


@dataclass(frozen=True, eq=False)
class Setting:
    """What does not change while a structure moves."""

    numbers: np.ndarray  # [N]
    masses: np.ndarray  # [N] amu
    fixed: np.ndarray  # [N] bool
    cell: np.ndarray  # [3, 3] Å
    pbc: cell_list.Pbc
    freedom: int  # degrees of freedom
    bath: Bath
    time: float  # of a step, Å sqrt(amu/eV)
    radius: float  # of the list, Å
    skin: float  # Å of it
    seed: int
    predict: Callable[[Any, System], Prediction]


class Counts(NamedTuple):
    """Of all lists of a segment."""

    overflow: Array  # [] bool, at any time
    most: Array  # []
    fullest: Array  # []
    rebuilds: Array  # [], without the first


class _Loop(NamedTuple):
    phase: Phase
    built: Array  # [N, 3] positions the list was made for
    neighbors: Array  # [N, K], as in System
    shifts: Array  # [N, K, 3]
    counts: Counts


def segment(
    given: Setting, grid: cell_list.Grid, params: Any, start: State, first: Array, steps: Array
) -> tuple[Phase, Counts]:
    """The program of a segment."""
    dtype, bath = start.positions.dtype, given.bath
    masses = jnp.asarray(given.masses, dtype)[:, None]
    push = jnp.where(jnp.asarray(given.fixed)[:, None], 0.0, 1.0 / masses)
    cell = jnp.asarray(given.cell, dtype)
    numbers = jnp.asarray(given.numbers, jnp.int32)

    def rebuilt(x: Array, loop: _Loop, again: Array) -> _Loop:
        found, before = cell_list.build(grid, given.pbc, given.radius, x, cell), loop.counts
        counts = Counts(
            before.overflow | found.overflow, jnp.maximum(before.most, found.most),
            jnp.maximum(before.fullest, found.fullest), before.rebuilds + again,
        )  # fmt: skip
        return loop._replace(built=x, neighbors=found.neighbors, shifts=found.shifts, counts=counts)

    def step(k: Array, loop: _Loop) -> _Loop:
        """Step k - 1 of the segment; before the first one a step of no length, which finds neighbours and forces."""
        time, number = jnp.where(k > 0, given.time, 0.0).astype(dtype), first + k - 1
        key = jax.random.fold_in(jax.random.key(given.seed), number)
        x, v, chain = loop.phase.state
        noise = jax.random.normal(key, x.shape, dtype) if bath.ensemble == "langevin" else jnp.zeros_like(x)
        if bath.ensemble == "nose_hoover":
            v, chain = chained(bath, time, v, masses, given.freedom, chain, number)
        x, v = drift(bath, time, x, v, loop.phase.forces, push, noise, number)
        moved = (k == 0) | (jnp.max(jnp.sum((x - loop.built) ** 2, axis=1)) > (0.5 * given.skin) ** 2)
        loop = jax.lax.cond(moved, rebuilt, lambda x, loop, again: loop, x, loop, k > 0)
        found = given.predict(params, System(x, numbers, cell, loop.neighbors, loop.shifts))
        v = v + 0.5 * time * push * found.forces
        if bath.ensemble == "bussi":
            v = rescale(bath, time, v, masses, given.freedom, key, number)
        if bath.ensemble == "nose_hoover":
            v, chain = chained(bath, time, v, masses, given.freedom, chain, number)
        return loop._replace(phase=Phase(State(x, v, chain), found.forces, found.energies))

    none = jnp.zeros((), jnp.int32)
    x, n, slots = start.positions, len(start.positions), grid.slots
    phase = Phase(start, jnp.zeros_like(x), jnp.zeros_like(x[:, 0]))
    empty = jnp.zeros((n, slots), jnp.int32), jnp.zeros((n, slots, 3), jnp.int32)
    loop = _Loop(phase, x, *empty, Counts(jnp.zeros((), bool), none, none, none))
    end = jax.lax.fori_loop(0, steps + 1, step, loop)
    return end.phase, end.counts
