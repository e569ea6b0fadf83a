"""The figure, the tables and the page of the study, from the stored results alone.

    python benchmarks/how_much_data_report.py

Reads benchmarks/results/{how_much_data.csv, core_cost.json, dynamics.json, adversary.json,
certified_force.json}; writes
docs/figures/how_much_data.png, docs/how_much_data.md and the part of the README between its `study` marks.
"""

import csv
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.study.cells import N_BASIS, N_TRAIN, VARIANTS  # noqa: E402
from gmnn.scanning.metrics import clopper_pearson  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
LINES = {  # name -> label in the figure, colour
    "none": ("no repulsion", "#000000"),
    "compressed": ("no repulsion, compressed frames added", "#888888"),
    "zbl_weak": ("ZBL, Apax's default", "#e69f00"),
    "seed": ("the blog post's cure", "#cc79a7"),
    "zbl_physical": ("physical ZBL", "#56b4e9"),
    "swish_physical": ("physical ZBL, bounded readout", "#009e73"),
    "default": ("gmnn's default: full core", "#d55e00"),
}
Row = dict[str, str]


def rows() -> list[Row]:
    """The study's table."""
    with open(RESULTS / "how_much_data.csv", newline="") as file:
        return list(csv.DictReader(file))


def stored(name: str) -> dict:
    """A JSON result, or nothing."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def total(found: Iterable[Row]) -> tuple[int, int, int]:
    """Failed, curves, independent models. Relaxations are not curves and are left out."""
    chosen = [row for row in found if row["suite"] != "relaxation"]
    models = {(row["variant"], row["n_basis"], row["seed"], row["n_train"]) for row in chosen}
    return sum(int(r["n_failed"]) for r in chosen), sum(int(r["n_curves"]) for r in chosen), len(models)


def errors(found: Iterable[Row], key: str) -> np.ndarray:
    """One number per model."""
    return np.array([float(row[key]) for row in found if row["suite"] == "bonds"])


def draw(table: list[Row], cost: dict) -> None:
    """Share of failed curves and force error over the number of training frames."""
    figure = Figure(figsize=(10.5, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, (label, colour) in LINES.items():
        mine = [row for row in table if row["variant"] == name and row["n_basis"] == "16"]
        sizes = [n for n in N_TRAIN if any(row["n_train"] == str(n) for row in mine)]
        if not sizes:
            continue
        counts = [total(row for row in mine if row["n_train"] == str(n)) for n in sizes]
        failed = [100 * f / n for f, n, _ in counts]
        thick = 2.6 if name == "default" else 1.4
        left.plot(sizes, failed, marker="o", ms=4, lw=thick, color=colour, label=label)
        if name in ("none", "seed", "default"):
            force = [errors((r for r in mine if r["n_train"] == str(n)), "forces_mae_meV_per_A") for n in sizes]
            spread = [np.std(f, ddof=1) for f in force]
            right.errorbar(sizes, [f.mean() for f in force], spread, color=colour, marker="o", ms=4, lw=thick)
        if name in cost:
            long = [model["forces_mae_meV_per_A"] for model in cost[name]["models"]]
            right.plot([1000] * len(long), long, "*", ms=9, color=colour, alpha=0.7)
    axis_text(left, "curves on which the energy stops rising, %", "More data does not stabilise; a core does")
    left.set_yscale("symlog", linthresh=1.0)
    left.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    left.set_ylim(-0.1, 130)
    axis_text(right, "force MAE on test frames, meV/Å", "Force error: short trainings, and long ones (stars)")
    right.set_yscale("log")
    right.set_yticks([20, 50, 100, 200], ["20", "50", "100", "200"])
    right.minorticks_off()
    right.set_ylim(15, 400)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(ROOT / "docs" / "figures" / "how_much_data.png", dpi=130)


def axis_text(axis: Axes, label: str, title: str) -> None:
    """Logarithmic sizes, labels."""
    axis.set_xscale("log")
    axis.set_xticks(N_TRAIN, [f"{n:,}" for n in N_TRAIN])
    axis.minorticks_off()
    axis.set_xlabel("training frames (ethanol at 500 K, no short distances)")
    axis.set_ylabel(label)
    axis.set_title(title, fontsize=10.5)


def variants_table(table: list[Row]) -> str:
    """One row per variant: all curves, and the share of failures at each training size."""
    lines = [
        "| variant | models | failed / curves | pass rate, 95 % | worst fall, eV | "
        + " | ".join(f"{n:,}" for n in N_TRAIN)
        + " | fused in relaxation |",
        "|---" * (6 + len(N_TRAIN)) + "|",
    ]
    for name, (title, _) in VARIANTS.items():
        mine = [row for row in table if row["variant"] == name]
        if not mine:
            continue
        failed, curves, models = total(mine)
        low, high = clopper_pearson(curves - failed, curves)
        worst = max(float(row["worst_drop_eV"] or 0) for row in mine)
        by_size = [total(row for row in mine if row["n_train"] == str(n)) for n in N_TRAIN]
        cells = [f"{100 * f / n:.1f} %" if n else "-" for f, n, _ in by_size]
        relaxed = [row for row in mine if row["suite"] == "relaxation"]
        fused = sum(int(r["n_failed"]) for r in relaxed), sum(int(r["n_curves"]) for r in relaxed)
        lines.append(
            f"| **{name}**: {title} | {models} | {failed:,} / {curves:,} | {100 * low:.2f} to {100 * high:.2f} % | "
            f"{worst:.3g} | " + " | ".join(cells) + f" | {fused[0]:,} / {fused[1]:,} |"
        )
    return "\n".join(lines)


def suites_table(table: list[Row]) -> str:
    """Failures by suite for every variant."""
    names = list(dict.fromkeys(row["suite"] for row in table if row["suite"] != "relaxation"))
    lines = ["| variant | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    for name in VARIANTS:
        cells = [total(r for r in table if r["variant"] == name and r["suite"] == suite) for suite in names]
        if cells[0][1]:
            lines.append(f"| {name} | " + " | ".join(f"{f:,} / {n:,}" for f, n, _ in cells) + " |")
    return "\n".join(lines)


def basis_table(table: list[Row]) -> str:
    """Failures by number of basis functions."""
    lines = ["| variant | " + " | ".join(f"{n} functions" for n in sorted(N_BASIS)) + " |", "|---" * 4 + "|"]
    for name in VARIANTS:
        cells = [total(r for r in table if r["variant"] == name and r["n_basis"] == str(n)) for n in sorted(N_BASIS)]
        if any(n for _, n, _ in cells):
            lines.append(f"| {name} | " + " | ".join(f"{f:,} / {n:,}" if n else "not run" for f, n, _ in cells) + " |")
    return "\n".join(lines)


def accuracy_table(table: list[Row]) -> str:
    """Force and energy errors of the study's short trainings, 16 basis functions."""
    lines = ["| variant | " + " | ".join(f"{n:,}" for n in N_TRAIN) + " |", "|---" * (1 + len(N_TRAIN)) + "|"]
    for name in VARIANTS:
        mine = [r for r in table if r["variant"] == name and r["n_basis"] == "16"]
        if mine:
            cells = []
            for n in N_TRAIN:
                both = (
                    errors((r for r in mine if r["n_train"] == str(n)), key)
                    for key in ("forces_mae_meV_per_A", "energy_mae_meV")
                )
                cells.append(" / ".join(f"{e.mean():.0f}" if len(e) else "-" for e in both))
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def time_text(table: list[Row]) -> str:
    """Seconds per model of the study's trainings, compilation left out by the median."""
    seconds = {v: np.median(errors((r for r in table if r["variant"] == v), "train_s")) for v in ("none", "default")}
    return (
        f"\n\nIn the study itself, 1,000 steps took {seconds['none']:.2f} s per model without and "
        f"{seconds['default']:.2f} s with the core (medians of all cells, five models at a time)."
    )


