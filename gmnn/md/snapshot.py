"""The structure at the end of a segment, on the host."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units

from gmnn.md.integrators import Bath, State, chain_energy
from gmnn.md.pressure import tensor
from gmnn.md.segment import Setting, Worst

AT_REST = 1e-6  # share of the kinetic energy that rounding leaves in the momentum


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One replica at the end of a segment, on the host, in float64."""

    setting: Setting
    bath: Bath
    step: int
    state: State  # positions in the cell along periodic directions
    forces: np.ndarray  # [N, 3] eV/Å
    energy: float  # eV, with the atomic references
    kinetic: float  # eV; 0 in a minimisation
    virial: np.ndarray  # [3, 3] eV, dE/d(strain)
    closest: np.ndarray  # [P] Å, for the pairs of the setting: in this segment, of a periodic structure now
    rebuilds: int  # lists made in this segment
    worst: Worst | None  # the frame of the largest grade in this segment; None where nothing is graded
    members: np.ndarray  # [M] eV, energies of the members of an ensemble, without the atomic references

    @property
    def positions(self) -> np.ndarray:
        """[N, 3] Å, in the cell along periodic directions."""
        return self.state.positions

    @property
    def velocities(self) -> np.ndarray:
        """[N, 3] Å / ASE's unit of time."""
        return self.state.velocities

    @property
    def temperature(self) -> float:
        """Temperature of the degrees of freedom that move, K.

        Velocities drawn without momentum and rotation have fewer of them than the bath moves later.
        """
        return 2.0 * self.kinetic / (max(self._moving(), 1) * units.kB)

    def _moving(self) -> int:
        """Degrees of freedom of the bath, less those of the momentum and the angular momentum that are zero."""
        setting, free = self.setting, 3 * int(np.sum(~self.setting.fixed))
        if setting.fixed.any() or setting.freedom < free or len(setting.numbers) < 2 or not self.kinetic > 0:
            return setting.freedom
        m, v = setting.masses[:, None], self.velocities
        x = self.positions - np.sum(m * self.positions, axis=0) / m.sum()
        if np.sum(np.sum(m * v, axis=0) ** 2) / m.sum() > AT_REST * self.kinetic:
            return setting.freedom
        turning = np.linalg.norm(np.sum(m * np.cross(x, v), axis=0))
        if any(setting.pbc) or turning > np.sqrt(AT_REST * self.kinetic * np.sum(m * x**2)):
            return free - 3
        return free - 3 - {2: 2}.get(len(setting.numbers), 3)

    @property
    def spread(self) -> float:
        """Standard deviation of the energy over the members of an ensemble, not scaled, eV; 0 without one."""
        return float(np.std(self.members, ddof=1)) if len(self.members) > 1 else 0.0

    @property
    def conserved(self) -> float:
        """Energy that `nve` conserves, and `nose_hoover` at a constant temperature, eV."""
        bath, freedom = self.bath, self.setting.freedom
        chain = bath.ensemble == "nose_hoover"
        return self.energy + self.kinetic + (chain_energy(bath, freedom, self.state.chain, self.step) if chain else 0.0)

    @property
    def pressure(self) -> np.ndarray:
        """[3, 3] GPa, for a structure that is periodic along three directions."""
        return tensor(self.setting.masses, self.velocities, self.virial, self.state.cell)

    @property
    def largest_force(self) -> float:
        """Largest force on a free atom, eV/Å."""
        return float(np.linalg.norm(self.forces[~self.setting.fixed], axis=1).max(initial=0.0))

    @property
    def largest_grade(self) -> float:
        """Largest grade of an atom in this segment; 0 where nothing is graded, NaN if the replica broke."""
        return 0.0 if self.worst is None else float(self.worst.grade)

    def worst_frame(self, atoms: Atoms) -> Atoms:
        """Copy of `atoms` in the frame with the largest grade of this segment, without momenta."""
        assert self.worst is not None
        frame = Atoms(atoms.numbers, self.worst.positions, cell=self.worst.cell, pbc=atoms.pbc)
        if frame.pbc.any():
            frame.wrap()
        frame.info.update(step=int(self.worst.step), largest_grade=self.largest_grade)
        return frame

    @property
    def finite(self) -> bool:
        """Whether energy, positions, velocities and forces are finite."""
        arrays = (self.energy, self.positions, self.velocities, self.forces)
        return all(bool(np.isfinite(x).all()) for x in arrays)

    def snapshot(self, atoms: Atoms) -> Atoms:
        """Copy of `atoms` as they are now, with momenta unless they are minimised."""
        atoms = atoms.copy()
        atoms.set_cell(self.state.cell)
        atoms.positions = self.positions
        if self.bath.ensemble != "minimise":
            atoms.set_velocities(self.velocities)
        return atoms
