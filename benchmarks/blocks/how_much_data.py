"""docs/how_much_data.md: the study of training sizes, and what belongs to it."""

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.blocks import mean_and_spread, number, percent, table
from benchmarks.stored import ROOT, Row, read, rows
from benchmarks.study.cells import MOVED, N_BASIS, N_TRAIN, VARIANTS
from gmnn.scanning.metrics import clopper_pearson

FORCE, ENERGY = "forces_mae_meV_per_A", "energy_mae_meV"
TITLES = {
    "none": "no repulsion", "compressed": "no repulsion, compressed frames added", "zbl_weak": "ZBL, Apax's default",
    "seed": "the blog post's cure", "zbl_physical": "physical ZBL", "swish_physical": "physical ZBL, bounded readout",
    "switch": "physical ZBL, network off below the data", "covalent": "full core, physical ZBL over the bonds",
    "agnesi": "the same with MACE's transform of r", "default": "gmnn's default: full core",
}  # fmt: skip
LABELS = {  # of the figure: variant -> label, colour, height of the label beside the left panel
    "none": ("no repulsion", "#000000", 98.0),
    "zbl_weak": ("ZBL, Apax's default", "#e69f00", 68.0),
    "compressed": ("no repulsion,\ncompressed frames added", "#888888", 44.0),
    "seed": ("the blog post's cure", "#cc79a7", 27.0),
    "agnesi": ("full core, MACE's transform of r", "#b8a000", 5.6),
    "swish_physical": ("physical ZBL, bounded readout", "#009e73", 1.75),
    "switch": ("physical ZBL, network off\nbelow the data", "#56b4e9", 0.8),
    "zbl_physical": ("physical ZBL", "#7b3fa0", 0.27),
    "default": ("gmnn's default: none of 9,000", "#d55e00", 0.02),
}


def total(table: Iterable[Row]) -> tuple[int, int, int]:
    """Failed curves, curves and models. Relaxations are not curves and are left out."""
    curves = [row for row in table if row["suite"] != "relaxation"]
    models = {(row["variant"], row["n_basis"], row["seed"], row["n_train"]) for row in curves}
    return sum(int(r["n_failed"]) for r in curves), sum(int(r["n_curves"]) for r in curves), len(models)


def only(table: Iterable[Row], **wanted: object) -> list[Row]:
    """The rows with these values."""
    return [row for row in table if all(row[key] == str(value) for key, value in wanted.items())]


def errors(table: Iterable[Row], key: str) -> np.ndarray:
    """One number per model, in the order of the rows."""
    return np.array([float(row[key]) for row in table if row["suite"] == "bonds"])


def long_errors(key: str) -> dict[str, np.ndarray]:
    """Errors of the long trainings by variant, one per seed."""
    results = read("core_cost")
    return {variant: np.array([model[key] for model in results[variant]["models"]]) for variant in ("none", "default")}


def headline() -> str:
    """The answer in one sentence."""
    study, force = rows(), long_errors(FORCE)
    few, many = (percent(*total(only(study, variant="none", n_train=n))[:2], digits=0) for n in (10, 1000))
    failed, curves, models = total(only(study, variant="default"))
    ratio = force["default"].mean() / force["none"].mean()
    return (
        "**No amount of data stabilises an unconstrained potential: driven together, its atoms attract each other on "
        f"{few} of the paths after 10 training frames and on {many} after 1,000; gmnn's default, whose core repels by "
        f"construction, fails {failed:,} of {curves:,} paths over {models} models, from 10 frames on, at {ratio:.2f} "
        "times the force error of the unconstrained network when both are trained for long.**"
    )


def study() -> str:
    """The failures of every variant in short."""
    table_of_models, lines = rows(), []
    for name, title in TITLES.items():
        mine = only(table_of_models, variant=name)
        failed, curves, models = total(mine)
        ends = (percent(*total(only(mine, n_train=n))[:2]) for n in (10, 1000))
        lines.append([title, models, f"{failed:,} of {curves:,}", *ends])
    return table(["potential", "models", "curves that fail", "10 frames", "1,000 frames"], lines)