def cost_text(cost: dict) -> str:
    """The long trainings."""
    if not {"none", "default"} <= set(cost):
        return ""
    force = {v: np.array([m["forces_mae_meV_per_A"] for m in cost[v]["models"]]) for v in ("none", "default")}
    energy = {v: np.array([m["energy_mae_meV"] for m in cost[v]["models"]]) for v in ("none", "default")}
    ratio = force["default"] / force["none"]
    lines = [
        f"| {cost['default']['steps']:,} steps, 5 seeds | F MAE, meV/Å | E MAE, meV |",
        "|---|---|---|",
    ]
    for v in ("none", "default"):
        lines.append(
            f"| {v} | {force[v].mean():.2f} ± {force[v].std(ddof=1):.2f} | {energy[v].mean():.2f} ± "
            f"{energy[v].std(ddof=1):.2f} |"
        )
    suites = cost["default"]["suites"]
    curves, failed = (sum(s[key] for s in suites.values()) for key in ("curves", "failed"))
    return (
        "\n".join(lines) + f"\n\nForce error, default / none, by seed: {ratio.mean():.3f} ± {ratio.std(ddof=1):.3f} "
        f"({', '.join(f'{r:.3f}' for r in ratio)}). Suites of two frames, 50 directions per atom: the default fails "
        f"{failed:,} of {curves:,} curves."
    )


