"""The compiled program of many steps, in which the neighbour list is made where atoms have moved far enough."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gmnn import cell_list
from gmnn.md import fire
from gmnn.md.integrators import Bath, Phase, State, chained, drift, rescale
from gmnn.md.pressure import Piston, least_stretch, strain, stretch, times
from gmnn.system import Prediction, System


@dataclass(frozen=True, eq=False)
class Setting:
    """What does not change while a structure moves."""

    numbers: np.ndarray  # [N]
    masses: np.ndarray  # [N] amu
    fixed: np.ndarray  # [N] bool
    pbc: cell_list.Pbc
    freedom: int  # degrees of freedom
    bath: Bath
    piston: Piston
    time: float  # of a step, Å sqrt(amu/eV)
    radius: float  # of the list, Å
    skin: float  # Å of it
    seed: int
    predict: Callable[[Any, System, Array], Prediction]  # of parameters, system, reverse slots


class Counts(NamedTuple):
    """Of all lists of a segment."""

    overflow: Array  # [] bool, at any time
    most: Array  # []
    fullest: Array  # []
    rebuilds: Array  # [], without the first


class _Loop(NamedTuple):
    phase: Phase
    built: Array  # [N, 3] positions the list was made for, deformed with the cell since then
    deformed: Array  # [3, 3] by which
    neighbors: Array  # [N, K], as in System
    shifts: Array  # [N, K, 3]
    reverse: Array  # [N, K], as in cell_list.Slots
    counts: Counts


def segment(
    given: Setting, grid: cell_list.Grid, params: Any, start: State, first: Array, steps: Array
) -> tuple[Phase, Counts, Array]:
    """The program of a segment; -> its end, its lists, and the steps done, fewer where a minimum is reached.

    A list of radius R serves as long as no pair left out of it is nearer than r_max: with F the deformation of the cell
    since then and u the displacements beyond it, smallest stretch of F times R - 2 max |u| > r_max.
    """
    dtype, bath = start.positions.dtype, given.bath
    minimises = bath.ensemble == "minimise"
    masses = jnp.asarray(np.ones_like(given.masses) if minimises else given.masses, dtype)[:, None]
    free = jnp.asarray(~given.fixed, dtype)[:, None]
    push = free / masses
    holds, unit = given.piston.kind != "none", jnp.eye(3, dtype=dtype)
    numbers = jnp.asarray(given.numbers, jnp.int32)

    def rebuilt(x: Array, cell: Array, loop: _Loop, again: Array) -> _Loop:
        found, before = cell_list.build(grid, given.pbc, given.radius, x, cell), loop.counts
        counts = Counts(
            before.overflow | found.overflow, jnp.maximum(before.most, found.most),
            jnp.maximum(before.fullest, found.fullest), before.rebuilds + again,
        )  # fmt: skip
        return _Loop(loop.phase, x, unit, found.neighbors, found.shifts, found.reverse, counts)

    def step(k: Array, loop: _Loop) -> _Loop:
        """Step k - 1 of the segment; before the first one a step of no length, which finds neighbours and forces."""
        time, number = jnp.where(k > 0, given.time, 0.0).astype(dtype), first + k - 1
        key = jax.random.fold_in(jax.random.key(given.seed), number)
        x, v, cell, chain, pace = loop.phase.state
        if minimises:
            steered, following = fire.steered(v, free * loop.phase.forces, pace, given.time)
            v, pace = jnp.where(k > 0, steered, v), jnp.where(k > 0, following, pace)
            time = jnp.where(k > 0, pace[0], 0.0)
            v = fire.limited(v + time * push * loop.phase.forces, time)
            x = x + time * v
        if holds:
            inside = times(v.T, masses * v) - loop.phase.virial
            thermal = bath.temperature(number).astype(dtype)
            change = strain(given.piston, time, inside, cell, thermal, jax.random.fold_in(key, 1), number)
        noise = jax.random.normal(key, x.shape, dtype) if bath.ensemble == "langevin" else jnp.zeros_like(x)
        if bath.ensemble == "nose_hoover":
            v, chain = chained(bath, time, v, masses, given.freedom, chain, number)
        if not minimises:
            x, v = drift(bath, time, x, v, loop.phase.forces, push, noise, number)
        left = jnp.asarray(given.skin, dtype)
        if holds:
            longer, v = stretch(change), times(v, stretch(-change))
            x, cell = times(x, longer), times(cell, longer)
            loop = loop._replace(built=times(loop.built, longer), deformed=times(loop.deformed, longer))
            left = least_stretch(loop.deformed) * given.radius - (given.radius - given.skin)
        apart = jnp.max(jnp.sum((x - loop.built) ** 2, axis=1))
        moved = (k == 0) | (left < 0) | (apart > (0.5 * left) ** 2)
        loop = jax.lax.cond(moved, rebuilt, lambda x, cell, loop, again: loop, x, cell, loop, k > 0)
        found = given.predict(params, System(x, numbers, cell, loop.neighbors, loop.shifts), loop.reverse)
        if not minimises:
            v = v + 0.5 * time * push * found.forces
        if bath.ensemble == "bussi":
            v = rescale(bath, time, v, masses, given.freedom, key, number)
        if bath.ensemble == "nose_hoover":
            v, chain = chained(bath, time, v, masses, given.freedom, chain, number)
        return loop._replace(phase=Phase(State(x, v, cell, chain, pace), found.forces, found.energies, found.virial))

    none = jnp.zeros((), jnp.int32)
    x, n, slots = start.positions, len(start.positions), grid.slots
    phase = Phase(start, jnp.zeros_like(x), jnp.zeros_like(x[:, 0]), jnp.zeros_like(unit))
    empty, shifts = jnp.zeros((n, slots), jnp.int32), jnp.zeros((n, slots, 3), jnp.int32)
    loop = _Loop(phase, x, unit, empty, shifts, empty, Counts(jnp.zeros((), bool), none, none, none))

    def unfinished(at: tuple[Array, _Loop]) -> Array:
        k, loop = at
        rests = minimises & (k > 0) & (fire.largest(free * loop.phase.forces) <= bath.fmax_eV_per_A)
        return (k <= steps) & ~rests

    done, end = jax.lax.while_loop(unfinished, lambda at: (at[0] + 1, step(*at)), (none, loop))
    return end.phase, end.counts, done - 1
