"""Read a file that ASE understands into checked frames with labels in eV and Å."""

import hashlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms

from gmnn.config.data import LabelsConfig
from gmnn.data import keys
from gmnn.data.checks import check
from gmnn.data.frames import LABELS, Dataset
from gmnn.data.units import Factors, asymmetric, factors, tensor, vasp_stress
from gmnn.errors import UserError
from gmnn.structures import read_structures, split_index

AGREE = {"energy": 1e-5, "forces": 1e-5, "stress": 1e-6}  # eV, eV/Å, eV/Å^3: allowed rounding of the same label

Values = list[np.ndarray | None]  # values of one label, one for each frame


def read_dataset(source: str, labels: LabelsConfig | None = None) -> Dataset:
    """Read and check all frames of a file or of the embedded set `ethanol`; UserError names the frames that are wrong.

    `FILE@SLICE` takes some of the frames, as in ASE: `run.xyz@-100:`, `run.xyz@::10`. They are counted from 0 again.
    `labels` gives keys, units and signs. It is ignored for the embedded set, which is in eV and Å.
    """
    if source == "ethanol":
        from gmnn.data import embedded

        frames, sha256 = embedded.ethanol(), embedded.CHECKSUMS["ethanol.extxyz.xz"]
        labels = LabelsConfig()
    else:
        frames, sha256 = _read_file(source)
        labels = labels or LabelsConfig()
    reader = _Reader(frames, source, labels)
    candidates = {"energy": reader.energies(), "forces": reader.forces(), "stress": reader.stresses()}
    chosen = {label: reader.choose(label, by_name) for label, by_name in candidates.items()}
    n = len(frames)
    dataset = Dataset(
        atoms=reader.atoms,
        energies=np.array([np.nan if e is None else e for e in chosen["energy"][1]], float),
        forces=[
            np.full((len(a), 3), np.nan) if f is None else f for a, f in zip(frames, chosen["forces"][1], strict=True)
        ],
        stresses=np.array([np.full((3, 3), np.nan) if s is None else s for s in chosen["stress"][1]]).reshape(n, 3, 3),
        weights=np.ones(n),
        name=source,
        sha256=sha256,
        indices=np.arange(n),
        keys={label: name for label, (name, _) in chosen.items() if name},
    )
    in_file = np.array([[value is not None for value in chosen[label][1]] for label in LABELS]).T.reshape(n, 3)
    if n and not in_file.any():
        raise UserError(
            f"{source}: no frame has an energy or forces under a usual name; {keys.there(frames)}; "
            "name the right ones with data.energy_key and data.forces_key"
        )
    check(dataset, in_file)
    return dataset


