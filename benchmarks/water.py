"""Does the water potential hold, and does its dynamics conserve energy?

    python benchmarks/water.py hold --data FILE [--temperature 300]
    python benchmarks/water.py drift [--path fast] [--dtype float32] [--structure FILE]
    python benchmarks/water.py write                                     docs/md.md from the results

FILE: the liquid water that configs/water.yaml was trained on. `hold` runs `gmnn md` for 100 ps with Langevin dynamics
from the last frame of FILE; `drift` 50 ps at constant energy from the end of the run at 300 K, or another structure.
Runs lie in runs/MODEL_*, and one that was stopped goes on. Results in benchmarks/results/water.json, for docs/md.md.
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import ase.io  # noqa: E402
import numpy as np  # noqa: E402
from ase import Atoms  # noqa: E402

from benchmarks import pages, stored  # noqa: E402
from benchmarks.blocks.md import EDGES, PAIRS  # noqa: E402

BONDED = 1.25  # Å: hydrogen and oxygen nearer than this are one molecule


def main() -> None:
    """Run, measure, store, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["hold", "drift", "write"])
    parser.add_argument("--data")
    parser.add_argument("--model", default="models/water")
    parser.add_argument("--temperature", type=int, default=300)
    parser.add_argument("--structure")
    parser.add_argument("--path", default="fast")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--ps", type=float)
    arguments = parser.parse_args()
    model = Path(arguments.model).name
    if arguments.what == "hold":
        ps, name = arguments.ps or 100.0, f"{model} {arguments.temperature}"
        folder = dynamics(
            name.replace(" ", "_"), structure=arguments.data, temperature_K=arguments.temperature,
            model=arguments.model, ensemble="langevin", steps=round(2000 * ps), every=200, trajectory_every=400,
        )  # fmt: skip
        frames = ase.io.read(folder / "trajectory.extxyz", ":")
        curves = {
            "data": rdf(ase.io.read(arguments.data, ":")),
            name: rdf(frames[len(frames) // 10 :]),
        }
        results = stored.read("water")
        results["rdf"] = results.get("rdf", {}) | curves
        results.setdefault("held", {})[name] = held(log(folder), frames)
    elif arguments.what == "drift":
        ps, name = arguments.ps or 50.0, f"{model} {arguments.path} {arguments.dtype}"
        folder = dynamics(
            f"{name.replace(' ', '_')}_nve", structure=arguments.structure or f"runs/{model}_300/trajectory.extxyz",
            model=arguments.model, ensemble="nve", steps=round(2000 * ps), every=100, trajectory_every=10_000,
            path=arguments.path, dtype=arguments.dtype,
        )  # fmt: skip
        results = stored.read("water")
        atoms = len(ase.io.read(folder / "trajectory.extxyz", "0"))
        results.setdefault("drift", {})[name] = slope(log(folder), atoms)
    if arguments.what != "write":
        stored.keep("water", results, "float32, drift as named")
    pages.write("docs/md.md")


def dynamics(name: str, **keys: object) -> Path:
    """The folder of a finished run of `gmnn md`."""
    folder = ROOT / "runs" / name
    command = [sys.executable, "-m", "gmnn", "md", "configs/md_water.yaml", f"output={folder}"]
    command += [f"{key}={value}" for key, value in keys.items()]
    subprocess.run(command + (["--resume"] if folder.exists() else []), cwd=ROOT, check=True)
    return folder


def log(folder: Path) -> dict[str, np.ndarray]:
    """Columns of log.csv."""
    with open(folder / "log.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}


def held(columns: dict[str, np.ndarray], frames: list[Atoms]) -> dict:
    """Temperature of a run, its closest contacts, and how many of its molecules are not whole."""
    warm = columns["time_ps"] > 0.1 * columns["time_ps"][-1]
    r = [distances(atoms) for atoms in frames]
    closest = {name: min(float(pairs[name].min()) for pairs in r) for name in PAIRS}
    broken = [int(np.sum((pairs["O-H"] < BONDED).sum(axis=1) != 2)) for pairs in r]
    return {
        "ps": float(columns["time_ps"][-1]), "frames": len(frames), "atoms": len(frames[0]),
        "mean_temperature_K": float(columns["temperature_K"][warm].mean()),
        "largest_temperature_K": float(columns["temperature_K"].max()),
        "closest_A": closest, "molecules_not_whole_on_average": float(np.mean(broken)),
        "molecules_not_whole_at_most": max(broken),
    }  # fmt: skip


def distances(atoms: Atoms) -> dict[str, np.ndarray]:
    """Of all pairs of two elements, [A, B] Å; infinite for an atom and itself."""
    r = atoms.get_all_distances(mic=True)
    np.fill_diagonal(r, np.inf)
    return {name: r[np.ix_(atoms.numbers == a, atoms.numbers == b)] for name, (a, b) in PAIRS.items()}


def rdf(frames: list[Atoms]) -> dict[str, list[float]]:
    """g(r) of the three kinds of pairs, in shells of 0.05 Å."""
    shells, r, curves = 4.0 / 3.0 * np.pi * np.diff(EDGES**3), [distances(atoms) for atoms in frames], {}
    for name, pair in PAIRS.items():
        counts = np.mean([np.histogram(pairs[name], EDGES)[0] for pairs in r], axis=0)
        n_first, n_second = (int(np.sum(frames[0].numbers == z)) for z in pair)
        curves[name] = np.round(counts * frames[0].get_volume() / (n_first * n_second * shells), 4).tolist()
    return curves


def slope(columns: dict[str, np.ndarray], atoms: int) -> dict:
    """Slope of the total energy with its standard error from ten blocks, and the spread about the line."""
    time, total = columns["time_ps"], 1e3 * columns["total_eV"] / atoms
    slope, start = np.polyfit(time, total - total[0], 1)
    rest = (total - total[0]) - (slope * time + start)
    means = np.array([block.mean() for block in np.array_split(rest, 10)])
    middle = np.linspace(0.5, 9.5, 10) * (time[-1] - time[0]) / 10
    error = means.std(ddof=2) / np.sqrt(np.sum((middle - middle.mean()) ** 2))
    return {
        "ps": float(time[-1]), "atoms": atoms, "drift_meV_per_atom_ps": float(slope),
        "standard_error_meV_per_atom_ps": float(error), "spread_meV_per_atom": float(rest.std()),
        "mean_temperature_K": float(columns["temperature_K"].mean()),
    }  # fmt: skip


if __name__ == "__main__":
    main()
