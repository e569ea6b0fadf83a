"""The figure of the study."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.study.cells import N_TRAIN
from benchmarks.study.results import Row
from benchmarks.study.tables import LINES, errors, total


def draw(table: list[Row], cost: dict, path: Path) -> None:
    """Share of failed curves and force error over the number of training frames."""
    figure = Figure(figsize=(10.5, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, (label, colour) in LINES.items():
        mine = [row for row in table if row["variant"] == name]
        sizes = [n for n in N_TRAIN if any(row["n_train"] == str(n) for row in mine)]
        if not sizes:
            continue
        counts = [total(row for row in mine if row["n_train"] == str(n)) for n in sizes]
        failed = [100 * f / n for f, n, _ in counts]
        thick = 2.6 if name == "default" else 1.4
        left.plot(sizes, failed, marker="o", ms=4, lw=thick, color=colour, label=label)
        if name in ("none", "seed", "default"):
            force = [errors((r for r in mine if r["n_train"] == str(n)), "forces_mae_meV_per_A") for n in sizes]
            spread = [np.std(f, ddof=1) for f in force]
            right.errorbar(sizes, [f.mean() for f in force], spread, color=colour, marker="o", ms=4, lw=thick)
        if name in cost:
            long = [model["forces_mae_meV_per_A"] for model in cost[name]["models"]]
            right.plot([1000] * len(long), long, "*", ms=9, color=colour, alpha=0.7)
    axis_text(left, "curves on which the energy stops rising, %", "More data does not stabilise; a core does")
    left.set_yscale("symlog", linthresh=1.0)
    left.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    left.set_ylim(-0.1, 130)
    axis_text(right, "force MAE on test frames, meV/Å", "Force error: short trainings, and long ones (stars)")
    right.set_yscale("log")
    right.set_yticks([20, 50, 100, 200], ["20", "50", "100", "200"])
    right.minorticks_off()
    right.set_ylim(15, 400)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)


def axis_text(axis: Axes, label: str, title: str) -> None:
    """Logarithmic sizes, labels."""
    axis.set_xscale("log")
    axis.set_xticks(N_TRAIN, [f"{n:,}" for n in N_TRAIN])
    axis.minorticks_off()
    axis.set_xlabel("training frames (ethanol at 500 K, no short distances)")
    axis.set_ylabel(label)
    axis.set_title(title, fontsize=10.5)