def variants() -> str:
    """All curves of a variant, and the share that fails at each training size."""
    study, lines = rows(), []
    for name, (title, _) in VARIANTS.items():
        mine = only(study, variant=name)
        failed, curves, models = total(mine)
        low, high = clopper_pearson(curves - failed, curves)
        relaxed = only(mine, suite="relaxation")
        fused, starts = (sum(int(row[key]) for row in relaxed) for key in ("n_failed", "n_curves"))
        lines.append([
            f"**{name}**: {title}", models, f"{failed:,} / {curves:,}", f"{100 * low:.2f} to {100 * high:.2f} %",
            f"{max(float(row['worst_drop_eV'] or 0) for row in mine):.3g}",
            *(percent(*total(only(mine, n_train=n))[:2]) for n in N_TRAIN), f"{fused:,} / {starts:,}",
        ])  # fmt: skip
    head = ["variant", "models", "failed / curves", "pass rate, 95 %", "worst fall, eV", *(f"{n:,}" for n in N_TRAIN),
            "fused in relaxation"]  # fmt: skip
    return table(head, lines)


def suites() -> str:
    """Failures by suite."""
    study = rows()
    names = [name for name in dict.fromkeys(row["suite"] for row in study) if name != "relaxation"]
    return table(["variant", *names], [[v, *(_counts(study, variant=v, suite=s) for s in names)] for v in VARIANTS])


def basis() -> str:
    """Failures by number of basis functions."""
    study, sizes = rows(), sorted(N_BASIS)
    lines = [[v, *(_counts(study, variant=v, n_basis=n) for n in sizes)] for v in VARIANTS]
    return table(["variant", *(f"{n} functions" for n in sizes)], lines)


def _counts(study: list[Row], **wanted: object) -> str:
    failed, curves, _ = total(only(study, **wanted))
    return f"{failed:,} / {curves:,}" if curves else "not run"


def accuracy() -> str:
    """Force and energy errors of the study's short trainings, 16 basis functions."""
    study, lines = only(rows(), n_basis=16), []
    for name in VARIANTS:
        cells = [only(study, variant=name, n_train=n) for n in N_TRAIN]
        lines.append([name, *(" / ".join(f"{errors(cell, key).mean():.0f}" for key in (FORCE, ENERGY))
                              for cell in cells)])  # fmt: skip
    return table(["variant", *(f"{n:,}" for n in N_TRAIN)], lines)


def cost() -> str:
    """Errors and suites of the long trainings."""
    force, energy, default = long_errors(FORCE), long_errors(ENERGY), read("core_cost")["default"]
    ratio = force["default"] / force["none"]
    curves, failed = (sum(suite[key] for suite in default["suites"].values()) for key in ("curves", "failed"))
    text = table(
        [f"{default['steps']:,} steps, 5 seeds", "F MAE, meV/Å", "E MAE, meV"],
        [[v, mean_and_spread(force[v]), mean_and_spread(energy[v])] for v in force],
    ) + (
        f"\n\nForce error, default / none, by seed: {mean_and_spread(ratio, 3)} "
        f"({', '.join(f'{r:.3f}' for r in ratio)}). Suites of two frames, 50 directions per atom: the default fails "
        f"{failed:,} of {curves:,} curves."
    )
    failures = [
        [entry["seed"], entry["suite"], entry["curve"], f"{entry['r_A']:.3f}", f"{entry['drop_eV']:.4f}"]
        for entry in default["failures"]
    ]
    return text + ("\n\n" + table(["seed", "suite", "curve", "r, Å", "fall, eV"], failures) if failures else "")


