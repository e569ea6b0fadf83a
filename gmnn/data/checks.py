"""Checks of frames: an error names those that no potential can be trained on; wrong-looking units are a warning."""

import warnings
from collections.abc import Callable

import numpy as np
from ase import Atoms

from gmnn.data.frames import Dataset
from gmnn.errors import UserError
from gmnn.neighbors.host import FARTHEST, complete_cell, neighbor_pairs, require_searchable

MAX_ENERGY_PER_ATOM = 1e6  # eV; the heaviest all-electron atom has 0.8 MeV
MAX_FORCE = 1e5  # eV/Å; C-C at 0.1 Å has 4e4
CLOSEST = 1e-3  # Å; two nearer atoms are one atom written twice
SEARCHED = 1.5  # Å, radius of the search for coincident atoms
USUAL_FORCES = (0.01, 50.0)  # eV/Å, root mean square of a component
USUAL_STRESS = 1.0  # eV/Å^3, 160 GPa, root mean square of a component


def check(dataset: Dataset, given: np.ndarray) -> None:
    """Raise UserError for labels or structures that no potential can be trained on; warn if a unit looks wrong.

    `given` [n, 3] bool marks which frame has an energy, forces and a stress in the file, so that a NaN there is not
    taken for a missing label.
    """
    if not len(dataset):
        raise UserError(f"{dataset.name} holds no frames; give a file with at least one")
    sizes = np.array([len(a) for a in dataset.atoms])
    per_atom = np.abs(dataset.energies) / np.maximum(sizes, 1)
    strongest = np.array([np.abs(f).max(initial=0.0) for f in dataset.forces])
    finite_forces = np.array([np.isfinite(f).all() for f in dataset.forces])
    finite = np.array([_is_finite(a) for a in dataset.atoms])
    no_cell = np.array([_refused(complete_cell, a.cell.array, a.pbc) for a in dataset.atoms])
    usable = finite & ~no_cell
    no_unit = np.array([ok and _unsearchable(a) for ok, a in zip(usable, dataset.atoms, strict=True)])
    coincident = [ok and _coincident(a) for ok, a in zip(usable & ~no_unit, dataset.atoms, strict=True)]
    problems = {
        "no atoms": sizes == 0,
        "an atomic number outside 1 ... 118": [not ((a.numbers > 0) & (a.numbers < 119)).all() for a in dataset.atoms],
        "positions or a cell that are not finite": ~finite,
        "a periodic direction without a cell vector, or a cell without volume": no_cell,
        f"positions beyond {FARTHEST:.0e} Å, or a cell smaller or atoms denser than any (wrong unit?)": no_unit,
        "no energy, forces or stress": ~given.any(axis=1),
        "an energy that is not finite": given[:, 0] & ~np.isfinite(dataset.energies),
        "forces that are not finite": given[:, 1] & ~finite_forces,
        "a stress that is not finite": given[:, 2] & ~np.isfinite(dataset.stresses).all(axis=(1, 2)),
        f"an energy beyond {MAX_ENERGY_PER_ATOM:.0e} eV per atom (wrong unit?)": per_atom > MAX_ENERGY_PER_ATOM,
        f"a force beyond {MAX_FORCE:.0e} eV/Å (wrong unit?)": strongest > MAX_FORCE,
        f"two atoms closer than {CLOSEST} Å": coincident,
    }
    for what, bad in problems.items():
        frames = np.flatnonzero(bad)
        if len(frames):
            raise UserError(
                f"{dataset.name}: {len(frames)} of {len(dataset)} frames have {what}, the first are "
                f"{', '.join(map(str, dataset.indices[frames[:5]]))} (counted from 0); correct or remove them"
            )
    # a single atom, and every atom of a perfect crystal, has no force
    could_move = [len(a) > 1 and not a.pbc.any() for a in dataset.atoms] & given[:, 1]
    if could_move.any() and not strongest[given[:, 1]].any():
        raise UserError(f"{dataset.name}: every force is exactly zero; name the right key with data.forces_key")
    if could_move.any() and not USUAL_FORCES[0] < (rms := rms_force(dataset)) < USUAL_FORCES[1]:
        warnings.warn(
            f"{dataset.name}: the root-mean-square force component is {rms:.3g} eV/Å, usual are 0.05 to 5; "
            "are data.units right?",
            stacklevel=3,
        )
    stresses = dataset.stresses[given[:, 2]]
    if len(stresses) and (rms := np.sqrt(np.mean(stresses**2))) > USUAL_STRESS:
        warnings.warn(
            f"{dataset.name}: the root-mean-square stress component is {rms:.3g} eV/Å^3 ({rms * 160.2:.3g} GPa); "
            "are data.units right?",
            stacklevel=3,
        )


def rms_force(dataset: Dataset) -> float:
    """Root mean square of all force components present, eV/Å; NaN if there are none."""
    with_forces = [f.ravel() for f, present in zip(dataset.forces, dataset.present[:, 1], strict=True) if present]
    return float(np.sqrt(np.mean(np.concatenate(with_forces) ** 2))) if with_forces else float("nan")


def _is_finite(atoms: Atoms) -> bool:
    return bool(np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all())


def _refused(check: Callable[..., object], *arguments: object) -> bool:
    try:
        check(*arguments)
    except UserError:
        return True
    return False


def _unsearchable(atoms: Atoms) -> bool:
    return _refused(require_searchable, atoms.positions, atoms.cell.array, atoms.pbc, SEARCHED)


def _coincident(atoms: Atoms) -> bool:
    # a search within CLOSEST itself is slow, because it has a great many cells
    i, j, S = neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, SEARCHED)
    r = np.linalg.norm(atoms.positions[j] + S @ atoms.cell.array - atoms.positions[i], axis=1)
    return bool((r < CLOSEST).any())
