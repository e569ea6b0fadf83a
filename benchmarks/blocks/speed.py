"""docs/speed.md."""

import numpy as np

from benchmarks.blocks import median, table
from benchmarks.stored import read

PATHS = ("kernel", "fast")
TARGETS = {("192", "calculator"): 8, ("1536", "calculator"): 10, ("192", "md"): 15, ("1536", "md"): 15}
TASKS = {
    "calculator": "energy + forces, ASE calculator", "batch": "Apax batch_eval, gmnn compiled loop",
    "md": "step of dynamics, NVE, 0.5 fs",
}  # fmt: skip


def beside_apax() -> str:
    """Both paths beside Apax with the same weights."""
    lines = []
    for atoms, entry in read("speed")["compare"].items():
        for task, name in TASKS.items():
            theirs, ours = times(entry, task)
            cells = [cell for path in PATHS for cell in _pair(*ours[path])]
            target = f"≥ {TARGETS[atoms, task]}" if (atoms, task) in TARGETS else ""
            lines.append([name, atoms, median(theirs), *cells, target])
    head = ["", "atoms", "Apax 0.14"]
    for path in PATHS:
        head += [f"gmnn `{path}`", "times as fast"]
    return table([*head, "target"], lines)


def notes() -> str:
    """How alike both programs are, and what their runs of dynamics did."""
    result = read("speed")
    model, entries = result["model"], list(result["compare"].values())
    runs = [entry["md"]["kernel"] for entry in entries]
    sizes, lists, changes, turns = (" / ".join(values) for values in (
        [f"{entry['atoms']:,}" for entry in entries],
        [f"{run['rebuilds_per_1000']:.0f}" for run in runs],
        [f"{run['total_change_meV_per_atom']:+.3f}" for run in runs],
        [str(len(entry["md"]["apax_us_per_atom_step"])) for entry in entries],
    ))  # fmt: skip
    return (
        f"The weights are those of an Apax model ({model['train']} frames, {model['epochs']} epochs, force error "
        f"{model['forces_mae_meV_per_A']:.0f} meV/Å), imported with `gmnn import-apax`. On {model['frames']} new "
        f"frames both programs differ by at most {model['energy_difference_eV_per_atom']:.1e} eV/atom and "
        f"{model['forces_difference_eV_per_A']:.1e} eV/Å. An atom has {entries[0]['mean_neighbors']:.0f} neighbours "
        f"({entries[0]['max_neighbors']} at most, {entries[0]['slots']} slots). With {sizes} atoms `kernel` makes "
        f"{lists} lists in 1,000 steps; the total energy changes by {changes} meV/atom. Apax's dynamics had {turns} "
        "turns."
    )


def times(entry: dict, task: str) -> tuple[list[float], dict[str, tuple[list[float], list[float]]]]:
    """µs per atom of Apax in each turn, and of each path of gmnn with the ratios turn by turn."""
    if task == "md":
        runs = {path: (entry["md"][path]["us_per_atom_step"], entry["md"][path]["ratio"]) for path in PATHS}
        return entry["md"]["apax_us_per_atom_step"], runs
    kind = {"calculator": "calculator", "batch": "loop"}[task]
    rates = entry["us_per_atom"]
    return rates[f"apax {task}"], {path: (rates[f"{path} {kind}"], entry["ratio"][path][task]) for path in PATHS}


def _pair(ours: list[float], ratio: list[float]) -> list[str]:
    return [median(ours), f"**{median(ratio)}** ({min(ratio):.1f} to {max(ratio):.1f})"]


def beside_lammps() -> str:
    """The step beside potentials of LAMMPS."""
    result = read("speed")["lammps"]
    names = list(result["rows"][0]["us_per_atom_step"])
    lines = [
        [row["atoms"], row["cores"], *(f"{np.median(row['us_per_atom_step'][name]):.1f}" for name in names)]
        for row in result["rows"]
    ]
    return table(["atoms", "cores", *names], lines)
