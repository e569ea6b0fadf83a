"""Learning curve of a training run, and errors of the forces by the grade of the atom."""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from gmnn.evaluation.comparison import Comparison
from gmnn.files import write_bytes

SHOWN, BINS, FEWEST = 20_000, 16, 10  # points and bins of the errors by grade, and atoms that make a bin
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


def errors_by_grade(comparison: Comparison, target: Path, title: str) -> None:
    """Draw the errors of the forces on atoms over their grades, with median and middle 80 % of bins.

    Nothing is drawn if there are no labels of forces or no grades.
    """
    errors = np.linalg.norm(comparison.force_errors, axis=1)
    shown = np.isfinite(errors) & np.isfinite(comparison.grades) & (comparison.grades > 0)
    if not shown.any():
        return
    errors, grades = errors[shown], comparison.grades[shown]
    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    axis = figure.subplots()
    points = np.random.default_rng(0).permutation(len(errors))[:SHOWN]
    axis.scatter(grades[points], errors[points], s=5, color=GREY, alpha=0.2, lw=0, rasterized=True)
    edges = np.geomspace(grades.min(), grades.max() * (1 + 1e-9), BINS + 1)
    bins = [errors[(grades >= low) & (grades < high)] for low, high in pairwise(edges)]
    full = np.array([len(bin) >= FEWEST for bin in bins])
    if full.any():
        low, middle, high = np.array([np.percentile(bin, (10, 50, 90)) for bin in bins if len(bin) >= FEWEST]).T
        centres = np.sqrt(edges[1:] * edges[:-1])[full]
        axis.fill_between(centres, low, high, color=BLUE, alpha=0.25, lw=0, label="middle 80 % of the atoms")
        axis.plot(centres, middle, "o-", ms=3, color=BLUE, label="median")
    axis.axvline(1.0, color=ORANGE, lw=0.8, ls="--", label="largest of the validation frames")
    axis.set(xscale="log", yscale="log", xlabel="grade of the atom", ylabel="error of its force, meV/Å", title=title)
    axis.set_ylim(bottom=max(1e-2 * np.median(errors), 1e-6))
    axis.legend(frameon=False)
    save(figure, target)


def save(figure: Figure, target: Path) -> None:
    """Write the figure as PNG beside its place and move it there in one step."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    write_bytes(target, image.getvalue())
