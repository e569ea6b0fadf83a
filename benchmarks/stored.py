"""Stored results of the benchmarks: JSON with what computed it, and the study's table of models."""

import csv
import io
import json
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
TABLE = RESULTS / "how_much_data.csv"
COLUMNS = (
    "variant", "n_basis", "seed", "n_train", "suite", "n_curves", "n_failed", "n_left_out", "worst_drop_eV",
    "worst_r_A", "worst_label", "least_push_eV_per_A", "forces_mae_meV_per_A", "energy_mae_meV",
    "above_floor_eV_per_atom", "r_b_C-H_A", "r_b_H-O_A", "r_b_C-C_A", "r_c_C-H_A", "r_c_H-O_A", "r_c_C-C_A",
    "train_s", "judge_s", "steps",
)  # fmt: skip
Row = dict[str, str]


def read(name: str) -> dict:
    """The results in NAME.json; empty if there are none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def keep(name: str, values: dict, precision: str) -> None:
    """Write results to NAME.json, with versions, commit and device of this run and the precision that is given."""
    from gmnn import files

    files.write_json(RESULTS / f"{name}.json", {**values, **provenance(precision)})


def provenance(precision: str) -> dict:
    """Versions, commit, device and precision of this run."""
    from gmnn.model import folder  # slow to import, and not needed to read

    return {**folder.provenance(), "precision": precision}


def rows() -> list[Row]:
    """The study's table. Columns that an older run did not write are empty."""
    if not TABLE.exists():
        return []
    with open(TABLE, newline="", encoding="utf-8") as file:
        return [{**dict.fromkeys(COLUMNS, ""), **row} for row in csv.DictReader(file, restval="")]


def write_rows(table: list[dict]) -> None:
    """Replace the whole table in one step."""
    from gmnn import files

    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    files.write_text(TABLE, text.getvalue())
