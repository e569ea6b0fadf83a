"""docs/peers.md: one scan of ethanol by gmnn and by other potentials, and the README's figure of one bond."""

import csv
import re
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.interpolate import CubicHermiteSpline

from benchmarks.blocks import number, table
from benchmarks.stored import ROOT
from gmnn.scanning.comparison import StoredScan, check_comparable, markdown, read_scan, row_of
from gmnn.scanning.reference import ReferenceCurve, read_reference
from gmnn.scanning.report import CSV_HEADER, PACKAGES

STORED = ROOT / "benchmarks" / "peers" / "scans"
REFERENCE = ROOT / "gmnn" / "data" / "files" / "ethanol_curves.extxyz.xz"
NAMES = {
    "gmnn": "gmnn, default", "apax": "Apax, its ZBL", "mace": "MACE", "mace-core": "MACE, ZBL and Agnesi",
    "gfn2-xtb": "GFN2-xTB",
}  # fmt: skip
COLOURS = {"gmnn": "#0072b2", "apax": "#d55e00", "mace": "#222222", "mace-core": "#cc79a7", "gfn2-xtb": "#009e73"}
BOND = "O6-H8"  # of the README's figure
LABELS = {  # of the README's figure: peer -> label, its place in Å and eV
    "gmnn": ("gmnn", 0.53, 55.0), "apax": ("Apax", 0.17, 2.0), "mace": ("MACE", 0.3, -60.0),
    "gfn2-xtb": ("GFN2-xTB", 0.24, 330.0),
}  # fmt: skip


def scans_by_peer() -> dict[str, StoredScan]:
    """The stored scans, of one structure by one protocol."""
    stored = {peer: read_scan(STORED / peer) for peer in NAMES if (STORED / peer).is_dir()}
    check_comparable(list(stored.values()))
    return stored


def scans() -> str:
    """Verdicts of every potential, as `table` sets them."""
    wide = markdown([row_of(scan) for scan in scans_by_peer().values()])
    return re.sub(r" ?\| ?", "|", wide)


def peers() -> str:
    """Where every potential is from, and how well it learnt."""
    lines = []
    for scan in scans_by_peer().values():
        training, versions = scan.summary["training"], scan.summary["versions"]
        packages = [name for name in versions if name not in ("python", *PACKAGES)] or ["gmnn"]
        lines.append([scan.name, ", ".join(f"{name} {versions[name]}" for name in packages),
                      number(training.get("forces_mae_meV_per_A"), ".1f"),
                      f"{training['epochs']} epochs" if "epochs" in training else "-"])  # fmt: skip
    return table(["potential", "from", "force error, meV/Å", "trained for"], lines)


def draw() -> None:
    """Every bond: docs/figures/peers.png."""
    stored, reference = scans_by_peer(), read_reference(REFERENCE)
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    grid = figure.subplots(2, 4, sharey=True)
    for axes, bond in zip(grid.flat, stored["gmnn"].curves, strict=True):
        bond_panel(axes, bond, stored, reference[bond])
        axes.set_title(bond, loc="left", fontsize=10, fontweight="bold")
        axes.set_xlim(left=0.0)
    for axes in grid[-1]:
        axes.set_xlabel("distance (Å)")
    for axes in grid[:, 0]:
        axes.set_ylabel("$E - E(r_\\mathrm{eq})$ (eV)")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(ROOT / "docs" / "figures" / "peers.png", dpi=130)


def draw_one_bond() -> None:
    """The O-H bond pressed together: docs/figures/one_bond.png."""
    reference = read_reference(REFERENCE)
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    bond_panel(axes, BOND, LABELS, reference[BOND])
    for peer, (label, r, energy) in LABELS.items():
        axes.text(r, energy, label, color=COLOURS[peer], fontsize=13, fontweight="bold" if peer == "gmnn" else "normal")
    axes.text(0.25, 32.0, "MP2", color="0.4", fontsize=13)
    axes.set(xlim=(0.0, 1.15), ylim=(-700, 1500))
    axes.set_xlabel("O–H distance in ethanol (Å)", fontsize=12)
    axes.set_ylabel("energy above the minimum (eV)", fontsize=12)
    axes.tick_params(labelsize=11)
    figure.savefig(ROOT / "docs" / "figures" / "one_bond.png", dpi=200)


def smooth(peer: str, bond: str) -> tuple[np.ndarray, CubicHermiteSpline]:
    """Distances from the first to the last of a stored curve, and the energies between by their slopes."""
    with open(STORED / peer / "scan.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["bond"] == bond]
    columns = (CSV_HEADER[2], CSV_HEADER[4], CSV_HEADER[5])
    points = {float(row[columns[0]]): [float(row[name]) for name in columns] for row in rows}
    r, energies, slopes = np.array([points[key] for key in sorted(points)]).T
    return np.linspace(r[0], r[-1], 1500), CubicHermiteSpline(r, energies, slopes)


def bond_panel(axes: Axes, bond: str, peers: Iterable[str], reference: ReferenceCurve) -> None:
    """The energy along one bond: MP2 as points, hollow where MP2 fails, and one line per potential."""
    for reliable, face in ((True, "0.55"), (False, "none")):
        chosen = reference.reliable == reliable
        axes.plot(reference.distances[chosen], reference.rise[chosen], "o", ms=4.5, mfc=face, mec="0.55",
                  label="MP2" if reliable else None, zorder=1)  # fmt: skip
    for peer in peers:
        r, curve = smooth(peer, bond)
        ours = peer == "gmnn"
        axes.plot(r, curve(r), color=COLOURS[peer], lw=2.6 if ours else 1.6, label=NAMES[peer], zorder=3 if ours else 2)
    axes.axhline(0.0, color="0.85", lw=0.8, zorder=0)
    axes.set_yscale("asinh", linear_width=0.7)
    axes.set_yticks([-1000, -100, -10, 0, 10, 100, 1000], ["−1,000", "−100", "−10", "0", "10", "100", "1,000"])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
