"""Labelled frames: reading anything ASE reads, checking it, splitting it, and the atomic references in float64.

Energies in eV, forces in eV/Å, positions in Å, as ASE's readers give them.
"""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from gmnn.config import Config, DataConfig
from gmnn.elements import SYMBOLS, pair_name
from gmnn.errors import UserError
from gmnn.model_config import SWISH_FLOOR, Reference
from gmnn.neighbors import neighbor_pairs

MAX_ENERGY_PER_ATOM = 1e6  # eV; the heaviest all-electron atom has 0.8 MeV
MAX_FORCE = 1e5  # eV/Å; C-C at 0.1 Å has 4e4
CLOSEST = 1e-3  # Å; nearer atoms are one atom written twice


@dataclass(frozen=True)
class Dataset:
    """Frames with their labels, and where they come from."""

    atoms: list[Atoms]
    energies: np.ndarray  # [n] eV, NaN where a frame has none
    forces: list[np.ndarray]  # n x [N, 3] eV/Å, NaN where a frame has none
    stresses: np.ndarray  # [n, 3, 3] eV/Å^3, ASE's sign, NaN where a frame has none
    weights: np.ndarray  # [n] of the frames in the loss
    name: str  # as the configuration names it
    sha256: str  # of the file
    indices: np.ndarray  # [n] places of the frames in the file

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

    @property
    def label_weights(self) -> np.ndarray:
        """Weights of energy, forces and stress of every frame, 0 where the frame has no such label.  [n, 3]"""
        has_forces = [not np.isnan(f).any() for f in self.forces]
        present = [~np.isnan(self.energies), has_forces, ~np.isnan(self.stresses).any(axis=(1, 2))]
        return self.weights[:, None] * np.stack(present, axis=1)

    @property
    def elements(self) -> set[int]:
        return {int(z) for atoms in self.atoms for z in np.unique(atoms.numbers)}


