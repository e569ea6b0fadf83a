"""Evaluate many structures with any ASE calculator, and hold the points of one curve.

A point that cannot be computed is a result, too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from numpy.typing import NDArray

from gmnn.errors import UserError, reason
from gmnn.scanning.paths import Array, Integers

Evaluate = Callable[[Array, Integers], tuple[Array, Array]]  # positions [B, N, 3], numbers [B, N] -> E [B], F [B, N, 3]

SIZES = (4, 16, 64, 256, 1024)  # structures that a calculator gets at once; never more than the last


class EndedByCalculator(UserError):
    """A calculator that tried to end the program: no point that failed, but the end of the scan."""


@contextmanager
def kept_running() -> Iterator[None]:
    """Run a calculator's code within: UserError if it tries to end the program, by any exception but Ctrl-C's.

    What is an `Exception` passes: it says that a structure cannot be computed.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as end:  # SystemExit, GeneratorExit and whatever else would pass by every handler of errors
        raise EndedByCalculator(
            f"The calculator tried to end the program, got {type(end).__name__}({end}); a calculator returns results "
            "or raises an error; correct it, or choose another one."
        ) from end


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
        """The points of both curves, from the largest distance inwards."""
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


class BulkCalculator:
    """Any ASE calculator as a function (positions [B, N, 3] Å, numbers [B, N]) -> (E [B] eV, F [B, N, 3] eV/Å).

    The structures are isolated, or copies of `frame` with its cell. A structure on which the calculator raises gets
    nan; `messages` holds the reasons, by index, for the latest call. A calculator with `batch_eval` gets up to 1024
    structures at once. Without a `frame` its batches are filled up to 4, 16, 64, 256 or 1024 with copies of the last
    structure, so that a calculator that compiles a program for each size compiles few.
    """

    def __init__(self, calculator: BaseCalculator, frame: Atoms | None = None) -> None:
        self.calculator, self.frame = calculator, frame
        self.messages: dict[int, str] = {}

    def __call__(self, positions: Array, numbers: Integers) -> tuple[Array, Array]:
        energies, forces = np.empty(len(positions)), np.empty(positions.shape)
        self.messages = {}
        for begin in range(0, len(positions), SIZES[-1]):
            part = slice(begin, begin + SIZES[-1])
            frames = [self._structure(z, x) for z, x in zip(numbers[part], positions[part], strict=True)]
            n = len(frames)
            if self.frame is None and hasattr(self.calculator, "batch_eval"):
                frames += [frames[-1].copy() for _ in range(next(size for size in SIZES if size >= n) - n)]
            batch_energies, batch_forces, messages = _results(frames, self.calculator)
            energies[part], forces[part] = batch_energies[:n], batch_forces[:n]
            self.messages |= {begin + k: text for k, text in enumerate(messages[:n]) if text}
        return energies, forces

    def _structure(self, numbers: Integers, positions: Array) -> Atoms:
        if self.frame is None:
            return Atoms(numbers, positions)
        atoms = self.frame.copy()
        atoms.positions = positions
        return atoms


def _results(frames: list[Atoms], calculator: BaseCalculator) -> tuple[Array, Array, list[str]]:
    """E [n], F [n, N, 3] and messages [n] ("" for a success) of structures with the same number of atoms."""
    batch_eval = getattr(calculator, "batch_eval", None)
    points = None
    with np.errstate(all="ignore"):  # 0/0 in a calculator shows as nan in the result
        if batch_eval is not None:
            try:
                with kept_running():
                    points = [point(frame) for frame in batch_eval(frames)]
            except EndedByCalculator:
                raise
            except Exception:  # the loop below finds the structure that failed
                points = None
        if points is None or len(points) != len(frames):
            if batch_eval is not None and hasattr(calculator, "reset"):
                calculator.reset()  # a batch that raised may leave results of another structure behind
            points = [_single_point(frame, calculator) for frame in frames]
    energies, forces, messages = zip(*points, strict=True)
    numbers = [np.array(values, float) for values in (energies, forces)]
    for values in numbers:
        values[~np.isfinite(values)] = np.nan  # an infinite result is none
    return numbers[0], numbers[1], list(messages)


def point(frame: Atoms) -> tuple[float, Array, str]:
    """Energy, forces and no message of a structure with a calculator; ValueError if they have another shape."""
    energy, forces = np.asarray(frame.get_potential_energy(), float), np.asarray(frame.get_forces(), float)
    if energy.size != 1 or frame.get_potential_energy() is None:
        raise ValueError(f"the energy has the shape {energy.shape}, but one number is needed")
    if forces.shape != (len(frame), 3):
        raise ValueError(f"the forces have the shape {forces.shape}, but {(len(frame), 3)} is needed")
    return float(energy.item()), forces, ""


def _single_point(frame: Atoms, calculator: BaseCalculator) -> tuple[float, Array, str]:
    frame.calc = calculator
    try:
        with kept_running():
            return point(frame)
    except EndedByCalculator:
        raise
    except Exception as error:  # a calculator may raise anything
        message = f"{type(error).__name__}: {reason(error, 300)}"
        return np.nan, np.full((len(frame), 3), np.nan), message
