"""The structure at the end of a segment, on the host."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units

from gmnn.md.integrators import Bath, State, chain_energy
from gmnn.md.pressure import tensor
from gmnn.md.segment import Setting, Worst


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
    closest: np.ndarray  # [P] Å, in this segment, for the pairs of the setting
    rebuilds: int  # lists made in this segment
    worst: Worst | None  # the frame of the largest grade in this segment; None where nothing is graded

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
        """Temperature of the degrees of freedom that move, K."""
        return 2.0 * self.kinetic / (max(self.setting.freedom, 1) * units.kB)

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
