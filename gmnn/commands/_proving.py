"""Proofs for `gmnn scan --prove`: every bond of a finished scan, its table and its files."""

import csv
import io
from pathlib import Path
from typing import Any

from gmnn.certificate.motion import Motion
from gmnn.certificate.proved import Proof, prove
from gmnn.files import json_text
from gmnn.folders import write_files
from gmnn.scanning.paths import Approach
from gmnn.scanning.scan import ScanResult

ROW = "{:<10}{:>9}{:>11}{:>14}{:>11}{:>9}  {}"
HEADS = ("bond", "r_start", "verdict", "least push", "intervals", "seconds", "")
SAYS = {
    "proved": "dE/dr < 0 on (0, r_start]",
    "undecided": "some intervals could be neither proved nor refuted",
    "refuted": "dE/dr >= 0 is proved on some interval",
}


def prove_scan(calculator: Any, result: ScanResult, out: Path, radius: float, names: dict[str, str]) -> bool:
    """Prove every curve of a scan, print a row each, write proof.csv and proof.json; return whether all are proved.

    calculator: of a trained model. radius: of the ball, Å. names: of model and structure, for the files.
    """
    ball = f", every other atom within {radius:g} Å of its place" if radius else ""
    print(f"Proof that dE/dr < 0 from r_start (Å) to contact{ball}; least push: proved -dE/dr in eV/Å")
    print(ROW.format(*HEADS).rstrip())
    proofs = []
    for path in (curve.path for curve in result.curves):
        proofs.append(prove(calculator.potential, motion_of(path, radius), path.label, path.r_end))
        print(_row(proofs[-1]), flush=True)
    n_proved = sum(proof.verdict == "proved" for proof in proofs)
    print(f"{n_proved} of {len(proofs)} curves are proved ({sum(proof.seconds for proof in proofs):.0f} s)")
    content = {"proved": n_proved == len(proofs), "n_proved": n_proved, "n_curves": len(proofs), "radius": radius,
               "verdicts": SAYS, "curves": [proof.to_dict() for proof in proofs], **names}  # fmt: skip
    written = write_files(out, {"proof.csv": _csv_text(proofs).encode(), "proof.json": json_text(content).encode()})
    print(f"Written to {out}: {', '.join(path.name for path in written.values())}")
    return n_proved == len(proofs)


def motion_of(path: Approach, radius: float) -> Motion:
    """The motion of an approach, written from contact outwards."""
    frame = path.at(path.distance)
    i, j = path.members[:2]
    return Motion(
        path.numbers, path.positions - path.distance * path.tangent, path.tangent, (i, j), frame.cell.array, frame.pbc,
        path.r_start, radius,
    )  # fmt: skip


def _row(proof: Proof) -> str:
    push = "-" if proof.push is None else f"{proof.push:.3g}"
    seconds = f"{proof.seconds:.1f}"
    share = "" if proof.verdict == "proved" else f" ({100 * proof.share:.1f} % proved)"
    cells = (proof.label, f"{proof.r_start:.4f}", proof.verdict, push, proof.n_intervals, seconds)
    return ROW.format(*cells, proof.places + share).rstrip()


def _csv_text(proofs: list[Proof]) -> str:
    """One line per interval in which a proof failed, and one per bond that is proved."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("bond", "verdict", "r_low_A", "r_high_A", "least_push_eV_per_A", "n_intervals", "seconds"))
    for proof in proofs:
        numbers = (proof.push, proof.n_intervals, round(proof.seconds, 2))
        places = [("undecided", place) for place in proof.undecided] + [("refuted", place) for place in proof.refuted]
        for verdict, (low, high) in places or [("proved", (0.0, proof.r_start))]:
            writer.writerow((proof.label, verdict, low, high, *numbers))
    return text.getvalue()
