"""The figure of the suites: per suite a bar of what passed and its failing curves, or those nearest to failing."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gmnn.scanning.figures import COLOURS, FAILURE, LINEAR_WIDTH, MODEL, clean, energy_axis, to_png
from gmnn.scanning.relaxation import FUSED_BELOW
from gmnn.scanning.suite_results import SuiteResult

N_COLUMNS, N_SHOWN = 4, 5  # panels in a row, curves in a panel
GREY = COLOURS[-1]


def draw_suites(results: list[SuiteResult], model: str, structure: str) -> bytes:
    """One panel per suite as PNG: E − E(start) against distance of at most five curves, bar and counts above it."""
    n_columns = min(N_COLUMNS, len(results))
    n_rows = math.ceil(len(results) / n_columns)
    figure = Figure(figsize=(max(2.9 * n_columns, 6.0), 2.6 * n_rows + 0.9), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    for axes, result in zip(grid.flat, results, strict=False):
        if result.relaxations:
            _relaxation_panel(axes, result)
        else:
            _curves_panel(axes, result)
        _heading(axes, result)
        axes.tick_params(labelsize=8)
        clean(axes)
    for axes in grid.flat[len(results) :]:
        axes.set_axis_off()
    figure.suptitle(f"{model}, {structure}: {_summary(results)}", fontsize=11)
    handles = [
        Line2D([], [], color=MODEL, label="passes"),
        Line2D([], [], color=FAILURE, label="fails"),
        Line2D([], [], color=FAILURE, linestyle="--", linewidth=0.8, label="where it fails"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    return to_png(figure)


def _summary(results: list[SuiteResult]) -> str:
    n_curves = sum(one.n_curves for one in results)
    return f"{n_curves - sum(one.n_failed for one in results)} of {n_curves} curves pass"


def _heading(axes: Axes, result: SuiteResult) -> None:
    n_passed = result.n_curves - result.n_failed
    axes.set_title(result.name, loc="left", fontsize=10, fontweight="bold", pad=11)
    colour = FAILURE if result.n_failed else "0.25"
    axes.set_title(f"{n_passed} of {result.n_curves} pass", loc="right", fontsize=9, color=colour, pad=11)
    bar = axes.inset_axes((0.0, 1.02, 1.0, 0.04))
    if result.n_curves:
        bar.barh(0, n_passed, color=MODEL)
        bar.barh(0, result.n_failed, left=n_passed, color=FAILURE)
        bar.set_xlim(0, result.n_curves)
    bar.set_axis_off()


def _curves_panel(axes: Axes, result: SuiteResult) -> None:
    failing = sorted((one for one in result.verdicts if not one.passed), key=lambda one: -one.worst_drop)
    shown = failing or sorted(result.verdicts, key=lambda one: one.least_push)
    axes.set_yscale("asinh", linear_width=LINEAR_WIDTH)
    axes.set_xlabel("distance (Å)", fontsize=9)
    axes.set_ylabel("$E - E(r_\\mathrm{start})$ (eV)", fontsize=9)
    lowest, highest = -0.5, 10.0
    for verdict in shown[:N_SHOWN]:
        if verdict.points is None or not np.isfinite(verdict.points[:, 1]).any():
            continue
        r, energies, _ = np.where(np.isfinite(verdict.points), verdict.points, np.nan).T
        rise = energies - energies[np.argmax(np.isfinite(energies))]
        lowest, highest = min(lowest, 1.5 * np.nanmin(rise)), max(highest, 2.0 * np.nanmax(rise))
        axes.plot(r, rise, color=MODEL if verdict.passed else FAILURE, linewidth=1.3, alpha=0.8)
        if verdict.r_fail is not None:
            axes.axvline(verdict.r_fail, color=FAILURE, linewidth=0.8, linestyle="--", alpha=0.6)
    energy_axis(axes, lowest, highest)
    axes.set_xlim(left=0.0)
    what = "the worst" if failing else "nearest to failing"
    if shown:
        text = f"{what}: {shown[0].label.partition('@')[0]}"
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        axes.text(0.97, 0.97, text, transform=axes.transAxes, ha="right", va="top", fontsize=8, bbox=behind)


def _relaxation_panel(axes: Axes, result: SuiteResult) -> None:
    ordered = sorted(result.relaxations, key=lambda one: one.closest)
    colours = [FAILURE if one.fused else MODEL if one.converged else GREY for one in ordered]
    axes.scatter(np.arange(1, len(ordered) + 1), [one.closest for one in ordered], c=colours, s=10)
    axes.axhline(FUSED_BELOW, color=FAILURE, linewidth=0.8, linestyle="--")
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("start, ordered (grey: not converged)", fontsize=9)
    axes.set_ylabel("closest contact / covalent sum", fontsize=9)
