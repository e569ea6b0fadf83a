"""The YAML configuration of a dynamics run."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from gmnn.config.choices import Ensemble, PathName, Pressure
from gmnn.config.types import STRICT, Count, Flag, NonNegative, Number, PathText, Positive, Seed


class DynamicsConfig(BaseModel):
    """A run of molecular dynamics on the device."""

    model_config = STRICT

    model: PathText
    """Folder of the trained potential."""
    structure: PathText
    """Structure file in any format of ASE; with `@N` appended the N-th structure, from 0, else the last."""
    output: PathText
    """Folder for trajectory, log and state; must not hold another run."""
    repeat: tuple[Count, Count, Count] = (1, 1, 1)
    """Copies of the cell along each vector; velocities of the file are drawn anew at their temperature."""
    replicas: Annotated[Count, Field(le=10_000)] = 1
    """Independent copies of the structure, at most 10,000, each with its own velocities and noise."""
    ensemble: Ensemble = "langevin"
    """`nve`: velocity Verlet; `langevin`: BAOAB; `bussi`: stochastic velocity rescaling; `nose_hoover`: chain;
    `minimise`: FIRE, to the nearest minimum."""
    steps: Count
    """Number of steps, a multiple of `every`."""
    timestep_fs: Positive = 0.5
    """Time step, fs."""
    temperature_K: NonNegative = 300.0
    """Bath temperature, also of initial velocities if the structure has none, K."""
    temperatures_K: tuple[NonNegative, ...] = ()
    """Bath temperatures that the replicas take in turn, instead of `temperature_K`, K."""
    final_temperature_K: NonNegative | None = None
    """Bath temperature at the end, reached linearly; by default the same, K."""
    friction_per_ps: Positive = 10.0
    """Friction of `langevin`, 1/ps."""
    relaxation_fs: Positive = 100.0
    """Time constant of `bussi` and `nose_hoover`, fs."""
    fmax_eV_per_A: Positive = 0.01
    """`minimise` stops once no force on a free atom is larger, at the latest after `steps`, eV/Å."""
    pressure: Pressure = "none"
    """Stochastic cell rescaling: `isotropic`, `anisotropic` (also the cell's shape, for solids) or `none`."""
    pressure_GPa: Number = 0.0
    """Target pressure, GPa."""
    final_pressure_GPa: Number | None = None
    """Pressure at the end, reached linearly; by default the same, GPa."""
    pressure_relaxation_fs: Positive = 1000.0
    """Time constant of the volume at the stated compressibility, fs."""
    compressibility_per_GPa: Positive | None = None
    """Estimated compressibility, 1/GPa; by default that of the start under the potential, with rigid molecules."""
    seed: Seed = 0
    """Seed of velocities and bath."""
    every: Count = 100
    """Steps between log lines, computed without returning to the host."""
    trajectory_every: Count = 1000
    """Steps between trajectory frames, a multiple of `every`."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision."""
    path: PathName = "auto"
    """How forces are computed: `reference` by autodiff, `fast` by tables and a hand-written adjoint in XLA, `kernel` by
    the same in C++ on a CPU or by fused kernels on a GPU. `auto` is `kernel` on a CPU where it compiles, else `fast`;
    `reference` for potentials that neither covers."""
    tf32_network: Flag = False
    """Network products in TF32, faster and coarser; needs an NVIDIA GPU, dtype float32, a path other than reference."""
    grades: Flag = True
    """Grade every atom at every step, if the model has grades: the log gets their largest, `beyond.extxyz` the frames
    in which one exceeds 1.5."""
    stop_above_grade: Positive | None = None
    """Stop once the grade of an atom is larger; of several replicas each stays where it was. By default never."""
    skin: NonNegative = 0.4
    """Reach of the neighbour list beyond r_max, Å; it is rebuilt once an atom has moved by half."""

    @model_validator(mode="after")
    def _consistent(self) -> "DynamicsConfig":
        for name in ("steps", "trajectory_every"):
            if getattr(self, name) % self.every:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be a multiple of every ({self.every})")
        if self.temperatures_K and self.replicas % len(self.temperatures_K):
            raise ValueError(
                f"replicas is {self.replicas}, but must be a multiple of the number of temperatures_K "
                f"({len(self.temperatures_K)})"
            )
        if self.stop_above_grade is not None and not self.grades:
            raise ValueError("stop_above_grade needs grades; set grades to true, or leave stop_above_grade out")
        return self
