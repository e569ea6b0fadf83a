"""Parity figure: predicted against reference energies, forces and stresses, one panel each."""

from collections import Counter
from pathlib import Path

import numpy as np
from ase.units import GPa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gmnn.elements import SYMBOLS
from gmnn.evaluation import Comparison
from gmnn.evaluation.figures import BLUE, GREY, save

COLOURS = (BLUE, "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito
SHOWN, FARTHEST = 50_000, 1_000  # points of a panel at most, and how many of them have the largest errors
WIDE = 2.0  # eV; energies per atom with a larger spread are drawn in eV instead of meV


def parity(comparison: Comparison, target: Path, title: str) -> None:
    """Draw energies per atom less atomic references, components of forces and of stress; no panel without labels.

    Points are coloured by config type if there are two to seven, otherwise forces by element if there are as few.
    """
    kinds = comparison.config_types
    by_kind = _few(kinds)
    of_frames = kinds if by_kind else np.full(len(kinds), "")
    of_atoms = np.repeat(kinds, comparison.sizes) if by_kind else np.array(SYMBOLS)[comparison.numbers]
    energies = (comparison.energies - comparison.references[:, None]) / comparison.sizes[:, None]
    labelled = energies[~np.isnan(energies[:, 0]), 0]
    scale, energy_unit = (1.0, "eV") if len(labelled) and np.ptp(labelled) > WIDE else (1e3, "meV")
    rows, columns = np.triu_indices(3)
    stresses = comparison.stresses[:, rows, columns] / GPa
    panels = (
        (scale * energies, of_frames, f"(E − ΣE0) / atom, {energy_unit}", "energy_{}_meV_per_atom", "meV/atom"),
        (comparison.forces.reshape(-1, 2), of_atoms, "force, eV/Å", "forces_{}_meV_per_A", "meV/Å"),
        (stresses.reshape(-1, 2), of_frames, "stress, GPa", "stress_{}_GPa", "GPa"),
    )
    drawn = [panel for panel in panels if np.isfinite(panel[0]).all(axis=1).any()]
    metrics = comparison.metrics()
    figure = Figure(figsize=(0.2 + 4.2 * max(1, len(drawn)), 4.3 + 0.5 * by_kind), layout="constrained")
    for k, (points, groups, label, key, unit) in enumerate(drawn):
        errors = {name: metrics[key.format(name.lower())] for name in ("MAE", "RMSE")}
        text = [f"{name} {error:.3g} {unit}" for name, error in errors.items() if error is not None]
        colours = _colours(kinds if by_kind else groups)
        axis = figure.add_subplot(1, len(drawn), k + 1)
        _panel(axis, points, groups, colours, label, text)
        if not by_kind and _few(groups):
            axis.legend(handles=_handles(colours), loc="lower right", frameon=False, handletextpad=0.1)
    if by_kind:
        handles = _handles(_colours(kinds))
        figure.legend(handles=handles, loc="outside lower center", ncols=2 * len(drawn), frameon=False, borderpad=0.9)
    figure.suptitle(f"{title}, {metrics['n_frames']} frames")
    save(figure, target)


def _panel(
    axis: Axes, points: np.ndarray, groups: np.ndarray, colours: dict[str, str], label: str, text: list[str]
) -> None:
    """Draw points [n, 2] (reference, predicted), equally many of each owner, whose group is in `groups` [owners].

    Their order is random, so that no group hides another.
    """
    order = np.random.default_rng(0).permutation(np.flatnonzero(np.isfinite(points).all(axis=1)))
    if len(order) > SHOWN:
        text = [*text, f"{SHOWN:,} of {len(order):,} points,", f"with the {FARTHEST:,} farthest"]
        far = np.argpartition(-np.abs(points[order, 1] - points[order, 0]), FARTHEST)
        rest = np.sort(far[FARTHEST:])[: SHOWN - FARTHEST]  # a random choice, as the order is random
        order = order[np.sort(np.concatenate([far[:FARTHEST], rest]))]
    colour = [colours[name] for name in groups[order // (len(points) // len(groups))].tolist()]
    points = points[order]
    low, high = points.min(), points.max()
    margin = 0.04 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    axis.plot(limits, limits, color=GREY, lw=0.8, zorder=0)
    alpha = 0.4 if len(points) < 20_000 else 0.2
    axis.scatter(points[:, 0], points[:, 1], s=6, c=colour, alpha=alpha, lw=0, rasterized=True)
    axis.set(xlabel=f"reference {label}", ylabel=f"predicted {label}", aspect="equal", xlim=limits, ylim=limits)
    axis.xaxis.set_major_locator(MaxNLocator(6))
    axis.yaxis.set_major_locator(MaxNLocator(6))
    axis.text(0.04, 0.96, "\n".join(text), transform=axis.transAxes, va="top", fontsize=9)


def _few(groups: np.ndarray) -> bool:
    """Whether there are several groups, but no more than colours."""
    return 1 < len(set(groups.tolist())) <= len(COLOURS)


def _colours(groups: np.ndarray) -> dict[str, str]:
    """The colour of every group, the largest group first; all the same if there are too many."""
    names = [name for name, _ in Counter(groups.tolist()).most_common()]
    return dict(zip(names, COLOURS if _few(groups) else [BLUE] * len(names), strict=False))


def _handles(colours: dict[str, str]) -> list[Line2D]:
    """Entries of the legend."""
    return [
        Line2D([], [], ls="", marker="o", ms=5, color=colour, label=name or "(none)")
        for name, colour in colours.items()
    ]
