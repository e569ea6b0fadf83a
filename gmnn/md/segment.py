"""The compiled program of many steps, which rebuilds the neighbour list when atoms have moved far enough."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gmnn.md import fire
from gmnn.md.integrators import Bath, Phase, State, chained, drift, rescale, thermal_energies
from gmnn.md.pressure import Piston, least_stretch, strain, stretch, times
from gmnn.neighbors import Grid, Pbc, build
from gmnn.system import Prediction, System


@dataclass(frozen=True, eq=False)
class Setting:
    """What stays the same while a structure moves, and for all its replicas."""

    numbers: np.ndarray  # [N]
    masses: np.ndarray  # [N] amu
    fixed: np.ndarray  # [N] bool
    pbc: Pbc
    freedom: int  # degrees of freedom
    baths: tuple[Bath, ...]  # of every replica; they differ in their temperatures alone
    piston: Piston
    time: float  # length of a step, Å sqrt(amu/eV)
    radius: float  # radius of the list, Å
    skin: float  # part of the radius beyond r_max, Å
    seed: int
    predict: Callable[[Any, System, Array], Prediction]  # takes parameters, systems [R], reverse slots
    stop_above: float | None  # grade above which a replica stays where it is; None: nothing is graded
    n_members: int = 1  # of an ensemble

    @property
    def bath(self) -> Bath:
        """The bath of the first replica."""
        return self.baths[0]

    def thermal(self, step: Array) -> Array:
        """k_B T of every replica at a step, [R] eV."""
        return thermal_energies(self.baths, step)

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs of atomic numbers, ascending, whose approaches are recorded."""
        kinds, counts = np.unique(self.numbers, return_counts=True)
        pairs = combinations_with_replacement(zip(kinds.tolist(), counts, strict=True), 2)
        return [(a, b) for (a, several), (b, _) in pairs if a != b or several > 1 or any(self.pbc)]

    @property
    def watches_every_step(self) -> bool:
        """Whether approaches are those of all steps: of an isolated structure, whose distances need no images."""
        return not any(self.pbc)


class Counts(NamedTuple):
    """Counts over all lists of a segment; the first three as in neighbors.Slots."""

    overflow: Array  # [] bool, whether any list overflowed
    most: Array  # []
    fullest: Array  # []
    rebuilds: Array  # [], without the first list


class Worst(NamedTuple):
    """The frame of a segment in which an atom has the largest grade; grades of 0 where nothing is graded."""

    grade: Array  # [R]; NaN if the next step gives an energy that is not finite
    step: Array  # [R] steps since the start of the segment
    positions: Array  # [R, N, 3] Å, not wrapped
    cell: Array  # [R, 3, 3] Å
    above: Array  # [R] steps of the segment with a grade above 1


class End(NamedTuple):
    """The end of a segment of R replicas."""

    phase: Phase
    worst: Worst
    closest: Array  # [R, P] Å, smallest over all pairs of a kind; infinite if never within reach.
    # Of an isolated structure over all steps, else at the end.
    counts: Counts
    done: Array  # [] steps done


class _Lists(NamedTuple):
    built: Array  # [R, N, 3] positions that the lists were made for, deformed with the cells since then
    deformed: Array  # [R, 3, 3] the deformation since then
    neighbors: Array  # [R, N, K], as in System
    shifts: Array  # [R, N, K, 3]
    reverse: Array  # [R, N, K], as in neighbors.Slots
    counts: Counts


