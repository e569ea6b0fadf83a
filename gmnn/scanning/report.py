"""Write the results of a scan: scan.csv, scan.json, scan.png and panels.png, and the table for the terminal."""

import csv
import io
import json
import math
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from gmnn.errors import UserError
from gmnn.scanning.figures import draw_panels, draw_scan
from gmnn.scanning.metrics import clopper_pearson
from gmnn.scanning.scan import CurveResult, ScanResult

CSV_HEADER = ("bond", "kind", "distance_A", "energy_eV", "energy_above_r_eq_eV", "dE_dr_eV_per_A")
PACKAGES = ("gmnn", "ase", "numpy", "matplotlib")


def write_report(
    result: ScanResult,
    folder: str | PathLike[str],
    *,
    model: str,
    structure: str,
    packages: Mapping[str, str] | None = None,
    window: tuple[float, float] | None = None,
) -> dict[str, Path]:
    """Write all files into a folder (made if absent) and return their paths by name.

    model and structure are the names that appear in the files and titles, packages the versions of what the calculator
    comes from, besides our own; window: the energies (eV above E(r_eq)) that scan.png shows. A file appears whole or
    not at all. Raises UserError if the folder cannot be written.
    """
    folder = Path(folder)
    summary = summarise(result, model=model, structure=structure)
    summary["versions"].update(packages or {})
    contents = {
        "scan.csv": _csv_text(result).encode(),
        "scan.json": (json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        "scan.png": draw_scan(result, model, structure, window),
        "panels.png": draw_panels(result, model, structure),
    }
    return write_files(folder, contents)


def write_files(folder: Path, contents: dict[str, bytes]) -> dict[str, Path]:
    """Write files into a folder (made if absent), each whole or not at all; their paths by name.

    Raises UserError if the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            _write_atomically(folder / name, content)
    except OSError as error:
        raise UserError(
            f"The report cannot be written to '{folder}', got {error.strerror or error}; a folder with write "
            "permission is needed; choose another with --out."
        ) from error
    return {name: folder / name for name in contents}


def summarise(result: ScanResult, *, model: str, structure: str) -> dict[str, Any]:
    """The content of scan.json: plain values, None where a number does not exist."""
    n_curves = len(result.curves)
    summary = {
        "passed": result.passed,
        "n_curves": n_curves,
        "n_passed": result.n_passed,
        "pass_rate_interval": list(clopper_pearson(result.n_passed, n_curves)),
        "protocol": result.protocol,
        "curves": [_curve_summary(curve) for curve in result.curves],
        "model": model,
        "structure": structure,
        "versions": versions(),
    }
    return plain(summary)


def _curve_summary(curve: CurveResult) -> dict[str, Any]:
    return {
        "bond": curve.path.label,
        "passed": curve.passed,
        "reason": curve.reason,
        "bond_length": curve.path.distance,
        "r_eq": curve.r_eq,
        "r_eq_source": curve.r_eq_source,
        "r_start": curve.r_start,
        "energy_at_r_eq": curve.energy_eq,
        "reference": "used" if curve.reference is not None else curve.reference_note,
        **curve.metrics,
    }


def plain(value: Any) -> Any:
    """Nested containers of Python's own types, with None for nan and infinities."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a source tree
            found[package] = "not installed"
    return found


def _csv_text(result: ScanResult) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for curve in result.curves:
        for kind, samples in (("s0", curve.s0), ("strict", curve.strict)):
            for r, energy, slope in zip(samples.distances, samples.energies, samples.slopes, strict=True):
                numbers = (f"{value:.12g}" for value in (r, energy, energy - curve.energy_eq, slope))
                writer.writerow((curve.path.label, kind, *numbers))
    return text.getvalue()


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def format_table(result: ScanResult) -> str:
    """The table for the terminal: a line per bond with its verdict, then the pass rate."""
    r_min = result.protocol["r_min"]
    rise_title = f"E({r_min:g})-E(r_eq)"
    lines = [f"{'bond':<10} {'verdict':<7} {'r_eq':>6} {'start':>6} {rise_title:>14} {'vs ZBL':>7}  remarks"]
    for curve in result.curves:
        rise = curve.metrics["rise_at_r_min"]
        core = curve.metrics["divergence"][0]
        ratio = core["ratio"] / core["zbl"]
        lines.append(
            f"{curve.path.label:<10} {'pass' if curve.passed else 'FAIL':<7} {curve.r_eq:>6.3f} {curve.r_start:>6.3f} "
            f"{_short(rise):>14} {_short(ratio):>7}  {_remarks(curve)}".rstrip()
        )
    low, high = clopper_pearson(result.n_passed, len(result.curves))
    sources = sorted({curve.r_eq_source for curve in result.curves})
    lines.append(
        f"{result.n_passed} of {len(result.curves)} curves pass (95 % interval {100 * low:.1f} to {100 * high:.1f} %, "
        f"one model); eV and Å; r_eq from: {', '.join(sources)}; vs ZBL at 0.1 Å."
    )
    return "\n".join(lines)


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.2f}" if 0.01 <= abs(value) < 100 else f"{value:.4g}"


def _remarks(curve: CurveResult) -> str:
    """What the reader should know about one curve, beyond its verdict."""
    remarks = [curve.reason] if curve.reason else []
    n_minima = curve.metrics["n_spurious_minima"]
    if n_minima:
        remarks.append(f"{n_minima} spurious {'minimum' if n_minima == 1 else 'minima'}")
    if curve.strict.finite.all() and not curve.metrics["smoothness"]["forces_match_energy"]:
        remarks.append("forces are not the derivative of the energy")
    return "; ".join(remarks)
