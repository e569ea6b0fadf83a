"""The log of a run: one line for every replica after every segment."""

from functools import cached_property

import numpy as np
from ase import units

from gmnn.elements import pair_name
from gmnn.md.bonds import Bonds
from gmnn.md.dynamics import Dynamics
from gmnn.md.snapshot import Snapshot


class Log:
    """Lines of the log. A log that was begun keeps its columns."""

    def __init__(self, dynamics: Dynamics, timestep_fs: float, header: str = "") -> None:
        self.dynamics, self.timestep_fs = dynamics, timestep_fs
        self.names = header.strip().split(",") if header else list(self._columns(0))

    @cached_property
    def bonds(self) -> Bonds:
        """The bonds of the structure at the start."""
        return Bonds(self.dynamics.atoms)

    @cached_property
    def several_baths(self) -> bool:
        """Whether the replicas begin at several temperatures."""
        return len({bath.first_K for bath in self.dynamics.now.setting.baths}) > 1

    @property
    def header(self) -> str:
        """The first line."""
        return ",".join(self.names) + "\n"

    def lines(self) -> str:
        """Lines of all replicas as they are now."""
        rows = (self._columns(k) for k in range(len(self.dynamics.replicas)))
        return "".join(",".join(row.get(name, "") for name in self.names) + "\n" for row in rows)

    def _columns(self, replica: int) -> dict[str, str]:
        """One line, by column."""
        dynamics, now = self.dynamics, self.dynamics.replicas[replica]
        row = {
            "step": str(now.step), "time_ps": f"{now.step * self.timestep_fs / 1000:.6f}",
            "temperature_K": f"{now.temperature:.4f}", "potential_eV": f"{now.energy:.8f}",
            "kinetic_eV": f"{now.kinetic:.8f}", "total_eV": f"{now.energy + now.kinetic:.8f}",
            "rebuilds": str(now.rebuilds),
        }  # fmt: skip
        if len(dynamics.replicas) > 1:
            row = {"replica": str(replica), **row}
        if self.several_baths:
            row["bath_K"] = f"{now.bath.temperature(np.float64(now.step)) / units.kB:.4f}"
        if all(dynamics.pbc):
            row |= self._cell(now)
        if dynamics.bath.ensemble == "minimise":
            row["largest_force_eV_per_A"] = f"{now.largest_force:.8f}"
        if dynamics.bath.ensemble == "nose_hoover":
            row["conserved_eV"] = f"{now.conserved:.8f}"
        if dynamics.graded:
            row["largest_grade"] = f"{now.largest_grade:.4f}"
            row["steps_above_1"] = str(0 if now.worst is None else int(now.worst.above))
        if len(now.members) > 1:
            row["energy_std_eV"] = f"{dynamics.potential.reference.spread_scale[0] * now.spread:.6f}"
        for pair, r in zip(now.setting.pairs, now.closest, strict=True):
            row[approach_column(*pair)] = f"{r:.4f}"
        if len(self.bonds.i):
            row |= {longest_column(name): f"{r:.4f}" for name, r in self.bonds.longest(now.positions).items()}
            row["pieces"] = str(self.bonds.pieces(now.positions))
        return row

    def _cell(self, now: Snapshot) -> dict[str, str]:
        """Volume, density and pressure of a structure that is periodic along three directions."""
        volume = abs(np.linalg.det(now.state.cell))
        grams = now.setting.masses.sum() / volume * GRAMS_PER_CM3
        row = {"volume_A3": f"{volume:.6f}", "density_g_per_cm3": f"{grams:.6f}"}
        row["pressure_GPa"] = f"{np.trace(now.pressure) / 3:.6f}"
        if now.setting.piston.kind != "none":
            row["held_GPa"] = f"{now.setting.piston.pressure(np.float64(now.step)) / units.GPa:.6f}"
        return row


GRAMS_PER_CM3 = 1e24 / units.mol  # of 1 amu/Å^3


def approach_column(a: int, b: int) -> str:
    """Name of the column with the smallest distance of a pair of elements.

    It is that of all steps since the line before for an isolated structure, and that of the line for a periodic one.
    """
    return f"closest_{pair_name(a, b)}_A"


def longest_column(name: str) -> str:
    """Name of the column with the longest bond of a pair of elements, of the bonds that a molecule has at the start."""
    return f"longest_{name}_A"