def segment(given: Setting, grid: Grid, params: Any, start: State, first: Array, steps: Array) -> End:
    """Run a segment of R replicas; it does fewer steps if all of them are minimised or stopped earlier.

    A list of radius L is valid as long as no pair left out of it is nearer than r_max: with F the deformation of the
    cell since it was made and u the displacements beyond F, (smallest stretch of F) L - 2 max |u| > r_max.
    """
    dtype, bath, (replicas, n, _) = start.positions.dtype, given.bath, start.positions.shape
    minimises = bath.ensemble == "minimise"
    masses = jnp.asarray(np.ones_like(given.masses) if minimises else given.masses, dtype)[:, None]
    free = jnp.asarray(~given.fixed, dtype)[:, None]
    push = free / masses
    holds, unit = given.piston.kind != "none", jnp.eye(3, dtype=dtype)
    numbers = jnp.broadcast_to(jnp.asarray(given.numbers, jnp.int32), (replicas, n))

    def rebuilt(x: Array, cell: Array, lists: _Lists, again: Array) -> _Lists:
        make, before = lambda x, cell: build(grid, given.pbc, given.radius, x, cell), lists.counts
        fresh = jax.tree.map(lambda a: a[None], make(x[0], cell[0])) if replicas == 1 else jax.vmap(make)(x, cell)
        counts = Counts(
            before.overflow | jnp.any(fresh.overflow), jnp.maximum(before.most, jnp.max(fresh.most)),
            jnp.maximum(before.fullest, jnp.max(fresh.fullest)), before.rebuilds + again,
        )  # fmt: skip
        deformed = jnp.broadcast_to(unit, lists.deformed.shape)
        return _Lists(x, deformed, fresh.neighbors, fresh.shifts, fresh.reverse, counts)

    def moved(key: Array, k: Array, number: Array, thermal: Array, phase: Phase) -> tuple[State, Array, Array]:
        """State of a replica up to its next forces, the time that passes and the deformation of its cell."""
        time = jnp.where(k > 0, given.time, 0.0).astype(dtype)
        x, v, cell, chain, pace = phase.state
        if minimises:
            steered, following = fire.steered(v, free * phase.forces, pace, given.time)
            v, pace = jnp.where(k > 0, steered, v), jnp.where(k > 0, following, pace)
            time = jnp.where(k > 0, pace[0], 0.0)
            v = fire.limited(v + time * push * phase.forces, time)
            return State(x + time * v, v, cell, chain, pace), time, unit
        if holds:
            inside = times(v.T, masses * v) - phase.virial
            change = strain(given.piston, time, inside, cell, thermal, jax.random.fold_in(key, 1), number)
        noise = jax.random.normal(key, x.shape, dtype) if bath.ensemble == "langevin" else jnp.zeros_like(x)
        if bath.ensemble == "nose_hoover":
            v, chain = chained(bath, thermal, time, v, masses, given.freedom, chain)
        x, v = drift(bath, thermal, time, x, v, phase.forces, push, noise)
        longer = unit
        if holds:
            longer, v = stretch(change), times(v, stretch(-change))
            x, cell = times(x, longer), times(cell, longer)
        return State(x, v, cell, chain, pace), time, longer

    def outgrown(x: Array, longer: Array, built: Array, deformed: Array) -> tuple[Array, Array, Array]:
        """Whether a replica has moved too far for its list; the deformed positions of that list; the deformation."""
        left = jnp.asarray(given.skin, dtype)
        if holds:
            built, deformed = times(built, longer), times(deformed, longer)
            left = least_stretch(deformed) * given.radius - (given.radius - given.skin)
        apart = jnp.max(jnp.sum((x - built) ** 2, axis=1))
        return (left < 0) | (apart > (0.5 * left) ** 2), built, deformed

    def kicked(key: Array, thermal: Array, state: State, time: Array, forces: Array) -> State:
        """State of a replica after the half kick of its new forces."""
        v, chain = state.velocities, state.chain
        if not minimises:
            v = v + 0.5 * time * push * forces
        if bath.ensemble == "bussi":
            v = rescale(bath, thermal, time, v, masses, given.freedom, key)
        if bath.ensemble == "nose_hoover":
            v, chain = chained(bath, thermal, time, v, masses, given.freedom, chain)
        return state._replace(velocities=v, chain=chain)

    def approach(x: Array, cell: Array, neighbors: Array, shifts: Array) -> Array:
        """Smallest distance of every kind of pair in a replica, [P] Å."""
        if not given.pairs:
            return jnp.zeros(0, dtype)
        index = jnp.minimum(neighbors, n - 1)
        vectors = x[index] - x[:, None]
        if any(given.pbc):
            vectors = vectors + times(shifts.astype(dtype).reshape(-1, 3), cell).reshape(vectors.shape)
        r = jnp.sqrt(jnp.sum(vectors**2, axis=2))
        z_j = jnp.where(neighbors < n, jnp.asarray(given.numbers)[index], 0)
        least = [jnp.min(jnp.where((given.numbers == a)[:, None] & (z_j == b), r, jnp.inf)) for a, b in given.pairs]
        return jnp.stack(least)

    def stopped(worst: Worst) -> Array:
        """Whether a replica stays where it is."""
        return (worst.grade > (jnp.inf if given.stop_above is None else given.stop_above)) | jnp.isnan(worst.grade)

    def watched(k: Array, before: Phase, now: Phase, grades: Array, worst: Worst) -> tuple[Phase, Worst]:
        """The phase of a replica, which stays where it is once its grade is too large, and its worst frame.

        It stays too where the next step gives an energy that is not finite.
        """
        grade, stays = jnp.max(grades), stopped(worst)
        broken = ~jnp.isfinite(jnp.sum(now.energies))
        now = jax.tree.map(partial(jnp.where, stays | broken), before, now)
        above = worst.above + (~stays & (k > 0) & ~(grade <= 1.0))
        here = Worst(jnp.where(broken, jnp.nan, grade), k, now.state.positions, now.state.cell, above)
        worst = jax.tree.map(partial(jnp.where, ~stays & (broken | (grade > worst.grade))), here, worst)
        return now, worst._replace(above=above)

    def step(k: Array, phase: Phase, lists: _Lists, closest: Array, worst: Worst) -> tuple[Any, ...]:
        """Do step k - 1 of the segment; before the first one a step of no length, which finds neighbours and forces."""
        number = first + k - 1
        key = jax.random.fold_in(jax.random.key(given.seed), number)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(replicas))
        thermal = given.thermal(number).astype(dtype)
        state, time, longer = jax.vmap(moved, (0, None, None, 0, 0))(keys, k, number, thermal, phase)
        far, built, deformed = jax.vmap(outgrown)(state.positions, longer, lists.built, lists.deformed)
        lists = lists._replace(built=built, deformed=deformed)
        again, keep = (k == 0) | jnp.any(far), lambda x, cell, lists, again: lists
        lists = jax.lax.cond(again, rebuilt, keep, state.positions, state.cell, lists, k > 0)
        system = System(state.positions, numbers, state.cell, lists.neighbors, lists.shifts)
        prediction = given.predict(params, system, lists.reverse)
        state = jax.vmap(kicked)(keys, thermal, state, time, prediction.forces)
        if given.watches_every_step:
            closest = jnp.minimum(closest, jax.vmap(approach)(*(state.positions, state.cell, *lists[2:4])))
        members = prediction.members if given.n_members > 1 else phase.members
        now = Phase(state, prediction.forces, prediction.energies, prediction.virial, members)
        if given.stop_above is not None and prediction.grades is not None:
            now, worst = jax.vmap(watched, (None, 0, 0, 0, 0))(k, phase, now, prediction.grades, worst)
        return now, lists, closest, worst

    none, x, slots = jnp.zeros((), jnp.int32), start.positions, grid.slots
    phase = Phase(start, jnp.zeros_like(x), jnp.zeros_like(x[..., 0]), jnp.zeros_like(start.cell),
                  jnp.zeros((replicas, given.n_members), dtype))  # fmt: skip
    empty, shifts = jnp.zeros((replicas, n, slots), jnp.int32), jnp.zeros((replicas, n, slots, 3), jnp.int32)
    deformed = jnp.broadcast_to(unit, start.cell.shape)
    lists = _Lists(x, deformed, empty, shifts, empty, Counts(jnp.zeros((), bool), none, none, none))
    closest = jnp.full((replicas, len(given.pairs)), jnp.inf, dtype)
    zeros = jnp.zeros(replicas, jnp.int32)
    worst = Worst(jnp.zeros(replicas, dtype), zeros, start.positions, start.cell, zeros)

    def unfinished(at: tuple[Any, ...]) -> Array:
        k, phase = at[:2]
        rests = minimises & (k > 0) & (jnp.max(jax.vmap(fire.largest)(free[None] * phase.forces)) <= bath.fmax_eV_per_A)
        return (k <= steps) & ~rests & ~jnp.all(stopped(at[-1]))

    begin = (none, phase, lists, closest, worst)
    done, phase, lists, closest, worst = jax.lax.while_loop(unfinished, lambda at: (at[0] + 1, *step(*at)), begin)
    if not given.watches_every_step:
        closest = jax.vmap(approach)(*(phase.state.positions, phase.state.cell, *lists[2:4]))
    return End(phase, worst, closest, lists.counts, done - 1)
