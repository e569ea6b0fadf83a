"""docs/accuracy.md and its figure, from the stored results alone; parts that were not run are left out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.marks import rewrite
from benchmarks.study.results import stored

ROOT = Path(__file__).parents[2]
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"
HEAD = """# Accuracy

Generated from `benchmarks/results/{rmd17,crystals,mixed,ensemble}.json`, which name commit, versions and device. All
numbers are mean absolute errors on frames that were not trained on; CPU only, no GPU.
"""
BEFORE = (
    "Measured when the repulsion reached over the bonds by default (`model.zbl: {window: covalent, inner: 0.3, outer: "
    "1.2}`); now it ends where the data begin."
)
PUBLISHED = (  # rMD17 ethanol, 1,000 frames of split 1; E in meV, F in meV/Å; from memory, to be checked
    ("ACE", 1.2, 7.3), ("FCHL", 0.9, 6.2), ("GAP", 3.5, 18.1),
)  # fmt: skip
SILICON = {  # PBE: constants from npj Comput. Mater. 10, 218 (2024), Table 2; a from Haas, Tran, Blaha, PRB 79, 085104
    "a_A": 5.466, "B_GPa": 89.0, "C11_GPa": 153.1, "C12_GPa": 57.0, "C44_GPa": 74.3,
}  # fmt: skip


def write() -> None:
    """The page and the figure."""
    sections = [
        section for make in (long, peer, speed, ladder, long_ladder, crystals, mixed, ensemble) if (section := make())
    ]
    (ROOT / "docs" / "accuracy.md").write_text("\n".join([HEAD, *sections]))
    rewrite(ROOT / "README.md", {"accuracy": in_short()})


def in_short() -> str:
    """The README's table: one line per data set."""
    rows = []
    for molecule, run in stored("rmd17").get("long", {}).items():
        test, minutes = run["metrics"]["test"], run["metrics"]["wall_time_s"] / 60
        rows.append([
            f"rMD17 {molecule}, 950 + 50", f"{test['energy_mae_meV_per_atom']:.2f}",
            f"{test['forces_mae_meV_per_A']:.1f}", "-", f"{minutes:.0f} min, {cores(run)}",
        ])  # fmt: skip
    for name, one in stored("crystals").get("sets", {}).items():
        run, minutes = one["gmnn"], one["gmnn"]["wall_s"] / 60
        rows.append([
            f"{name}, {one['frames']['train']} + {one['frames']['valid']}", f"{run['energy_mae_meV_per_atom']:.2f}",
            f"{run['forces_mae_meV_per_A']:.1f}", f"{run['stress_mae_GPa']:.3f}", f"{minutes:.0f} min, one core",
        ])  # fmt: skip
    return table(["frames", "E, meV/atom", "F, meV/Å", "stress, GPa", "training"], rows).rstrip()


def cores(run: dict) -> str:
    """What it ran on."""
    return "one core" if run["cores"] == 1 else f"{run['cores']} cores"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def long() -> str:
    """rMD17, one configuration."""
    found = stored("rmd17").get("long")
    if not found:
        return ""
    draw(found, stored("rmd17").get("peer", {}))
    rows = []
    for molecule, run in found.items():
        test, m = run["metrics"]["test"], run["metrics"]
        rows.append([
            molecule, f"{test['n_frames']:,}", f"**{test['forces_mae_meV_per_A']:.1f}**",
            f"{test['forces_rmse_meV_per_A']:.1f}", f"**{test['energy_mae_meV']:.2f}**", f"{m['epochs']:,}",
            f"{m['wall_time_s'] / 60:.0f} min, {cores(run)}", f"{m['steps_per_s']:.0f}",
        ])  # fmt: skip
    others = ", ".join(f"{name} {force} / {energy}" for name, energy, force in PUBLISHED)
    head = ["molecule", "test frames", "F, meV/Å", "F rms", "E, meV", "epochs", "training", "steps/s"]
    return (
        "## rMD17, official split 1\n\n`configs/rmd17.yaml`: 950 training and 50 validation frames, "
        f"`python benchmarks/rmd17.py long MOLECULE --data FILE`.\n\n{table(head, rows)}\n"
        f"Published for ethanol with 1,000 frames of this split (F, meV/Å / E, meV; quoted from memory): {others}.\n\n"
        "![Validation errors over training time](figures/rmd17.png)\n"
    )


