"""Dynamics of a structure in segments: many steps as one program, which also makes the neighbour list.

A segment depends only on the state at its start, the seed and the number of its first step. A run continued from the
end of any segment therefore equals an uninterrupted run. If a list was too small, the segment is discarded, the
capacity grown and the segment repeated.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms, units

from gmnn import neighbors
from gmnn.device import compiled, precision
from gmnn.errors import UserError
from gmnn.kernels.choice import choose, evaluator
from gmnn.md import fire
from gmnn.md.integrators import ENSEMBLES, LINKS, Bath, State
from gmnn.md.pressure import KINDS, Piston
from gmnn.md.segment import End, Setting, segment
from gmnn.md.snapshot import Snapshot
from gmnn.md.velocities import degrees_of_freedom, fixed_atoms, maxwell
from gmnn.model.potential import Potential
from gmnn.neighbors.host import wrap_shifts
from gmnn.structures import warn_of_charge

AT_REST = Piston()
SMALLER = 8  # times 3 % that a cell under pressure may shrink in a segment
TRIES = 20  # growths of the list for one segment, each by a tenth or more


class Dynamics:
    """Dynamics of one structure, or of independent replicas of it, under a trained potential.

    Constraints of the structure other than FixAtoms are refused. A structure without velocities, and each of several
    replicas, gets velocities of a Maxwell distribution at the bath's first temperature. If no atom is fixed, the centre
    of mass is at rest and an isolated molecule does not rotate.
    """

    replicas: list[Snapshot]

    def __init__(
        self,
        atoms: Atoms,
        potential: Potential,
        bath: Bath | Sequence[Bath],
        timestep_fs: float = 0.5,
        dtype: str = "float32",
        path: str = "auto",
        skin: float = 0.4,
        seed: int = 0,
        piston: Piston = AT_REST,
        tf32_network: bool = False,
        replicas: int = 1,
        stop_above_grade: float | None = None,
    ) -> None:
        """Prepare the dynamics; UserError for a structure, bath or piston that it cannot have.

        `bath`: one for all replicas, or one for each, which differ in temperature alone. `stop_above_grade`: every step
        is graded, and a replica stays where it is once the grade of an atom is larger, which may be infinite.
        """
        baths = (bath,) * replicas if isinstance(bath, Bath) else tuple(bath)
        bath = _common(baths, replicas)
        potential.require_elements(atoms.numbers)
        warn_of_charge(atoms)
        if not len(atoms):
            raise UserError("the structure has no atoms")
        if not np.isfinite(atoms.positions).all():
            raise UserError("positions of the structure must be finite numbers")
        for each in baths:
            _check(each, piston, atoms)
        self.atoms, self.potential, self.bath, self.piston, self.dtype = atoms.copy(), potential, bath, piston, dtype
        self.pbc: neighbors.Pbc = tuple(map(bool, atoms.pbc))  # type: ignore[assignment]
        self.fixed = fixed_atoms(atoms)
        self.freedom = degrees_of_freedom(atoms, self.fixed, bath)
        self.offset = float(potential.offsets(atoms.numbers).sum())
        self.growths = 0  # segments repeated with a larger list
        self.radius = potential.config.r_max + skin
        self.grid = neighbors.plan(atoms.positions, atoms.cell.array, atoms.pbc, self.radius)
        with precision(self.dtype):
            self.path = choose(potential, path).path
            self._params, predict = evaluator(potential, path, dtype, tf32_network, grades=stop_above_grade is not None)
        self._setting = Setting(
            atoms.numbers, atoms.get_masses(), self.fixed, self.pbc, self.freedom, baths, piston,
            timestep_fs * units.fs, self.radius, skin, seed, predict, stop_above_grade,
            potential.config.n_members,
        )  # fmt: skip
        self._programs: dict[neighbors.Grid, Callable[..., Any]] = {}
        velocities = atoms.get_velocities()
        pace, rng = np.array([timestep_fs * units.fs, fire.MIXING, 0.0]), np.random.default_rng(seed)
        states = []
        for bath in baths:
            initial = velocities
            if bath.ensemble == "minimise":
                initial = np.zeros_like(velocities)
            elif replicas > 1 or not np.any(velocities):
                initial = maxwell(atoms, bath.first_K, self.fixed, rng)
            initial = np.where(self.fixed[:, None], 0.0, initial)
            states.append(State(atoms.positions, initial, atoms.cell.array, np.zeros((2, LINKS)), pace))
        self.resume(0, states)

    @property
    def now(self) -> Snapshot:
        """The current snapshot of the structure, or of its first replica."""
        return self.replicas[0]

    @property
    def states(self) -> list[State]:
        """States of all replicas, from which the run continues."""
        return [replica.state for replica in self.replicas]

    def run(self, steps: int, keep_broken: bool = False) -> Snapshot:
        """Advance all replicas by a segment and return the first one.

        UserError if a number is no longer finite; the replicas then stay as they were. With `keep_broken`, where steps
        are graded, such a replica stays at its last good step, with NaN as its largest grade, and the others go on.
        """
        replicas = self._advanced(self.now.step, self.states, steps)
        broken = [k for k, replica in enumerate(replicas) if np.isnan(replica.largest_grade) and not keep_broken]
        if lost := sorted({*broken, *(k for k, replica in enumerate(replicas) if not replica.finite)}):
            where = f" of replica {lost[0]}" if len(replicas) > 1 else ""
            raise UserError(
                f"a number{where} is not finite any more between steps {self.now.step} and {replicas[0].step}; take a "
                f"shorter time step, or look at the structure of step {self.now.step}, the last good one"
            )
        self.replicas = replicas
        return self.now

    def resume(self, step: int, states: list[State]) -> None:
        """Start, or continue from the end of an earlier segment."""
        self.replicas = self._advanced(step, states, 0)

    @property
    def graded(self) -> bool:
        """Whether every step is graded."""
        return self._setting.stop_above is not None

    @property
    def left(self) -> list[int]:
        """Replicas that stay where they are, because the grade of an atom became too large."""
        limit = self._setting.stop_above
        return [k for k, replica in enumerate(self.replicas) if limit is not None and replica.largest_grade > limit]

    @property
    def largest_force(self) -> float:
        """Largest force on a free atom of any replica, eV/Å."""
        return max(replica.largest_force for replica in self.replicas)

    @property
    def converged(self) -> bool:
        """Whether the run minimises and all replicas have reached a minimum."""
        return self.bath.ensemble == "minimise" and self.largest_force <= self.bath.fmax_eV_per_A

    def _advanced(self, step: int, states: list[State], steps: int) -> list[Snapshot]:
        """Run a segment, again with a larger list as long as it does not fit, and return its end."""
        smaller = iter(0.97 ** np.arange(SMALLER if self.piston.kind != "none" else 1))
        for _ in range(TRIES):
            with precision(self.dtype):
                if self.grid not in self._programs:
                    self._programs[self.grid] = compiled(partial(segment, self._setting, self.grid))
                start = jax.tree.map(lambda *x: jnp.asarray(np.stack(x), self.dtype), *states)
                end: End = jax.device_get(self._programs[self.grid](self._params, start, step, steps))
            if not end.counts.overflow:
                return self._moments(step, end, states)
            larger = neighbors.grow(self.grid, end.counts.most, end.counts.fullest)
            smallest = min(states, key=lambda state: abs(np.linalg.det(state.cell)))
            while larger == self.grid and (scale := next(smaller, None)) is not None:
                home, cell = scale * smallest.positions, scale * smallest.cell
                larger = neighbors.plan(home, cell, self.atoms.pbc, self.radius)
            if larger == self.grid:
                raise UserError(
                    f"positions are not finite, or too far out, or the cell collapses, after step {step}; take a "
                    f"shorter time step or, where a pressure is held, a longer pressure_relaxation_fs, or look at the "
                    f"structure of step {step}, the last good one"
                )
            self.grid, self.growths = larger, self.growths + 1
        raise UserError(f"the neighbour list did not fit after growing {TRIES} times; is the structure collapsing?")

    def _moments(self, first: int, end: End, before: list[State]) -> list[Snapshot]:
        step, rebuilds, snapshots = first + int(end.done), int(end.counts.rebuilds), []
        for k, old in enumerate(before):
            replica = jax.tree.map(lambda x, k=k: np.asarray(x[k], float), (end.phase, end.worst, end.closest))
            (state, forces, energies, virial, members), worst, closest = replica
            x, cell = state.positions, old.cell if self.piston.kind == "none" else state.cell
            if any(self.pbc) and np.isfinite(x).all():
                x = x - wrap_shifts(x, cell, self.atoms.pbc) @ cell
            kinetic = 0.5 * float(np.sum(self._setting.masses[:, None] * state.velocities**2))
            if self.bath.ensemble == "minimise":
                kinetic = 0.0
            state, energy = state._replace(positions=x, cell=cell), float(energies.sum()) + self.offset
            worst = None if self._setting.stop_above is None else worst._replace(step=first + worst.step)
            snapshots.append(
                Snapshot(
                    self._setting, self._setting.baths[k], step, state, forces, energy, kinetic, virial, closest,
                    rebuilds, worst, members,
                )
            )  # fmt: skip
        return snapshots


def _common(baths: tuple[Bath, ...], replicas: int) -> Bath:
    """The first bath; UserError unless there is one for every replica, and they differ in temperature alone."""
    if not baths or len(baths) != replicas:
        raise UserError(f"there are {len(baths)} baths for {replicas} replicas; give one for all, or one for each")
    if {replace(bath, first_K=0.0, last_K=0.0) for bath in baths} != {replace(baths[0], first_K=0.0, last_K=0.0)}:
        raise UserError("the baths of replicas differ in more than their temperatures; run them one after the other")
    return baths[0]


def _check(bath: Bath, piston: Piston, atoms: Atoms) -> None:
    if bath.ensemble not in ENSEMBLES:
        raise UserError(f"ensemble is {bath.ensemble!r}, but must be one of {', '.join(ENSEMBLES)}")
    if bath.ensemble == "nose_hoover" and min(bath.first_K, bath.last_K) <= 0:
        raise UserError(
            f"the temperature of nose_hoover goes from {bath.first_K} to {bath.last_K} K, but must be positive; "
            "take langevin or bussi to cool to 0 K"
        )
    if piston.kind not in KINDS:
        raise UserError(f"pressure is {piston.kind!r}, but must be one of {', '.join(KINDS)}")
    if piston.kind == "none":
        return
    if not atoms.pbc.all():
        raise UserError(
            f"a pressure needs a structure periodic along three directions, but pbc is {atoms.pbc.tolist()}"
        )
    if atoms.constraints:
        raise UserError("atoms are fixed, but a pressure moves all; take the constraints away, or hold no pressure")
    if bath.ensemble in ("nve", "minimise"):
        raise UserError(
            f"a pressure needs a temperature, but ensemble is {bath.ensemble}; take langevin, bussi or nose_hoover"
        )
