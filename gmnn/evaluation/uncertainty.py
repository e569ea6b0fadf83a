"""Uncertainty of an ensemble: its spreads beside its errors, and their calibration.

Spreads are standard deviations over the members. A spread is calibrated if errors follow a normal distribution of that
width; the miscalibration area is the mean distance of the share of errors inside a central interval from the interval's
probability (Tran et al., Mach. Learn.: Sci. Technol. 1, 025006 (2020)).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from scipy.special import erfinv

from gmnn.data import Dataset
from gmnn.data.batches import make_buckets
from gmnn.evaluation.predict import in_chunks
from gmnn.model.potential import Params, Potential
from gmnn.system import System

PROBABILITIES = np.linspace(0.01, 0.99, 99)  # of the central intervals


@dataclass(frozen=True)
class Spreads:
    """Error and spread of one quantity, label by label, before any scaling."""

    errors: np.ndarray  # [n] predicted minus reference
    stds: np.ndarray  # [n] > 0

    @property
    def scale(self) -> float:
        """Factor of the spreads that makes the errors most likely; 1 without labels."""
        return float(np.sqrt(np.mean((self.errors / self.stds) ** 2))) if len(self.errors) else 1.0

    def inside(self, scale: float) -> np.ndarray:
        """Share of the errors in the central interval of each of PROBABILITIES.  [99]"""
        z = np.abs(self.errors) / (scale * self.stds)
        return np.mean(z[:, None] <= np.sqrt(2.0) * erfinv(PROBABILITIES), axis=0)

    def miscalibration(self, scale: float) -> float:
        """Mean distance between share and probability, 0 to 0.5."""
        return float(np.mean(np.abs(self.inside(scale) - PROBABILITIES)))


def spreads(potential: Potential, dataset: Dataset) -> dict[str, Spreads]:
    """Errors and spreads of `energy` (eV per atom) and `forces` (eV/Å, by component) for all labels."""
    errors: dict[str, list[np.ndarray]] = {"energy": [], "forces": []}
    stds: dict[str, list[np.ndarray]] = {"energy": [], "forces": []}

    def one(params: Params, system: System) -> tuple[jax.Array, jax.Array]:
        energies = potential.member_energies(params, system).sum(axis=1)
        return energies, potential.member_forces(params, system)

    evaluate = partial(jax.jit(jax.vmap(one, (None, 0))), potential.trained)
    for bucket in make_buckets(dataset, potential.reference, potential.config.r_max):
        energies, forces = (np.asarray(x, float) for x in in_chunks(evaluate, bucket.systems))
        labels, numbers = jax.tree.map(np.asarray, bucket.labels), np.asarray(bucket.systems.numbers)
        has_energy, has_forces, _ = labels.weights.T > 0
        sizes = (numbers > 0).sum(axis=1)
        errors["energy"].append(((energies.mean(axis=1) - labels.energy) / sizes)[has_energy])
        stds["energy"].append((energies.std(axis=1, ddof=1) / sizes)[has_energy])
        real = (numbers > 0) & has_forces[:, None]
        errors["forces"].append((forces.mean(axis=1) - labels.forces)[real].ravel())
        stds["forces"].append(forces.std(axis=1, ddof=1)[real].ravel())
    floor = 1e-9
    return {key: Spreads(np.concatenate(errors[key]), np.maximum(np.concatenate(stds[key]), floor)) for key in errors}


def calibration(found: dict[str, Spreads], scale: tuple[float, float]) -> dict[str, dict[str, Any]]:
    """Scale, and miscalibration of the bare and of the scaled spreads, for each quantity that has labels."""
    return {
        key: {
            "labels": len(quantity.errors), "scale": factor, "miscalibration_bare": quantity.miscalibration(1.0),
            "miscalibration": quantity.miscalibration(factor),
        }
        for (key, quantity), factor in zip(found.items(), scale, strict=True) if len(quantity.errors)
    }  # fmt: skip
