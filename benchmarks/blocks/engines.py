"""The tables of LAMMPS in docs/engines.md."""

import numpy as np

from benchmarks.blocks import median, table
from benchmarks.blocks.md import drift_table
from benchmarks.stored import read


def total(turns: list) -> np.ndarray:
    """Processor time of all ranks together in every turn, µs per atom and step."""
    return np.array([sum(r["atoms"] * r["processor_us"] for r in ranks) / sum(r["atoms"] for r in ranks)
                     for ranks in turns])  # fmt: skip


def slowest(turns: list) -> np.ndarray:
    """Wall time of the slowest rank in every turn, µs per step."""
    return np.array([max(r["atoms"] * r["wall_us"] for r in ranks) for ranks in turns])


def programs() -> str:
    """LAMMPS with gmnn, the evaluation alone, our own dynamics and SNAP side by side."""
    lines = []
    for row in read("coupling")["turns"]["rows"]:
        spent = {kind: total(turns) for kind, turns in row["turns"].items()}
        walls = [slowest(row["turns"][kind]) for kind in ("lammps", "alone")]
        cells = {kind: f"{values.min():.1f} / {median(values)}" for kind, values in spent.items()}
        lines.append([row["system"], f"`{row['path']}`", f"{row['atoms']:,}", row["ranks"], cells["lammps"],
                      cells["alone"], _more(spent["lammps"], spent["alone"]), _more(*walls), cells["md"],
                      cells["snap"]])  # fmt: skip
    head = ["system", "path", "atoms", "ranks", "LAMMPS with gmnn", "evaluation alone", "overhead, processor",
            "overhead, wall", "`gmnn md`", "SNAP"]  # fmt: skip
    return table(head, lines)


def _more(whole: np.ndarray, part: np.ndarray) -> str:
    """Overhead of the least times, and the median of the turns' overheads."""
    return f"{100 * (whole.min() / part.min() - 1):.0f} % / {100 * (np.median(whole / part) - 1):.0f} %"


def by_rank() -> str:
    """Where the time of each rank goes in LAMMPS with gmnn, medians over the turns."""
    lines = []
    for row in read("coupling")["turns"]["rows"]:
        for rank in range(row["ranks"]):
            turns = [turn[rank] for turn in row["turns"]["lammps"]]
            inside, whole = ([turn[key] for turn in turns] for key in ("potential_us", "processor_us"))
            alone = [turn[rank]["processor_us"] for turn in row["turns"]["alone"]]
            ranks = f"{row['ranks']} rank{'s' if row['ranks'] > 1 else ''}"
            lines.append([f"{row['system']}, `{row['path']}`, {ranks}", rank,
                          f"{np.median([turn['atoms'] for turn in turns]):,.0f}", median(alone), median(inside),
                          median(np.subtract(whole, inside))])  # fmt: skip
    return table(["", "rank", "own atoms", "evaluation alone", "in the potential", "beside it"], lines)


def drifts() -> str:
    """Drift of the total energy in LAMMPS and in our dynamics."""
    theirs = read("coupling")["drift"]
    ours = read("water")["drift"][f"{theirs['model']} fast float32"]
    return drift_table([""], [(["LAMMPS"], theirs), (["`gmnn md`"], ours)])
