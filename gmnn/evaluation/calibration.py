"""Calibration of an ensemble in numbers and as a figure: errors over uncertainties, shares over probabilities."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from gmnn.data import Dataset
from gmnn.evaluation.figures import BLUE, GREY, ORANGE, save
from gmnn.evaluation.uncertainty import PROBABILITIES, Spreads, calibration, spreads
from gmnn.model.potential import Potential

SHOWN = 20_000  # points of a panel at most
UNITS = {"energy": ("energy", "meV/atom"), "forces": ("force component", "meV/Å")}


def calibrated(potential: Potential, frames: Dataset, target: Path, title: str) -> dict[str, dict[str, Any]]:
    """Draw the calibration of an ensemble on some frames, and return its numbers."""
    scale = potential.reference.spread_scale
    by_quantity = spreads(potential, frames)
    draw(by_quantity, scale, target, title)
    return calibration(by_quantity, scale)


def draw(found: dict[str, Spreads], scale: tuple[float, float], target: Path, title: str) -> None:
    """Draw a row for each quantity with labels: |error| over calibrated uncertainty, and the calibration curve."""
    rows = [
        (key, quantity, factor)
        for (key, quantity), factor in zip(found.items(), scale, strict=True)
        if len(quantity.errors)
    ]
    figure = Figure(figsize=(8.4, 3.9 * len(rows)), layout="constrained")
    for (key, quantity, factor), (left, right) in zip(rows, figure.subplots(len(rows), 2, squeeze=False), strict=True):
        name, unit = UNITS[key]
        error, std = 1e3 * np.abs(quantity.errors), 1e3 * factor * quantity.stds
        points = np.random.default_rng(0).permutation(len(error))[:SHOWN]
        left.scatter(std[points], error[points], s=5, color=BLUE, alpha=0.25, lw=0, rasterized=True)
        line = np.array([std.min(), std.max()])
        for times, style in ((1.0, "-"), (2.0, "--")):
            left.plot(line, times * line, style, color=GREY, lw=1, label=f"{times:.0f} x the uncertainty")
        left.set(xscale="log", yscale="log", xlabel=f"uncertainty of the {name}, {unit}", ylabel=f"|error|, {unit}")
        left.set_ylim(bottom=max(1e-3 * np.median(error), 1e-6))
        left.xaxis.set_minor_formatter(NullFormatter())  # minor labels would overlap
        left.legend(frameon=False, loc="lower right")
        right.plot([0, 1], [0, 1], color=GREY, lw=0.8)
        for value, colour, text in ((1.0, ORANGE, "bare spread"), (factor, BLUE, f"times {factor:.2f}")):
            area = quantity.miscalibration(value)
            right.plot(PROBABILITIES, quantity.inside(value), color=colour, label=f"{text}, area {area:.3f}")
        right.set(xlabel="probability of the interval", ylabel=f"share of {name} errors", xlim=(0, 1), ylim=(0, 1))
        right.legend(frameon=False, loc="lower right")
    figure.suptitle(title)
    save(figure, target)