def dynamics() -> str:
    """Fusions and lost bonds of the Langevin runs, and T1 at constant energy."""
    results = read("dynamics")
    first, lines = next(iter(results["nvt"].values())), []
    for variant in MOVED[0]:
        for size in MOVED[1]:
            if runs := [run for key, run in results["nvt"].items() if key.startswith(f"{variant}_16_{size}_")]:
                cells = [_fusions([run["temperatures"][t] for run in runs]) for t in first["temperatures"]]
                lines.append([variant, f"{size:,}", *cells])
    text = (
        f"Langevin dynamics of one ethanol, {first['ps']:g} ps at 0.5 fs, 8 copies per model and temperature, up to "
        "two seeds: fused / bond lost (time of the first fusion).\n\n"
        + table(["variant", "frames", "300 K", "500 K", "1,000 K"], lines)
        + "\n\nConstant energy, the shipped model, float64. Closest approach beside the certified barrier radius r_b "
        "for the run's own energy, Å:\n\n"
    )
    lines = []
    for key, run in results["nve"].items():
        pairs = [f"{name} {closest:.2f} ({run['barrier_A'][name]:.2f})" for name, closest in run["closest_A"].items()
                 if run["barrier_A"].get(name) is not None]  # fmt: skip
        drift = "-"  # of runs shorter than 1 ps
        if "drift_meV_per_atom_per_ps" in run:
            drift = f"{run['drift_meV_per_atom_per_ps']:.1e} ± {run['drift_error_meV_per_atom_per_ps']:.1e}"
        lines.append([
            f"{key}, {run['runs']} × {run['fs']:.0f} fs", f"{run['kinetic_eV']:.1f}", ", ".join(pairs),
            ", ".join(run["entered"]) or "none", f"{run['largest_change_meV_per_atom']:.2g}", drift,
        ])  # fmt: skip
    head = ["runs", "kinetic energy at the start, eV", "closest (r_b)", "entered r_b",
            "largest change of E, meV/atom", "drift, meV/atom/ps"]  # fmt: skip
    return text + table(head, lines)


def _fusions(runs: list[dict]) -> str:
    """Fused / lost among the copies of several models."""
    copies, fused, lost = (sum(run[key] for run in runs) for key in ("copies", "fused", "bond_lost"))
    first = [run["first_ps_to_fusion"] for run in runs if run["first_ps_to_fusion"] is not None]
    return f"{fused} / {lost} of {copies}" + (f" (first after {min(first):.2f} ps)" if first else "")


def certificate() -> str:
    """Certified and sampled numbers of the shipped model, and the search beyond them."""
    pairs = read("adversary")["pairs"]
    proved = [
        [pair, number(row["barrier"], ".3f"), number(row["monotone"], ".4f"), number(row["certified"], ".3g"),
         number(row["sampled"], ".3g"), f"{row['environments']:,}", row["violations"]]
        for pair, row in pairs.items()
    ]  # fmt: skip
    ranges = [f"{cell['r'][0]:g} to {cell['r'][1]:g}" for cell in next(iter(pairs.values()))["beyond"]]
    searched = [
        [pair, *(f"{cell['violations']} ({cell['highest_eV_per_A']:.0f})" for cell in row["beyond"])]
        for pair, row in pairs.items()
    ]
    head = ["pair", "r_b (T1), Å", "r_c (T2), Å", "Λ certified", "Λ sampled", "environments", "violations"]
    return (
        table(head, proved)
        + "\n\nAbove r_c nothing is proved. Gradient ascent of dE/dr over the seven other atoms of ethanol, 256 starts "
        "per cell: starts that end with dE/dr ≥ 0 (largest dE/dr found, eV/Å), by distance in Å.\n\n"
        + table(["pair", *ranges], searched)
    )


