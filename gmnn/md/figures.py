"""The figure of a run of dynamics."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gmnn.evaluation.figures import BLUE, GREY, ORANGE
from gmnn.md.summary import DataRange, Record

FEW = 5  # replicas that are drawn one by one; of more the median, and a band of all
COLOURS = (BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def draw(record: Record, data: DataRange, atoms: int, title: str) -> bytes:
    """Draw what the log holds over time as PNG: temperature, energy, cell, distances, pieces, grade and spread.

    Dashed lines are the edges of the data, the pressure that is held and grade 1.
    """
    columns = record.columns
    single: list[tuple[str, np.ndarray, tuple[float, ...]]] = []
    if "largest_force_eV_per_A" in columns:
        single.append(("largest force, eV/Å", columns["largest_force_eV_per_A"], ()))
    else:
        single.append(("temperature, K", columns["temperature_K"], ()))
    energies = columns["potential_eV"]
    single.append(("energy less the start's,\nmeV/atom", 1e3 * (energies - energies[0]) / atoms, ()))
    if "pressure_GPa" in columns:
        held = tuple(np.unique(columns["held_GPa"][[0, -1]])) if "held_GPa" in columns else ()
        single.append(("pressure, GPa", columns["pressure_GPa"], held))
    if "held_GPa" in columns:
        single.append(("density, g/cm³", columns["density_g_per_cm3"], data.density or ()))
    for name, label in (
        ("largest_grade", "largest grade"), ("energy_std_eV", "spread of the energy, eV"), ("pieces", "pieces"),
    ):  # fmt: skip
        if name in columns:
            single.append((label, columns[name], (1.0,) if name == "largest_grade" else ()))
    kinds = [
        (label, record.named(prefix), edges)
        for prefix, label, edges in (
            ("closest_", "closest distance, Å", data.closest), ("longest_", "longest bond, Å", data.longest),
        )
    ]  # fmt: skip
    kinds = [entry for entry in kinds if entry[1]]
    rows = -(-(len(single) + len(kinds)) // 2)
    figure = Figure(figsize=(10, 2.3 * rows + 0.5), layout="constrained")
    axes = list(figure.subplots(rows, 2, sharex=True, squeeze=False).flat)
    for axis, (label, values, edges) in zip(axes, single, strict=False):
        _lines(axis, record.times, values, BLUE)
        for edge in edges:
            axis.axhline(edge, color=GREY, lw=0.9, ls="--")
        axis.set_ylabel(label)
        if label == "pieces":
            axis.yaxis.set_major_locator(MaxNLocator(integer=True))
            axis.set_ylim(0.0, 1.0 + np.nanmax(values))
    pairs = sorted({pair for _, by_pair, _ in kinds for pair in by_pair})
    for axis, (label, by_pair, known) in zip(axes[len(single) :], kinds, strict=False):
        for pair, values in by_pair.items():
            colour = COLOURS[pairs.index(pair) % len(COLOURS)]
            _lines(axis, record.times, values, colour, pair)
            if pair in known:
                axis.axhline(known[pair], color=colour, lw=0.9, ls="--")
        axis.set_ylabel(label)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=8, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    drawn = len(single) + len(kinds)
    for axis in axes[drawn:]:
        axis.set_axis_off()
    for axis in axes[max(0, drawn - 2) : drawn]:
        axis.set_xlabel("time, ps")
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.tick_params(labelbottom=True)
    figure.suptitle(title, fontsize=11)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=130)
    return image.getvalue()


def _lines(axis: Axes, times: np.ndarray, values: np.ndarray, colour: str, label: str = "") -> None:
    """Draw one line for each of few replicas, or the median of many and a band of all."""
    values = np.where(np.isfinite(values), values, np.nan)
    if np.isnan(values).all():
        return
    marker = "." if len(times) == 1 else ""
    if values.shape[1] > FEW:
        with np.errstate(all="ignore"):
            low, middle, high = (np.nanpercentile(values, q, axis=1) for q in (0, 50, 100))
        axis.fill_between(times, low, high, color=colour, alpha=0.2, lw=0)
        axis.plot(times, middle, color=colour, lw=1.2, marker=marker, label=label)
        return
    for k in range(values.shape[1]):
        axis.plot(times, values[:, k], color=colour, lw=1.0, alpha=0.9, marker=marker, label=label if k == 0 else "")
