"""Draw the figures of scans and suites as PNG bytes, without pyplot: no global state, no window."""

import io
import math
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MultipleLocator, NullLocator

from gmnn.scanning.metrics import hermite
from gmnn.scanning.paths import Array
from gmnn.scanning.reference import ReferenceCurve
from gmnn.scanning.relaxation import FUSED_BELOW
from gmnn.scanning.scan import CurveResult, ScanResult
from gmnn.scanning.suites import SuiteResult

# Okabe and Ito's palette for all kinds of colour vision, its yellow (faint on white) replaced by grey
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F")
MARKERS = "osD^vP*X"
LINES = ("-", "--", ":", "-.")
MODEL, REFERENCE, FAILURE = "#0072B2", "#E69F00", "#D55E00"
DPI = 160
POINTS: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 4, "markeredgecolor": REFERENCE}
RELIABLE, UNRELIABLE = {**POINTS, "markerfacecolor": REFERENCE}, {**POINTS, "markerfacecolor": "none"}
LINEAR_WIDTH = 0.7  # eV, about where the asinh scale of the panels turns, without a kink, from linear to logarithmic
DEFAULT_TOP, LOWEST_BOTTOM = 60.0, -60.0  # eV, limits of the default window


def draw_scan(result: ScanResult, model: str, structure: str, window: tuple[float, float] | None) -> bytes:
    """Draw S0 as PNG: E − E(r_eq) against distance, one curve per bond, points joined by lines.

    window: the limits (lo, hi) of the energy axis in eV.
    """
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for k, curve in enumerate(result.curves):
        style: dict[str, Any] = {"color": COLOURS[k % 8], "marker": MARKERS[k % 8], "linestyle": LINES[k // 8 % 4]}
        rise = curve.s0.energies - curve.energy_eq
        axes.plot(curve.s0.distances, rise, label=curve.path.label, markersize=4, linewidth=1.3, **style)
    bottom, top = window or _default_window(result)
    axes.axhline(0.0, color="0.6", linewidth=0.8, zorder=0)
    axes.set_ylim(bottom, top)
    axes.set_xlim(left=0.0)
    axes.set_xlabel("distance of the two atoms (Å)")
    axes.set_ylabel("$E - E(r_\\mathrm{eq})$ (eV)")
    axes.legend(frameon=False, ncols=1 + (len(result.curves) - 1) // 12, loc="upper right", fontsize=9)
    axes.set_title(
        f"{_title(result, model, structure)}\nzero: the model's energy with that bond at $r_{{eq}}$", fontsize=10
    )
    clean(axes)
    return to_png(figure)


def _default_window(result: ScanResult) -> tuple[float, float]:
    rises = np.concatenate([curve.s0.energies - curve.energy_eq for curve in result.curves])
    lowest = float(np.min(rises[np.isfinite(rises)], initial=0.0))
    return max(1.1 * lowest, LOWEST_BOTTOM) - 2.0, DEFAULT_TOP


def draw_panels(result: ScanResult, model: str, structure: str) -> bytes:
    """Draw one panel per bond as PNG: the model's dense curve, S0 outside r_start, the reference curve if it exists."""
    n = len(result.curves)
    n_columns = min(4, n)
    n_rows = math.ceil(n / n_columns)
    figure = Figure(figsize=(max(2.6 * n_columns, 6.0), 2.4 * n_rows + 0.9), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, sharey=True, squeeze=False)
    for axes, curve in zip(grid.flat, result.curves, strict=False):
        _panel(axes, curve)
    for axes in grid.flat[n:]:
        axes.set_axis_off()
    for k in range(max(0, n - n_columns), n):
        grid.flat[k].set_xlabel("distance (Å)", fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel("$E - E(r_\\mathrm{eq})$ (eV)", fontsize=9)
    lowest, highest = _extent(result)
    energy_axis(grid[0, 0], lowest, highest)
    figure.suptitle(_title(result, model, structure), fontsize=11)
    figure.legend(
        handles=_legend(result),
        loc="outside lower center",
        ncols=6 if n_columns == 4 else 3,
        frameon=False,
        fontsize=8.5,
    )
    return to_png(figure)


def energy_axis(axes: Axes, lowest: float, highest: float) -> None:
    """Set the limits (eV) of an axis on the asinh scale, with ticks at 0 and powers of ten."""
    axes.set_ylim(lowest, highest)
    axes.yaxis.set_major_locator(FixedLocator(_ticks(lowest, highest)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}".replace("-", "\u2212"))
    axes.yaxis.set_minor_locator(NullLocator())


def draw_reference(axes: Axes, curve: ReferenceCurve) -> None:
    """Draw the points of a reference curve, hollow where the method is known to fail."""
    good = curve.reliable
    axes.plot(curve.distances[good], curve.rise[good], label="reference", **RELIABLE)
    axes.plot(curve.distances[~good], curve.rise[~good], **UNRELIABLE)


def _panel(axes: Axes, curve: CurveResult) -> None:
    axes.set_yscale("asinh", linear_width=LINEAR_WIDTH)
    axes.axhline(0.0, color="0.85", linewidth=0.8, zorder=0)
    axes.axvline(curve.r_start, color="0.6", linewidth=0.9, linestyle=":", zorder=0)
    if curve.reference is not None:
        draw_reference(axes, curve.reference)
    r, rises = _smooth(curve)
    axes.plot(r, rises, color=MODEL, linewidth=1.5)
    for minimum in curve.metrics["outer_minima"]:
        if minimum["r"] <= r[0]:  # heavy atoms are drawn from the bond inwards only
            rise = float(np.interp(minimum["r"], r[::-1], rises[::-1]))
            axes.plot(minimum["r"], rise, "v", color=FAILURE, markersize=7, markeredgecolor="white", zorder=5)
    for minimum in curve.metrics["spurious_minima"]:
        k = int(np.argmin(np.abs(curve.strict.distances - minimum["r"])))
        rise = curve.strict.energies[k] - curve.energy_eq
        axes.plot(minimum["r"], rise, "v", color=FAILURE, markersize=7, markeredgecolor="white", zorder=5)
    if curve.metrics["r_fail"] is not None:
        axes.axvline(curve.metrics["r_fail"], color=FAILURE, linewidth=1.1, linestyle="--")
    verdict = "pass" if curve.passed else f"FAIL at {curve.metrics['r_fail']:.2f} Å"
    axes.set_title(curve.path.label, loc="left", fontsize=10, fontweight="bold")
    axes.set_title(verdict, loc="right", fontsize=9, color="0.25" if curve.passed else FAILURE)
    axes.set_xlim(0.0, 1.03 * max(curve.s0.distances[0], curve.r_eq))
    axes.xaxis.set_major_locator(MultipleLocator(0.5))
    axes.tick_params(labelsize=8)
    clean(axes)


def _smooth(curve: CurveResult) -> tuple[Array, Array]:
    """(r, E − E(r_eq)) of the model for drawing: S0 outside, joined by cubics with slopes, then the strict points."""
    whole = curve.s0.select(curve.s0.distances > curve.r_start).merge(curve.strict)
    points = np.stack([whole.distances, whole.energies - curve.energy_eq, whole.slopes], axis=1)
    r, rise = [points[:1, 0]], [points[:1, 1]]
    for a, b in pairwise(points):
        between = np.linspace(a[0], b[0], 12 if a[0] > curve.r_start else 2)[1:]
        r.append(between)
        rise.append(np.asarray(hermite(a, b, between)[0]) if a[0] > b[0] else np.full(len(between), b[1]))
    return np.concatenate(r), np.concatenate(rise)


def _extent(result: ScanResult) -> tuple[float, float]:
    values = [np.zeros(1)]
    for curve in result.curves:
        values += [curve.strict.energies - curve.energy_eq, curve.s0.energies - curve.energy_eq]
        if curve.reference is not None:
            values.append(curve.reference.rise)
    everything = np.concatenate(values)
    everything = everything[np.isfinite(everything)]
    lowest, highest = float(everything.min()), float(everything.max())
    return 1.5 * min(lowest, -0.5), max(2.0 * highest, 10.0)


def _ticks(lowest: float, highest: float) -> list[float]:
    """0 and at most six powers of ten above it, the same powers below it where the axis reaches them."""
    top = math.floor(math.log10(highest))
    powers = [10.0**k for k in range(0, top + 1, max(1, math.ceil(top / 5)))]
    return [-p for p in powers if -p >= lowest] + [0.0] + powers


def _legend(result: ScanResult) -> list[Line2D]:
    handles = [Line2D([], [], color=MODEL, linewidth=1.5, label="model")]
    references = [curve.reference for curve in result.curves if curve.reference is not None]
    if references:
        handles.append(Line2D([], [], label="reference", **RELIABLE))
    if any(not reference.reliable.all() for reference in references):
        handles.append(Line2D([], [], label="reference, unreliable", **UNRELIABLE))
    handles.append(Line2D([], [], color="0.6", linewidth=0.9, linestyle=":", label="strict scan starts"))
    if not result.passed:
        handles.append(Line2D([], [], color=FAILURE, linewidth=1.1, linestyle="--", label="failure"))
    if any(curve.metrics["spurious_minima"] + curve.metrics["outer_minima"] for curve in result.curves):
        handles.append(Line2D([], [], color=FAILURE, linestyle="none", marker="v", label="spurious minimum"))
    return handles


def _title(result: ScanResult, model: str, structure: str) -> str:
    verdict = "all" if result.passed else f"{result.n_passed} of"
    return f"{model}, {structure}: {verdict} {len(result.curves)} bonds pass"


def clean(axes: Axes) -> None:
    """Hide the sides of the frame that carry no axis."""
    axes.spines[["top", "right"]].set_visible(False)


def to_png(figure: Figure) -> bytes:
    """Render the figure as PNG, at 160 dots per inch."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


N_COLUMNS, N_SHOWN = 4, 5  # panels in a row, curves in a panel
GREY = COLOURS[-1]


def draw_suites(results: list[SuiteResult], model: str, structure: str) -> bytes:
    """Draw one panel per suite as PNG: E − E(start) against distance of at most five curves, with a bar and counts."""
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
    n_curves = sum(result.n_curves for result in results)
    return f"{n_curves - sum(result.n_failed for result in results)} of {n_curves} curves pass"


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
    failing = sorted((curve for curve in result.verdicts if not curve.passed), key=lambda curve: -curve.worst_drop)
    ranked = failing or sorted(result.verdicts, key=lambda curve: curve.least_push)
    axes.set_yscale("asinh", linear_width=LINEAR_WIDTH)
    axes.set_xlabel("distance (Å)", fontsize=9)
    axes.set_ylabel("$E - E(r_\\mathrm{start})$ (eV)", fontsize=9)
    lowest, highest = -0.5, 10.0
    for verdict in ranked[:N_SHOWN]:
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
    description = "the worst" if failing else "nearest to failing"
    if ranked:
        text = f"{description}: {ranked[0].label.partition('@')[0]}"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        axes.text(0.97, 0.97, text, transform=axes.transAxes, ha="right", va="top", fontsize=8, bbox=box)


def _relaxation_panel(axes: Axes, result: SuiteResult) -> None:
    ordered = sorted(result.relaxations, key=lambda relaxation: relaxation.closest)
    colours = [FAILURE if relaxation.fused else MODEL if relaxation.converged else GREY for relaxation in ordered]
    axes.scatter(np.arange(1, len(ordered) + 1), [relaxation.closest for relaxation in ordered], c=colours, s=10)
    axes.axhline(FUSED_BELOW, color=FAILURE, linewidth=0.8, linestyle="--")
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("start, ordered (grey: not converged)", fontsize=9)
    axes.set_ylabel("closest contact / covalent sum", fontsize=9)
