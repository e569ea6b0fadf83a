"""Files of frames: a look at one before ASE reads it, and one that is there as a whole or not at all.

ASE counts to any number of atoms that a damaged line names.
"""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from gmnn.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms

LINES = 1 << 62  # more than any file has


def require_whole(path: Path) -> None:
    """UserError where a frame has fewer lines than its number of atoms says; another kind of file, or none, passes."""
    if path.suffix not in (".xyz", ".extxyz") or not path.is_file():
        return
    with open(path, errors="replace") as file:
        at = 1
        for line in file:
            try:
                atoms = int(line)
            except ValueError:  # the end, or ASE will say what is wrong
                return
            wanted = 1 + max(atoms, 0)
            found = sum(1 for _ in islice(file, min(wanted, LINES)))
            if found < wanted:
                raise UserError(
                    f"line {at} of {path} says that {line.strip()[:12]} atoms follow after a comment, but only {found} "
                    "lines do; the file was cut or changed, get it again or correct the number"
                )
            at += 1 + found


def write_whole(path: Path, frames: "list[Atoms]") -> None:
    """Write an extxyz file beside its place and move it there in one step."""
    import ase.io

    temporary = path.with_name(f".{path.name}")
    ase.io.write(temporary, frames, format="extxyz")
    temporary.replace(path)
