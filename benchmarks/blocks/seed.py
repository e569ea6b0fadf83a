"""docs/seed.md: the blog post's five settings and the default."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.blocks import table
from benchmarks.stored import ROOT, read

RUNS = {
    "seed_none_16": "no repulsion, linear output, 16 basis functions",
    "seed_zbl_16": "ZBL × 0.0069, linear output, 16 basis functions",
    "seed_zbl_8": "ZBL × 0.0069, linear output, 8 basis functions",
    "seed_zbl_24": "ZBL × 0.0069, linear output, 24 basis functions",
    "seed_swish_16": "ZBL × 0.0694, bounded output, 16 basis functions",
    "ethanol_quick": "gmnn's default",
}
COLOURS = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#cc9900", "#0072b2", "#d55e00", "#cc79a7")
WINDOW = (-15.0, 60.0)  # eV about E(r_eq)


def settings() -> str:
    """Errors and verdicts, one row per setting."""
    results, lines = read("ethanol"), []
    for name, title in RUNS.items():
        test, scan = results[name]["metrics"]["test"], results[name]["scan"]
        depth = max(curve["worst_depth"] for curve in scan["curves"])
        lines.append([title, f"`{name}`", f"{test['energy_mae_meV']:.1f}", f"{test['forces_mae_meV_per_A']:.1f}",
                      f"{scan['passed']} of {len(scan['curves'])}", f"{depth:.2g}"])  # fmt: skip
    head = ["setting", "config", "E MAE, meV", "F MAE, meV/Å", "bonds that pass", "deepest fall, eV"]
    return table(head, lines)


def draw() -> None:
    """Six panels, one curve per bond: docs/figures/seed.png."""
    results = read("ethanol")
    figure = Figure(figsize=(11, 6.8), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True, sharey=True).ravel()
    for axes, name in zip(panels, RUNS, strict=True):
        panel(axes, results[name])
    for axes in panels[::3]:
        axes.set_ylabel("E − E(r_eq), eV")
    for axes in panels[3:]:
        axes.set_xlabel("distance, Å")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=8, frameon=False)
    figure.savefig(ROOT / "docs" / "figures" / "seed.png", dpi=130)


def panel(axes: Axes, result: dict) -> None:
    """The 20 points of every bond, as the post shows them."""
    for colour, (bond, points) in zip(COLOURS, result["s0"].items(), strict=False):
        axes.plot(*zip(*points, strict=True), color=colour, marker="o", ms=2.5, lw=1.2, label=bond)
    axes.axhline(0.0, color="#bbbbbb", lw=0.6, zorder=0)
    axes.set_title(f"{result['title']}\n{result['scan']['passed']} of {len(result['s0'])} bonds pass", fontsize=9.5)
    axes.set(xlim=(0.05, 1.8), ylim=WINDOW)
