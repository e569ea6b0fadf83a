"""Frames with their labels, and the three parts they are split into.  Energies in eV, lengths in Å."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from ase import Atoms

LABELS = ("energy", "forces", "stress")  # order of the columns wherever there is one for each label


@dataclass(frozen=True)
class Dataset:
    """Frames with their labels, and where they come from. Sizes, elements and periodicity may differ."""

    atoms: list[Atoms]  # positions and cells in Å; their calculators hold what the file says
    energies: np.ndarray  # [n] eV, NaN where a frame has none
    forces: list[np.ndarray]  # n x [N, 3] eV/Å, NaN where a frame has none
    stresses: np.ndarray  # [n, 3, 3] eV/Å^3, ASE's sign, NaN where a frame has none
    weights: np.ndarray  # [n] of the frames in the loss
    name: str  # as the configuration names it
    sha256: str  # of the file
    indices: np.ndarray  # [n] places of the frames in the file
    keys: Mapping[str, str] = field(default_factory=dict)  # label -> key it was found under

    def __len__(self) -> int:
        return len(self.atoms)

    def take(self, chosen: np.ndarray) -> "Dataset":
        """The frames at these places, in this order."""
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
        """These frames and then the others, under the name of these."""
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
        """Whether a frame has an energy, forces and a stress.  [n, 3] bool"""
        has_forces = [not np.isnan(f).any() for f in self.forces]
        return np.stack([~np.isnan(self.energies), has_forces, ~np.isnan(self.stresses).any(axis=(1, 2))], axis=1)

    @property
    def label_weights(self) -> np.ndarray:
        """Weights of energy, forces and stress of every frame, 0 where the frame has no such label.  [n, 3]"""
        return self.weights[:, None] * self.present

    @property
    def config_types(self) -> list[str]:
        """What each frame says it is (`config_type` in its info), "" where it says nothing."""
        return [str(atoms.info.get("config_type", "")) for atoms in self.atoms]

    @property
    def elements(self) -> set[int]:
        """Atomic numbers that occur."""
        return {int(z) for atoms in self.atoms for z in np.unique(atoms.numbers)}

    def summary(self) -> str:
        """How many frames have which label, and the key it was found under."""
        counts = self.present.sum(axis=0)
        parts = [
            f"{label}{f' ({self.keys[label]})' if label in self.keys else ''} {count}"
            for label, count in zip(LABELS, counts, strict=True)
        ]
        return f"{parts[0]} of {len(self)} frames, {', '.join(parts[1:])}"


@dataclass(frozen=True)
class Splits:
    """Training, validation and test frames; the test set may be empty."""

    train: Dataset  # with those of `extra` at the end
    valid: Dataset
    test: Dataset | None
    extra: Dataset | None = None  # training frames of a file of their own

    def describe(self) -> dict[str, dict]:
        """Source, checksum and frame indices of each part, as JSON types; equal for equal data."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test, "extra": self.extra}
        found = {
            key: {"source": d.name, "sha256": d.sha256, "indices": d.indices.tolist()}
            for key, d in parts.items()
            if d is not None
        }
        if self.extra is not None:
            del found["train"]["indices"][-len(self.extra) :]
        return found
