"""Write what the suites found: suites.json, suites.csv (a row per curve) and suites.png; the table to print."""

import csv
import io
import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from gmnn.scanning.approach import RHO
from gmnn.scanning.judge import Verdict
from gmnn.scanning.relaxation import Relaxation
from gmnn.scanning.report import plain, versions, write_files
from gmnn.scanning.suite_figure import draw_suites
from gmnn.scanning.suite_results import SuiteResult

VERDICT_FIELDS = (
    "suite", "label", "kind", "passed", "r_start", "r_fail", "worst_drop", "worst_r", "ceiling", "least_push",
    "n_points", "reason",
)  # fmt: skip
RELAXATION_FIELDS = ("label", "fused", "converged", "closest", "pair", "force", "n_steps", "reason")
CSV_HEADER = (
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
    """Write all files into a folder (made if absent) and return their paths by name.

    model, structure and seed are what the files and the figure name. A file appears whole or not at all. Raises
    UserError if the folder cannot be written.
    """
    summary = summarise_suites(results) | {"model": model, "structure": structure, "seed": seed, "versions": versions()}
    contents = {
        "suites.json": (json.dumps(plain(summary), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        "suites.csv": _csv_text(results).encode(),
        "suites.png": draw_suites(list(results), model, structure),
    }
    return write_files(Path(folder), contents)


def summarise_suites(results: Sequence[SuiteResult]) -> dict[str, Any]:
    """Plain values: counts, pass rate intervals and failures by suite; the relaxations one by one."""
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
            entry["relaxations"] = [_fields(one, RELAXATION_FIELDS) for one in result.relaxations]
        else:
            entry["worst"] = None if worst is None else _fields(worst, VERDICT_FIELDS)
            entry["failures"] = [_fields(one, VERDICT_FIELDS) for one in result.verdicts if not one.passed]
        suites.append(entry)
    return plain({"passed": not any(one.n_failed for one in results), "protocol": PROTOCOL, "suites": suites})


def _fields(record: Verdict | Relaxation, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def _csv_text(results: Sequence[SuiteResult]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for result in results:
        for verdict in result.verdicts:
            writer.writerow([*(_cell(getattr(verdict, name)) for name in VERDICT_FIELDS), "", ""])
        for one in result.relaxations:
            numbers = [""] * 7 + [one.reason, _cell(one.converged), _cell(one.closest)]
            writer.writerow([result.name, one.label, one.pair, _cell(not one.fused), *numbers])
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.8g}" if isinstance(value, float) else str(value)


def format_suites(results: Sequence[SuiteResult]) -> str:
    """The table for the terminal: a line per suite, then the sum."""
    lines = [f"{'suite':<11} {'curves':>6} {'failed':>6} {'left out':>8} {'pass rate, 95 % interval':>27}  worst drop"]
    for result in results:
        rate = "-"
        if result.n_curves:
            low, high = (100 * bound for bound in result.pass_rate_interval)
            rate = f"{100 * (1 - result.n_failed / result.n_curves):.1f} % ({low:.1f} to {high:.1f})"
        counts = f"{result.n_curves:>6} {result.n_failed:>6} {result.n_left_out:>8}"
        lines.append(f"{result.name:<11} {counts} {rate:>27}  {_worst(result)}".rstrip())
    n_curves, n_failed = sum(one.n_curves for one in results), sum(one.n_failed for one in results)
    lines.append(
        f"{n_curves - n_failed} of {n_curves} pass (one model: its curves are correlated). Left out: a third contact "
        f"below {RHO} of its covalent sum."
    )
    return "\n".join(lines)


def _worst(result: SuiteResult) -> str:
    if result.relaxations:
        closest = min(result.relaxations, key=lambda one: one.closest)
        n_converged = sum(one.converged for one in result.relaxations)
        return f"closest {closest.closest:.2f} of the covalent sum, {closest.pair}; {n_converged} converged"
    worst = result.worst
    if worst is None or not result.n_failed:
        return ""
    if worst.worst_drop > 0:
        return f"{worst.worst_drop:.3g} eV at {worst.worst_r:.3f} Å, {worst.label}"
    first = next(one for one in result.verdicts if not one.passed)
    return f"{first.label}: {first.reason}"
