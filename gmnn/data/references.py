"""Facts that the training frames give before training: atomic references, smallest distances, coefficients of NLH."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gmnn.config.model import SWISH_FLOOR
from gmnn.config.reading import Config
from gmnn.data.checks import rms_force
from gmnn.data.frames import Dataset
from gmnn.elements import SYMBOLS, pair_name
from gmnn.errors import UserError
from gmnn.files import require_file
from gmnn.neighbors.host import neighbor_pairs
from gmnn.reference import Reference

TYPICAL_FORCE = 1.0  # eV/Å, root mean square of a component, assumed if no frame has forces
SAME_ATOM = 1e-3  # eV; isolated atoms that differ by more are in different states


@dataclass(frozen=True)
class Regression:
    """What a regression of the energies on composition can determine."""

    elements: tuple[int, ...]
    rank: int  # of the compositions of the frames with an energy
    undetermined: tuple[int, ...]  # elements whose energy the frames determine only in sums with others


def regression(train: Dataset) -> Regression:
    """Rank and undetermined elements of the compositions. One composition alone has rank 1."""
    elements = np.array(sorted(train.elements))
    rows = np.unique(_composition(train, elements)[train.present[:, 0]], axis=0)
    fractions = rows / rows.sum(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(fractions.T @ fractions)
    null = vectors[:, values < 1e-10 * max(values.max(), 1e-10)]
    undetermined = elements[np.abs(null).max(axis=1, initial=0.0) > 1e-5]
    return Regression(tuple(elements.tolist()), len(elements) - null.shape[1], tuple(undetermined.tolist()))


def fit_reference(train: Dataset, config: Config) -> Reference:
    """Determine elements, smallest distances, atomic energies E0 and the initial scale and shift, in float64.

    E0 is the given energy of the isolated atom, or the coefficient of a regression of the energies on composition. Of
    all least-squares solutions the smallest is taken, so that one molecule alone shares its energy evenly. If E0 is
    given, the regression of the remainder is the initial shift. Frames without an energy take no part; without any
    energy, E0 (if not given) and shift are 0. The initial scale places the floor of a bounded readout below the mean
    atomic energy, by the larger of 0.7 Å times the root-mean-square force component and four times the deepest energy
    per atom of a frame.
    """
    elements = sorted(train.elements)
    model, requested = config.model, config.data.atomic_energies
    isolated = _given(train, requested, model.r_max)
    known = train.present[:, 0]
    composition = _composition(train, np.array(elements))[known]
    remainder = train.energies[known] - composition @ isolated
    fitted, deepest, rms = np.zeros(len(elements)), 0.0, rms_force(train)
    if known.any():
        fitted = np.linalg.lstsq(composition, remainder, rcond=1e-10)[0]
        deepest = float(np.max((composition @ fitted - remainder) / composition.sum(axis=1)))
    else:
        e0 = "0" if requested is None else "those of data.atomic_energies"
        warnings.warn(
            f"{train.name}: no training frame has an energy; the atomic references are {e0}, and energies of different "
            "compositions cannot be compared",
            stacklevel=2,
        )
    if np.isnan(rms):
        warnings.warn(f"{train.name}: no training frame has forces; expect poor ones from the model", stacklevel=2)
        rms = TYPICAL_FORCE
    depth = max(0.7 * rms, 4.0 * deepest, 0.01)
    return Reference(
        elements=tuple(elements),
        E0=tuple((fitted if requested is None else isolated).tolist()),
        shift=tuple((np.zeros(len(elements)) if requested is None else fitted).tolist()),
        scale=(depth / SWISH_FLOOR,) * len(elements),
        closest=closest_distances(train, model.r_max) if model.uses_distances else (),
        screening=read_nlh(config.data.nlh_coefficients, elements) if model.repulsion == "nlh" else (),
    )


def isolated_atoms(dataset: Dataset, r_max: float) -> np.ndarray:
    """Whether each frame has an energy and is one atom with no image of itself within r_max.  [n] bool"""
    return dataset.present[:, 0] & [
        len(a) == 1 and len(neighbor_pairs(a.positions, a.cell.array, a.pbc, r_max)[0]) == 0 for a in dataset.atoms
    ]


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
    """Read a1, b1 ... a3, b3 of each unordered pair of elements from the published file.

    A line of the file holds Z1, Z2 and six numbers (Nordlund, Lehtola, Hobler, Phys. Rev. A 111, 032818 (2025),
    supplemental material).
    """
    if path is None:
        raise UserError("model.repulsion is nlh; name the published file of its coefficients in data.nlh_coefficients")
    try:
        require_file(Path(path), "the published file")
        text = Path(path).read_text(encoding="utf-8")
        lines = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
        table = {(int(x[0]), int(x[1])): tuple(map(float, x[2:8])) for x in lines}
    except (OSError, ValueError, IndexError) as error:
        raise UserError(
            f"data.nlh_coefficients: cannot read {path} ({error}); lines are Z1 Z2 a1 b1 a2 b2 a3 b3"
        ) from None
    pairs = [(z, y) for k, z in enumerate(elements) for y in elements[k:]]
    missing = [pair_name(*pair) for pair in pairs if len(table.get(pair, ())) != 6]
    if missing:
        raise UserError(f"data.nlh_coefficients: {path} has no line for {', '.join(missing)}; use model.repulsion: zbl")
    return tuple(table[pair] for pair in pairs)


def _composition(dataset: Dataset, elements: np.ndarray) -> np.ndarray:
    """Number of atoms of each element in each frame.  [n, E]"""
    return np.array([np.sum(a.numbers[:, None] == elements, axis=0) for a in dataset.atoms], float)


def _given(train: Dataset, requested: dict[str, float] | str | None, r_max: float) -> np.ndarray:
    """Energies of the isolated atoms of all elements, 0 if the regression is to determine them.  [E] eV"""
    symbols = [SYMBOLS[z] for z in sorted(train.elements)]
    if requested is None:
        return np.zeros(len(symbols))
    if not isinstance(requested, dict):
        requested = _isolated_energies(train, symbols, r_max)
    missing, extra = sorted(set(symbols) - set(requested)), sorted(set(requested) - set(symbols))
    if missing or extra:
        raise UserError(
            f"data.atomic_energies must name the elements of the training frames ({', '.join(symbols)}); "
            + (f"missing: {', '.join(missing)}" if missing else f"no frame contains {', '.join(extra)}")
        )
    return np.array([requested[s] for s in symbols])


def _isolated_energies(train: Dataset, symbols: list[str], r_max: float) -> dict[str, float]:
    energies: dict[str, float] = {}
    for k in np.flatnonzero(isolated_atoms(train, r_max)):
        symbol, energy = train.atoms[k].get_chemical_symbols()[0], float(train.energies[k])
        if abs(energies.setdefault(symbol, energy) - energy) > SAME_ATOM:
            raise UserError(
                f"data.atomic_energies is isolated, but the training frames hold single {symbol} atoms with "
                f"{energies[symbol]:.4f} and {energy:.4f} eV; keep the ground state, or give the energies by symbol"
            )
    missing = [symbol for symbol in symbols if symbol not in energies]
    if missing:
        raise UserError(
            f"data.atomic_energies is isolated, but no training frame is a single {' or '.join(missing)} atom with an "
            f"energy (nothing within model.r_max = {r_max} Å); add them to {train.name}, or give the energies by symbol"
        )
    return energies
