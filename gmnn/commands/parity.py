"""Parity figure: predicted against reference energies, forces and stresses, one panel each."""

from collections import Counter
from pathlib import Path

import numpy as np
from ase.units import GPa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gmnn.commands.figures import BLUE, GREY, save
from gmnn.elements import SYMBOLS
from gmnn.evaluation import Comparison

COLOURS = (BLUE, "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito
SHOWN, FARTHEST = 50_000, 1_000  # points of a panel, and how many of them are those with the largest errors
WIDE = 2.0  # eV; energies per atom that spread over more are drawn in eV instead of meV


def parity(comparison: Comparison, target: Path, title: str) -> None:
    """Energies per atom less atomic references, components of forces and of stress; no panel without labels.

    Coloured by config type where there are two to seven; otherwise forces by element where there are as few.
    """
    kinds = comparison.config_types
    by_kind = bool(_colours(kinds))
    of_frames = kinds if by_kind else np.full(len(kinds), "")
    of_atoms = np.repeat(kinds, comparison.sizes) if by_kind else np.array(SYMBOLS)[comparison.numbers]
    energies = (comparison.energies - comparison.references[:, None]) / comparison.sizes[:, None]
    labelled = energies[~np.isnan(energies[:, 0]), 0]
    scale, energy_unit = (1.0, "eV") if len(labelled) and np.ptp(labelled) > WIDE else (1e3, "meV")
    rows, columns = np.triu_indices(3)
    stresses = comparison.stresses[:, rows, columns] / GPa
    panels = (
        (scale * energies, of_frames, f"(E − ΣE0) / atom, {energy_unit}", "energy_{}_meV_per_atom", "meV/atom"),
        (comparison.forces.reshape(-1, 2), np.repeat(of_atoms, 3), "force, eV/Å", "forces_{}_meV_per_A", "meV/Å"),
        (stresses.reshape(-1, 2), np.repeat(of_frames, 6), "stress, GPa", "stress_{}_GPa", "GPa"),
    )
    drawn = [panel for panel in panels if np.isfinite(panel[0]).all(axis=1).any()]
    metrics = comparison.metrics()
    figure = Figure(figsize=(0.2 + 4.2 * max(1, len(drawn)), 4.3 + 0.3 * by_kind), layout="constrained")
    for k, (points, groups, label, key, unit) in enumerate(drawn):
        errors = {name: metrics[key.format(name.lower())] for name in ("MAE", "RMSE")}
        text = [f"{name} {error:.3g} {unit}" for name, error in errors.items() if error is not None]
        axis = figure.add_subplot(1, len(drawn), k + 1)
        _panel(axis, points, groups, label, text)
        if not by_kind:
            axis.legend(handles=_handles(groups), loc="lower right", frameon=False, handletextpad=0.1)
    if by_kind:
        figure.legend(handles=_handles(kinds), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(f"{title}, {metrics['n_frames']} frames")
    save(figure, target)


def _panel(axis: Axes, points: np.ndarray, groups: np.ndarray, label: str, text: list[str]) -> None:
    """Points [n, 2] (reference, predicted) of groups [n], in random order, so that no group hides another."""
    present = np.isfinite(points).all(axis=1)
    points, groups = points[present], groups[present]
    order = np.random.default_rng(0).permutation(len(points))
    if len(points) > SHOWN:
        text = [*text, f"{SHOWN:,} of {len(points):,} points,", f"the {FARTHEST:,} farthest among them"]
        order = order[np.argsort(-np.abs(points[order, 1] - points[order, 0]), kind="stable")]
        rest = np.sort(np.random.default_rng(1).choice(len(points) - FARTHEST, SHOWN - FARTHEST, replace=False))
        order = np.random.default_rng(2).permutation(np.concatenate([order[:FARTHEST], order[FARTHEST:][rest]]))
    colours = _colours(groups)
    colour = np.array([colours.get(name, BLUE) for name in groups[order].tolist()])
    low, high = points.min(), points.max()
    margin = 0.04 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    axis.plot(limits, limits, color=GREY, lw=0.8, zorder=0)
    alpha = 0.4 if len(order) < 20_000 else 0.2
    axis.scatter(points[order, 0], points[order, 1], s=6, c=colour, alpha=alpha, lw=0, rasterized=True)
    axis.set(xlabel=f"reference {label}", ylabel=f"predicted {label}", aspect="equal", xlim=limits, ylim=limits)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.yaxis.set_major_locator(MaxNLocator(5))
    axis.text(0.04, 0.96, "\n".join(text), transform=axis.transAxes, va="top")


def _colours(groups: np.ndarray) -> dict[str, str]:
    """A colour of each group, the largest first; none where there is one group or there are too many."""
    names = [name for name, _ in Counter(groups.tolist()).most_common()]
    return dict(zip(names, COLOURS, strict=False)) if 1 < len(names) <= len(COLOURS) else {}


def _handles(groups: np.ndarray) -> list[Line2D]:
    """What the legend shows of the groups."""
    return [
        Line2D([], [], ls="", marker="o", ms=5, color=colour, label=name or "(none)")
        for name, colour in _colours(groups).items()
    ]
