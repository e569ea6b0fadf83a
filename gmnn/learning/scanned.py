"""The strict scan of a learnt potential along the bonds of the structures it was learnt from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from gmnn.interfaces.calculator import Calculator
from gmnn.learning.bonds import bonded
from gmnn.learning.starts import Start
from gmnn.scanning import scan_bonds

MOST = 12  # bonds of one structure


def scan(model: Path, starts: Sequence[Start]) -> dict[str, Any]:
    """Scan the bonds of each structure in its least strained cell; return how many there are and pass, and failures."""
    calculator = Calculator(model, dtype="float64", path="reference")
    curves, failures = 0, []
    by_strain = sorted(starts, key=lambda start: -abs(start.strain))
    for start in {start.file: start for start in by_strain}.values():  # the least strained one of each
        pairs = bonds(start.atoms)
        if not pairs:
            continue
        result = scan_bonds(start.atoms, calculator, bonds=pairs)
        curves += len(result.curves)
        failures += [f"{start.file} {c.path.label}: {c.reason}" for c in result.curves if not c.passed]
    return {"curves": curves, "passed": curves - len(failures), "failures": failures}


def bonds(atoms: Atoms) -> list[tuple[int, int]]:
    """Bonds of a molecule, or the shortest of each pair of elements in a periodic structure; at most MOST."""
    i, j, _ = bonded(atoms)
    pairs = list(dict.fromkeys((int(a), int(b)) for a, b in zip(i, j, strict=True)))
    if not atoms.pbc.any():
        return sorted(pairs[:MOST])
    kinds = {tuple(sorted((int(atoms.numbers[a]), int(atoms.numbers[b])))): (a, b) for a, b in reversed(pairs)}
    return sorted(kinds.values())[:MOST]