def draw(found: dict, peer: dict) -> None:
    """Validation errors over the time of training."""
    figure = Figure(figsize=(9, 3.7), layout="constrained")
    axes = figure.subplots(1, 2)
    for (molecule, run), colour in zip(found.items(), (BLUE, ORANGE, GREY), strict=False):
        minutes = np.array(run["curve"]["seconds"]) / 60
        for axis, key in zip(axes, ("forces_mae_meV_per_A", "energy_mae_meV"), strict=True):
            axis.plot(minutes, run["curve"][key], color=colour, label=f"{molecule} on {cores(run)}, validation frames")
            axis.plot(
                [minutes[-1]], [run["metrics"]["test"][key]], "*", ms=11, color=colour, label=f"{molecule}, test frames"
            )
    for name, marker in (("apax", "s"), ("gmnn", "D")):
        if name in peer:
            label = f"{name}, ethanol, {peer[name]['wall_s'] / 60:.0f} min in all"
            for axis, key in zip(axes, ("forces_mae_meV_per_A", "energy_mae_meV"), strict=True):
                axis.plot(
                    [peer[name]["wall_s"] / 60],
                    [peer[name][key]],
                    marker,
                    color="#000000",
                    ms=6,
                    mfc="none",
                    label=label,
                )
    for axis, label in zip(axes, ("force MAE, meV/Å", "energy MAE, meV"), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="training time, min", ylabel=label)
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(ROOT / "docs" / "figures" / "rmd17.png", dpi=130)


def peer() -> str:
    """Apax at equal time."""
    found = stored("rmd17").get("peer")
    if not found:
        return ""
    rows = [
        [name, f"{found[name]['forces_mae_meV_per_A']:.1f}", f"{found[name]['energy_mae_meV']:.1f}",
         f"{found[name]['epochs']}", f"{found[name]['wall_s']:.0f} s"]
        for name in ("apax", "gmnn")
    ]  # fmt: skip
    return (
        "## Equal wall time\n\nrMD17 ethanol, the same 950 + 50 frames, start and compilation included, "
        f"{found['version']} with the settings of its template and as many epochs as fit into five minutes, gmnn with "
        "`configs/rmd17.yaml` and as many as fit (by the steps per second of a short run).\n\n"
        + table(["", "F, meV/Å", "E, meV", "epochs", "wall time"], rows)
    )


def speed() -> str:
    """Steps per second beside Apax."""
    found = stored("rmd17").get("speed")
    if not found:
        return ""
    rows = [
        [size, *(f"{np.median(found['steps_per_s'][f'{name} {size}']):.1f}" for name in ("apax", "gmnn")),
         f"{found['ratio'][size]:.1f}"]
        for size in ("4", "32")
    ]  # fmt: skip
    return (
        f"Optimiser steps per second of the same model (5 Å, 5 channels, 256 × 256) on {found['cores']} cores, the two "
        "in turns, medians of both, the ratio turn by turn:\n\n"
        + table(["batch", "apax", "gmnn", "ratio"], rows)
        + "\nThe aim is 15 times at batches of 4 and 5 times at batches of 32.\n"
    )


def ladder() -> str:
    """One change at a time."""
    found = stored("rmd17").get("ladder")
    if not found:
        return ""
    base, key = found["the defaults"], "forces_mae_meV_per_A"
    rows = [
        [name, f"{run[key]:.1f}", f"{run[key] / base[key]:.2f}", f"{run['energy_mae_meV']:.1f}", f"{run['steps']:,}"]
        for name, run in found.items()
    ]  # fmt: skip
    return (
        f"## What helps\n\nOne change at a time from the defaults, unclipped, {base['epochs']} epochs each "
        "(`python benchmarks/rmd17.py ladder --data FILE`): short runs, which favour what learns fast. One seed; "
        f"ratios within a few per cent of 1 mean nothing. {BEFORE}\n\n"
        + table(["change", "F, meV/Å", "ratio", "E, meV", "steps"], rows)
    )


def long_ladder() -> str:
    """What keeps a long training from learning its frames by heart."""
    found = stored("rmd17").get("long_ladder")
    if not found:
        return ""
    rows = [
        [name, f"{run['forces_mae_meV_per_A']:.1f}", f"{run['learnt_forces_mae_meV_per_A']:.1f}",
         f"{run['forces_rmse_meV_per_A']:.1f}", f"{run['energy_mae_meV']:.2f}"]
        for name, run in found.items()
    ]  # fmt: skip
    epochs = next(iter(found.values()))["epochs"]
    return (
        f"## What helps a longer training\n\n`configs/rmd17.yaml`, {epochs} epochs, with one change. Equal amplitudes "
        "of the basis functions let the network learn its frames by heart; amplitudes that fall as (n + 1)^-1 put "
        "smooth radial functions first, and the test frames gain what the training frames lose. Decay of the weights "
        "does not do that.\n\n" + table(["", "F, meV/Å", "F, training frames", "F rms", "E, meV"], rows)
    )


