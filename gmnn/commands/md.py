"""`gmnn md CONFIG`: molecular dynamics on the device."""

import argparse
import csv
import math
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gmnn.commands._frame import CONFIGURED, Command, add_configuration
from gmnn.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms

    from gmnn.config.md import DynamicsConfig
    from gmnn.md import Dynamics
    from gmnn.model.potential import Potential

DESCRIPTION = """Run the molecular dynamics or the minimisation of CONFIG. The folder `output` of the configuration gets
trajectory.extxyz, log.csv, the state and, of a model with grades, beyond.extxyz: frames that are unlike its data. With
--resume a run that was stopped or killed continues from the state and ends with the same files as an uninterrupted run.
On a CPU all cores are used. Exit code: 0 if the run ended, 4 if it was stopped because it left the data
(stop_above_grade), 2 for misuse or a step that failed, 130 if interrupted."""
LEAST_FALL, FALL_PER_ATOM = 1.0, 0.1  # eV, eV per atom below the start, to warn of; melts and reactions fall less


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

    path = config.path if config.path != "auto" else choose_for_cpu(folder.read_config(config.model)).path
    if path != "kernel":  # the kernel uses all cores on one device
        _use_all_cores()

    potential = folder.load(config.model)
    atoms = structure(config)
    bath = md.Bath(
        config.ensemble, config.temperature_K,
        config.temperature_K if config.final_temperature_K is None else config.final_temperature_K,
        config.steps, config.friction_per_ps, config.relaxation_fs, config.fmax_eV_per_A,
    )  # fmt: skip
    piston = md.Piston(
        config.pressure, config.pressure_GPa,
        config.pressure_GPa if config.final_pressure_GPa is None else config.final_pressure_GPa,
        config.steps, config.pressure_relaxation_fs, config.compressibility_per_GPa,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the structure has a total charge")  # the reader has warned
        dynamics = md.Dynamics(
            atoms, potential, bath, config.timestep_fs, config.dtype, config.path, config.skin, config.seed, piston,
            config.tf32_network, config.replicas, _limit(config, potential),
        )  # fmt: skip
    ramps = (config.final_temperature_K, config.final_pressure_GPa)
    a_longer_run_is_another = any(end is not None for end in ramps)  # a ramp follows the share of steps
    facts = config.model_dump(mode="json", exclude={"output"} if a_longer_run_is_another else {"output", "steps"})
    if not dynamics.graded:  # as runs were before there were grades
        facts = {key: value for key, value in facts.items() if key not in ("grades", "stop_above_grade")}
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

        seconds = md.run(
            dynamics, Path(config.output), facts, steps=config.steps, every=config.every,
            trajectory_every=config.trajectory_every, timestep_fs=config.timestep_fs, resume=arguments.resume,
            report=report,
        )  # fmt: skip
    with open(Path(config.output) / "log.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    _summary(config, dynamics, atoms, rows)
    if session.steps:
        print(f"this session {seconds:.1f} s, {session.speed(seconds)}; lists done again with more room: "
              f"{dynamics.growths}")  # fmt: skip
    print(f"trajectory, log and state: {config.output}")
    return _beyond(config, dynamics, rows)


def _limit(config: "DynamicsConfig", potential: "Potential") -> float | None:
    """The grade above which a replica stops, infinite for never; None where nothing is graded."""
    if config.stop_above_grade is not None:
        return config.stop_above_grade
    return math.inf if config.grades and potential.grade is not None else None


def _beyond(config: "DynamicsConfig", dynamics: "Dynamics", rows: list[dict[str, str]]) -> int:
    """Say how far the run was from the data of its potential, and return the exit code."""
    from gmnn.md.run import BEYOND

    if not dynamics.graded:
        return 0
    worst = max(rows, key=lambda row: float(row["largest_grade"]))
    grade, where = float(worst["largest_grade"]), f" of replica {worst['replica']}" if "replica" in worst else ""
    print(f"largest grade of an atom {grade:.2f}, up to step {worst['step']}{where}; 1 is the largest of the "
          "validation frames")  # fmt: skip
    advice = (f"label the frames in {config.output}/beyond.extxyz and train on them, or let gmnn learn do it "
              "(docs/learn.md)")  # fmt: skip
    if dynamics.left:
        print(f"STOPPED at step {dynamics.now.step}: {len(dynamics.left)} of {len(dynamics.replicas)} replicas left "
              f"the data, with a grade above {config.stop_above_grade:g}; {advice}", file=sys.stderr)  # fmt: skip
        return 4
    if grade > BEYOND:
        print(f"WARNING: the run left the data, with a grade of {grade:.2f}; {advice}", file=sys.stderr)
    return 0


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
    require_room(len(atoms) * math.prod(config.repeat) * config.replicas, "repeat and replicas")
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


def _approaches(dynamics: "Dynamics", atoms: "Atoms", rows: list[dict[str, str]]) -> None:
    """Print how close pairs of an isolated structure came, beside the bound of its energy (T1, docs/certificate.md)."""
    from gmnn.certificate.barrier import barrier_radii
    from gmnn.elements import pair_name
    from gmnn.md import approach_column

    pairs, index = dynamics.now.setting.pairs, dynamics.potential.element_index
    if not pairs:
        return
    highest = max(float(row["total_eV"]) for row in rows) - float(rows[0]["potential_eV"])
    radii = barrier_radii(dynamics.potential, atoms, max(0.0, highest)).radii
    print("pair  closest, Å   never closer than, Å")
    for a, b in pairs:
        closest, proved = min(float(row[approach_column(a, b)]) for row in rows), radii[index[a], index[b]]
        print(f"{pair_name(a, b):<6}{closest:>10.3f}   {'nothing proved' if proved != proved else f'{proved:.3f}'}")
    always = "" if dynamics.bath.ensemble == "nve" else ", the largest of the log"
    print(f"with {highest:.2f} eV above the start{always}; gmnn certify says what this rests on")


def _fallen(atoms: "Atoms", rows: list[dict[str, str]]) -> None:
    """Warn if the potential energy fell far below the start, as that of a real structure near a minimum does not."""
    lowest = min(rows, key=lambda row: float(row["potential_eV"]))
    fall = float(rows[0]["potential_eV"]) - float(lowest["potential_eV"])
    if fall > max(LEAST_FALL, FALL_PER_ATOM * len(atoms)):
        print(f"WARNING: at step {lowest['step']} the potential energy is {fall:.2f} eV below the start's: either "
              "the start was far from any minimum, or the potential has a false one where its data end; look at the "
              "trajectory, and see docs/md.md, A fall in energy", file=sys.stderr)  # fmt: skip


def _summary(config: "DynamicsConfig", dynamics: "Dynamics", atoms: "Atoms", rows: list[dict[str, str]]) -> None:
    import numpy as np

    warm = [row for row in rows if int(row["step"]) > dynamics.now.step // 5]
    mean = np.mean([float(row["temperature_K"]) for row in warm])
    if config.ensemble == "minimise":
        verdict = "converged" if dynamics.converged else "NOT converged"
        energies = ", ".join(f"{replica.energy:.6f}" for replica in dynamics.replicas)
        print(f"{verdict} after {dynamics.now.step} steps: largest force {dynamics.largest_force:.3g} eV/Å, asked for "
              f"{config.fmax_eV_per_A:g}; energy {energies} eV")  # fmt: skip
        return
    print(
        f"{dynamics.now.step * config.timestep_fs / 1000:g} ps; mean temperature of the last four fifths {mean:.1f} K"
    )
    for key in ("volume_A3", "density_g_per_cm3", "pressure_GPa") if config.pressure != "none" else ():
        print(f"mean {key} {np.mean([float(row[key]) for row in warm]):.6g}")
    _approaches(dynamics, atoms, rows)
    _fallen(atoms, rows)
    constant = config.pressure == "none" and config.final_temperature_K is None and len(warm) > 2 * config.replicas
    conserved = {"nve": "total_eV", "nose_hoover": "conserved_eV"}.get(config.ensemble)
    if conserved and constant:
        times, total = (
            np.array([float(row[key]) for row in warm]).reshape(-1, config.replicas) for key in ("time_ps", conserved)
        )
        slope = 1e3 * np.polyfit(times[:, 0], (total - total[0]).mean(axis=1), 1)[0] / len(dynamics.atoms)
        name = "total" if conserved == "total_eV" else "conserved"
        print(f"drift of the {name} energy {slope:+.2e} meV/atom/ps")


COMMAND = Command("md", DESCRIPTION, add_arguments, run, CONFIGURED)
main, parser = COMMAND.main, COMMAND.parser
