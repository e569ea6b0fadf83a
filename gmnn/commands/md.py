"""`gmnn md CONFIG`: molecular dynamics on the device."""

import argparse
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gmnn.commands import _md_report
from gmnn.commands._frame import CONFIGURED, Command, add_configuration
from gmnn.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms

    from gmnn.config.md import DynamicsConfig
    from gmnn.md import Dynamics
    from gmnn.md.summary import DataRange, Record
    from gmnn.model.potential import Potential

DESCRIPTION = """Run the molecular dynamics or the minimisation of CONFIG. The folder `output` of the configuration gets
trajectory.extxyz, log.csv, md.png, the state and, of a model with grades, beyond.extxyz: frames that are unlike its
data. With --resume a run that was stopped or killed continues from the state and ends with the same files as an
uninterrupted run. On a CPU all cores are used. Exit code: 0 if the run ended near the data of its potential; 4 if it
left them, because it was stopped (stop_above_grade), had a grade above 1 for a quarter of its steps, ended in more
pieces than it began with, or under pressure with a density more than 10 % outside the data's (a factor of 1.5 from the
start's where these are not known); 2 for misuse or a step that failed, 130 if interrupted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_configuration(parser, "temperature_K=500 output=runs/hot")


def run(arguments: argparse.Namespace) -> int:
    """Read the configuration and the structure, run and report."""
    from gmnn import folders
    from gmnn.config.md import DynamicsConfig
    from gmnn.config.reading import read_any
    from gmnn.folders import MD_FILES

    config = read_any(DynamicsConfig, arguments.config, arguments.overrides)
    folders.require_ours(Path(config.output), "md", MD_FILES)
    from tqdm import tqdm

    from gmnn import md
    from gmnn.kernels.choice import choose_for_cpu
    from gmnn.model import folder
    from gmnn.neighbors.memory import require_room

    path = config.path if config.path != "auto" else choose_for_cpu(folder.read_config(config.model)).path
    if path != "kernel":  # the kernel uses all cores on one device
        _use_all_cores()

    potential = folder.load(config.model)
    atoms = structure(config)
    require_room(len(atoms) * config.replicas, "repeat and replicas")
    temperatures = config.temperatures_K or (config.temperature_K,)
    baths = [
        md.Bath(
            config.ensemble, first, first if config.final_temperature_K is None else config.final_temperature_K,
            config.steps, config.friction_per_ps, config.relaxation_fs, config.fmax_eV_per_A,
        )
        for _ in range(config.replicas // len(temperatures)) for first in temperatures
    ]  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the structure has a total charge")  # the reader has warned

        def prepared(piston: md.Piston, replicas: int) -> md.Dynamics:
            return md.Dynamics(
                atoms, potential, baths[:replicas], config.timestep_fs, config.dtype, config.path, config.skin,
                config.seed, piston, config.tf32_network, replicas, _limit(config, potential),
            )  # fmt: skip

        yields = _compressibility(config, atoms, arguments.resume, lambda: prepared(md.Piston(), 1))
        piston = md.Piston(
            config.pressure, config.pressure_GPa,
            config.pressure_GPa if config.final_pressure_GPa is None else config.final_pressure_GPa,
            config.steps, config.pressure_relaxation_fs, yields,
        )  # fmt: skip
        dynamics = prepared(piston, config.replicas)
    ramps = (config.final_temperature_K, config.final_pressure_GPa)
    a_longer_run_is_another = any(end is not None for end in ramps)  # a ramp follows the share of steps
    facts = config.model_dump(mode="json", exclude={"output"} if a_longer_run_is_another else {"output", "steps"})
    if not dynamics.graded:  # as runs were before there were grades
        facts = {key: value for key, value in facts.items() if key not in ("grades", "stop_above_grade")}
    if not config.temperatures_K:  # as runs were before there were several
        del facts["temperatures_K"]
    facts["compressibility_per_GPa"] = yields
    facts["path"] = dynamics.path  # `auto` may stand for another path on another machine
    facts["parameters"] = folder.tree_digest(potential.trained)
    total, count = _total(dynamics), len(atoms) * config.replicas
    precision = "float32, network in TF32" if config.tf32_network else config.dtype
    copies = f"{config.replicas} replicas of " if config.replicas > 1 else ""
    print(f"{copies}{len(atoms)} atoms, {dynamics.grid.slots} neighbour slots, {config.ensemble}, {config.steps} steps "
          f"of {config.timestep_fs} fs, {precision}, path {dynamics.path}", flush=True)  # fmt: skip
    session = Session(count, config.timestep_fs)
    with tqdm(total=config.steps, unit="step", disable=None) as bar:

        def report(dynamics: "Dynamics") -> None:
            mean = sum(replica.temperature for replica in dynamics.replicas) / config.replicas
            status = f"{mean:.0f} K, total {1e3 * (_total(dynamics) - total) / count:+.3f} meV/atom"
            if config.ensemble == "minimise":
                status = f"largest force {dynamics.largest_force:.3g} eV/Å"
            session.steps += dynamics.now.step - max(int(bar.n), dynamics.now.step - config.every)
            bar.set_postfix_str(f"{status}, {session.speed(time.perf_counter() - session.began)}")
            bar.update(dynamics.now.step - bar.n)

        try:
            seconds = md.run(
                dynamics, Path(config.output), facts, steps=config.steps, every=config.every,
                trajectory_every=config.trajectory_every, timestep_fs=config.timestep_fs, resume=arguments.resume,
                report=report,
            )  # fmt: skip
        except (KeyboardInterrupt, UserError):
            if session.steps:
                _drawn(config, potential, atoms)
            raise
    record, data = _drawn(config, potential, atoms)
    _md_report.summarise(config, dynamics, record, data)
    if session.steps:
        print(f"this session {seconds:.1f} s, {session.speed(seconds)}; lists done again with more room: "
              f"{dynamics.growths}")  # fmt: skip
    print(f"trajectory, log, figure and state: {config.output}")
    return _md_report.verdict(config, dynamics, record, data)


def _drawn(config: "DynamicsConfig", potential: "Potential", atoms: "Atoms") -> "tuple[Record, DataRange]":
    """Draw the run as far as its log goes; return the log, and what is known of the potential's data."""
    from gmnn.md.summary import read_record

    record, data = read_record(Path(config.output) / "log.csv"), _md_report.data_range(config, potential, atoms)
    _md_report.draw(config, record, data, len(atoms))
    return record, data


