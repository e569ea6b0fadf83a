"""The structures from which dynamics start, and the first frames that the teacher labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from gmnn.data.distortion import CONTACT, distorted
from gmnn.elements import covalent_radius
from gmnn.errors import UserError
from gmnn.md.velocities import fixed_atoms
from gmnn.neighbors.host import neighbor_pairs
from gmnn.structures import bare, read_structure

WIDTH = 9.0  # Å, smallest distance between opposite faces of a cell
MOST_ATOMS = 2000  # of a structure
FIRST = 12  # frames that are labelled before the first training, at least two for each structure
CRYSTAL_RATTLE = (0.02, 0.25)  # Å, standard deviations of displacements in a periodic structure
TRIES = 50  # attempts for each first frame
LARGEST_SHEAR = 0.02  # of the first frames of a periodic structure


@dataclass(frozen=True, eq=False)
class Start:
    """A structure from which dynamics start."""

    file: str
    name: str  # the file, with the strain where there are several
    atoms: Atoms
    strain: float


def read_starts(files: Sequence[str], strains: Sequence[float]) -> list[Start]:
    """Read the structures, repeat narrow cells and strain them; UserError if one cannot be used."""
    starts = []
    for file in files:
        atoms = read_structure(file)
        if not len(atoms):
            raise UserError(f"{file} has no atoms; give a structure")
        if fixed_atoms(atoms).any():
            raise UserError(f"{file} has fixed atoms, which would not be explored; take the constraint away")
        atoms = widened(bare(atoms))
        if len(atoms) > MOST_ATOMS:
            raise UserError(f"{file} gives a cell of {len(atoms)} atoms, but at most {MOST_ATOMS} can be learnt from; "
                            "give a smaller piece")  # fmt: skip
        if not atoms.pbc.any() and any(strains):
            raise UserError(f"strains are {list(strains)}, but {file} has no periodic cell; leave strains out")
        for strain in strains:
            moved = atoms.copy()
            moved.set_cell(moved.cell.array * np.where(moved.pbc, 1.0 + strain, 1.0)[:, None], scale_atoms=True)
            name = f"{file} {strain:+.1%}" if len(strains) > 1 else file
            starts.append(Start(file, name, moved, float(strain)))
    return starts


def widened(atoms: Atoms) -> Atoms:
    """Repeat a cell along its periodic directions until opposite faces are WIDTH apart."""
    if not atoms.pbc.any():
        return atoms
    heights = atoms.get_volume() / np.array(
        [np.linalg.norm(np.cross(*np.delete(atoms.cell.array, k, 0))) for k in range(3)]
    )
    return atoms.repeat([int(np.ceil(WIDTH / h - 1e-9)) if p else 1 for h, p in zip(heights, atoms.pbc, strict=True)])


def first_frames(starts: Sequence[Start], seed: int) -> list[tuple[int, Atoms]]:
    """Make the frames that are labelled before the first training, each with the number of its start."""
    rng, frames = np.random.default_rng(seed), []
    for k in range(max(FIRST, 2 * len(starts))):
        which = k % len(starts)
        frames.append((which, first_frame(starts[which], rng)))
    return frames


def first_frame(start: Start, rng: np.random.Generator) -> Atoms:
    """Make a rattled copy of a structure; a molecule's bonds are stretched too, and a cell is sheared a little.

    UserError if two atoms come too close in every attempt, as where they do already in the structure.
    """
    for _ in range(TRIES):
        moved = rattled(start.atoms, rng) if start.atoms.pbc.any() else distorted(start.atoms, rng)
        if moved is not None:
            return moved
    raise UserError(f"atoms of {start.name} are too close to each other to begin with; relax the structure, or check "
                    "that its lengths are in Å")  # fmt: skip


def rattled(atoms: Atoms, rng: np.random.Generator) -> Atoms | None:
    """Copy with displaced atoms in a sheared cell; None if two atoms come closer than 0.6 summed covalent radii."""
    moved = atoms.copy()
    shear = rng.normal(scale=LARGEST_SHEAR / 2, size=(3, 3))
    shear = 0.5 * (shear + shear.T) * np.outer(moved.pbc, moved.pbc)
    moved.set_cell(moved.cell.array @ (np.eye(3) + shear), scale_atoms=True)
    moved.positions += rng.uniform(*CRYSTAL_RATTLE) * rng.normal(size=(len(moved), 3))
    radii = np.array([covalent_radius(z) for z in moved.numbers])
    i, j, S = neighbor_pairs(moved.positions, moved.cell.array, moved.pbc, 2 * CONTACT * radii.max())
    r = np.linalg.norm(moved.positions[j] + S @ moved.cell.array - moved.positions[i], axis=1)
    return moved if (r >= CONTACT * (radii[i] + radii[j])).all() else None
