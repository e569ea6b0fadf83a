"""docs/speed.md, its figure and the README's table, from benchmarks/results/speed.json alone."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.accuracy.pages import BLUE, GREY, ORANGE, table
from benchmarks.marks import rewrite
from benchmarks.study.results import stored

ROOT = Path(__file__).parents[1]
PATHS = ("kernel", "fast")
FLOOR = 1.8, 3.7  # µs/atom, energy and forces of this model on two CPU cores: 0.73 MFLOP at 0.4 to 0.2 TFLOP/s
TARGETS = {("192", "calculator"): 8, ("1536", "calculator"): 10, ("192", "md"): 15, ("1536", "md"): 15}


def write() -> None:
    """Everything that is stored."""
    found = stored("speed")
    if not found:
        return
    parts = [head(found)] + [make(found) for make in (compared, beside_lammps, over_atoms, copies) if make(found)]
    (ROOT / "docs" / "speed.md").write_text("\n".join(parts))
    if "compare" in found and "<!-- speed -->" in (ROOT / "README.md").read_text():
        rewrite(ROOT / "README.md", {"speed": rows_of_comparison(found).rstrip()})


def head(found: dict) -> str:
    """What was measured with what."""
    text = (
        "# Speed\n\nGenerated from `benchmarks/results/speed.json`, which names commit and versions. "
        f"{found['cpu']}, {found['cores']} shared cores, float32, no GPU. Model: 5 Å, 16 basis functions, 5 channels, "
        "256 x 256, ZBL; liquid water. All times in µs per atom and evaluation or step.\n"
    )
    model = found.get("model")
    if model:
        text += (
            f"\nThe weights are those of an Apax model ({model['train']} frames, {model['epochs']} epochs), imported "
            f"with `gmnn import-apax`. On {model['frames']} frames it never saw both programs differ by at most "
            f"{model['energy_difference_eV_per_atom']:.1e} eV/atom and {model['forces_difference_eV_per_A']:.1e} eV/Å; "
            f"its force error is {model['forces_mae_meV_per_A']:.0f} meV/Å.\n"
        )
    return text


def rows_of_comparison(found: dict) -> str:
    """Table of both programs."""
    rows = []
    names = {"calculator": "energy + forces, ASE calculator",
             "batch": "Apax batch_eval, gmnn compiled loop"}  # fmt: skip
    for atoms, one in found["compare"].items():
        rates, loops = one["us_per_atom"], {"calculator": "calculator", "batch": "loop"}
        for kind, name in names.items():
            ours = [_pair(rates[f"{path} {loops[kind]}"], one["ratio"][path][kind]) for path in PATHS]
            rows.append([name, atoms, f"{np.median(rates[f'apax {kind}']):.1f}", *ours[0], *ours[1],
                         _target(atoms, kind)])  # fmt: skip
        if "md" in one:
            md = one["md"]
            ours = [_pair(md[path]["us_per_atom_step"], md[path]["ratio"]) for path in PATHS]
            rows.append(["step of dynamics, NVE, 0.5 fs", atoms, f"{np.median(md['apax_us_per_atom_step']):.1f}",
                         *ours[0], *ours[1], _target(atoms, "md")])  # fmt: skip
    return table(["", "atoms", "Apax 0.14", "gmnn `kernel`", "times as fast", "gmnn `fast`", "times as fast", "target"],
                 rows)  # fmt: skip


def _pair(ours: list[float], ratio: list[float]) -> list[str]:
    return [f"{np.median(ours):.1f}", f"**{np.median(ratio):.1f}** ({min(ratio):.1f} to {max(ratio):.1f})"]


def _target(atoms: str, kind: str) -> str:
    return f"≥ {TARGETS[atoms, kind]}" if (atoms, kind) in TARGETS else ""


def compared(found: dict) -> str:
    """Beside Apax."""
    if "compare" not in found:
        return ""
    notes = ""
    for atoms, one in found["compare"].items():
        if "md" in one:
            md, kernel = one["md"], one["md"]["kernel"]
            notes += (
                f"- {atoms} atoms: {one['mean_neighbors']:.0f} neighbours on average, {one['max_neighbors']} at most, "
                f"{one['slots']} slots; {kernel['rebuilds_per_1000']:.0f} lists in 1,000 steps of `kernel`; at the end "
                f"{kernel['temperature_K']:.0f} K, total energy {kernel['total_change_meV_per_atom']:+.3f} meV/atom. "
                f"Apax: steps {md['apax_steps'][1]} less {md['apax_steps'][0]}, "
                f"{len(md['apax_us_per_atom_step'])} turn(s).\n"
            )
    return (
        "## Beside Apax 0.14, same weights\n\nIn turns on the same cores; medians of the turns, ratio turn by turn. "
        "`kernel` is our path in C++, `fast` the one of XLA alone. "
        "Calculators: ASE's `get_forces`, positions moved by 1e-5 Å before each call, host work and transfers included "
        "in all. `batch_eval` makes its neighbour lists on the host, included. Dynamics: `apax md` with lists made "
        "again, a frame every 10 steps; gmnn is what `gmnn md` runs, without the writing of its frame and state at the "
        "end of a segment. Target of gmnn's step: at most 15 µs.\n\n" + rows_of_comparison(found) + "\n" + notes
    )


def beside_lammps(found: dict) -> str:
    """Potentials of LAMMPS."""
    if "lammps" not in found:
        return ""
    rows = []
    for one in found["lammps"]["rows"]:
        rates = {name: float(np.median(values)) for name, values in one["us_per_atom_step"].items()}
        rows.append([str(one["atoms"]), str(one["cores"]), *(f"{rate:.1f}" for rate in rates.values())])
    names = list(found["lammps"]["rows"][0]["us_per_atom_step"])
    return (
        f"## Beside potentials of LAMMPS\n\nThe step on the same box, in turns, medians of the turns. "
        f"{found['lammps']['version']}, one MPI rank for each core: SNAP (2J = 6), POD (two and three bodies) and UF3 "
        "(two and three bodies, the latter within 4 Å), cutoff 5 Å, in the sizes that come with LAMMPS, with random "
        "coefficients: their atoms rest, and their list is made every eight steps (`benchmarks/peers/lammps.py`). "
        "gmnn, path `kernel`, moves its atoms.\n\n" + table(["atoms", "cores", *names], rows)
    )


def over_atoms(found: dict) -> str:
    """The curve and its figure."""
    curve = found.get("curve")
    if not curve:
        return ""
    draw(found)
    rows = [
        [f"{r['atoms']:,}", str(r["cores"]), _both(r, "energy_forces"), _both(r, "md"),
         f"{r['reference_median_us_per_atom']:.0f}" if "reference_n" in r else "-",
         f"{r['mean_neighbors']:.0f} / {r['max_neighbors']}" if "max_neighbors" in r else "-", str(r["slots"]),
         f"{r['rebuilds']} in {r['md_steps']}", f"{r['first_call_s']:.1f}"]
        for r in curve
    ]  # fmt: skip
    text = (
        "## Over the number of atoms\n\n![Time per atom and step over the number of atoms](figures/speed.png)\n\n"
        "Least / median of five. Neighbours: mean / largest. Floor of two cores for energy and forces: "
        f"{FLOOR[0]} to {FLOOR[1]} µs.\n\n"
        + table(["atoms", "cores", "energy + forces", "NVE step", "reference path", "neighbours", "slots", "lists",
                 "first call, s"], rows)
    )  # fmt: skip
    for r in curve:
        if "parts_us_per_atom" in r:
            parts = ", ".join(f"{name} {value:.1f}" for name, value in r["parts_us_per_atom"].items())
            text += f"\nParts alone, {r['atoms']:,} atoms, {r['cores']} core(s): {parts} µs per atom.\n"
    return text


def _both(row: dict, name: str) -> str:
    return f"{row[f'{name}_min_us_per_atom']:.1f} / {row[f'{name}_median_us_per_atom']:.1f}"


def copies(found: dict) -> str:
    """Many small systems at once."""
    if "copies" not in found:
        return ""
    rows = [
        [str(r["copies"]), f"{r['min_us_per_atom']:.1f}", f"{r['median_us_per_atom']:.1f}"]
        for r in found["copies"]["rows"]
    ]
    return (
        f"## Copies of ethanol in one call, {found['copies']['cores']} cores\n\nModel `examples/ethanol`, energy and "
        "forces.\n\n" + table(["copies", "least, µs/atom", "median"], rows)
    )


def draw(found: dict) -> None:
    """µs per atom and step over N, log-log."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    cores = sorted({r["cores"] for r in found["curve"]})
    for color, key, name in ((BLUE, "energy_forces", "energy + forces"), (ORANGE, "md", "NVE step")):
        for count in cores:
            rows = [r for r in found["curve"] if r["cores"] == count]
            times = [r[f"{key}_median_us_per_atom"] for r in rows]
            axes.loglog(
                [r["atoms"] for r in rows], times, "o-" if count > 1 else "o--",
                color=color, markerfacecolor=color if count > 1 else "white", label=f"gmnn {name}, {count} core(s)",
            )  # fmt: skip
    for key, marker, name in (("calculator", "s", "Apax, calculator"), ("md", "^", "Apax, NVE step")):
        points = {
            int(n): one["md"]["apax_us_per_atom_step"] if key == "md" else one["us_per_atom"]["apax calculator"]
            for n, one in found.get("compare", {}).items() if key != "md" or "md" in one
        }  # fmt: skip
        axes.loglog(list(points), [np.median(v) for v in points.values()], marker, color=GREY, label=name)
    points = [one for one in found.get("lammps", {}).get("rows", []) if one["cores"] == max(cores)]
    for marker, style in zip("xD+", ("SNAP", "POD", "UF3"), strict=True):
        times = [np.median(one["us_per_atom_step"][style]) for one in points]
        axes.loglog([one["atoms"] for one in points], times, marker, color="black", label=f"{style} of LAMMPS")
    axes.axhspan(*FLOOR, color=GREY, alpha=0.25, lw=0, label="floor, 2 cores")
    axes.set(xlabel="atoms of water", ylabel="µs / (atom · step)")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    figure.savefig(ROOT / "docs" / "figures" / "speed.png", dpi=150)