def dynamics_text(found: dict) -> str:
    """Fusions and lost bonds of the Langevin runs, and T1 at constant energy."""
    lines = []
    if found.get("nvt"):
        one = next(iter(found["nvt"].values()))
        lines += [
            f"Langevin dynamics of one ethanol, {one['ps']:g} ps at 0.5 fs, 8 copies per model and temperature, up to "
            "two seeds: fused / bond lost (time of the first fusion).",
            "",
            "| variant | frames | 300 K | 500 K | 1,000 K |",
            "|---|---|---|---|---|",
        ]
        for variant in ("none", "seed", "default"):
            for size in (50, 1000):
                runs = [v for k, v in found["nvt"].items() if k.startswith(f"{variant}_16_{size}_")]
                if runs:
                    lines.append(
                        f"| {variant} | {size:,} | " + " | ".join(cell(runs, t) for t in one["temperatures"]) + " |"
                    )
    if found.get("nve"):
        lines += [
            "",
            "Constant energy, the shipped model, float64. Closest approach beside the certified barrier radius r_b for "
            "the run's own energy, Å:",
            "",
            "| runs | kinetic energy at the start, eV | closest (r_b) | entered r_b | largest change of E, meV/atom |",
            "|---|---|---|---|---|",
        ]
        for key, run in found["nve"].items():
            pairs = [
                f"{name} {run['closest_A'][name]:.2f} ({run['barrier_A'][name]:.2f})"
                for name in run["closest_A"]
                if run["barrier_A"].get(name) is not None
            ]
            lines.append(
                f"| {key}, {run['runs']} × {run['fs']:.0f} fs | {run['kinetic_eV']:.1f} | {', '.join(pairs)} | "
                f"{', '.join(run['entered']) or 'none'} | {run['drift_meV_per_atom']:.2g} |"
            )
    return "\n".join(lines)


def cell(runs: list[dict], temperature: str) -> str:
    """fused / lost of some models at one temperature."""
    there = [run["temperatures"][temperature] for run in runs]
    copies, fused, lost = (sum(t[key] for t in there) for key in ("copies", "fused", "bond_lost"))
    first = [t["first_ps_to_fusion"] for t in there if t["first_ps_to_fusion"] is not None]
    return f"{fused} / {lost} of {copies}" + (f" (first after {min(first):.2f} ps)" if first else "")


