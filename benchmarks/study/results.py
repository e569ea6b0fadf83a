"""Where the results of the benchmarks lie and how they are read and written: one table of models, JSON for the rest."""

import csv
import io
import json
from pathlib import Path

from gmnn import files
from gmnn.model import folder

RESULTS = Path(__file__).parents[1] / "results"
TABLE = RESULTS / "how_much_data.csv"
COLUMNS = (
    "variant", "n_basis", "seed", "n_train", "suite", "n_curves", "n_failed", "n_left_out", "worst_drop_eV",
    "worst_r_A", "worst_label", "least_push_eV_per_A", "forces_mae_meV_per_A", "energy_mae_meV",
    "above_floor_eV_per_atom", "r_b_C-H_A", "r_b_H-O_A", "r_b_C-C_A", "r_c_C-H_A", "r_c_H-O_A", "r_c_C-C_A",
    "train_s", "judge_s", "steps",
)  # fmt: skip
Row = dict[str, str]


def rows() -> list[Row]:
    """The study's table; columns that an older run did not write are empty."""
    if not TABLE.exists():
        return []
    with open(TABLE, newline="") as file:
        return [{**dict.fromkeys(COLUMNS, ""), **row} for row in csv.DictReader(file, restval="")]


def write_rows(table: list[dict]) -> None:
    """The whole table, in one step."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    files.write_text(TABLE, text.getvalue())


def stored(name: str) -> dict:
    """The results in NAME.json, or nothing."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def store(name: str, values: dict) -> None:
    """Results with what computed them, in NAME.json."""
    files.write_json(RESULTS / f"{name}.json", {**values, **folder.provenance()})