class _Reader:
    """The frames of one file, and the keys, units and signs to read their labels."""

    def __init__(self, frames: list[Atoms], source: str, labels: LabelsConfig) -> None:
        self.frames, self.source, self.labels = frames, source, labels
        self.factors: Factors = factors(labels.units)
        self.atoms = frames if self.factors.length == 1.0 else [_scaled(a, self.factors.length) for a in frames]

    def energies(self) -> dict[str, Values]:
        """Candidates for the energies by name, eV."""
        return self._read("energy", lambda value, _: value.item() * self.factors.energy if value.size == 1 else None)

    def forces(self) -> dict[str, Values]:
        """Candidates for the forces by name, [N, 3] eV/Å."""

        def convert(value: np.ndarray, k: int) -> np.ndarray | None:
            return value * self.factors.forces if value.shape == (len(self.frames[k]), 3) else None

        return self._read("forces", convert)

    def stresses(self) -> dict[str, Values]:
        """Candidates for the stress by name, from stresses and virials, [3, 3] eV/Å^3 in ASE's sign.

        Frames without a periodic cell have None.
        """
        from_stress, from_virial = self.labels.stress_key is not None, self.labels.virial_key is not None
        volumes = [abs(np.linalg.det(a.cell.array)) if a.pbc.any() else 0.0 for a in self.atoms]

        def stress(value: np.ndarray, k: int) -> np.ndarray | None:
            if self.labels.stress_convention == "vasp":
                return vasp_stress(value)
            full = tensor(value)
            return None if full is None else full * self.labels.stress_sign * self.factors.stress

        def virial(value: np.ndarray, k: int) -> np.ndarray | None:
            full = tensor(value)
            size = volumes[k] or np.nan  # a frame without volume gets no stress
            return None if full is None else full * -self.labels.virial_sign * self.factors.energy / size

        candidates: dict[str, Values] = {}
        if from_stress or not from_virial:
            candidates |= self._read("stress", stress)
        if from_virial or not from_stress:
            candidates |= self._read("virial", virial)
        without = {k for values in candidates.values() for k, value in enumerate(values) if value is not None}
        without = {k for k in without if not volumes[k]}
        if without:
            warnings.warn(
                f"{self.source}: the stress of {len(without)} frames is left out, because they lack three cell "
                "vectors or a periodic direction",
                stacklevel=3,
            )
        return {
            name: [self._symmetric(value, k, name) if volumes[k] else None for k, value in enumerate(values)]
            for name, values in candidates.items()
        }

    def choose(self, label: str, candidates: dict[str, Values]) -> tuple[str, Values]:
        """Name and values of the candidate in most frames; UserError if another one differs or is in other frames."""
        candidates = {name: values for name, values in candidates.items() if any(v is not None for v in values)}
        if not candidates:
            return "", [None] * len(self.frames)
        name = max(candidates, key=lambda name: sum(value is not None for value in candidates[name]))
        best = candidates.pop(name)
        for rival, values in candidates.items():
            for k, (value, second) in enumerate(zip(best, values, strict=True)):
                if second is None or (value is not None and _agree(value, second, AGREE[label])):
                    continue
                key = "data.stress_key or data.virial_key" if label == "stress" else f"data.{label}_key"
                how = "is only in one of them" if value is None else "differs between them"
                raise UserError(
                    f"{self.source} has both {name} and {rival} for the {label}, which {how} in frame {k}; "
                    f"name the one to use with {key}"
                )
        return name, best

    def _read(self, label: str, convert: Callable[[np.ndarray, int], object]) -> dict[str, Values]:
        """Columns of a label, converted; UserError for a value of the wrong type or shape."""
        key = getattr(self.labels, f"{label}_key")
        columns = keys.columns(self.frames, label, key)
        if key is not None:
            keys.require(self.frames, columns[key], self.source, label, key)
        converted_columns: dict[str, Values] = {}
        for name, column in columns.items():
            converted_columns[name] = [None] * len(column)
            for k, value in enumerate(column):
                if value is None:
                    continue
                try:
                    converted = convert(np.asarray(value, float), k)
                except (TypeError, ValueError):
                    converted = None
                if converted is None:
                    raise UserError(
                        f"{self.source}: frame {k} has {_shown(value)} under {name}, but {SHAPES[label]} expected; "
                        f"correct it, or name another key with data.{label}_key"
                    )
                converted_columns[name][k] = np.asarray(converted)
        return converted_columns

    def _symmetric(self, stress: np.ndarray | None, k: int, name: str) -> np.ndarray | None:
        if stress is not None and asymmetric(stress):
            raise UserError(
                f"{self.source}: the stress of frame {k} under {name} is not symmetric "
                f"({stress.round(6).tolist()} eV/Å^3); give 3x3 numbers, or 6 in the order xx yy zz yz xz xy"
            )
        return None if stress is None else 0.5 * (stress + stress.T)


SHAPES = {
    "energy": "one number is",
    "forces": "three numbers for each atom are",
    "stress": "3x3, 9 or 6 numbers are",
    "virial": "3x3, 9 or 6 numbers are",
}


def _agree(first: np.ndarray, second: np.ndarray, tolerance: float) -> bool:
    return bool(np.allclose(first, second, rtol=1e-9, atol=tolerance, equal_nan=True))


def _shown(value: Any) -> str:
    shape = np.shape(value)
    return f"numbers of shape {list(shape)}" if shape else repr(value)


def _scaled(atoms: Atoms, factor: float) -> Atoms:
    """Copy with positions and cell in Å, without the calculator, whose results have other units."""
    scaled = atoms.copy()
    scaled.set_cell(atoms.cell.array * factor, scale_atoms=False)
    scaled.positions = atoms.positions * factor
    return scaled


def _read_file(source: str) -> tuple[list[Atoms], str]:
    path, rows = split_index(source)
    if rows and ":" not in rows:
        rows = f"{rows}:{int(rows) + 1 or ''}"
    frames = read_structures(path, rows or ":")
    return frames, hashlib.sha256(path.read_bytes()).hexdigest()
