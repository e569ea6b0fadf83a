"""Structures named on the command line or in a configuration as FILE[@INDEX]."""

import io
from pathlib import Path

import ase.io
from ase import Atoms

from gmnn.errors import UserError
from gmnn.scanning.reference import unpack
from gmnn.xyz import require_whole


def file_and_index(text: str) -> tuple[Path, str]:
    """FILE[@INDEX]; the index is empty if left out."""
    name, at, index = text.rpartition("@")
    return (Path(name), index) if at and index.removeprefix("-").isdigit() else (Path(text), "")


def read_frames(path: Path, index: str) -> list[Atoms]:
    """The frames that an index, or ":" for all, selects."""
    if not path.is_file():
        raise UserError(
            f"The structure file was not found, got '{path}'; a file that ASE reads is needed, with @INDEX for one of "
            "its frames; correct the path."
        )
    require_whole(path)
    try:
        if path.suffix == ".xz":
            found = ase.io.read(io.StringIO(unpack(path)), index=index, format="extxyz")
        else:
            found = ase.io.read(path, index=index)
        return [found] if isinstance(found, Atoms) else list(found)
    except (IndexError, StopIteration) as error:
        raise UserError(
            f"The structure index is out of range, got {index} for '{path}'; the frames of the file, counted from 0, "
            "are allowed; choose one of them."
        ) from error
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"The structure file cannot be read, got '{path}' ({type(error).__name__}: {reason}); any format that ASE "
            "recognises is allowed; convert it, for example to extended xyz."
        ) from error
