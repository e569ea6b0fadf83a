"""docs/md.md: a water potential that holds, and conserves energy."""

import numpy as np
from matplotlib.figure import Figure

from benchmarks.blocks import BLUE, GREY, ORANGE, table
from benchmarks.stored import ROOT, read

PAIRS = {"O-O": (8, 8), "O-H": (8, 1), "H-H": (1, 1)}
EDGES = np.arange(0.0, 6.0001, 0.05)  # Å, of the shells of g(r)
CURVES = (
    ("data", GREY, "data, 330 K"), ("water 300", "tab:green", "water, 300 K"),
    ("water_boxes 300", BLUE, "water_boxes, 300 K"), ("water_boxes 1000", ORANGE, "water_boxes, 1,000 K"),
)  # fmt: skip


def held() -> str:
    """Temperatures and closest contacts of the long runs."""
    lines = [
        [*f"{name} K".split(maxsplit=1), f"{run['ps']:.0f} ps", f"{run['mean_temperature_K']:.0f} K",
         f"{run['largest_temperature_K']:.0f} K", *(f"{run['closest_A'][pair]:.2f}" for pair in PAIRS),
         f"{run['molecules_not_whole_on_average']:.2f}"]
        for name, run in read("water")["held"].items()
    ]  # fmt: skip
    closest = [f"closest {pair}, Å" for pair in PAIRS]
    return table(["model", "bath", "time", "mean T", "largest T", *closest, "molecules not whole"], lines)


def drift() -> str:
    """Drift of the total energy at constant energy."""
    return drift_table(
        ["model", "path", "precision"], [(name.split(), run) for name, run in read("water")["drift"].items()]
    )


def drift_table(head: list[str], runs: list[tuple[list[str], dict]]) -> str:
    """Slopes of total energies with their errors, after the cells that name each run."""
    lines = [
        [*names, f"{run['ps']:.0f} ps", f"{run['mean_temperature_K']:.0f} K",
         f"{run['drift_meV_per_atom_ps']:+.1e} ± {run['standard_error_meV_per_atom_ps']:.0e}",
         f"{run['spread_meV_per_atom']:.3f}"]
        for names, run in runs
    ]  # fmt: skip
    return table([*head, "time", "mean T", "drift, meV/atom/ps", "σ(E), meV/atom"], lines)


def draw() -> None:
    """Radial distribution functions: docs/figures/water_rdf.png."""
    curves = read("water")["rdf"]
    figure = Figure(figsize=(9.0, 2.8), layout="constrained")
    middle = 0.5 * (EDGES[1:] + EDGES[:-1])
    for axes, pair in zip(figure.subplots(1, 3), PAIRS, strict=True):
        for key, colour, label in CURVES:
            if key in curves:
                axes.plot(middle, curves[key][pair], color=colour, label=label, lw=1.2)
        axes.set(xlabel=f"{pair} distance, Å", xlim=(0.7, 6.0), ylim=(0.0, 3.5))
    figure.axes[0].set_ylabel("g(r)")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(ROOT / "docs" / "figures" / "water_rdf.png", dpi=150)
