"""A structure that moves: segments of many steps as one program, with the neighbour list made inside of it.

A segment depends on positions, velocities, seed and number of the first step alone, so that a run continued from any
of its ends is the run that was never stopped. Where a list was too small the segment is thrown away, the capacity
grown and the segment done again.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms, units
from ase.constraints import FixAtoms
from ase.md.velocitydistribution import Stationary, ZeroRotation
from jax import Array

from gmnn import cell_list
from gmnn.errors import UserError
from gmnn.fast import compiled, evaluator
from gmnn.md.integrators import Bath, Phase, drift, rescale
from gmnn.neighbors import wrap_shifts
from gmnn.potential import Potential
from gmnn.system import System

TRIES = 20  # growths of the list for one segment; each is by a tenth or more


class Moment(NamedTuple):
    """The structure at the end of a segment, on the host, in float64."""

    step: int
    positions: np.ndarray  # [N, 3] Å, in the cell along periodic directions
    velocities: np.ndarray  # [N, 3] Å / ASE's unit of time
    forces: np.ndarray  # [N, 3] eV/Å
    energy: float  # eV, with the atomic references
    kinetic: float  # eV
    rebuilds: int  # lists made in this segment


class _Loop(NamedTuple):
    phase: Phase
    built: Array  # [N, 3] positions the list was made for
    neighbors: Array  # [N, K], as in System
    shifts: Array  # [N, K, 3]
    reverse: Array  # [N, K], as in cell_list.Slots
    counts: "_Counts"


class _Counts(NamedTuple):
    """Of all lists of a segment."""

    overflow: Array  # [] bool, at any time
    most: Array  # []
    fullest: Array  # []
    rebuilds: Array  # [], without the first


class Dynamics:
    """Dynamics of one structure under a trained potential.

    Constraints of the structure other than FixAtoms are refused. Without velocities the structure gets those of a
    Maxwell distribution at the bath's first temperature, the centre of mass at rest (and an isolated molecule without
    rotation) where no atom is fixed.
    """

    now: Moment

    def __init__(
        self,
        atoms: Atoms,
        potential: Potential,
        bath: Bath,
        timestep_fs: float = 0.5,
        dtype: str = "float32",
        path: str = "fast",
        skin: float = 0.4,
        seed: int = 0,
        tf32_network: bool = False,
    ) -> None:
        potential.require_elements(atoms.numbers)
        if not len(atoms):
            raise UserError("the structure has no atoms")
        if not np.isfinite(atoms.positions).all():
            raise UserError("positions of the structure must be finite numbers")
        if bath.ensemble not in ("nve", "langevin", "bussi"):
            raise UserError(f"ensemble is {bath.ensemble!r}, but must be nve, langevin or bussi")
        self.atoms, self.potential, self.bath, self.dtype, self.seed = atoms.copy(), potential, bath, dtype, seed
        self.time, self.radius, self.skin = timestep_fs * units.fs, potential.config.r_max + skin, skin
        self.pbc: cell_list.Pbc = tuple(map(bool, atoms.pbc))  # type: ignore[assignment]
        self.fixed = _fixed(atoms)
        self.freedom = degrees_of_freedom(atoms, self.fixed, bath)
        self.offset = float(potential.offsets(atoms.numbers).sum())
        self.growths = 0  # segments done again with a larger list
        self.grid = cell_list.plan(atoms.positions, atoms.cell.array, atoms.pbc, self.radius)
        with self._precision():
            self._params, self._predict = evaluator(potential, path, dtype, tf32_network)
        self._programs: dict[cell_list.Grid, Callable[..., Any]] = {}
        velocities = atoms.get_velocities()
        if not np.any(velocities):
            velocities = maxwell(atoms, bath.first_K, self.fixed, np.random.default_rng(seed))
        self.resume(0, atoms.positions, np.where(self.fixed[:, None], 0.0, velocities))

    def run(self, steps: int) -> Moment:
        """Advance by a segment; UserError, with `now` as it was, where a number is not finite any more."""
        found = self._advanced(self.now.step, self.now.positions, self.now.velocities, steps)
        if not (np.isfinite(found.energy) and np.isfinite(found.positions).all() and np.isfinite(found.forces).all()):
            raise UserError(
                f"a number is not finite any more between steps {self.now.step} and {found.step}; take a shorter "
                f"time step, or look at the structure of step {self.now.step}, the last good one"
            )
        self.now = found
        return found

    def resume(self, step: int, positions: np.ndarray, velocities: np.ndarray) -> None:
        """Start, or go on from the end of an earlier segment."""
        self.now = self._advanced(step, positions, velocities, 0)

    def snapshot(self) -> Atoms:
        """The structure as it is now, with momenta."""
        atoms = self.atoms.copy()
        atoms.positions = self.now.positions
        atoms.set_velocities(self.now.velocities)
        return atoms

    @property
    def temperature(self) -> float:
        """Now, K, from the degrees of freedom that move."""
        return 2.0 * self.now.kinetic / (max(self.freedom, 1) * units.kB)

    def _advanced(self, step: int, positions: np.ndarray, velocities: np.ndarray, steps: int) -> Moment:
        """The end of a segment; done again with a larger list as long as it did not fit."""
        for _ in range(TRIES):
            with self._precision():
                if self.grid not in self._programs:
                    self._programs[self.grid] = compiled(partial(_segment, self, self.grid))
                x, v = jnp.asarray(positions, self.dtype), jnp.asarray(velocities, self.dtype)
                phase, counts = jax.device_get(self._programs[self.grid](self._params, x, v, step, steps))
            if not counts.overflow:
                return self._moment(step + steps, phase, int(counts.rebuilds))
            larger = cell_list.grow(self.grid, counts.most, counts.fullest)
            if larger == self.grid:
                larger = cell_list.plan(positions, self.atoms.cell.array, self.atoms.pbc, self.radius)
            if larger == self.grid:
                raise UserError(
                    f"positions are not finite, or too far out, after step {step}; take a shorter time step, or look "
                    f"at the structure of step {step}, the last good one"
                )
            self.grid, self.growths = larger, self.growths + 1
        raise UserError(f"the neighbour list did not fit after growing {TRIES} times; is the structure collapsing?")

    def _moment(self, step: int, phase: Phase, rebuilds: int) -> Moment:
        positions, velocities, forces, energies = (np.asarray(field, float) for field in phase)
        if any(self.pbc) and np.isfinite(positions).all():
            cell = self.atoms.cell.array
            positions = positions - wrap_shifts(positions, cell, self.atoms.pbc) @ cell
        kinetic = 0.5 * float(np.sum(self.atoms.get_masses()[:, None] * velocities**2))
        return Moment(step, positions, velocities, forces, float(energies.sum()) + self.offset, kinetic, rebuilds)

    def _precision(self) -> Any:
        return jax.enable_x64(self.dtype == "float64")


def _segment(
    self: Dynamics, grid: cell_list.Grid, params: Any, positions: Array, velocities: Array, first: Array, steps: Array
) -> tuple[Phase, _Counts]:
    """The program of a segment."""
    dtype = positions.dtype
    masses = jnp.asarray(self.atoms.get_masses(), dtype)[:, None]
    push = jnp.where(jnp.asarray(self.fixed)[:, None], 0.0, 1.0 / masses)
    cell = jnp.asarray(self.atoms.cell.array, dtype)
    numbers = jnp.asarray(self.atoms.numbers, jnp.int32)

    def rebuilt(x: Array, loop: _Loop, again: Array) -> _Loop:
        found, before = cell_list.build(grid, self.pbc, self.radius, x, cell), loop.counts
        counts = _Counts(
            before.overflow | found.overflow, jnp.maximum(before.most, found.most),
            jnp.maximum(before.fullest, found.fullest), before.rebuilds + again,
        )  # fmt: skip
        return _Loop(loop.phase, x, found.neighbors, found.shifts, found.reverse, counts)

    def step(k: Array, loop: _Loop) -> _Loop:
        """Step k - 1 of the segment; before the first one a step of no length, which finds neighbours and forces."""
        time, number = jnp.where(k > 0, self.time, 0.0).astype(dtype), first + k - 1
        key = jax.random.fold_in(jax.random.key(self.seed), number)
        langevin = self.bath.ensemble == "langevin"
        noise = jax.random.normal(key, positions.shape, dtype) if langevin else jnp.zeros_like(positions)
        x, v = drift(self.bath, time, loop.phase, push, noise, number)
        moved = (k == 0) | (jnp.max(jnp.sum((x - loop.built) ** 2, axis=1)) > (0.5 * self.skin) ** 2)
        loop = jax.lax.cond(moved, rebuilt, lambda x, loop, again: loop, x, loop, k > 0)
        found = self._predict(params, System(x, numbers, cell, loop.neighbors, loop.shifts), loop.reverse)
        v = v + 0.5 * time * push * found.forces
        if self.bath.ensemble == "bussi":
            v = rescale(self.bath, time, v, masses, self.freedom, key, number)
        return loop._replace(phase=Phase(x, v, found.forces, found.energies))

    none = jnp.zeros((), jnp.int32)
    n, slots = len(positions), grid.slots
    start = Phase(positions, velocities, jnp.zeros_like(positions), jnp.zeros_like(positions[:, 0]))
    none_yet = jnp.zeros((n, slots), jnp.int32)
    shifts = jnp.zeros((n, slots, 3), jnp.int32)
    loop = _Loop(start, positions, none_yet, shifts, none_yet, _Counts(jnp.zeros((), bool), none, none, none))
    end = jax.lax.fori_loop(0, steps + 1, step, loop)
    return end.phase, end.counts


def _fixed(atoms: Atoms) -> np.ndarray:
    """Which atoms do not move, [N] bool; UserError for other constraints."""
    fixed = np.zeros(len(atoms), bool)
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            raise UserError(f"the structure has a constraint {type(constraint).__name__}; only FixAtoms can be used")
        fixed[constraint.get_indices()] = True
    return fixed


def degrees_of_freedom(atoms: Atoms, fixed: np.ndarray, bath: Bath) -> int:
    """3 per free atom; less what the dynamics conserve, momentum and an isolated molecule's angular momentum."""
    free = 3 * int(np.sum(~fixed))
    if bath.ensemble == "langevin" or fixed.any():
        return free
    rotations = 0 if atoms.pbc.any() else {1: 0, 2: 2}.get(len(atoms), 3)
    return max(0, free - 3 - rotations)


def maxwell(atoms: Atoms, temperature_K: float, fixed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Velocities at a temperature, [N, 3]; without momentum and rotation where no atom is fixed."""
    moving = Atoms(atoms.numbers, atoms.positions, masses=atoms.get_masses(), cell=atoms.cell, pbc=atoms.pbc)
    width = np.sqrt(units.kB * temperature_K / moving.get_masses())[:, None]
    moving.set_velocities(np.where(fixed[:, None], 0.0, width * rng.normal(size=(len(atoms), 3))))
    if not fixed.any() and len(atoms) > 1:
        Stationary(moving)
        if not atoms.pbc.any():
            ZeroRotation(moving)
        kinetic = moving.get_kinetic_energy()
        freedom = degrees_of_freedom(atoms, fixed, Bath("nve"))
        if kinetic > 0 and freedom > 0:
            moving.set_velocities(moving.get_velocities() * np.sqrt(0.5 * freedom * units.kB * temperature_K / kinetic))
    return moving.get_velocities()
