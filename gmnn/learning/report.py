"""The report of a learning: learn.csv, learn.png, learn.json, and one sentence."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from gmnn.files import extxyz, write_json, write_text

COLUMNS = (
    "round", "labels", "ps", "replicas", "held", "left", "lost", "fused", "broken", "largest_grade", "share_above_1",
    "forces_mae_before_meV_per_A", "new_frames", "train_s", "dynamics_s", "teacher_s",
)  # fmt: skip
ENDS = {  # of replicas: words and colour
    "held": ("held", "#4c9f70"), "left": ("left the data", "#e0b050"), "lost": ("lost a bond", "#c44e52"),
    "fused": ("fused", "#7d2e68"), "broken": ("broke", "#444444"),
}  # fmt: skip


def row(record: dict[str, Any]) -> dict[str, Any]:
    """One line of the table, from the record of a round."""
    outcomes = record["outcomes"]
    counts = {end: sum(outcome["end"] == end for outcome in outcomes) for end in ENDS}
    return {
        "round": record["round"], "labels": record["labels"], "ps": record["ps"], "replicas": len(outcomes), **counts,
        "largest_grade": round(max((o["largest_grade"] for o in outcomes), default=0.0), 3),
        "share_above_1": round(float(np.mean([o["above"] for o in outcomes])), 4) if outcomes else 0.0,
        "forces_mae_before_meV_per_A": record.get("forces_mae_before_meV_per_A"),
        "new_frames": record.get("new_frames", 0),
        **{f"{part}_s": round(record["seconds"].get(part, 0.0), 2) for part in ("train", "dynamics", "teacher")},
    }  # fmt: skip


def line(record: dict[str, Any]) -> str:
    """Describe a round in one line for the terminal."""
    values = row(record)
    ends = ", ".join(f"{values[end]} {words}" for end, (words, _) in ENDS.items() if values[end] or end == "held")
    error = values["forces_mae_before_meV_per_A"]
    before = f", {error:.0f} meV/Å on the {values['new_frames']} new frames" if error is not None else ""
    start = f"round {values['round']}: {values['labels']} labels, {values['replicas']} replicas of {values['ps']:g} ps"
    return f"{start}: {ends}{before}"


def conditions(outcomes: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """What became of the replicas of every structure at every temperature."""
    keys = sorted({(outcome["start"], outcome["temperature_K"]) for outcome in outcomes})
    rows = []
    for start, temperature in keys:
        mine = [o for o in outcomes if (o["start"], o["temperature_K"]) == (start, temperature)]
        rows.append({
            "structure": names[start], "temperature_K": temperature, "replicas": len(mine),
            "ps": min(o["held_ps"] for o in mine), "held": sum(o["end"] == "held" for o in mine),
            "bonds_lost": sum(o["end"] == "lost" for o in mine),
            "fused": sum(o["end"] in ("fused", "broken") for o in mine),
            "largest_grade": max(o["largest_grade"] for o in mine),
        })  # fmt: skip
    return rows


def table(summary: dict[str, Any]) -> str:
    """Format what became of the replicas of the verification."""
    lines = ["  T, K replicas      ps  held  lost fused  grade  F, meV/Å  structure"]
    for c in summary["conditions"]:
        error = c.get("forces_mae_meV_per_A")
        lines.append(
            f"{c['temperature_K']:>6g} {c['replicas']:>8} {c['ps']:>7.3g} {c['held']:>5} {c['bonds_lost']:>5} "
            f"{c['fused']:>5} {c['largest_grade']:>6.2f} {'-' if error is None else f'{error:.1f}':>9}  "
            f"{c['structure']}"
        )
    scan = summary["scan"]
    lines.append(f"strict scan: {scan['passed']} of {scan['curves']} bonds pass")
    return "\n".join([*lines, *scan["failures"]])


def sentence(summary: dict[str, Any], hold_ps: float) -> str:
    """State in one sentence whether the potential holds, where, and after how many labels."""
    hottest = max((c["temperature_K"] for c in summary["conditions"]), default=0.0)
    if summary["held"]:
        return f"holds {hold_ps:g} ps at up to {hottest:g} K after {summary['labels']} labels"
    return (f"does NOT hold {hold_ps:g} ps at all conditions after {summary['labels']} labels; "
            f"{summary['reason']}")  # fmt: skip


def write(output: Path, records: Sequence[dict[str, Any]], frames: Sequence[Atoms], summary: dict[str, Any]) -> None:
    """Write labelled frames, table, figure and summary."""
    write_text(output / "frames.extxyz", extxyz(list(frames)))
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(row, records))
    write_text(output / "learn.csv", text.getvalue())
    if records:
        draw(output / "learn.png", [row(record) for record in records])
    write_json(output / "learn.json", summary)


def draw(target: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Draw what became of the replicas, and the force error on new frames, over the number of labels."""
    from matplotlib.figure import Figure

    from gmnn.evaluation.figures import save

    figure = Figure(figsize=(7, 5.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    x = np.arange(len(rows))
    bottom = np.zeros(len(rows))
    for end, (words, colour) in ENDS.items():
        counts = np.array([r[end] / max(1, r["replicas"]) for r in rows])
        if counts.any():
            upper.bar(x, counts, bottom=bottom, color=colour, label=words)
        bottom += counts
    upper.set_ylabel("share of replicas")
    figure.legend(loc="outside upper center", ncols=len(ENDS), fontsize=8, frameon=False)
    for k, r in enumerate(rows):
        place = {"xy": (k, 1.02), "xycoords": ("data", "axes fraction"), "ha": "center", "rotation": 90}
        upper.annotate(f"{r['ps']:g} ps", **place, fontsize=7)
    errors = [r["forces_mae_before_meV_per_A"] for r in rows]
    known = [k for k, e in enumerate(errors) if e is not None]
    lower.semilogy([x[k] for k in known], [errors[k] for k in known], "o-", color="#3b6ea5")
    lower.set_ylabel("force MAE on new frames\nbefore they were learnt, meV/Å")
    lower.set_xlabel("labels at the start of each round")
    lower.set_xticks(x, [str(r["labels"]) for r in rows])
    save(figure, target)
