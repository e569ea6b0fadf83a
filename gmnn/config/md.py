"""The YAML configuration of a dynamics run."""

from typing import Literal

from pydantic import BaseModel, model_validator

from gmnn.config.choices import Ensemble, PathName, Pressure
from gmnn.config.types import STRICT, Count, Flag, NonNegative, Number, Positive, Seed


class DynamicsConfig(BaseModel):
    """A run of molecular dynamics on the device."""

    model_config = STRICT

    model: str
    """Folder of the trained potential."""
    structure: str
    """File with the structure, of any format that ASE reads; with @N behind it the N-th one, from 0, else the last."""
    output: str
    """Folder of the trajectory, the log and the state; it must not hold another run."""
    repeat: tuple[Count, Count, Count] = (1, 1, 1)
    """Copies of the cell along its vectors."""
    replicas: Count = 1
    """Copies of the structure that move at the same time and know nothing of each other, each with velocities and noise
    of its own."""
    ensemble: Ensemble = "langevin"
    """`nve`: velocity Verlet; `langevin`: BAOAB; `bussi`: stochastic velocity rescaling; `nose_hoover`: a chain;
    `minimise`: FIRE, to the nearest minimum."""
    steps: Count
    """Number of steps; a multiple of `every`."""
    timestep_fs: Positive = 0.5
    """Time step, fs."""
    temperature_K: NonNegative = 300.0
    """Temperature of the bath, and of the first velocities where the structure has none, K."""
    final_temperature_K: NonNegative | None = None
    """Temperature of the bath at the end, reached linearly; by default the same, K."""
    friction_per_ps: Positive = 10.0
    """Friction of `langevin`, 1/ps."""
    relaxation_fs: Positive = 100.0
    """Time constant of `bussi` and `nose_hoover`, fs."""
    fmax_eV_per_A: Positive = 0.01
    """`minimise` stops where no force on a free atom is larger, at the latest after `steps`, eV/Å."""
    pressure: Pressure = "none"
    """Stochastic cell rescaling: `isotropic`, or of the shape of the cell too, for solids: `anisotropic`."""
    pressure_GPa: Number = 0.0
    """Pressure that is held, GPa."""
    final_pressure_GPa: Number | None = None
    """Pressure at the end, reached linearly; by default the same, GPa."""
    pressure_relaxation_fs: Positive = 1000.0
    """Time constant of the volume if it has the stated compressibility, fs."""
    compressibility_per_GPa: Positive = 0.45
    """Estimate of the compressibility, 1/GPa; the default is water's, solids have a tenth and less."""
    seed: Seed = 0
    """Seed of the velocities and of the bath."""
    every: Count = 100
    """Steps between two lines of the log; what lies between them is computed without looking back at the host."""
    trajectory_every: Count = 1000
    """Steps between two frames of the trajectory; a multiple of `every`."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision."""
    path: PathName = "auto"
    """How forces are computed: `reference` by automatic differentiation, `fast` by tables and a written adjoint in XLA,
    `kernel` by the same in C++ on a CPU, or by fused kernels on a GPU. `auto` is `kernel` on a CPU where it compiles,
    else `fast`, and `reference` for potentials that neither covers."""
    tf32_network: Flag = False
    """The network's products in TF32, faster and coarser; an NVIDIA GPU, dtype float32 and not the reference path."""
    skin: NonNegative = 0.4
    """How much farther than r_max the neighbour list reaches, Å; it is made again when an atom has moved by half."""

    @model_validator(mode="after")
    def _consistent(self) -> "DynamicsConfig":
        for name in ("steps", "trajectory_every"):
            if getattr(self, name) % self.every:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be a multiple of every ({self.every})")
        return self
