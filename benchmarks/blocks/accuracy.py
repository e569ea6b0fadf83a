"""docs/accuracy.md."""

import numpy as np
from matplotlib.figure import Figure

from benchmarks.blocks import BLUE, GREY, ORANGE, median, number, table
from benchmarks.stored import ROOT, read

ERRORS = {"forces_mae_meV_per_A": "force MAE, meV/Å", "energy_mae_meV": "energy MAE, meV"}
LONGER = {"the same, 6 Å, 7 channels": "rate 2e-3, clipped, batches of 4, 6 Å, 7 channels"}  # what is stored -> meant
SILICON = {  # PBE: constants from npj Comput. Mater. 10, 218 (2024), Table 2; a from Haas, Tran, Blaha, PRB 79, 085104
    "a_A": 5.466, "B_GPa": 89.0, "C11_GPa": 153.1, "C12_GPa": 57.0, "C44_GPa": 74.3,
}  # fmt: skip


def cores(run: dict) -> str:
    """What a training ran on."""
    return "one core" if run["cores"] == 1 else f"{run['cores']} cores"


def quick() -> str:
    """The shipped example: errors, times and the wall, and the wall with NLH."""
    results = read("ethanol")
    run, nlh = results["ethanol_quick"], results.get("ethanol_nlh")
    metrics, test = run["metrics"], run["metrics"]["test"]
    strengths = sorted({f"{row['strength']:.3f}" for row in metrics["repulsion"]})
    facts = [
        ["force MAE", f"{test['forces_mae_meV_per_A']:.1f} meV/Å"],
        ["energy MAE", f"{test['energy_mae_meV']:.1f} meV ({test['energy_mae_meV_per_atom']:.2f} meV/atom)"],
        [f"{metrics['epochs']} epochs", f"{metrics['wall_time_s']:.0f} s, {metrics['steps_per_s']:.0f} steps/s"],
        ["compilation", f"{metrics['compile_time_s']:.0f} s"],
        ["bonds that pass the strict scan", f"{run['scan']['passed']} of {len(run['scan']['curves'])}"],
        ["ZBL strengths (1 = physical)", ", ".join(strengths) + (" for all pairs" if len(strengths) == 1 else "")],
    ]
    walls = [["ZBL (default)", *wall(run)], *([["NLH", *wall(nlh)]] if nlh else [])]
    return (
        f"`configs/ethanol_quick.yaml`: 1,000 training frames, {test['n_frames']} test frames, one run on "
        f"{run['cpu_cores']} shared CPU cores, jax {run['versions']['jax']}.\n\n"
        f"{table(['quantity', 'value'], facts)}\n\n"
        "Where the wall stands: r_model − r_MP2 in Å, the largest of the bonds whose reference reaches that far.\n\n"
        + table(["energy above E(r_eq), eV", *(f"{row['energy']:g}" for row in _walls(run)[0])], walls)
    )


def wall(run: dict) -> list[str]:
    """Largest error of the wall over the bonds at each energy."""
    cells = []
    for rows in zip(*_walls(run), strict=True):
        errors = [row["error"] for row in rows if row["error"] is not None]
        cells.append(f"{max(errors, key=abs):+.3f} ({len(errors)} bonds)" if errors else "-")
    return cells


def _walls(run: dict) -> list[list[dict]]:
    return [curve["wall_error"] for curve in run["scan"]["curves"] if curve["wall_error"]]


def rmd17() -> str:
    """One configuration on the official split."""
    lines = []
    for molecule, run in read("rmd17")["long"].items():
        metrics, test = run["metrics"], run["metrics"]["test"]
        lines.append([
            molecule, f"{test['n_frames']:,}", f"**{test['forces_mae_meV_per_A']:.1f}**",
            f"{test['forces_rmse_meV_per_A']:.1f}", f"**{test['energy_mae_meV']:.2f}**", f"{metrics['epochs']:,}",
            f"{metrics['wall_time_s'] / 60:.0f} min, {cores(run)}", f"{metrics['steps_per_s']:.0f}",
        ])  # fmt: skip
    return table(
        ["molecule", "test frames", "F, meV/Å", "F rms", "E, meV", "epochs", "training", "steps/s"], lines
    )  # fmt: skip


def peer() -> str:
    """Apax and gmnn for five minutes each, and the optimiser steps of both per second."""
    results = read("rmd17")
    gmnn, apax = (
        f"{run['forces_mae_meV_per_A']:.1f} meV/Å and {run['energy_mae_meV']:.1f} meV in {run['epochs']} epochs and "
        f"{run['wall_s']:.0f} s" for run in (results["peer"]["gmnn"], results["peer"]["apax"])
    )  # fmt: skip
    speed = results["speed"]
    small, large = (
        [*(median(speed["steps_per_s"][f"{name} {size}"]) for name in ("gmnn", "apax")), f"{speed['ratio'][size]:.1f}"]
        for size in ("4", "32")
    )
    return (
        f"gmnn reaches {gmnn}, Apax {apax}. Optimiser steps per second of the same model (5 Å, 5 channels, 256 × 256) "
        f"on {speed['cores']} cores, in turns: {small[0]} against {small[1]} of Apax at batches of 4 ({small[2]} "
        f"times), {large[0]} against {large[1]} at batches of 32 ({large[2]} times)."
    )


