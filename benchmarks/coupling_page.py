"""The tables of LAMMPS in docs/engines.md, from benchmarks/results/coupling.json alone."""

from pathlib import Path

import numpy as np

from benchmarks.accuracy.pages import table
from benchmarks.marks import rewrite
from benchmarks.study.results import stored
from benchmarks.water import DRIFT_HEAD, drift_cells

ROOT = Path(__file__).parents[1]


def write() -> None:
    """Everything that is stored."""
    found, parts = stored("coupling"), {}
    if "turns" in found:
        parts |= {"lammps": programs(found["turns"]["rows"]), "ranks": by_rank(found["turns"]["rows"])}
    if "drift" in found:
        ours = stored("water")["drift"][f"{found['drift']['model']} fast float32"]
        parts["lammps drift"] = drifts(found["drift"], ours)
    rewrite(ROOT / "docs" / "engines.md", parts)


def total(turns: list) -> np.ndarray:
    """Of every turn, the processors of all ranks together, µs per atom and step."""
    return np.array([sum(r["atoms"] * r["processor_us"] for r in ranks) / sum(r["atoms"] for r in ranks)
                     for ranks in turns])  # fmt: skip


def slowest(turns: list) -> np.ndarray:
    """Of every turn, the wall time of the rank that takes longest, µs per step."""
    return np.array([max(r["atoms"] * r["wall_us"] for r in ranks) for ranks in turns])


def programs(rows: list[dict]) -> str:
    """Side by side."""
    lines = []
    for row in rows:
        took = {kind: total(turns) for kind, turns in row["turns"].items()}
        wall = [slowest(row["turns"][kind]) for kind in ("lammps", "alone")]
        times = [f"{took[kind].min():.1f} / {np.median(took[kind]):.1f}" for kind in ("lammps", "alone", "md", "snap")]
        lines.append([row["system"], f"`{row['path']}`", f"{row['atoms']:,}", str(row["ranks"]), *times[:2],
                      _more(took["lammps"], took["alone"]), _more(*wall), *times[2:]])  # fmt: skip
    head = ["system", "path", "atoms", "ranks", "LAMMPS with gmnn", "evaluation alone", "overhead, processor",
            "overhead, wall", "`gmnn md`", "SNAP"]  # fmt: skip
    return table(head, lines)


def _more(whole: np.ndarray, part: np.ndarray) -> str:
    """Overhead: of the least, and the median of the turns' own."""
    return f"{100 * (whole.min() / part.min() - 1):.0f} % / {100 * (np.median(whole / part) - 1):.0f} %"


def by_rank(rows: list[dict]) -> str:
    """Of LAMMPS with gmnn, medians over the turns."""
    lines = []
    for row in rows:
        for rank in range(row["ranks"]):
            own = [turn[rank] for turn in row["turns"]["lammps"]]
            inside, whole = ([one[key] for one in own] for key in ("potential_us", "processor_us"))
            alone = [turn[rank]["processor_us"] for turn in row["turns"]["alone"]]
            beside = np.subtract(whole, inside)
            ranks = f"{row['ranks']} rank{'s' if row['ranks'] > 1 else ''}"
            lines.append([f"{row['system']}, `{row['path']}`, {ranks}", str(rank),
                          f"{np.median([one['atoms'] for one in own]):,.0f}",
                          *(f"{np.median(values):.1f}" for values in (alone, inside, beside))])  # fmt: skip
    return table(["", "rank", "own atoms", "evaluation alone", "in the potential", "beside it"], lines)


def drifts(theirs: dict, ours: dict) -> str:
    """Of the total energy, in LAMMPS and in our dynamics."""
    return table(["", *DRIFT_HEAD], [["LAMMPS", *drift_cells(theirs)], ["`gmnn md`", *drift_cells(ours)]])