@dataclass(frozen=True)
class Splits:
    """Training, validation and test frames; the test set may be empty."""

    train: Dataset
    valid: Dataset
    test: Dataset | None

    def describe(self) -> dict[str, dict]:
        """Source, checksum and frame indices of each part, as JSON types; equal for equal data."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        return {
            key: {"source": d.name, "sha256": d.sha256, "indices": d.indices.tolist()}
            for key, d in parts.items()
            if d is not None
        }


def read_dataset(source: str, energy_key: str | None = None, forces_key: str | None = None) -> Dataset:
    """All frames of a file, or of the embedded set `ethanol`, checked; UserError names the frames that are wrong."""
    if source == "ethanol":
        from gmnn import embedded

        atoms, sha256 = embedded.ethanol(), embedded.CHECKSUMS["ethanol.extxyz.xz"]
    else:
        atoms, sha256 = _read_file(source)
    energies = np.array([_energy(a, k, source, energy_key) for k, a in enumerate(atoms)])
    forces = [_forces(a, k, source, forces_key) for k, a in enumerate(atoms)]
    n = len(atoms)
    stresses = np.array([_stress(a) for a in atoms]).reshape(n, 3, 3)
    dataset = Dataset(atoms, energies, forces, stresses, np.ones(n), source, sha256, np.arange(n))
    check(dataset)
    return dataset


def split(config: Config) -> Splits:
    """Training, validation and test frames as the configuration asks, drawn with its seed."""
    data = config.data
    train = read_dataset(data.train, data.energy_key, data.forces_key)
    given = {
        key: read_dataset(source, data.energy_key, data.forces_key)
        for key, source in (("valid", data.valid), ("test", data.test))
        if source is not None
    }
    n_train, n_valid = _sizes(data, len(train))
    order = np.random.default_rng(config.seed).permutation(len(train))
    valid = given.get("valid", train.take(order[n_train : n_train + n_valid]))
    rest = order[n_train + n_valid :] if not given else order[:0]
    test = given.get("test", train.take(rest) if len(rest) else None)
    splits = Splits(train.take(order[:n_train]), valid, test)
    for part in (splits.valid, splits.test):
        if part is not None and (unknown := part.elements - splits.train.elements):
            raise UserError(
                f"{part.name} contains {', '.join(SYMBOLS[z] for z in sorted(unknown))}, but no training frame does; "
                "add frames with these elements to data.train or remove them there"
            )
    return splits


def fit_reference(train: Dataset, config: Config) -> Reference:
    """Elements, smallest distances, atomic energies E0 and the start of scale and shift, in float64.

    E0 is the given energy of the isolated atom, or the coefficient of a regression of the energies on composition with
    a tiny ridge (so that one molecule alone shares its energy evenly). With given E0 the regression of what is left is
    the initial shift. The initial scale places the floor of a bounded readout below the mean atomic energy: by the
    larger of 0.7 Å times the root-mean-square force component and four times the deepest energy per atom of a frame.
    """
    elements = sorted(train.elements)
    composition = np.array([[np.sum(a.numbers == z) for z in elements] for a in train.atoms], float)
    given = _given_energies(config.data.atomic_energies, elements)
    remainder = train.energies - composition @ given
    ridge = 1e-10 * np.trace(composition.T @ composition)
    normal = composition.T @ composition + ridge * np.eye(len(elements))
    fitted = np.linalg.solve(normal, composition.T @ remainder)
    fitted += np.linalg.solve(normal, composition.T @ (remainder - composition @ fitted))  # undo the ridge's bias
    rms = float(np.sqrt(np.mean(np.concatenate([f.ravel() for f in train.forces]) ** 2)))
    deepest = float(np.max((composition @ fitted - remainder) / composition.sum(axis=1)))
    depth = max(0.7 * rms, 4.0 * deepest, 0.01)
    isolated = config.data.atomic_energies is not None
    model = config.model
    return Reference(
        elements=tuple(elements),
        E0=tuple(given if isolated else fitted),
        shift=tuple(fitted if isolated else np.zeros(len(elements))),
        scale=(depth / SWISH_FLOOR,) * len(elements),
        closest=closest_distances(train, model.r_max) if model.core.uses_distances else (),
        screening=read_nlh(config.data.nlh_coefficients, elements) if model.repulsion == "nlh" else (),
    )


def closest_distances(train: Dataset, r_max: float) -> tuple[float | None, ...]:
    """Smallest distance of each unordered pair of elements over all frames, images included, Å; None beyond r_max."""
    elements = np.array(sorted(train.elements))
    table = np.full((len(elements), len(elements)), np.inf)
    for atoms in train.atoms:
        i, j, S = neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, r_max)
        r = np.linalg.norm(atoms.positions[j] + S @ atoms.cell.array - atoms.positions[i], axis=1)
        index = np.searchsorted(elements, atoms.numbers)
        np.minimum.at(table, (index[i], index[j]), r)
    upper = table[np.triu_indices(len(elements))]
    return tuple(None if np.isinf(value) else float(value) for value in upper)


def read_nlh(path: str | None, elements: list[int]) -> tuple[tuple[float, ...], ...]:
    """a1, b1 ... a3, b3 of each unordered pair of elements from the published file: Z1, Z2 and six numbers a line.

    Nordlund, Lehtola, Hobler, Phys. Rev. A 111, 032818 (2025), supplemental material.
    """
    if path is None:
        raise UserError("model.repulsion is nlh; name the published file of its coefficients in data.nlh_coefficients")
    try:
        lines = [line.split() for line in Path(path).read_text().splitlines() if line.strip() and line[0] != "#"]
        table = {(int(x[0]), int(x[1])): tuple(map(float, x[2:8])) for x in lines}
    except (OSError, ValueError, IndexError) as error:
        raise UserError(
            f"data.nlh_coefficients: cannot read {path} ({error}); lines are Z1 Z2 a1 b1 a2 b2 a3 b3"
        ) from None
    wanted = [(z, y) for k, z in enumerate(elements) for y in elements[k:]]
    missing = [pair_name(*pair) for pair in wanted if len(table.get(pair, ())) != 6]
    if missing:
        raise UserError(f"data.nlh_coefficients: {path} has no line for {', '.join(missing)}; use model.repulsion: zbl")
    return tuple(table[pair] for pair in wanted)


def check(dataset: Dataset) -> None:
    """UserError for labels or structures no potential can be trained on; a warning for what looks like a wrong unit."""
    if not len(dataset):
        raise UserError(f"{dataset.name} holds no frames; give a file with at least one")
    sizes = np.array([len(a) for a in dataset.atoms])
    per_atom = np.abs(dataset.energies) / np.maximum(sizes, 1)
    strongest = np.array([np.abs(f).max(initial=0.0) for f in dataset.forces])
    problems = {
        "no atoms": sizes == 0,
        "an atomic number outside 1 ... 118": [not ((a.numbers > 0) & (a.numbers < 119)).all() for a in dataset.atoms],
        "positions that are not finite": [not np.isfinite(a.positions).all() for a in dataset.atoms],
        "an energy that is not finite": ~np.isfinite(dataset.energies),
        "forces that are not finite": [not np.isfinite(f).all() for f in dataset.forces],
        f"an energy beyond {MAX_ENERGY_PER_ATOM:.0e} eV per atom (wrong unit?)": per_atom > MAX_ENERGY_PER_ATOM,
        f"a force beyond {MAX_FORCE:.0e} eV/Å (wrong unit?)": strongest > MAX_FORCE,
        f"two atoms closer than {CLOSEST} Å": [_coincident(a) for a in dataset.atoms],
    }
    for what, bad in problems.items():
        frames = np.flatnonzero(bad)
        if len(frames):
            raise UserError(
                f"{dataset.name}: {len(frames)} of {len(dataset)} frames have {what}, the first are "
                f"{', '.join(map(str, dataset.indices[frames[:5]]))} (counted from 0); correct or remove them"
            )
    if not strongest.any():
        raise UserError(f"{dataset.name}: every force is exactly zero; name the right key with data.forces_key")
    rms = np.sqrt(np.mean(np.concatenate([f.ravel() for f in dataset.forces]) ** 2))
    if not 0.01 < rms < 50:
        warnings.warn(
            f"{dataset.name}: the root-mean-square force component is {rms:.3g} eV/Å, usual are 0.05 to 5; "
            "are the labels in eV and Å?",
            stacklevel=2,
        )


def _sizes(data: DataConfig, n: int) -> tuple[int, int]:
    split_test = data.valid is None and data.test is None
    n_valid = 0 if data.valid is not None else data.n_valid or max(1, n // 10)
    n_train = data.n_train or max(0, n - n_valid - (n // 10 if split_test else 0))
    if n_train < 1 or n_train + n_valid > n:
        raise UserError(
            f"{data.train} has {n} frames, not enough for data.n_train = {n_train} and data.n_valid = {n_valid}; "
            "lower them or give more frames"
        )
    return n_train, n_valid


def _read_file(source: str) -> tuple[list[Atoms], str]:
    from ase.io import read

    path = Path(source)
    if not path.is_file():
        raise UserError(f"the data file {source} does not exist; give a file that ASE reads, or `ethanol`")
    try:
        frames = read(path, ":")
    except Exception as error:  # ASE's readers raise anything on a malformed file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"ASE cannot read {source}: {reason}") from None
    return list(frames), hashlib.sha256(path.read_bytes()).hexdigest()


def _energy(atoms: Atoms, index: int, source: str, key: str | None) -> float:
    results = atoms.calc.results if atoms.calc is not None else {}
    value = atoms.info.get(key) if key else results.get("energy")
    if value is None and key:
        value = results.get(key)
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise _missing("energy", key, index, source, list(atoms.info)) from None


def _forces(atoms: Atoms, index: int, source: str, key: str | None) -> np.ndarray:
    results = atoms.calc.results if atoms.calc is not None else {}
    value = atoms.arrays.get(key) if key else results.get("forces")
    if value is None and key:
        value = results.get(key)
    if value is None or np.shape(value) != (len(atoms), 3):
        raise _missing("forces", key, index, source, [k for k in atoms.arrays if k not in ("numbers", "positions")])
    return np.asarray(value, float)


def _stress(atoms: Atoms) -> np.ndarray:
    results = atoms.calc.results if atoms.calc is not None else {}
    return voigt_6_to_full_3x3_stress(results["stress"]) if "stress" in results else np.full((3, 3), np.nan)


def _missing(label: str, key: str | None, index: int, source: str, present: Sequence[str]) -> UserError:
    wanted = f"under the key {key!r}" if key else "in its calculator"
    others = f"it has {', '.join(present)}" if present else "it has no other keys"
    return UserError(f"{source}: frame {index} has no {label} {wanted}; {others}. Set the right data.{label}_key")


def _coincident(atoms: Atoms) -> bool:
    if len(atoms) < 2 or not np.isfinite(atoms.positions).all():
        return False
    return len(neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, CLOSEST)[0]) > 0


def _given_energies(energies: dict[str, float] | None, elements: list[int]) -> np.ndarray:
    if energies is None:
        return np.zeros(len(elements))
    symbols = [SYMBOLS[z] for z in elements]
    missing, extra = sorted(set(symbols) - set(energies)), sorted(set(energies) - set(symbols))
    if missing or extra:
        raise UserError(
            f"data.atomic_energies must name the elements of the training frames ({', '.join(symbols)}); "
            + (f"missing: {', '.join(missing)}" if missing else f"no frame contains {', '.join(extra)}")
        )
    return np.array([energies[s] for s in symbols])