def crystals() -> str:
    """Crystals with stress, silicon."""
    found = stored("crystals")
    if not found.get("sets"):
        return ""
    rows = []
    for name, one in found["sets"].items():
        for who in ("gmnn", "apax"):
            run = one[who]
            stress = f"{run['stress_mae_GPa']:.3f}" if "stress_mae_GPa" in run else "-"
            rows.append([
                f"{name}, {one['frames']['train']} frames" if who == "gmnn" else "", who,
                f"{run['energy_mae_meV_per_atom']:.2f}", f"{run['forces_mae_meV_per_A']:.0f}", stress,
                str(run["epochs"]), f"{run['wall_s']:.0f} s",
            ])  # fmt: skip
    head = ["set", "", "E, meV/atom", "F, meV/Å", "stress, GPa", "epochs", "wall time"]
    text = (
        "## Crystals with stress\n\nPBE frames of mlearn and of the MoTa SNAP set, split 80/10/10 with seed 0, "
        f"`configs/crystal.yaml`; {found['apax']} on the same splits, one core each, without stress (its stress in "
        "training is wrong). MoTa, 16 atoms a cell, with the default weights of the loss and repulsion over "
        "the bonds: with those of the configuration its network fell to its floor after 56 epochs, where it learns no "
        "more, and erred by 15 meV/atom, before `train.clip_spikes` (docs/training.md has what it does now).\n\n"
        + table(head, rows)
    )
    if "silicon" in found:
        keys = {"a_A": "a, Å", "B_GPa": "B, GPa", "C11_GPa": "C11", "C12_GPa": "C12", "C44_GPa": "C44"}
        form: Callable[[str, float], str] = lambda key, x: f"{x:.3f}" if key == "a_A" else f"{x:.1f}"  # noqa: E731
        mine = ["the model", *(form(key, found["silicon"][key]) for key in keys)]
        pbe = ["PBE, published", *(form(key, SILICON[key]) for key in keys)]
        text += (
            "\nSilicon, relaxed; atoms relaxed in every strained cell. Published: elastic constants npj Comput. Mater. "
            "10, 218 (2024), table 2; lattice constant Haas, Tran, Blaha, PRB 79, 085104 (2009).\n\n"
            + table(["", *keys.values()], [mine, pbe])
        )
    rows = [
        [name, what, f"{row['largest_GPa']:.2f}", f"{row['difference_GPa']:.1e}"]
        for name, one in found["sets"].items()
        for what, row in one["stress_by_differences"].items()
    ]
    return text + (
        "\nStress of the trained models in float64 against central differences of the energy (strain 1e-4):\n\n"
        + table(["set", "cell", "largest component, GPa", "largest difference, GPa"], rows)
    )


def mixed() -> str:
    """Molecules, crystals and a liquid in one run."""
    found = stored("mixed")
    if not found:
        return ""
    rows = [
        [name, str(row["n_frames"]), f"{row['energy_mae_meV_per_atom']:.2f}", f"{row['forces_mae_meV_per_A']:.0f}",
         f"{found['mean_force_meV_per_A'][name]:.0f}",
         "-" if row["stress_mae_GPa"] is None else f"{row['stress_mae_GPa']:.2f}"]
        for name, row in found["test"].items() if name
    ]  # fmt: skip
    first, last = found["valid_loss"]
    return (
        f"## One model of a molecule, a crystal and a liquid\n\n{found['epochs']} epochs, {found['seconds']:.0f} s, "
        f"{found['compiled_programs']} programs; {found['shapes']}. Validation loss {first:.3g} after the first epoch, "
        f"{last:.3g} at the end.\n\n"
        + table(["test frames of", "", "E, meV/atom", "F, meV/Å", "mean force, meV/Å", "stress, GPa"], rows)
    )


def ensemble() -> str:
    """Calibration and cost of a shallow ensemble."""
    found = stored("ensemble")
    if not found:
        return ""
    shallow, single = found["test"]["shallow"], found["test"]["single"]
    rows = [
        [key, f"{one['scale']:.2f}", f"{one['miscalibration_bare']:.3f}", f"{one['miscalibration']:.3f}"]
        for key, one in shallow["uncertainty"].items()
    ]
    errors = [
        [name, f"{one['forces_mae_meV_per_A']:.1f}", f"{one['energy_mae_meV']:.1f}"]
        for name, one in (("single model", single), (f"shallow ensemble of {found['members']}", shallow))
    ]
    return (
        f"## A shallow ensemble\n\n`configs/ethanol_quick.yaml`, {found['epochs']} epochs, beside a single model. "
        f"A step costs {found['cost']:.2f} times that of the single model (median of three turns). Miscalibration area "
        "on the test frames (0 is perfect, 0.5 the worst); the scale comes from the validation frames.\n\n"
        + table(["", "scale", "bare spread", "scaled"], rows)
        + "\n"
        + table(["", "F, meV/Å", "E, meV"], errors)
        + "\n![Errors over uncertainties, shares over probabilities](figures/ensemble_calibration.png)\n"
    )
