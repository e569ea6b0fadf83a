"""The figure, the tables and the page of the study, from the stored results alone.

    python benchmarks/how_much_data_report.py

Reads benchmarks/results/{how_much_data.csv, core_cost.json, dynamics.json, adversary.json, certified_force.json};
writes docs/figures/how_much_data.png, docs/how_much_data.md and the README between its `headline` and `study` marks.
The figure and the tables of models come from benchmarks/study; here is the rest of the page.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.marks import rewrite  # noqa: E402
from benchmarks.study import tables  # noqa: E402
from benchmarks.study.cells import MOVED  # noqa: E402
from benchmarks.study.figure import draw  # noqa: E402
from benchmarks.study.results import rows, stored  # noqa: E402


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
        f"{failed:,} of {curves:,} curves." + failures_text(cost["default"].get("failures", []))
    )


def failures_text(failures: list[dict]) -> str:
    """Where the long-trained defaults fail."""
    if not failures:
        return ""
    lines = ["\n\n| seed | suite | curve | r, Å | fall, eV |", "|---|---|---|---|---|"]
    for one in failures:
        lines.append(f"| {one['seed']} | {one['suite']} | {one['curve']} | {one['r_A']:.3f} | {one['drop_eV']:.4f} |")
    return "\n".join(lines)


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
        for variant in MOVED[0]:
            for size in MOVED[1]:
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
            "| runs | kinetic energy at the start, eV | closest (r_b) | entered r_b | largest change of E, meV/atom | "
            "drift, meV/atom/ps |",
            "|---|---|---|---|---|---|",
        ]
        for key, run in found["nve"].items():
            pairs = [
                f"{name} {run['closest_A'][name]:.2f} ({run['barrier_A'][name]:.2f})"
                for name in run["closest_A"]
                if run["barrier_A"].get(name) is not None
            ]
            lines.append(
                f"| {key}, {run['runs']} × {run['fs']:.0f} fs | {run['kinetic_eV']:.1f} | {', '.join(pairs)} | "
                f"{', '.join(run['entered']) or 'none'} | {run['largest_change_meV_per_atom']:.2g} | {drift(run)} |"
            )
    return "\n".join(lines)


def drift(run: dict) -> str:
    """Slope of the energy with its standard error; of runs shorter than 1 ps nothing."""
    if "drift_meV_per_atom_per_ps" not in run:
        return "-"
    return f"{run['drift_meV_per_atom_per_ps']:.1e} ± {run['drift_error_meV_per_atom_per_ps']:.1e}"


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
    lines = [
        "| training | F MAE, meV/Å | E MAE, meV | norms of the layers | Λ certified, C–H, eV/Å | r_c, C–H, Å |",
        "|---" * 6 + "|",
    ]
    for name, row in found["choices"].items():
        norms = ", ".join(f"{norm:.1f}" for norm in row["spectral_norms"])
        radius = row["monotone_A"]["C-H"] or float("nan")
        lines.append(
            f"| {name} | {row['forces_mae_meV_per_A']:.1f} | {row['energy_mae_meV']:.1f} | {norms} | "
            f"{row['certified_eV_per_A']['C-H']:.2g} | {radius:.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Write everything."""
    table = rows()
    cost, dynamics, adversary = stored("core_cost"), stored("dynamics"), stored("adversary")
    draw(table, cost, ROOT / "docs" / "figures" / "how_much_data.png")
    parts = {
        "variants": tables.variants_table(table), "suites": tables.suites_table(table),
        "basis": tables.basis_table(table), "accuracy": tables.accuracy_table(table),
        "cost": cost_text(cost),
        "dynamics": dynamics_text(dynamics), "certificate": adversary_text(adversary),
        "certified": certified_text(stored("certified_force")),
    }  # fmt: skip
    rewrite(ROOT / "docs" / "how_much_data.md", parts)
    short = {"headline": tables.headline(table, cost), "study": tables.readme_table(table)}
    rewrite(ROOT / "README.md", short)


if __name__ == "__main__":
    main()
