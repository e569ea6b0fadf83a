"""Figures of a training run: learning curve and parity plots."""

import os
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from gmnn.evaluation import Comparison

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"


def learning_curve(history: Path, target: Path) -> None:
    """Loss and validation errors over epochs, from ``history.csv``."""
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
    _save(figure, target)


def parity(comparison: Comparison, target: Path, title: str) -> None:
    """Predicted against reference energies per atom (about their mean) and force components."""
    metrics = comparison.metrics()
    energies = comparison.energies / comparison.sizes[:, None]
    energies = 1e3 * (energies - energies[:, :1].mean())
    forces = comparison.forces.reshape(-1, 2)
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    axes = figure.subplots(1, 2)
    panels = (
        (energies, "energy per atom − mean, meV", f"MAE {metrics['energy_mae_meV']:.2f} meV per frame"),
        (forces, "force component, eV/Å", f"MAE {metrics['forces_mae_meV_per_A']:.2f} meV/Å"),
    )
    for axis, (points, label, text) in zip(axes, panels, strict=True):
        low, high = points.min(), points.max()
        margin = 0.04 * (high - low) or 1.0
        axis.plot([low - margin, high + margin], [low - margin, high + margin], color=GREY, lw=0.8)
        axis.scatter(points[:, 0], points[:, 1], s=6, color=BLUE, alpha=0.4, lw=0, rasterized=True)
        axis.set(xlabel=f"reference {label}", ylabel=f"predicted {label}", aspect="equal")
        axis.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
        axis.text(0.04, 0.96, text, transform=axis.transAxes, va="top")
    figure.suptitle(f"{title}, {metrics['n_frames']} frames")
    _save(figure, target)


def _save(figure: Figure, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.png")
    figure.savefig(temporary, dpi=150)
    os.replace(temporary, target)
