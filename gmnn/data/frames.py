"""Frames with their labels, and the three parts into which they are split.  Energies in eV, lengths in Å."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from ase import Atoms
from ase.units import GPa

LABELS = ("energy", "forces", "stress")  # order of the columns wherever each label has one


@dataclass(frozen=True)
class Dataset:
    """Frames with their labels and their origin. Sizes, elements and periodicity may differ."""

    atoms: list[Atoms]  # positions and cells in Å; their calculators hold the values of the file
    energies: np.ndarray  # [n] eV, NaN where a frame has none
    forces: list[np.ndarray]  # n x [N, 3] eV/Å, NaN where a frame has none
    stresses: np.ndarray  # [n, 3, 3] eV/Å^3, ASE's sign, NaN where a frame has none
    weights: np.ndarray  # [n] weights of the frames in the loss
    name: str  # source, as the configuration names it
    sha256: str  # checksum of the file
    indices: np.ndarray  # [n] places of the frames in their file
    keys: Mapping[str, str] = field(default_factory=dict)  # label -> the key that held it

    def __post_init__(self) -> None:
        """Labels belong to frames by their places, so that every list is as long."""
        fields = (self.energies, self.forces, self.stresses, self.weights, self.indices)
        lengths = [len(values) for values in fields]
        if set(lengths) != {len(self.atoms)}:
            raise AssertionError(f"{len(self.atoms)} frames, but lists of {lengths}")

    def __len__(self) -> int:
        return len(self.atoms)

    def take(self, chosen: np.ndarray) -> "Dataset":
        """Return the frames at these places, in this order."""
        return replace(
            self,
            atoms=[self.atoms[k] for k in chosen],
            energies=self.energies[chosen],
            forces=[self.forces[k] for k in chosen],
            stresses=self.stresses[chosen],
            weights=self.weights[chosen],
            indices=self.indices[chosen],
        )

    def joined(self, other: "Dataset") -> "Dataset":
        """Return these frames followed by the others, under the name of these."""
        return replace(
            self,
            atoms=self.atoms + other.atoms,
            energies=np.concatenate([self.energies, other.energies]),
            forces=self.forces + other.forces,
            stresses=np.concatenate([self.stresses, other.stresses]),
            weights=np.concatenate([self.weights, other.weights]),
            indices=np.concatenate([self.indices, other.indices]),
        )

    @property
    def present(self) -> np.ndarray:
        """Whether each frame has an energy, forces and a stress.  [n, 3] bool"""
        has_forces = [not np.isnan(f).any() for f in self.forces]
        return np.stack([~np.isnan(self.energies), has_forces, ~np.isnan(self.stresses).any(axis=(1, 2))], axis=1)

    @property
    def label_weights(self) -> np.ndarray:
        """Weights of energy, forces and stress of every frame, 0 where a label is missing.  [n, 3]"""
        return self.weights[:, None] * self.present

    @property
    def config_types(self) -> list[str]:
        """`config_type` in the info of each frame, "" where it is missing."""
        return [str(atoms.info.get("config_type", "")) for atoms in self.atoms]

    @property
    def elements(self) -> set[int]:
        """Atomic numbers that occur."""
        return {int(z) for atoms in self.atoms for z in np.unique(atoms.numbers)}

    def ranges(self, references: Mapping[int, float]) -> dict[str, int | float | list[float]]:
        """Return numbers of labels, and the ranges of what is there, as JSON types.

        Energies are those above the atomic references [eV], by atomic number, and per atom. A range that has no label
        is left out.
        """
        present, sizes = self.present, [len(a) for a in self.atoms]
        found: dict[str, int | float | list[float]] = {
            "frames": len(self), "atoms": [min(sizes, default=0), max(sizes, default=0)],
            **{f"n_{name}": int(n) for name, n in zip(("energies", "forces", "stresses"), present.sum(0), strict=True)},
        }  # fmt: skip
        if present[:, 0].any():
            free = np.array([sum(references[int(z)] for z in a.numbers) for a in self.atoms])
            above = ((self.energies - free) / sizes)[present[:, 0]]
            found["energy_eV_per_atom"] = [float(above.min()), float(above.max())]
        if present[:, 1].any():
            with_forces = [f for f, there in zip(self.forces, present[:, 1], strict=True) if there]
            found["largest_force_eV_per_A"] = float(max(np.linalg.norm(f, axis=1).max() for f in with_forces))
        if present[:, 2].any():
            pressure = -np.trace(self.stresses[present[:, 2]], axis1=1, axis2=2) / 3.0 / GPa
            found["pressure_GPa"] = [float(pressure.min()), float(pressure.max())]
        return found

    def summary(self) -> str:
        """Return as text how many frames have each label, and the key that held it."""
        counts = self.present.sum(axis=0)
        parts = [
            f"{label}{f' ({self.keys[label]})' if label in self.keys else ''} {count}"
            for label, count in zip(LABELS, counts, strict=True)
        ]
        return f"{parts[0]} of {len(self)} frames, {', '.join(parts[1:])}"


@dataclass(frozen=True)
class Splits:
    """Training, validation and test frames; the test set may be empty."""

    train: Dataset  # with the frames of `extra` at the end
    valid: Dataset
    test: Dataset | None
    extra: Dataset | None = None  # training frames from a separate file

    def describe(self) -> dict[str, dict]:
        """Source, checksum and frame indices of each part, as JSON types. Equal data give equal descriptions."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test, "extra": self.extra}
        description = {
            key: {"source": d.name, "sha256": d.sha256, "indices": d.indices.tolist()}
            for key, d in parts.items()
            if d is not None
        }
        if self.extra is not None:
            del description["train"]["indices"][-len(self.extra) :]
        return description
