"""Learning curve of a training run."""

import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from gmnn.files import write_bytes

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"


def learning_curve(history: Path, target: Path) -> None:
    """Draw loss and validation errors over epochs, from ``history.csv``."""
    table = np.atleast_1d(np.genfromtxt(history, delimiter=",", names=True))
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(table["epoch"], table["train_loss"], color=GREY, lw=1, label="training")
    left.plot(table["epoch"], table["valid_loss"], color=BLUE, lw=1.5, label="validation, averaged parameters")
    left.set(xlabel="epoch", ylabel="loss", yscale="log")
    left.legend(frameon=False)
    right.plot(table["epoch"], table["valid_forces_mae_meV_per_A"], color=BLUE, label="forces, meV/Å")
    right.plot(table["epoch"], table["valid_energy_mae_meV"], color=ORANGE, label="energy, meV")
    best = int(table["best_epoch"][-1])
    if best > 0:
        right.axvline(best, color=GREY, lw=0.8, ls=":", label=f"best epoch, {best}")
    right.set(xlabel="epoch", ylabel="validation mean absolute error", yscale="log")
    right.legend(frameon=False)
    save(figure, target)


def save(figure: Figure, target: Path) -> None:
    """Write the figure as PNG beside its place and move it there in one step."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    write_bytes(target, image.getvalue())
