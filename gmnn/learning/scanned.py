"""The strict scan of a learnt potential along the bonds of the structures it was learnt from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gmnn.interfaces.calculator import Calculator
from gmnn.learning.starts import Start
from gmnn.scanning import scan_bonds
from gmnn.scanning.bonds import bonds_of


def scan(model: Path, starts: Sequence[Start]) -> dict[str, Any]:
    """Scan the bonds of each structure in its least strained cell; return how many there are and pass, and failures."""
    calculator = Calculator(model, dtype="float64", path="reference")
    curves, failures = 0, []
    by_strain = sorted(starts, key=lambda start: -abs(start.strain))
    for start in {start.file: start for start in by_strain}.values():  # the least strained one of each
        if not bonds_of(start.atoms).pairs:
            continue
        result = scan_bonds(start.atoms, calculator)
        curves += len(result.curves)
        failures += [f"{start.file} {c.path.label}: {c.reason}" for c in result.curves if not c.passed]
    return {"curves": curves, "passed": curves - len(failures), "failures": failures}
