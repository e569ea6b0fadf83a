"""Reference and prediction of a set of frames, and statistics of their differences.

A missing label is NaN in the reference and leaves its frame out of that quantity only. A prediction that is not finite
counts as an infinite error. Means that are infinite, or over nothing, are None.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
from ase.units import GPa

from gmnn.elements import SYMBOLS

FORCE_EDGES = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, np.inf)  # eV/Å, of the norm of the reference force on an atom
WORST = 5
ROUNDING = 1e-3  # of a grade in float32; the largest of the validation frames is not above 1


@dataclass(frozen=True)
class Comparison:
    """Reference and prediction, in this order on the last axis, of every frame of a set; only real atoms."""

    energies: np.ndarray  # [n, 2] eV, atomic references included
    forces: np.ndarray  # [atoms, 3, 2] eV/Å
    stresses: np.ndarray  # [n, 3, 3, 2] eV/Å^3, ASE's sign
    references: np.ndarray  # [n] eV, sum of the atomic references E0
    sizes: np.ndarray  # [n] atoms per frame
    numbers: np.ndarray  # [atoms] atomic numbers
    indices: np.ndarray  # [n] places of the frames in the file
    config_types: np.ndarray  # [n] text, "" where a frame has none
    grades: np.ndarray  # [atoms], 1 = the largest of the validation frames; NaN where the potential has none

    def of(self, frames: np.ndarray) -> "Comparison":
        """The comparison of the frames of a mask [n] alone."""
        atoms = np.repeat(frames, self.sizes)
        masks = {field.name: frames for field in fields(self)} | {"forces": atoms, "numbers": atoms, "grades": atoms}
        return Comparison(**{name: getattr(self, name)[mask] for name, mask in masks.items()})

    @property
    def energy_errors(self) -> np.ndarray:
        """Predicted minus reference energy, NaN without a label.  [n] meV"""
        return _errors(self.energies)

    @property
    def force_errors(self) -> np.ndarray:
        """Predicted minus reference forces.  [atoms, 3] meV/Å"""
        return _errors(self.forces)

    @property
    def stress_errors(self) -> np.ndarray:
        """Predicted minus reference stress.  [n, 3, 3] meV/Å^3"""
        return _errors(self.stresses)

    def metrics(self) -> dict[str, float | int | None]:
        """Mean absolute and root-mean-square errors; over atoms and components of forces, nine components of stress."""
        energy, forces, stress = self.energy_errors, self.force_errors, self.stress_errors
        per_atom = energy / self.sizes
        stress_GPa = 1e-3 * stress / GPa
        first = np.cumsum(self.sizes) - self.sizes  # first atom of every frame; it has forces if all have
        return {
            "n_frames": len(energy),
            "n_energies": _count(energy),
            "n_forces": _count(forces[first, 0]),
            "n_stresses": _count(stress[:, 0, 0]),
            "energy_mae_meV": _mae(energy),
            "energy_rmse_meV": _rmse(energy),
            "energy_mae_meV_per_atom": _mae(per_atom),
            "energy_rmse_meV_per_atom": _rmse(per_atom),
            "forces_mae_meV_per_A": _mae(forces),
            "forces_rmse_meV_per_A": _rmse(forces),
            "forces_max_error_meV_per_A": _largest(forces),
            "stress_mae_meV_per_A3": _mae(stress),
            "stress_rmse_meV_per_A3": _rmse(stress),
            "stress_mae_GPa": _mae(stress_GPa),
            "stress_rmse_GPa": _rmse(stress_GPa),
            **_grades(self.grades),
        }

    def report(self) -> dict[str, Any]:
        """All metrics and tables, as JSON types."""
        return {
            **self.metrics(),
            "by_element": self.by_element(),
            "by_force": self.by_force(),
            "by_config_type": self.by_config_type(),
            "worst": self.worst(),
        }

    def by_config_type(self) -> dict[str, dict[str, float | int | None]]:
        """Metrics of the frames of every `config_type`, the most frequent first; empty where no frame has one."""
        counts = Counter(self.config_types.tolist())
        if not any(counts):
            return {}
        return {name: self.of(self.config_types == name).metrics() for name, _ in counts.most_common()}

    def by_element(self) -> dict[str, dict[str, float | int | None]]:
        """Errors of the forces on the labelled atoms of every element, and grades of its atoms."""
        errors, kinds = self.force_errors, {SYMBOLS[z]: self.numbers == z for z in np.unique(self.numbers)}
        return {symbol: {**_of_atoms(errors[kind]), **_grades(self.grades[kind])} for symbol, kind in kinds.items()}

    def by_force(self) -> list[dict[str, float | int | None]]:
        """Errors of the forces and grades by the norm of the reference force, from one of FORCE_EDGES to the next."""
        errors, norms = self.force_errors, np.linalg.norm(self.forces[..., 0], axis=-1)
        rows: list[dict[str, float | int | None]] = []
        for low, high in pairwise(FORCE_EDGES):
            inside = (norms >= low) & (norms < high)
            if inside.any():
                edges = {"from_eV_per_A": low, "to_eV_per_A": None if np.isinf(high) else high}
                rows.append({**edges, **_of_atoms(errors[inside]), **_grades(self.grades[inside])})
        return rows

    def worst(self) -> dict[str, list[dict[str, Any]]]:
        """Frames with the largest errors of energy per atom, of a force component and of a stress component."""
        starts = np.cumsum(self.sizes) - self.sizes
        errors = {
            "energy_meV_per_atom": np.abs(self.energy_errors) / self.sizes,
            "forces_meV_per_A": np.maximum.reduceat(np.abs(self.force_errors).max(axis=1), starts),
            "stress_meV_per_A3": np.abs(self.stress_errors).max(axis=(1, 2)),
        }
        table = {}
        for quantity, of_frames in errors.items():
            chosen = np.argsort(-of_frames, kind="stable")[: min(WORST, _count(of_frames))]  # NaN comes last
            table[quantity] = [
                {"frame": int(self.indices[k]), "config_type": self.config_types[k].item(), "error": _finite(e)}
                for k, e in zip(chosen, of_frames[chosen], strict=True)
            ]
        return table


def _errors(pairs: np.ndarray) -> np.ndarray:
    reference, predicted = pairs[..., 0], pairs[..., 1]
    infinite = ~np.isfinite(predicted) & ~np.isnan(reference)
    return np.where(infinite, np.inf, 1e3 * (np.where(infinite, 0.0, predicted) - reference))


def _count(errors: np.ndarray) -> int:
    return int(np.sum(~np.isnan(errors)))


def _over(reduce: Callable[[np.ndarray], Any], errors: np.ndarray) -> float | None:
    present = np.abs(errors[~np.isnan(errors)])
    return _finite(reduce(present)) if present.size else None


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _mae(errors: np.ndarray) -> float | None:
    return _over(np.mean, errors)


def _rmse(errors: np.ndarray) -> float | None:
    return _over(lambda present: np.sqrt(np.mean(present**2)), errors)


def _largest(errors: np.ndarray) -> float | None:
    return _over(np.max, errors)


def _grades(grades: np.ndarray) -> dict[str, float | None]:
    """Largest grade, the one that 99 % of the atoms are below, and the share of atoms above 1; empty without grades."""
    if not grades.size or np.isnan(grades[0]):
        return {}
    return {
        "grade_largest": _finite(grades.max()),
        "grade_99_percent": _finite(np.percentile(grades, 99, method="lower")),
        "share_above_1": float(np.mean(grades > 1.0 + ROUNDING)),
    }


def _of_atoms(errors: np.ndarray) -> dict[str, float | int | None]:
    return {
        "n_atoms": _count(errors[:, 0]),
        "forces_mae_meV_per_A": _mae(errors),
        "forces_rmse_meV_per_A": _rmse(errors),
    }
