"""A run of dynamics in a folder: trajectory, log and state, which a killed run continues from.

The state names how long trajectory and log were when it was written, with checksums. What was written after that is cut
off on resume, so that the continued files are those of a run that was never stopped.
"""

import io
import json
import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import units
from ase.calculators.singlepoint import SinglePointCalculator

from gmnn.elements import pair_name
from gmnn.errors import UserError
from gmnn.files import SEAL, exclusive, read_sealed, sealed, write_bytes, write_json
from gmnn.md.dynamics import Dynamics
from gmnn.md.integrators import State
from gmnn.neighbors import Grid

Report = Callable[[Dynamics], None]
CHUNK = 1 << 24  # bytes read at once


def run(
    dynamics: Dynamics,
    output: Path,
    facts: dict[str, Any],
    *,
    steps: int,
    every: int,
    trajectory_every: int,
    timestep_fs: float,
    resume: bool = False,
    report: Report = lambda dynamics: None,
) -> float:
    """Run to `steps`, or to a minimum, and keep everything in a folder; -> seconds it took.

    UserError if the folder holds another run.
    `facts` describe the run; a run is resumed only with the same. `report` is called after every segment.
    """
    with exclusive(output):
        description, state = output / "run.json", output / "state.npz"
        files = {"trajectory": AppendOnlyFile(output / "trajectory.extxyz"), "log": AppendOnlyFile(output / "log.csv")}
        if description.exists() and not resume:
            raise UserError(f"{output} already holds a run; add --resume to continue it, or choose another output")
        if description.exists():
            changed = _changed(description, facts)
            if changed:
                raise UserError(f"the run in {output} was started otherwise ({', '.join(changed)} differ)")
        write_json(description, sealed(facts))
        if state.exists():
            _restore(dynamics, state, files)
        else:
            for file in files.values():
                file.empty()
            files["log"].append(",".join(_columns(dynamics, 0, timestep_fs)) + "\n" + _lines(dynamics, timestep_fs))
            files["trajectory"].append(_frames(dynamics))
            _save(dynamics, state, files)
        clock = time.perf_counter()
        while dynamics.now.step < steps and not dynamics.converged:
            dynamics.run(every)
            files["log"].append(_lines(dynamics, timestep_fs))
            if dynamics.now.step % trajectory_every == 0 or dynamics.converged:
                files["trajectory"].append(_frames(dynamics))
            _save(dynamics, state, files)
            report(dynamics)
        return time.perf_counter() - clock


def _changed(description: Path, facts: dict[str, Any]) -> list[str]:
    """Names of the facts that a run was started with otherwise."""
    before = read_sealed(description, "start again with another output")
    same = json.loads(json.dumps(facts))
    return sorted(key for key in {**before, **same} if before.get(key) != same.get(key) and key != SEAL)


def _columns(dynamics: Dynamics, replica: int, timestep_fs: float) -> dict[str, str]:
    """A line of the log by column."""
    now = dynamics.replicas[replica]
    found = {
        "step": str(now.step), "time_ps": f"{now.step * timestep_fs / 1000:.6f}",
        "temperature_K": f"{now.temperature:.4f}", "potential_eV": f"{now.energy:.8f}",
        "kinetic_eV": f"{now.kinetic:.8f}", "total_eV": f"{now.energy + now.kinetic:.8f}",
        "rebuilds": str(now.rebuilds),
    }  # fmt: skip
    if len(dynamics.replicas) > 1:
        found = {"replica": str(replica), **found}
    if all(dynamics.pbc):
        volume = abs(np.linalg.det(now.state.cell))
        grams = dynamics.atoms.get_masses().sum() / volume * 1e24 / units.mol
        found |= {"volume_A3": f"{volume:.6f}", "density_g_per_cm3": f"{grams:.6f}"}
        found["pressure_GPa"] = f"{np.trace(now.pressure) / 3:.6f}"
    if dynamics.bath.ensemble == "minimise":
        found["largest_force_eV_per_A"] = f"{now.largest_force:.8f}"
    if dynamics.bath.ensemble == "nose_hoover":
        found["conserved_eV"] = f"{now.conserved:.8f}"
    for pair, r in zip(now.setting.pairs, now.closest, strict=True):
        found[approach_column(*pair)] = f"{r:.4f}"
    return found