def _compressibility(
    config: "DynamicsConfig", atoms: "Atoms", resume: bool, at_rest: "Callable[[], Dynamics]"
) -> float:  # fmt: skip
    """The compressibility of the configuration, else that of the resumed run, else that of the start."""
    from gmnn.files import read_sealed
    from gmnn.md import Piston
    from gmnn.md.compressibility import compressibility

    description = Path(config.output) / "run.json"
    if config.compressibility_per_GPa is not None:
        return config.compressibility_per_GPa
    if resume and description.exists():
        before = read_sealed(description, "start again with another output").get("compressibility_per_GPa")
        return float(before or Piston().compressibility_per_GPa)
    if config.pressure == "none" or not atoms.pbc.all():
        return Piston().compressibility_per_GPa
    yields = compressibility(at_rest())
    print(f"compressibility {yields:g} per GPa, of the start under the potential", flush=True)
    return yields


def _limit(config: "DynamicsConfig", potential: "Potential") -> float | None:
    """The grade above which a replica stops, infinite for never; None where nothing is graded."""
    if config.stop_above_grade is not None:
        return config.stop_above_grade
    return math.inf if config.grades and potential.grade is not None else None


def _total(dynamics: "Dynamics") -> float:
    return sum(replica.energy + replica.kinetic for replica in dynamics.replicas)


@dataclass
class Session:
    """Speed of this session, with the time for files and lists."""

    atoms: int
    timestep_fs: float
    steps: int = 0
    """Steps done since the run was started or resumed."""
    began: float = field(default_factory=time.perf_counter)

    def speed(self, seconds: float) -> str:
        """Format the speed if the steps took `seconds`."""
        per_step = seconds / self.steps
        return f"{86400e-6 * self.timestep_fs / per_step:.3g} ns/day, {1e6 * per_step / self.atoms:.3g} µs/atom-step"


def structure(config: "DynamicsConfig") -> "Atoms":
    """The structure of the configuration, repeated; UserError if it cannot be read, or its constraints not be kept."""
    from gmnn.md.velocities import fixed_atoms, repeated
    from gmnn.neighbors.memory import require_room
    from gmnn.structures import read_structure

    atoms = read_structure(config.structure)
    fixed_atoms(atoms)
    require_room(len(atoms) * math.prod(config.repeat), "repeat")
    if any(n > 1 and not p for n, p in zip(config.repeat, atoms.pbc, strict=True)):
        raise UserError(f"repeat is {list(config.repeat)}, but must be 1 where the structure does not repeat")
    if max(config.repeat) == 1:
        return atoms
    copies, temperature_K = repeated(atoms, config.repeat, config.seed)
    if temperature_K and config.replicas == 1 and config.ensemble != "minimise":
        print(f"the copies of the cell get new velocities at the {temperature_K:.1f} K of the frame; with equal ones "
              "they would move as one")  # fmt: skip
    return copies


def _use_all_cores() -> None:
    """Ask JAX for one device per CPU core, among which the atoms are divided. No effect once JAX has been used."""
    import os

    from gmnn import device

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    device.reserve(cores)


COMMAND = Command("md", DESCRIPTION, add_arguments, run, CONFIGURED)
main, parser = COMMAND.main, COMMAND.parser
