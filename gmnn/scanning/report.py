"""Write the results of scans and suites as CSV, JSON and figures, and format the tables for the terminal."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from gmnn.files import json_text, package_versions
from gmnn.folders import write_files
from gmnn.scanning.figures import draw_panels, draw_scan, draw_suites
from gmnn.scanning.judge import Verdict
from gmnn.scanning.metrics import clopper_pearson
from gmnn.scanning.paths import RHO
from gmnn.scanning.relaxation import Relaxation
from gmnn.scanning.scan import CurveResult, ScanResult
from gmnn.scanning.suites import SuiteResult

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
    """Write scan.csv, scan.json, scan.png and panels.png to a folder (made if absent); return their paths by name.

    model and structure are the names in the files and titles. packages: versions of the packages that the calculator
    comes from, in addition to our own. window: the energies (eV above E(r_eq)) that scan.png shows. A file appears
    whole or not at all. Raises UserError if the folder cannot be written.
    """
    folder = Path(folder)
    summary = summarise(result, model=model, structure=structure)
    summary["versions"].update(packages or {})
    contents = {
        "scan.csv": _csv_text(result).encode(),
        "scan.json": json_text(summary).encode(),
        "scan.png": draw_scan(result, model, structure, window),
        "panels.png": draw_panels(result, model, structure),
    }
    return write_files(folder, contents)


def summarise(result: ScanResult, *, model: str, structure: str) -> dict[str, Any]:
    """The content of scan.json as plain values, with None where a number does not exist."""
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
        "versions": package_versions(PACKAGES),
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
    """Convert nested containers to Python's own types, with None for nan and infinities."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


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


def format_table(result: ScanResult) -> str:
    """Format the table for the terminal: a line per bond with its verdict, then the pass rate."""
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
    outside = sum(curve.metrics["n_outer_minima"] for curve in result.curves)
    lines.append(
        f"{result.n_passed} of {len(result.curves)} curves pass (95 % interval {100 * low:.1f} to {100 * high:.1f} %, "
        f"one model); eV and Å; r_eq from: {', '.join(sources)}; vs ZBL at 0.1 Å."
    )
    left_out = f"; {result.protocol['n_left_out']} more are left out" if result.protocol["n_left_out"] else ""
    lines.append(f"Bonds: {result.protocol['bonds']}{left_out}.")
    if outside:
        lines.append(f"Stretched bonds have {outside} spurious minima, where the model ends and its data have none "
                     "(they are no part of the verdict).")  # fmt: skip
    return "\n".join(lines)


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.2f}" if 0.01 <= abs(value) < 100 else f"{value:.4g}"


def _remarks(curve: CurveResult) -> str:
    """Remarks on one curve in addition to its verdict."""
    remarks = [curve.reason] if curve.reason else []
    n_minima = curve.metrics["n_spurious_minima"]
    if n_minima:
        remarks.append(f"{n_minima} spurious {'minimum' if n_minima == 1 else 'minima'}")
    if outer := curve.metrics["outer_minima"]:
        places = ", ".join(f"{minimum['r']:.2f}" for minimum in outer)
        remarks.append(f"{len(outer)} spurious {'minimum' if len(outer) == 1 else 'minima'} outside, at {places} Å")
    if curve.strict.finite.all() and not curve.metrics["smoothness"]["forces_match_energy"]:
        remarks.append("forces are not the derivative of the energy")
    return "; ".join(remarks)


VERDICT_FIELDS = (
    "suite", "label", "kind", "passed", "r_start", "r_fail", "worst_drop", "worst_r", "ceiling", "least_push",
    "n_points", "reason",
)  # fmt: skip
RELAXATION_FIELDS = ("label", "fused", "converged", "closest", "pair", "force", "n_steps", "reason")
SUITES_CSV_HEADER = (
    "suite", "label", "kind", "passed", "r_start_A", "r_fail_A", "worst_drop_eV", "worst_r_A", "ceiling_eV",
    "least_push_eV_per_A", "n_points", "reason", "converged", "closest_contact",
)  # fmt: skip
PROTOCOL = {
    "pass": "dE/dr < 0 and E rises inwards, both finite, at every node and at the points put between them where E "
    "might turn; relaxation: no pair ends inside 0.5 of its covalent sum, all numbers finite",
    "third_contact": RHO,
    "units": "eV, Å; contacts in sums of covalent radii",
}


