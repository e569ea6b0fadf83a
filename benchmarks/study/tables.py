"""The tables of the study in Markdown, from the rows of its models."""

from collections.abc import Iterable

import numpy as np

from benchmarks.study.cells import N_BASIS, N_TRAIN, VARIANTS
from benchmarks.study.results import Row
from gmnn.scanning.metrics import clopper_pearson

LINES = {  # name -> label in the figure, colour
    "none": ("no repulsion", "#000000"),
    "compressed": ("no repulsion, compressed frames added", "#888888"),
    "zbl_weak": ("ZBL, Apax's default", "#e69f00"),
    "seed": ("the blog post's cure", "#cc79a7"),
    "zbl_physical": ("physical ZBL", "#56b4e9"),
    "swish_physical": ("physical ZBL, bounded readout", "#009e73"),
    "switch": ("physical ZBL, network off below the data", "#0072b2"),
    "covalent": ("full core, physical ZBL over the bonds", "#7b3fa0"),
    "agnesi": ("the same with MACE's transform of r", "#b8a000"),
    "default": ("gmnn's default: full core", "#d55e00"),
}


def total(found: Iterable[Row]) -> tuple[int, int, int]:
    """Failed, curves, independent models. Relaxations are not curves and are left out."""
    chosen = [row for row in found if row["suite"] != "relaxation"]
    models = {(row["variant"], row["n_basis"], row["seed"], row["n_train"]) for row in chosen}
    return sum(int(r["n_failed"]) for r in chosen), sum(int(r["n_curves"]) for r in chosen), len(models)


def errors(found: Iterable[Row], key: str) -> np.ndarray:
    """One number per model."""
    return np.array([float(row[key]) for row in found if row["suite"] == "bonds"])


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