def certified() -> str:
    """Errors and certified bounds of the trainings that try to make the bounds small."""
    lines = [
        [name, f"{row['forces_mae_meV_per_A']:.1f}", f"{row['energy_mae_meV']:.1f}",
         ", ".join(f"{norm:.1f}" for norm in row["spectral_norms"]), f"{row['certified_eV_per_A']['C-H']:.2g}",
         f"{row['monotone_A']['C-H'] or float('nan'):.4f}"]
        for name, row in read("certified_force")["choices"].items()
    ]  # fmt: skip
    head = ["training", "F MAE, meV/Å", "E MAE, meV", "norms of the layers", "Λ certified, C–H, eV/Å", "r_c, C–H, Å"]
    return table(head, lines)


def draw() -> None:
    """Failures, and the cost in force error, over the number of training frames: docs/figures/how_much_data.png."""
    figure = Figure(figsize=(10.5, 4.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.55, 1.0))
    study = rows()
    for name, (label, colour, height) in LABELS.items():
        shares = [total(only(study, variant=name, n_train=n)) for n in N_TRAIN]
        percents = [100 * failed / curves for failed, curves, _ in shares]
        ours = name == "default"
        left.plot(N_TRAIN, percents, "o-", ms=6 if ours else 4, lw=3 if ours else 1.5, color=colour, clip_on=False,
                  zorder=3 if ours else 2)  # fmt: skip
        left.annotate(label, (1000, height), (14, 0), textcoords="offset points", va="center", color=colour,
                      fontsize=9.5, fontweight="bold" if ours else "normal", annotation_clip=False)  # fmt: skip
    left.set_yscale("symlog", linthresh=0.5, linscale=0.5)
    left.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    left.set_ylim(0, 110)
    left.spines[["top", "right"]].set_visible(False)
    _axis(left, "approaches on which the energy stops rising, %", "More data does not stabilise; a core does",
          "training frames (ethanol at 500 K, no short distances)")  # fmt: skip
    _cost_panel(right, only(study, n_basis=16))
    figure.savefig(ROOT / "docs" / "figures" / "how_much_data.png", dpi=130)


def _cost_panel(axes: Axes, study: list[Row]) -> None:
    """Force error relative to the unconstrained network with the same frames and seeds."""
    axes.axhline(1.0, color="black", lw=1.0)
    for name, label, r, height in (
        ("compressed", "compressed\nframes added", 180, 3.2), ("agnesi", "MACE's transform of r", 60, 1.32),
        ("default", "gmnn's default", 60, 0.86),
    ):  # fmt: skip
        colour, ours = LABELS[name][1], name == "default"
        pairs = [[errors(only(study, variant=v, n_train=n), FORCE) for v in (name, "none")] for n in N_TRAIN]
        ratios = np.array([mine / free for mine, free in pairs])
        axes.errorbar(N_TRAIN, ratios.mean(1), ratios.std(1, ddof=1), marker="o", ms=6 if ours else 4, capsize=3,
                      color=colour, lw=3 if ours else 1.5, zorder=3 if ours else 2)  # fmt: skip
        axes.text(r, height, label, color=colour, fontsize=9.5, fontweight="bold" if ours else "normal", va="center")
    force = long_errors(FORCE)
    ratios = force["default"] / force["none"]
    axes.plot(np.full(5, 1000), ratios, "*", ms=10, color="white", mec="black", mew=0.7, zorder=4)
    axes.text(1000, 0.75, "stars: 12.5 times as many steps", ha="right", va="center", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_yscale("log")
    axes.set_ylim(0.7, 9)
    axes.set_yticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    _axis(axes, "force error / that of no repulsion", "The core costs no accuracy")


def _axis(axes: Axes, label: str, title: str, frames: str = "training frames") -> None:
    """Logarithmic numbers of frames, and labels."""
    axes.set_xscale("log")
    axes.set_xticks(N_TRAIN, [f"{n:,}" for n in N_TRAIN])
    axes.minorticks_off()
    axes.set_xlabel(frames)
    axes.set_ylabel(label)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
