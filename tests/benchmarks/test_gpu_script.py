"""The script that measures a GPU in one run, on a CPU and few atoms: no row may fail there."""

from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.timing import Record
from gmnn import load
from tests.support.paths import ROOT


@pytest.mark.slow
def test_no_row_fails(tmp_path: Path) -> None:
    """Energy and forces, steps, parts of the kernels, drift and replicas of nine atoms, each with its time."""
    structure = tmp_path / "water.xyz"
    structure.write_text(
        '9\nLattice="6.2 0 0 0 6.2 0 0 0 6.2" pbc="T T T"\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n'
        "O 3 0.2 0.1\nH 3.96 0.2 0.1\nH 2.76 1.13 0.1\nO 0.1 3.1 2.9\nH 1.06 3.1 2.9\nH -0.14 4.03 2.9\n",
        encoding="utf-8",
    )
    record = Record(tmp_path / "gpu.json", quick=True)
    run = gpu.Run(load(ROOT / "examples" / "ethanol"), str(structure), record, True, float("inf"))
    run.sizes, run.variants = (9,), [("kernel", False)]
    gpu.main(run)
    rows = record.rows
    assert {row["part"] for row in rows} == {"energy_and_forces", "nve_step", "parts", "drift", "replicas"}
    for row in rows:
        assert "skipped" not in row, row
        assert any(key.endswith("us_per_atom") and value > 0 for key, value in row.items()) or row["part"] == "drift"
