"""Does the water potential hold, and does its dynamics conserve energy?

    python benchmarks/water.py hold --data FILE [--temperature 300]
    python benchmarks/water.py drift [--path fast] [--dtype float32] [--structure FILE]

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
from matplotlib.figure import Figure  # noqa: E402

from benchmarks.accuracy.pages import BLUE, GREY, ORANGE, table  # noqa: E402
from benchmarks.marks import rewrite  # noqa: E402
from benchmarks.study.results import store, stored  # noqa: E402

PAIRS = {"O-O": (8, 8), "O-H": (8, 1), "H-H": (1, 1)}
BONDED = 1.25  # Å: hydrogen and oxygen nearer than this are one molecule
CURVES = (
    ("data", GREY, "data, 330 K"), ("water 300", "tab:green", "water, 300 K"),
    ("water_boxes 300", BLUE, "water_boxes, 300 K"), ("water_boxes 1000", ORANGE, "water_boxes, 1,000 K"),
)  # fmt: skip
EDGES = np.arange(0.0, 6.0001, 0.05)
DRIFT_HEAD = ["time", "mean T", "drift, meV/atom/ps", "σ(E), meV/atom"]


def main() -> None:
    """Run, look, store, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["hold", "drift", "page"])
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
        results = stored("water")
        results["rdf"] = results.get("rdf", {}) | curves
        results.setdefault("held", {})[name] = held(log(folder), frames)
    elif arguments.what == "drift":
        ps, name = arguments.ps or 50.0, f"{model} {arguments.path} {arguments.dtype}"
        folder = dynamics(
            f"{name.replace(' ', '_')}_nve", structure=arguments.structure or f"runs/{model}_300/trajectory.extxyz",
            model=arguments.model, ensemble="nve", steps=round(2000 * ps), every=100, trajectory_every=10_000,
            path=arguments.path, dtype=arguments.dtype,
        )  # fmt: skip
        results = stored("water")
        atoms = len(ase.io.read(folder / "trajectory.extxyz", "0"))
        results.setdefault("drift", {})[name] = slope(log(folder), atoms)
    if arguments.what != "page":
        store("water", results)
    page(stored("water"))


def dynamics(name: str, **keys: object) -> Path:
    """The folder of a finished run of `gmnn md`."""
    folder = ROOT / "runs" / name
    command = [sys.executable, "-m", "gmnn", "md", "configs/md_water.yaml", f"output={folder}"]
    command += [f"{key}={value}" for key, value in keys.items()]
    subprocess.run(command + (["--resume"] if folder.exists() else []), cwd=ROOT, check=True)
    return folder


def log(folder: Path) -> dict[str, np.ndarray]:
    """Columns of log.csv."""
    with open(folder / "log.csv") as file:
        rows = list(csv.DictReader(file))
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}


def held(found: dict[str, np.ndarray], frames: list[Atoms]) -> dict:
    """Temperature of a run, its closest contacts, and how many of its molecules are not whole."""
    warm = found["time_ps"] > 0.1 * found["time_ps"][-1]
    r = [distances(atoms) for atoms in frames]
    closest = {name: min(float(one[name].min()) for one in r) for name in PAIRS}
    broken = [int(np.sum((one["O-H"] < BONDED).sum(axis=1) != 2)) for one in r]
    return {
        "ps": float(found["time_ps"][-1]), "frames": len(frames), "atoms": len(frames[0]),
        "mean_temperature_K": float(found["temperature_K"][warm].mean()),
        "largest_temperature_K": float(found["temperature_K"].max()),
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
    shells, r, found = 4.0 / 3.0 * np.pi * np.diff(EDGES**3), [distances(atoms) for atoms in frames], {}
    for name, pair in PAIRS.items():
        counts = np.mean([np.histogram(one[name], EDGES)[0] for one in r], axis=0)
        of_one, of_other = (int(np.sum(frames[0].numbers == z)) for z in pair)
        found[name] = np.round(counts * frames[0].get_volume() / (of_one * of_other * shells), 4).tolist()
    return found


def slope(found: dict[str, np.ndarray], atoms: int) -> dict:
    """Of the total energy, with its standard error from ten blocks, and the spread about the line."""
    time, total = found["time_ps"], 1e3 * found["total_eV"] / atoms
    slope, start = np.polyfit(time, total - total[0], 1)
    rest = (total - total[0]) - (slope * time + start)
    means = np.array([block.mean() for block in np.array_split(rest, 10)])
    middle = np.linspace(0.5, 9.5, 10) * (time[-1] - time[0]) / 10
    error = means.std(ddof=2) / np.sqrt(np.sum((middle - middle.mean()) ** 2))
    return {
        "ps": float(time[-1]), "atoms": atoms, "drift_meV_per_atom_ps": float(slope),
        "standard_error_meV_per_atom_ps": float(error), "spread_meV_per_atom": float(rest.std()),
        "mean_temperature_K": float(found["temperature_K"].mean()),
    }  # fmt: skip


def drift_cells(one: dict) -> list[str]:
    """Of a table with DRIFT_HEAD."""
    return [
        f"{one['ps']:.0f} ps", f"{one['mean_temperature_K']:.0f} K",
        f"{one['drift_meV_per_atom_ps']:+.1e} ± {one['standard_error_meV_per_atom_ps']:.0e}",
        f"{one['spread_meV_per_atom']:.3f}",
    ]  # fmt: skip


def page(results: dict) -> None:
    """The tables of docs/md.md and their figure."""
    rows = [
        [*f"{name} K".split(maxsplit=1), f"{one['ps']:.0f} ps", f"{one['mean_temperature_K']:.0f} K",
         f"{one['largest_temperature_K']:.0f} K", *(f"{one['closest_A'][pair]:.2f}" for pair in PAIRS),
         f"{one['molecules_not_whole_on_average']:.2f}"]
        for name, one in results.get("held", {}).items()
    ]  # fmt: skip
    closest = [f"closest {pair}, Å" for pair in PAIRS]
    head = ["model", "bath", "time", "mean T", "largest T", *closest, "molecules not whole"]
    drifts = [[*name.split(), *drift_cells(one)] for name, one in results.get("drift", {}).items()]
    heads = ["model", "path", "precision", *DRIFT_HEAD]
    rewrite(ROOT / "docs" / "md.md", {"held": table(head, rows), "drift": table(heads, drifts)})
    figure = Figure(figsize=(9.0, 2.8), layout="constrained")
    middle = 0.5 * (EDGES[1:] + EDGES[:-1])
    for axes, name in zip(figure.subplots(1, 3), PAIRS, strict=True):
        for key, color, label in CURVES:
            if key in results.get("rdf", {}):
                axes.plot(middle, results["rdf"][key][name], color=color, label=label, lw=1.2)
        axes.set(xlabel=f"{name} distance, Å", xlim=(0.7, 6.0), ylim=(0.0, 3.5))
    figure.axes[0].set_ylabel("g(r)")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(ROOT / "docs" / "figures" / "water_rdf.png", dpi=150)


if __name__ == "__main__":
    main()