def approach_column(a: int, b: int) -> str:
    """Of the log: the smallest distance of such a pair at any step since the line before."""
    return f"closest_{pair_name(a, b)}_A"


def _lines(dynamics: Dynamics, timestep_fs: float) -> str:
    """A line of the log for every replica."""
    every = range(len(dynamics.replicas))
    return "".join(",".join(_columns(dynamics, k, timestep_fs).values()) + "\n" for k in every)


def _frames(dynamics: Dynamics) -> str:
    """A frame of the trajectory for every replica."""
    frames = []
    for k, now in enumerate(dynamics.replicas):
        atoms = now.snapshot(dynamics.atoms)
        atoms.info["step"] = now.step
        if len(dynamics.replicas) > 1:
            atoms.info["replica"] = k
        atoms.calc = SinglePointCalculator(atoms, energy=now.energy, forces=now.forces)
        frames.append(atoms)
    text = io.StringIO()
    ase.io.write(text, frames, format="extxyz")
    return text.getvalue()


class AppendOnlyFile:
    """A file that only grows; its size in bytes and the CRC-32 of all of them."""

    def __init__(self, path: Path) -> None:
        self.path, self.mark = path, (0, 0)

    def empty(self) -> None:
        """Begin anew."""
        self.path.write_bytes(b"")
        self.mark = (0, 0)

    def append(self, text: str) -> None:
        """Onto the disk."""
        data = text.encode()
        with open(self.path, "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self.mark = (self.mark[0] + len(data), zlib.crc32(data, self.mark[1]))

    def cut(self, size: int, crc: int) -> None:
        """Back to what it was; UserError if that is not what it holds."""
        found = 0
        try:
            with open(self.path, "rb") as file:
                for start in range(0, size, CHUNK):
                    found = zlib.crc32(file.read(min(CHUNK, size - start)), found)
                complete = file.tell() == size
        except OSError as error:
            raise UserError(f"{self.path} cannot be read ({error.strerror}); start again with another output") from None
        if not complete or found != crc:
            raise UserError(
                f"{self.path} is not what it was when the state was written (shorter, or changed); start again with "
                "another output"
            )
        os.truncate(self.path, size)
        self.mark = (size, crc)


def _save(dynamics: Dynamics, state: Path, files: dict[str, AppendOnlyFile]) -> None:
    """Write the state, after the files it speaks of."""
    data, step = io.BytesIO(), dynamics.now.step
    sizes = {name: np.asarray(file.mark) for name, file in files.items()}
    together = State(*(np.stack(x) for x in zip(*dynamics.states, strict=True)))
    np.savez(data, allow_pickle=False, step=step, grid=np.hstack(dynamics.grid), **together._asdict(), **sizes)
    write_bytes(state, data.getvalue())


def _restore(dynamics: Dynamics, state: Path, files: dict[str, AppendOnlyFile]) -> None:
    try:
        with np.load(state, allow_pickle=False) as kept:
            values = {name: kept[name] for name in ("step", "grid", *State._fields, *files)}
    except Exception as error:  # NumPy and zipfile raise many kinds for a file that is truncated or changed
        raise UserError(f"{state} is damaged ({error}); start again with another output") from None
    for name, file in files.items():
        file.cut(*map(int, values[name]))
    *grid, room, slots = values["grid"].tolist()
    dynamics.grid = Grid(tuple(grid[:3]), tuple(grid[3:]), room, slots)
    replicas = zip(*(values[name] for name in State._fields), strict=True)
    dynamics.resume(int(values["step"]), [State(*one) for one in replicas])
