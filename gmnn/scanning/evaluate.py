"""Energies and slopes of one bond path from any ASE calculator; a point that cannot be computed is a result, too."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from numpy.typing import NDArray

from gmnn.scanning.paths import Array, BondPath


@dataclass(frozen=True)
class Samples:
    """Points of one curve, all fields [n]: distance r (Å), energy E (eV), slope dE/dr (eV/Å), message of a failure.

    A failed point has E = dE/dr = nan; a point that the calculator did compute has the message "".
    """

    distances: Array
    energies: Array
    slopes: Array
    messages: tuple[str, ...]

    def select(self, index: Any) -> "Samples":
        """The points of a mask, slice or index array."""
        messages = tuple(np.array(self.messages, dtype=object)[index])
        return Samples(self.distances[index], self.energies[index], self.slopes[index], messages)

    def merge(self, other: "Samples") -> "Samples":
        """The points of both, from the largest distance inwards."""
        joined = Samples(
            np.concatenate([self.distances, other.distances]),
            np.concatenate([self.energies, other.energies]),
            np.concatenate([self.slopes, other.slopes]),
            self.messages + other.messages,
        )
        return joined.select(np.argsort(-joined.distances, kind="stable"))

    @property
    def finite(self) -> "NDArray[np.bool_]":
        """[n] True where energy and slope are numbers."""
        return np.isfinite(self.energies) & np.isfinite(self.slopes)


def evaluate(path: BondPath, distances: Array, calculator: BaseCalculator) -> Samples:
    """E(r) and dE/dr = −Σ F · ∂x/∂r at the distances [n] (Å), in one call where the calculator has `batch_eval`.

    An exception of the calculator becomes the message of its point. If a batch raises, its points are done one by one.
    """
    frames = [path.at(float(r)) for r in distances]
    batch_eval = getattr(calculator, "batch_eval", None)
    points = None
    with np.errstate(all="ignore"):  # 0/0 in a calculator shows as nan in the result
        if batch_eval is not None:
            try:
                points = [_point(frame, path) for frame in batch_eval(frames)]
            except Exception:  # whatever it was, the loop below finds the point
                points = None
        if points is None or len(points) != len(frames):
            points = [_single_point(frame, calculator, path) for frame in frames]
    energies, slopes, messages = zip(*points, strict=True)
    return Samples(np.array(distances, float), np.array(energies, float), np.array(slopes, float), tuple(messages))


def _point(frame: Atoms, path: BondPath) -> tuple[float, float, str]:
    energy = float(frame.get_potential_energy())
    forces = np.asarray(frame.get_forces(), dtype=float)
    return energy, float(-np.sum(forces * path.tangent)), ""


def _single_point(frame: Atoms, calculator: BaseCalculator, path: BondPath) -> tuple[float, float, str]:
    frame.calc = calculator
    try:
        return _point(frame, path)
    except Exception as error:  # a calculator may raise anything
        text = str(error).strip().splitlines()
        return np.nan, np.nan, f"{type(error).__name__}: {text[0] if text else 'without a message'}"