def ladder() -> str:
    """Force errors over that of the defaults, one change at a time."""
    runs, key = read("rmd17")["ladder"], "forces_mae_meV_per_A"
    base = runs.pop("the defaults")[key]
    ratios = sorted((round(run[key] / base, 2), LONGER.get(name, name)) for name, run in runs.items())
    lines = []
    for title, low, high in (("better", 0.0, 0.95), ("the same", 0.95, 1.06), ("worse", 1.06, np.inf)):
        lines.append(f"- {title}: " + "; ".join(f"{r:.2f} {name}" for r, name in ratios if low <= r < high) + ".")
    return "\n".join(lines)


def long_ladder() -> str:
    """Force errors of longer trainings, one change at a time from the configuration."""
    runs = read("rmd17")["long_ladder"]
    keys = ("forces_mae_meV_per_A", "learnt_forces_mae_meV_per_A")
    errors = sorted((*(run[key] for key in keys), name) for name, run in runs.items())
    cells = (f"{test:.1f} / {train:.1f} {name.replace(':', ',')}" for test, train, name in errors)
    return f"Force errors on test / training frames, meV/Å: {'; '.join(cells)}."


def crystals() -> str:
    """Crystals with stress, beside Apax."""
    lines = []
    for name, entry in read("crystals")["sets"].items():
        for program in ("gmnn", "apax"):
            run = entry[program]
            lines.append([
                f"{name}, {entry['frames']['train']} frames" if program == "gmnn" else "", program,
                f"{run['energy_mae_meV_per_atom']:.2f}", f"{run['forces_mae_meV_per_A']:.0f}",
                number(run.get("stress_mae_GPa"), ".3f"), run["epochs"],
                f"{run['wall_s']:.0f} s",
            ])  # fmt: skip
    return table(["set", "", "E, meV/atom", "F, meV/Å", "stress, GPa", "epochs", "wall time"], lines)


def silicon() -> str:
    """Constants of silicon beside published ones, and the stress beside differences of the energy."""
    results = read("crystals")
    heads = {"a_A": "lattice constant", "B_GPa": "B", "C11_GPa": "C11", "C12_GPa": "C12", "C44_GPa": "C44"}
    a, *constants = (
        f"{name} {results['silicon'][key]:.{3 if key == 'a_A' else 1}f} / {SILICON[key]}" for key, name in heads.items()
    )
    rows = [row for entry in results["sets"].values() for row in entry["stress_by_differences"].values()]
    return (
        f"- Silicon, atoms relaxed in every strained cell, model / published PBE: {a} Å, {', '.join(constants)} GPa.\n"
        "- In float64 the stress equals central differences of the energy (strain 1e-4) within "
        f"{max(row['difference_GPa'] for row in rows):.1e} GPa, in test frames, strained and triclinic cells of all "
        f"four sets, with components up to {max(row['largest_GPa'] for row in rows):.2f} GPa."
    )


def mixed() -> str:
    """Molecules, crystals and a liquid in one training."""
    result = read("mixed")
    lines = [
        [name, row["n_frames"], f"{row['energy_mae_meV_per_atom']:.2f}", f"{row['forces_mae_meV_per_A']:.0f}",
         f"{result['mean_force_meV_per_A'][name]:.0f}", number(row["stress_mae_GPa"], ".2f")]
        for name, row in result["test"].items() if name
    ]  # fmt: skip
    return table(["test frames of", "", "E, meV/atom", "F, meV/Å", "mean force, meV/Å", "stress, GPa"], lines)


def ensemble() -> str:
    """Calibration and cost of a shallow ensemble."""
    result = read("ensemble")
    single, shallow = result["test"]["single"], result["test"]["shallow"]
    areas = (
        f"{key} {row['miscalibration_bare']:.3f} / {row['miscalibration']:.3f} (scale {row['scale']:.2f})"
        for key, row in shallow["uncertainty"].items()
    )
    return (
        f"A step costs {result['cost']:.2f} times that of the single model. Errors: F "
        f"{shallow['forces_mae_meV_per_A']:.1f} meV/Å, E {shallow['energy_mae_meV']:.1f} meV (single model "
        f"{single['forces_mae_meV_per_A']:.1f}, {single['energy_mae_meV']:.1f}). Miscalibration area on test frames (0 "
        f"is perfect, 0.5 the worst), bare / scaled on the validation frames: {', '.join(areas)}."
    )


def draw() -> None:
    """Validation errors over the time of training: docs/figures/rmd17.png."""
    results = read("rmd17")
    figure = Figure(figsize=(9, 3.7), layout="constrained")
    panels = dict(zip(ERRORS, figure.subplots(1, 2), strict=True))
    for (molecule, run), colour in zip(results["long"].items(), (BLUE, ORANGE, GREY), strict=False):
        times = np.array(run["curve"]["seconds"]) / 60
        for key, axes in panels.items():
            axes.plot(times, run["curve"][key], color=colour, label=f"{molecule} on {cores(run)}, validation frames")
            test = run["metrics"]["test"][key]
            axes.plot(times[-1:], [test], "*", ms=11, color=colour, label=f"{molecule}, test frames")
    for name, marker in (("apax", "s"), ("gmnn", "D")):
        run = results["peer"][name]
        for key, axes in panels.items():
            label = f"{name}, ethanol, {run['wall_s'] / 60:.0f} min in all"
            axes.plot([run["wall_s"] / 60], [run[key]], marker, color="black", ms=6, mfc="none", label=label)
    for key, axes in panels.items():
        axes.set(xscale="log", yscale="log", xlabel="training time, min", ylabel=ERRORS[key])
    panels["forces_mae_meV_per_A"].legend(frameon=False, fontsize=8)
    figure.savefig(ROOT / "docs" / "figures" / "rmd17.png", dpi=130)