def adversary_text(found: dict) -> str:
    """Certified and sampled numbers of the shipped model, and the search."""
    if not found:
        return ""
    lines = [
        "| pair | r_b (T1), Å | r_c (T2), Å | Λ certified | Λ sampled | environments | violations |",
        "|---" * 7 + "|",
    ]
    number: Callable[[float | None, str], str] = lambda x, form: "-" if x is None else format(x, form)  # noqa: E731
    for pair, row in found["pairs"].items():
        lines.append(
            f"| {pair} | {number(row['barrier'], '.3f')} | {number(row['monotone'], '.4f')} | "
            f"{number(row['certified'], '.3g')} | {number(row['sampled'], '.3g')} | {row['environments']:,} | "
            f"{row['violations']} |"
        )
    ranges = [f"{one['r'][0]:g} to {one['r'][1]:g}" for one in next(iter(found["pairs"].values()))["beyond"]]
    lines += [
        "",
        "Above r_c nothing is proved. Gradient ascent of dE/dr over the seven other atoms of ethanol, 256 starts "
        "per cell: starts that end with dE/dr ≥ 0 (largest dE/dr found, eV/Å), by distance in Å.",
        "",
        "| pair | " + " | ".join(ranges) + " |",
        "|---" * (1 + len(ranges)) + "|",
    ]
    for pair, row in found["pairs"].items():
        cells = [f"{one['violations']} ({one['highest_eV_per_A']:.0f})" for one in row["beyond"]]
        lines.append(f"| {pair} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def certified_text(found: dict) -> str:
    """Errors and certified bounds of the trainings that try to make them small."""
    if not found:
        return ""
    lines = ["| training | F MAE, meV/Å | E MAE, meV | Λ certified, C–H | r_c, C–H, Å |", "|---" * 5 + "|"]
    for name, row in found["choices"].items():
        lines.append(
            f"| {name} | {row['forces_mae_meV_per_A']:.1f} | {row['energy_mae_meV']:.1f} | "
            f"{row['certified_eV_per_A']['C-H']:.2g} | {row['monotone_A']['C-H'] or float('nan'):.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Write everything."""
    table = rows()
    cost, dynamics, adversary = stored("core_cost"), stored("dynamics"), stored("adversary")
    draw(table, cost)
    page = (ROOT / "docs" / "how_much_data.md").read_text()
    parts = {
        "variants": variants_table(table), "suites": suites_table(table), "basis": basis_table(table),
        "accuracy": accuracy_table(table), "cost": cost_text(cost) + time_text(table),
        "dynamics": dynamics_text(dynamics), "certificate": adversary_text(adversary),
        "certified": certified_text(stored("certified_force")),
    }  # fmt: skip
    for name, text in parts.items():
        page = between(page, name, text)
    (ROOT / "docs" / "how_much_data.md").write_text(page)
    readme = (ROOT / "README.md").read_text()
    readme = between(readme, "headline", headline(table, cost))
    (ROOT / "README.md").write_text(between(readme, "study", readme_table(table)))


def headline(table: list[Row], cost: dict) -> str:
    """The answer in one sentence, with the counts of the table and the ratio of the long trainings."""
    share = {}
    for size in ("10", "1000"):
        failed, curves, _ = total(r for r in table if r["variant"] == "none" and r["n_train"] == size)
        share[size] = f"{100 * failed / curves:.0f} %"
    failed, curves, models = total(row for row in table if row["variant"] == "default")
    force = {v: np.mean([m["forces_mae_meV_per_A"] for m in cost[v]["models"]]) for v in ("none", "default")}
    return (
        "**No amount of data stabilises an unconstrained potential: driven together, its atoms attract each other on "
        f"{share['10']} of the paths after 10 training frames and on {share['1000']} after 1,000; gmnn's default, "
        f"whose core repels by construction, fails {failed:,} of {curves:,} paths over {models} models, from 10 frames "
        f"on, at {force['default'] / force['none']:.2f} times the force error of the unconstrained network when both "
        "are trained for long.**"
    )


def readme_table(table: list[Row]) -> str:
    """The counts in short."""
    lines = ["| potential | models | curves that fail | 10 frames | 1,000 frames |", "|---|---|---|---|---|"]
    for name, (label, _) in LINES.items():
        mine = [row for row in table if row["variant"] == name]
        if mine:
            failed, curves, models = total(mine)
            ends = [total(row for row in mine if row["n_train"] == n) for n in ("10", "1000")]
            cells = " | ".join(f"{100 * f / n:.1f} %" if n else "-" for f, n, _ in ends)
            lines.append(f"| {label} | {models} | {failed:,} of {curves:,} | {cells} |")
    return "\n".join(lines)


def between(text: str, name: str, new: str) -> str:
    """The text with the part between its marks replaced."""
    marked = re.compile(rf"(<!-- {name} -->\n).*(<!-- /{name} -->)", re.S)
    if not marked.search(text):
        raise SystemExit(f"the marks of {name} are missing")
    return marked.sub(lambda m: m[1] + new + "\n" + m[2], text)


if __name__ == "__main__":
    main()
