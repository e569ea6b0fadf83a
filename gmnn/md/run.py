"""A run of dynamics in a folder with trajectory, log and state, from which a killed run continues.

The state records how long trajectory and log were when it was written, with checksums. Resuming cuts off what was
written later, so that the continued files equal those of an uninterrupted run.
"""

import hashlib
import io
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from gmnn.errors import UserError
from gmnn.files import SEAL, AppendOnlyFile, extxyz, read_sealed, sealed, write_bytes, write_json
from gmnn.folders import MD_FILES, output_folder
from gmnn.md.dynamics import Dynamics
from gmnn.md.integrators import State
from gmnn.md.log import Log
from gmnn.model.folder import potential_digest
from gmnn.neighbors import Grid

Report = Callable[[Dynamics], None]
BEYOND = 1.5  # grade above which a frame is unlike the data; 1 is the largest of the validation frames
CONTENT = "content"  # key of the checksums of structure and potential


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
    """Run to `steps`, or to a minimum, keep everything in a folder and return the seconds it took.

    `facts` describe the run; it is resumed only with the same facts. `report` is called after every segment. UserError
    if the folder holds another run.
    """
    with output_folder(output, "md", MD_FILES):
        facts = {**facts, CONTENT: content(dynamics)}
        description, state = output / "run.json", output / "state.npz"
        files = {"trajectory": AppendOnlyFile(output / "trajectory.extxyz"), "log": AppendOnlyFile(output / "log.csv")}
        if dynamics.graded:
            files["beyond"] = AppendOnlyFile(output / "beyond.extxyz")
        if description.exists() and not resume:
            raise UserError(f"{output} already holds a run; add --resume to continue it, or choose another output")
        if description.exists():
            changed = _changed(description, facts)
            if changed:
                raise UserError(f"the run in {output} was started otherwise ({', '.join(changed)} differ)")
        write_json(description, sealed(facts))
        if state.exists():
            beyond = _restore(dynamics, state, files)  # replicas that were unlike the data in the segment before
            with open(output / "log.csv", encoding="utf-8") as file:
                log = Log(dynamics, timestep_fs, file.readline())
        else:
            log = Log(dynamics, timestep_fs)
            beyond = np.zeros(len(dynamics.replicas), bool)
            for kept in files.values():
                kept.empty()
            files["log"].append(log.header + log.lines())
            files["trajectory"].append(_frames(dynamics))
            _save(dynamics, state, files, beyond)
        clock = time.perf_counter()
        while dynamics.now.step < steps and not dynamics.converged and len(dynamics.left) < len(dynamics.replicas):
            dynamics.run(every)
            if dynamics.graded:
                beyond = _keep_beyond(dynamics, files["beyond"], beyond)
            files["log"].append(log.lines())
            if dynamics.now.step % trajectory_every == 0 or dynamics.converged:
                files["trajectory"].append(_frames(dynamics))
            _save(dynamics, state, files, beyond)
            report(dynamics)
        return time.perf_counter() - clock


def _changed(description: Path, facts: dict[str, Any]) -> list[str]:
    """Names of the facts, and of the parts of structure and potential, that differ from those of the start."""
    before = read_sealed(description, "start again with another output")
    same = json.loads(json.dumps(facts))
    known, now = before.pop(CONTENT, None), same.pop(CONTENT)
    if known is None:
        warnings.warn(
            f"{description} was written by a gmnn that kept no checksums of structure and potential; whether they "
            "changed since is not known", stacklevel=3,
        )  # fmt: skip
        known = now
    changed = sorted(key for key in {**before, **same} if before.get(key) != same.get(key) and key != SEAL)
    return changed + [key for key in now if now[key] != known.get(key)]


def content(dynamics: Dynamics) -> dict[str, str]:
    """Checksums of all that a run takes from its structure and its potential, by what they are of."""
    atoms = dynamics.atoms
    arrays = {
        "numbers": atoms.numbers, "positions": atoms.positions, "cell": atoms.cell.array, "periodicity": atoms.pbc,
        "masses": atoms.get_masses(), "momenta": atoms.get_momenta(), "fixed atoms": dynamics.fixed,
    }  # fmt: skip
    plain = {name: np.ascontiguousarray(x, float if x.dtype.kind == "f" else int) for name, x in arrays.items()}
    digests = {f"{name} of the structure": hashlib.sha256(x.tobytes()).hexdigest() for name, x in plain.items()}
    return digests | {"the potential": potential_digest(dynamics.potential)}


def _frames(dynamics: Dynamics) -> str:
    """Frames of the trajectory, one for every replica."""
    frames = []
    for k, now in enumerate(dynamics.replicas):
        atoms = now.snapshot(dynamics.atoms)
        atoms.info["step"] = now.step
        if len(dynamics.replicas) > 1:
            atoms.info["replica"] = k
        atoms.calc = SinglePointCalculator(atoms, energy=now.energy, forces=now.forces)
        frames.append(atoms)
    return extxyz(frames)


def _keep_beyond(dynamics: Dynamics, file: AppendOnlyFile, before: np.ndarray) -> np.ndarray:
    """Append the worst frame of every replica that has just left the data; return which are beyond them now.  [R]"""
    beyond = np.array([replica.largest_grade > BEYOND for replica in dynamics.replicas])
    frames = []
    for k in np.flatnonzero(beyond & ~before):
        frames.append(dynamics.replicas[k].worst_frame(dynamics.atoms))
        if len(dynamics.replicas) > 1:
            frames[-1].info["replica"] = int(k)
    if frames:
        file.append(extxyz(frames))
    return beyond


def _save(dynamics: Dynamics, state: Path, files: dict[str, AppendOnlyFile], beyond: np.ndarray) -> None:
    """Write the state; the files whose sizes it records come first."""
    data, step = io.BytesIO(), dynamics.now.step
    sizes = {name: np.asarray(file.mark) for name, file in files.items()}
    together = State(*(np.stack(x) for x in zip(*dynamics.states, strict=True)))
    np.savez(
        data, allow_pickle=False, step=step, grid=np.hstack(dynamics.grid), above=beyond, **together._asdict(), **sizes
    )
    write_bytes(state, data.getvalue())


def _restore(dynamics: Dynamics, state: Path, files: dict[str, AppendOnlyFile]) -> np.ndarray:
    """Go back to the saved state; return which replicas were beyond the data then, [R]."""
    try:
        with np.load(state, allow_pickle=False) as archive:
            values = {name: archive[name] for name in ("step", "grid", *State._fields, *files)}
            beyond = archive["above"].astype(bool) if dynamics.graded else np.zeros(len(dynamics.replicas), bool)
    except Exception as error:  # NumPy and zipfile raise many kinds of errors for a damaged file
        raise UserError(f"{state} is damaged ({error}); start again with another output") from None
    for name, file in files.items():
        file.cut(*map(int, values[name]))
    *grid, room, slots = values["grid"].tolist()
    dynamics.grid = Grid(tuple(grid[:3]), tuple(grid[3:]), room, slots)
    replicas = zip(*(values[name] for name in State._fields), strict=True)
    dynamics.resume(int(values["step"]), [State(*arrays) for arrays in replicas])
    return beyond