def write_suite_report(
    results: Sequence[SuiteResult], folder: str | PathLike[str], *, model: str, structure: str, seed: int
) -> dict[str, Path]:
    """Write suites.json, suites.csv and suites.png to a folder (made if absent) and return their paths by name.

    suites.json names model, structure and seed, the figure model and structure. A file appears whole or not at all.
    Raises UserError if the folder cannot be written.
    """
    about = {"model": model, "structure": structure, "seed": seed, "versions": package_versions(PACKAGES)}
    summary = summarise_suites(results) | about
    contents = {
        "suites.json": json_text(plain(summary)).encode(),
        "suites.csv": _suites_csv_text(results).encode(),
        "suites.png": draw_suites(list(results), model, structure),
    }
    return write_files(Path(folder), contents)


def summarise_suites(results: Sequence[SuiteResult]) -> dict[str, Any]:
    """Counts, pass rate intervals and failures by suite, and every relaxation, as plain values."""
    suites = []
    for result in results:
        worst = result.worst
        entry: dict[str, Any] = {
            "suite": result.name,
            "n_curves": result.n_curves,
            "n_failed": result.n_failed,
            "n_left_out": result.n_left_out,
            "pass_rate_interval": list(result.pass_rate_interval),
        }
        if result.relaxations:
            entry["relaxations"] = [_fields(record, RELAXATION_FIELDS) for record in result.relaxations]
        else:
            entry["worst"] = None if worst is None else _fields(worst, VERDICT_FIELDS)
            entry["failures"] = [_fields(record, VERDICT_FIELDS) for record in result.verdicts if not record.passed]
        suites.append(entry)
    return plain({"passed": not any(record.n_failed for record in results), "protocol": PROTOCOL, "suites": suites})


def _fields(record: Verdict | Relaxation, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def _suites_csv_text(results: Sequence[SuiteResult]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SUITES_CSV_HEADER)
    for result in results:
        for verdict in result.verdicts:
            writer.writerow([*(_cell(getattr(verdict, name)) for name in VERDICT_FIELDS), "", ""])
        for relaxation in result.relaxations:
            numbers = [""] * 7 + [relaxation.reason, _cell(relaxation.converged), _cell(relaxation.closest)]
            writer.writerow([result.name, relaxation.label, relaxation.pair, _cell(not relaxation.fused), *numbers])
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.8g}" if isinstance(value, float) else str(value)


def format_suites(results: Sequence[SuiteResult]) -> str:
    """Format the table for the terminal: a line per suite, then the sum."""
    lines = [f"{'suite':<11} {'curves':>6} {'failed':>6} {'left out':>8} {'pass rate, 95 % interval':>27}  worst drop"]
    for result in results:
        rate = "-"
        if result.n_curves:
            low, high = (100 * bound for bound in result.pass_rate_interval)
            rate = f"{100 * (1 - result.n_failed / result.n_curves):.1f} % ({low:.1f} to {high:.1f})"
        counts = f"{result.n_curves:>6} {result.n_failed:>6} {result.n_left_out:>8}"
        lines.append(f"{result.name:<11} {counts} {rate:>27}  {_worst(result)}".rstrip())
    n_curves, n_failed = sum(suite.n_curves for suite in results), sum(suite.n_failed for suite in results)
    lines.append(
        f"{n_curves - n_failed} of {n_curves} pass (one model: its curves are correlated). Left out: a third contact "
        f"below {RHO} of its covalent sum."
    )
    return "\n".join(lines)


def _worst(result: SuiteResult) -> str:
    if result.relaxations:
        closest = min(result.relaxations, key=lambda record: record.closest)
        n_converged = sum(record.converged for record in result.relaxations)
        return f"closest {closest.closest:.2f} of the covalent sum, {closest.pair}; {n_converged} converged"
    worst = result.worst
    if worst is None or not result.n_failed:
        return ""
    if worst.worst_drop > 0:
        return f"{worst.worst_drop:.3g} eV at {worst.worst_r:.3f} Å, {worst.label}"
    first = next(record for record in result.verdicts if not record.passed)
    return f"{first.label}: {first.reason}"
