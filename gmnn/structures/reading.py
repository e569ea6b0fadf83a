"""Read structures from any file that ASE reads. What its readers leave out is an error or one warning here."""

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gmnn.elements import SYMBOLS
from gmnn.errors import UserError, reason
from gmnn.files import require_file
from gmnn.structures.xyz import read_xyz

if TYPE_CHECKING:
    from ase import Atoms

INDEXED = re.compile(r"(.+)@(-?\d+|-?\d*:-?\d*(?::-?\d*)?)")  # FILE@INDEX or FILE@SLICE
OCCUPIED = 1e-3  # share of a site that may be missing by rounding
VELOCITIES = {"v", "vel", "velo", "velos", "velocity", "velocities"}  # columns with velocities in some unit
CHARGES = {"charge", "total_charge", "totalcharge", "tot_charge", "net_charge", "qtot"}  # names of a total charge


def split_index(text: str | os.PathLike) -> tuple[Path, str]:
    """Split FILE@INDEX or FILE@SLICE; the index is empty if left out. A file that has the whole name is that file."""
    path = Path(text)
    if not path.exists() and (parts := INDEXED.fullmatch(str(text))):
        return Path(parts[1]), parts[2]
    return path, ""


def bare(atoms: "Atoms") -> "Atoms":
    """Copy of atomic numbers, positions, cell and periodicity alone."""
    from ase import Atoms

    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def has_stress(atoms: "Atoms") -> bool:
    """Whether a structure repeats in a cell that spans a volume."""
    return bool(atoms.pbc.any()) and atoms.cell.rank == 3 and atoms.get_volume() > 0


def read_structure(text: str | os.PathLike, default: str = "-1") -> "Atoms":
    """Read the structure of FILE or FILE@INDEX, counted from 0; without an index the default one."""
    path, index = split_index(text)
    if ":" in index:
        raise UserError(f"{text} names several structures, but one is needed; write {path}@N, with N counted from 0")
    return read_structures(path, index or default)[0]


def read_structures(path: Path, index: str = ":") -> "list[Atoms]":
    """Read the frames of a file that an index or a slice selects.

    UserError, with the line where there is one, for what is cut, miscounted or no structure of whole atoms; one warning
    for columns and charges that are left out.
    """
    require_file(path, "a file that ASE reads")
    chosen: int | slice = int(index) if ":" not in index else _slice(index, path)
    try:
        from ase.io import read

        name = str(path.absolute())  # ASE takes "-" for the standard input
        kind = _kind(name)
        if kind == "extxyz":
            frames = list(read_xyz(path, chosen))
        else:
            selected = read(name, chosen, format=kind, do_not_split_by_at_sign=True)
            frames = selected if isinstance(selected, list) else [selected]
    except UserError:
        raise
    except (IndexError, StopIteration):
        raise UserError(
            f"the index is out of range, got {index} for {path}; choose one of its frames, which are counted from 0"
        ) from None
    except Exception as error:  # ASE's readers raise anything on a malformed file
        raise UserError(
            f"{path} cannot be read: {reason(error, 200)} ({type(error).__name__}); give a file that ASE reads, or "
            "convert it, for example to extended xyz"
        ) from None
    whole = str(path) if index == ":" else f"{path}@{index}"
    _require(frames, whole, _are_elements, f"an atomic number outside 1 ... {len(SYMBOLS) - 1}, such as a dummy atom X")
    _require(frames, whole, _are_occupied, "sites that are partly occupied, which are no atoms")
    _require(frames, whole, _take_masses, "a column mass that is not one positive number for each atom")
    _warn_of_unread(frames, path)
    return frames


def _kind(name: str) -> str:
    """ASE's name of the format of a file, by its content or name; of `water.xyz@300K` by what stands before the @."""
    from ase.io.formats import UnknownFileTypeError, filetype, get_ioformat

    try:
        return get_ioformat(filetype(name)).name
    except UnknownFileTypeError:
        before, at, _ = name.rpartition("@")
        if not at:
            raise
        return filetype(before, read=False)


def _slice(index: str, path: Path) -> slice:
    parts = slice(*(int(part) if part else None for part in index.split(":")))
    if parts.step == 0:
        raise UserError(f"{path}@{index} cannot be read: the step is 0, but must be another whole number")
    return parts


def _require(frames: "list[Atoms]", name: str, fits: Callable[["Atoms"], bool], what: str) -> None:
    """Raise UserError that counts and names the frames that do not fit."""
    wrong = [str(k) for k, atoms in enumerate(frames) if not fits(atoms)]
    if wrong:
        raise UserError(
            f"{name}: {len(wrong)} of {len(frames)} frames have {what}, the first are {', '.join(wrong[:5])} (counted "
            "from 0); correct or remove them"
        )


def _are_elements(atoms: "Atoms") -> bool:
    return bool(((atoms.numbers > 0) & (atoms.numbers < len(SYMBOLS))).all())


def _are_occupied(atoms: "Atoms") -> bool:
    """Whether every site holds one whole atom, as far as the file says (CIF: in info, PDB: a column, 0 if unknown)."""
    occupied = atoms.info.get("occupancy")
    sites = [site for site in occupied.values() if isinstance(site, dict)] if isinstance(occupied, dict) else []
    shares = [float(share) for site in sites for share in site.values() if _is_number(share)]  # "?" and "." mean 1
    if any(len(site) > 1 for site in sites) or any(abs(share - 1) > OCCUPIED for share in shares):
        return False
    column = atoms.arrays.get("occupancy")
    return column is None or column.dtype.kind not in "fi" or not ((column > 0) & (column < 1 - OCCUPIED)).any()


def _take_masses(atoms: "Atoms") -> bool:
    """Give an atom the mass of a column `mass`, of which ASE knows only the plural; False for what are no masses."""
    mass = atoms.arrays.get("mass")
    if mass is None or "masses" in atoms.arrays:
        return True
    if mass.shape != (len(atoms),) or mass.dtype.kind not in "fi" or not ((mass > 0) & np.isfinite(mass)).all():
        return False
    atoms.set_masses(mass)
    return True


def _warn_of_unread(frames: "list[Atoms]", path: Path) -> None:
    """Warn once of velocities without a unit, and once of total charges."""
    names = sorted(
        {name for a in frames if "momenta" not in a.arrays for name in a.arrays if name.lower() in VELOCITIES}
    )
    if names:
        warnings.warn(
            f"{path}: the velocities in {', '.join(names)} are not read, because their unit is unknown; give "
            "momenta in ASE's units instead",
            stacklevel=3,
        )
    charged = [k for k, atoms in enumerate(frames) if total_charge(atoms)]
    if charged:
        warnings.warn(f"{path}: {len(charged)} of {len(frames)} frames have {CHARGED}", stacklevel=3)


CHARGED = "a total charge that is not 0, which no potential of this package takes into account (docs/conventions.md)"


def total_charge(atoms: "Atoms") -> float:
    """Total charge in the info of a structure, e; 0 if there is none."""
    for name, value in atoms.info.items():
        if str(name).lower() in CHARGES and _is_number(value):
            return float(value)
    return 0.0


def warn_of_charge(atoms: "Atoms") -> None:
    """Warn of a total charge of a structure, whoever made it."""
    if total_charge(atoms):
        warnings.warn(f"the structure has {CHARGED}", stacklevel=3)


def _is_number(value: Any) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except (TypeError, ValueError):
        return False
