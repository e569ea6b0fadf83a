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

from gmnn import cell_list
from gmnn.errors import UserError
from gmnn.fast import compiled, evaluator
from gmnn.md import fire
from gmnn.md.integrators import ENSEMBLES, LINKS, Bath, Phase, State, chain_energy
from gmnn.md.pressure import KINDS, Piston, tensor
from gmnn.md.segment import Setting, segment
from gmnn.md.start import degrees_of_freedom, fixed_atoms, maxwell
from gmnn.neighbors import wrap_shifts
from gmnn.potential import Potential

AT_REST = Piston()
SMALLER = 8  # times 3 % that a cell under pressure may shrink in a segment
TRIES = 20  # growths of the list for one segment; each is by a tenth or more


class Moment(NamedTuple):
    """The structure at the end of a segment, on the host, in float64."""

    step: int
    state: State  # positions in the cell along periodic directions
    forces: np.ndarray  # [N, 3] eV/Å
    energy: float  # eV, with the atomic references
    kinetic: float  # eV
    virial: np.ndarray  # [3, 3] eV, dE/d(strain)
    rebuilds: int  # lists made in this segment

    @property
    def positions(self) -> np.ndarray:
        """[N, 3] Å, in the cell along periodic directions."""
        return self.state.positions

    @property
    def velocities(self) -> np.ndarray:
        """[N, 3] Å / ASE's unit of time."""
        return self.state.velocities


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
        piston: Piston = AT_REST,
        tf32_network: bool = False,
    ) -> None:
        potential.require_elements(atoms.numbers)
        if not len(atoms):
            raise UserError("the structure has no atoms")
        if not np.isfinite(atoms.positions).all():
            raise UserError("positions of the structure must be finite numbers")
        _check(bath, piston, atoms)
        self.atoms, self.potential, self.bath, self.piston, self.dtype = atoms.copy(), potential, bath, piston, dtype
        self.pbc: cell_list.Pbc = tuple(map(bool, atoms.pbc))  # type: ignore[assignment]
        self.fixed = fixed_atoms(atoms)
        self.freedom = degrees_of_freedom(atoms, self.fixed, bath)
        self.offset = float(potential.offsets(atoms.numbers).sum())
        self.growths = 0  # segments done again with a larger list
        self.radius = potential.config.r_max + skin
        self.grid = cell_list.plan(atoms.positions, atoms.cell.array, atoms.pbc, self.radius)
        with self._precision():
            self._params, predict = evaluator(potential, path, dtype, tf32_network)
        self._setting = Setting(
            atoms.numbers, atoms.get_masses(), self.fixed, self.pbc, self.freedom, bath, piston,
            timestep_fs * units.fs, self.radius, skin, seed, predict,
        )  # fmt: skip
        self._programs: dict[cell_list.Grid, Callable[..., Any]] = {}
        velocities = atoms.get_velocities()
        if bath.ensemble == "minimise":
            velocities = np.zeros_like(velocities)
        elif not np.any(velocities):
            velocities = maxwell(atoms, bath.first_K, self.fixed, np.random.default_rng(seed))
        pace = np.array([timestep_fs * units.fs, fire.MIXING, 0.0])
        velocities = np.where(self.fixed[:, None], 0.0, velocities)
        self.resume(0, State(atoms.positions, velocities, atoms.cell.array, np.zeros((2, LINKS)), pace))

    def run(self, steps: int) -> Moment:
        """Advance by a segment; UserError, with `now` as it was, where a number is not finite any more."""
        found = self._advanced(self.now.step, self.now.state, steps)
        if not (np.isfinite(found.energy) and np.isfinite(found.positions).all() and np.isfinite(found.forces).all()):
            raise UserError(
                f"a number is not finite any more between steps {self.now.step} and {found.step}; take a shorter "
                f"time step, or look at the structure of step {self.now.step}, the last good one"
            )
        self.now = found
        return found

    def resume(self, step: int, state: State) -> None:
        """Start, or go on from the end of an earlier segment."""
        self.now = self._advanced(step, state, 0)

    def snapshot(self) -> Atoms:
        """The structure as it is now, with momenta."""
        atoms = self.atoms.copy()
        atoms.set_cell(self.now.state.cell)
        atoms.positions = self.now.positions
        if self.bath.ensemble != "minimise":
            atoms.set_velocities(self.now.velocities)
        return atoms

    @property
    def temperature(self) -> float:
        """Now, K, from the degrees of freedom that move."""
        return 2.0 * self.now.kinetic / (max(self.freedom, 1) * units.kB)

    @property
    def conserved(self) -> float:
        """Energy that `nve`, and `nose_hoover` at a constant temperature, keep, eV."""
        chain = self.bath.ensemble == "nose_hoover"
        more = chain_energy(self.bath, self.freedom, self.now.state.chain, self.now.step) if chain else 0.0
        return self.now.energy + self.now.kinetic + more

    @property
    def largest_force(self) -> float:
        """On an atom that is not fixed, eV/Å."""
        return float(np.linalg.norm(self.now.forces[~self.fixed], axis=1).max(initial=0.0))

    @property
    def converged(self) -> bool:
        """Whether a minimum was asked for and is reached."""
        return self.bath.ensemble == "minimise" and self.largest_force <= self.bath.fmax_eV_per_A

    @property
    def pressure(self) -> np.ndarray:
        """Now, [3, 3] GPa, of a structure that is periodic along three directions."""
        return tensor(self.atoms.get_masses(), self.now.velocities, self.now.virial, self.now.state.cell)

    def _advanced(self, step: int, state: State, steps: int) -> Moment:
        """The end of a segment; done again with a larger list as long as it did not fit."""
        smaller = iter(0.97 ** np.arange(SMALLER if self.piston.kind != "none" else 1))
        for _ in range(TRIES):
            with self._precision():
                if self.grid not in self._programs:
                    self._programs[self.grid] = compiled(partial(segment, self._setting, self.grid))
                start = jax.tree.map(lambda x: jnp.asarray(x, self.dtype), state)
                phase, counts, done = jax.device_get(self._programs[self.grid](self._params, start, step, steps))
            if not counts.overflow:
                return self._moment(step + int(done), phase, int(counts.rebuilds), state.cell)
            larger = cell_list.grow(self.grid, counts.most, counts.fullest)
            while larger == self.grid and (scale := next(smaller, None)) is not None:
                larger = cell_list.plan(scale * state.positions, scale * state.cell, self.atoms.pbc, self.radius)
            if larger == self.grid:
                raise UserError(
                    f"positions are not finite, or too far out, or the cell collapses, after step {step}; take a "
                    f"shorter time step or, where a pressure is held, a longer pressure_relaxation_fs, or look at the "
                    f"structure of step {step}, the last good one"
                )
            self.grid, self.growths = larger, self.growths + 1
        raise UserError(f"the neighbour list did not fit after growing {TRIES} times; is the structure collapsing?")

    def _moment(self, step: int, phase: Phase, rebuilds: int, before: np.ndarray) -> Moment:
        state, forces, energies, virial = jax.tree.map(lambda x: np.asarray(x, float), phase)
        positions, cell = state.positions, before if self.piston.kind == "none" else state.cell
        if any(self.pbc) and np.isfinite(positions).all():
            positions = positions - wrap_shifts(positions, cell, self.atoms.pbc) @ cell
        kinetic = 0.5 * float(np.sum(self.atoms.get_masses()[:, None] * state.velocities**2))
        if self.bath.ensemble == "minimise":
            kinetic = 0.0
        state, energy = state._replace(positions=positions, cell=cell), float(energies.sum()) + self.offset
        return Moment(step, state, forces, energy, kinetic, virial, rebuilds)

    def _precision(self) -> Any:
        return jax.enable_x64(self.dtype == "float64")


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
