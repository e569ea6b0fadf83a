"""Compare scans of one structure by any calculators, made in any environments, in one figure and one table.

The input is the scan.json and scan.csv in the folders that the scans wrote.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gmnn.errors import UserError
from gmnn.folders import write_files
from gmnn.scanning.figures import COLOURS, LINEAR_WIDTH, LINES, REFERENCE, clean, draw_reference, energy_axis, to_png
from gmnn.scanning.paths import Array
from gmnn.scanning.reference import ReferenceCurve
from gmnn.scanning.report import CSV_HEADER, plain

PALETTE = [colour for colour in COLOURS[1:] if colour != REFERENCE]
RULES = ("bond_cutoff", "bonds", "n_left_out")  # entries of a protocol that say which bonds it has
LEVEL = 10.0  # eV above E(r_eq), at which the walls are compared with the reference


@dataclass(frozen=True)
class StoredScan:
    """A finished scan: its summary, and for each bond distances [n] Å, falling, with energies above E(r_eq) [n] eV."""

    name: str
    summary: dict[str, Any]
    curves: dict[str, tuple[Array, Array]]


def read_scan(folder: str | PathLike[str]) -> StoredScan:
    """Read what `write_report` wrote to a folder; UserError if it is missing or incomplete."""
    folder = Path(folder)
    try:
        summary = json.loads((folder / "scan.json").read_text(encoding="utf-8"))
        with open(folder / "scan.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        points: dict[str, dict[float, float]] = {curve["bond"]: {} for curve in summary["curves"]}
        for row in rows:
            points[row[CSV_HEADER[0]]][float(row[CSV_HEADER[2]])] = float(row[CSV_HEADER[4]])
        name = str(summary["model"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"There is no scan to compare in '{folder}' ({type(error).__name__}: {error}); a folder with the scan.json "
            "and scan.csv that scan.py writes is needed; run the scan of bonds there first."
        ) from error
    curves = {}
    for bond, values in points.items():
        r = np.array(sorted(values, reverse=True))
        curves[bond] = r, np.array([values[x] for x in r.tolist()])
    return StoredScan(name, summary, curves)


def check_comparable(scans: Sequence[StoredScan]) -> None:
    """Raise UserError unless the scans have the same structure, protocol and bonds, and different names."""
    first = scans[0]
    for scan in scans[1:]:
        for key in ("structure", "protocol"):
            ours, theirs = (_compared(each.summary[key]) for each in (first, scan))
            if ours != theirs:
                raise UserError(
                    f"The scans are not of the same {key}, got {ours} for {first.name} and "
                    f"{theirs} for {scan.name}; scan all with the same structure and options."
                )
        if list(scan.curves) != list(first.curves):
            raise UserError(
                f"The scans are not of the same bonds, got {', '.join(first.curves)} for {first.name} and "
                f"{', '.join(scan.curves)} for {scan.name}; scan the same structure with all."
            )
    names = [scan.name for scan in scans]
    if len(set(names)) < len(names):
        raise UserError(f"Two scans have one name, got {', '.join(names)}; scan one of them again under another name.")


def _compared(value: Any) -> Any:
    """A protocol without the rule that chose the bonds, which are compared themselves; anything else as it is."""
    return {key: part for key, part in value.items() if key not in RULES} if isinstance(value, dict) else value


def write_comparison(
    scans: Sequence[StoredScan], folder: str | PathLike[str], reference: dict[str, ReferenceCurve] | None = None
) -> dict[str, Path]:
    """Write comparison.png, .md and .json to a folder (made if absent) and return their paths by name."""
    check_comparable(scans)
    rows = [row_of(scan) for scan in scans]
    return write_files(
        Path(folder),
        {
            "comparison.png": draw(scans, reference or {}),
            "comparison.md": (markdown(rows) + "\n").encode(),
            "comparison.json": (json.dumps(plain({"scans": rows}), indent=1, ensure_ascii=False) + "\n").encode(),
        },
    )


def row_of(scan: StoredScan) -> dict[str, Any]:
    """One row of the table as plain values."""
    curves = scan.summary["curves"]
    failing = [curve for curve in curves if not curve["passed"]]
    errors = [row["error"] for curve in curves for row in curve["wall_error"] or [] if row["energy"] == LEVEL]
    sizes = [abs(error) for error in errors if error is not None]
    return {
        "model": scan.name, "bonds": len(curves), "passed": scan.summary["n_passed"],
        "fails": [curve["bond"] for curve in failing],
        "outermost_failure_A": max((curve["r_fail"] for curve in failing if curve["r_fail"] is not None), default=None),
        "lowest_ceiling_eV": min((c["ceiling"] for c in failing if c.get("ceiling") is not None), default=None),
        "spurious_minima": sum(c["n_spurious_minima"] + c.get("n_outer_minima", 0) for c in curves),
        "largest_wall_error_at_10_eV_A": max(sizes, default=None), "walls_compared": len(sizes),
        "versions": scan.summary["versions"],
    }  # fmt: skip


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table in Markdown, for a terminal or a page."""
    head = ["model", "bonds that pass", "outermost failure, Å", "lowest barrier, eV", "spurious minima",
            f"wall error at {LEVEL:g} eV, Å"]  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for row in rows:
        wall = _number(row["largest_wall_error_at_10_eV_A"], ".3f")
        lines.append(
            [row["model"], f"{row['passed']} of {row['bonds']}", _number(row["outermost_failure_A"], ".3f"),
             _number(row["lowest_ceiling_eV"], ".3g"), str(row["spurious_minima"]),
             f"{wall} ({row['walls_compared']} bonds)" if row["walls_compared"] else wall]
        )  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(scans: Sequence[StoredScan], reference: dict[str, ReferenceCurve]) -> bytes:
    """Draw one panel per bond as PNG: E - E(r_eq) of every model against distance, and the reference if it exists."""
    bonds = list(scans[0].curves)
    columns = min(4, len(bonds))
    rows = -(-len(bonds) // columns)
    figure = Figure(figsize=(max(2.6 * columns, 6.0), 2.4 * rows + 1.0), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    used = {curve["bond"] for curve in scans[0].summary["curves"] if curve["reference"] == "used"}
    heights = np.concatenate([energies for scan in scans for _, energies in scan.curves.values()])
    heights = heights[np.isfinite(heights)]
    for axes, bond in zip(grid.flat, bonds, strict=False):
        axes.set_yscale("asinh", linear_width=LINEAR_WIDTH)
        axes.axhline(0.0, color="0.85", linewidth=0.8, zorder=0)
        if bond in used & set(reference):
            draw_reference(axes, reference[bond])
        for k, scan in enumerate(scans):
            axes.plot(*scan.curves[bond], color=PALETTE[k % 6], linestyle=LINES[k // 6 % 4], lw=1.3, label=scan.name)
        axes.set_title(bond, loc="left", fontsize=10, fontweight="bold")
        axes.set_xlim(left=0.0)
        axes.tick_params(labelsize=8)
        clean(axes)
    for axes in list(grid.flat)[len(bonds) :]:
        axes.set_axis_off()
    for axes in grid[-1]:
        axes.set_xlabel("distance (Å)", fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel("$E - E(r_\\mathrm{eq})$ (eV)", fontsize=9)
    energy_axis(grid[0, 0], 1.5 * min(float(heights.min()), -0.5), max(2.0 * float(heights.max()), 10.0))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8.5)
    figure.suptitle(f"{scans[0].summary['structure']}", fontsize=11)
    return to_png(figure)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
