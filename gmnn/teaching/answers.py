"""What a teacher answers: a label, or a failure that says of which kind it is."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

Kind = Literal["raised", "hung", "died", "nonsense"]
KINDS: tuple[Kind, ...] = ("raised", "hung", "died", "nonsense")
HIGHEST = {"energy": 1e8, "forces": 1e6, "stress": 1e4}  # eV per atom, eV/Å, eV/Å^3; no electrons bind so strongly


@dataclass(frozen=True)
class Label:
    """Energy (eV), forces [N, 3] (eV/Å), stress [6] (eV/Å^3, ASE's sign and order) or None, and the seconds it took."""

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None = None
    seconds: float = 0.0

    def on(self, atoms: Atoms) -> Atoms:
        """Copy of a structure, info included, that carries the label."""
        labelled = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=dict(atoms.info))
        stress = {} if self.stress is None else {"stress": self.stress}
        labelled.calc = SinglePointCalculator(labelled, energy=self.energy, forces=self.forces, **stress)
        return labelled


@dataclass(frozen=True)
class Failure:
    """Why a structure has no label.

    kind: `raised` an error, `hung` beyond the time limit, `died` with its process, or answered `nonsense`.
    """

    kind: Kind
    reason: str
    seconds: float = 0.0


Answer = Label | Failure


def judged(values: dict[str, Any], n: int, seconds: float) -> Answer:
    """Make an answer of what a worker sent about a structure of n atoms."""
    if "raised" in values:
        return Failure("raised", str(values["raised"]), seconds)
    if "nonsense" in values:
        return Failure("nonsense", str(values["nonsense"]), seconds)
    shapes: dict[str, tuple[int, ...]] = {"energy": (), "forces": (n, 3), "stress": (6,)}
    arrays: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        if name == "stress" and values.get(name) is None:
            continue
        try:
            array = np.array(values.get(name), float)
        except (TypeError, ValueError):
            return Failure("nonsense", f"the {name} are no numbers", seconds)
        if array.shape != shape:
            return Failure("nonsense", f"the {name} has the shape {array.shape}, but must have {shape}", seconds)
        if not np.isfinite(array).all():
            return Failure("nonsense", f"the {name} is not finite", seconds)
        largest = float(np.abs(array).max(initial=0.0)) / (n if name == "energy" else 1)
        if largest > HIGHEST[name]:
            return Failure("nonsense", f"the {name} is absurd, up to {largest:.3g} (per atom)", seconds)
        arrays[name] = array
    return Label(float(arrays["energy"]), arrays["forces"], arrays.get("stress"), seconds)
