"""Structures named on the command line or in a configuration as FILE[@INDEX]."""

import importlib.resources
import io
from contextlib import AbstractContextManager
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from gmnn.errors import UserError
from gmnn.files import require_whole
from gmnn.scanning import read_reference
from gmnn.scanning.reference import ReferenceCurve, unpack


def file_and_index(text: str) -> tuple[Path, str]:
    """Split FILE[@INDEX] into the file and the index, which is empty if left out."""
    name, at, index = text.rpartition("@")
    return (Path(name), index) if at and index.removeprefix("-").isdigit() else (Path(text), "")


def read_frames(path: Path, index: str) -> list[Atoms]:
    """Read the frames that an index selects, or all for ":". UserError if there are none or the file is unreadable."""
    if not path.is_file():
        raise UserError(
            f"The structure file was not found, got '{path}'; a file that ASE reads is needed, with @INDEX for one of "
            "its frames; correct the path."
        )
    require_whole(path)
    try:
        if path.suffix == ".xz":
            frames = ase.io.read(io.StringIO(unpack(path)), index=index, format="extxyz")
        else:
            frames = ase.io.read(path, index=index)
        return [frames] if isinstance(frames, Atoms) else list(frames)
    except (IndexError, StopIteration) as error:
        raise UserError(
            f"The structure index is out of range, got {index} for '{path}'; the frames of the file, counted from 0, "
            "are allowed; choose one of them."
        ) from error
    except Exception as error:  # readers of ASE raise anything
        reason = " ".join(str(error).split())
        raise UserError(
            f"The structure file cannot be read, got '{path}' ({type(error).__name__}: {reason}); any format that ASE "
            "recognises is allowed; convert it, for example to extended xyz."
        ) from error


STRUCTURE_FILE, REFERENCE_FILE = "ethanol.extxyz.xz", "ethanol_curves.extxyz.xz"


def load_structure(text: str | None) -> tuple[Atoms, str]:
    """Read the structure of FILE[@INDEX], by default index 0 or packaged ethanol, and name it for titles."""
    if text is None:
        with _packaged_structures() as path:
            return read_frames(path, "0")[0], "ethanol frame 0"
    path, index = file_and_index(text)
    return read_frames(path, index or "0")[0], path.name + (f" frame {index}" if index else "")


def other_frames(text: str | None, atoms: Atoms) -> list[Atoms]:
    """Read the frames of the same atoms from the structure's own file, without the structure itself."""
    if text is None:
        with _packaged_structures() as path:
            frames = read_frames(path, ":")
    else:
        frames = read_frames(file_and_index(text)[0], ":")
    same = [frame for frame in frames if np.array_equal(frame.numbers, atoms.numbers)]
    return [frame for frame in same if not np.array_equal(frame.positions, atoms.positions)]


def _packaged_structures() -> AbstractContextManager[Path]:
    return importlib.resources.as_file(importlib.resources.files("gmnn") / "data" / "files" / STRUCTURE_FILE)


def load_reference(text: str | None, atoms: Atoms) -> dict[str, ReferenceCurve] | None:
    """Read the curves of a file, by default the packaged ones if the structure has the same atoms; None for `none`."""
    if text == "none":
        return None
    if text is not None:
        return read_reference(text)
    packaged = importlib.resources.files("gmnn") / "data" / "files" / REFERENCE_FILE
    if not packaged.is_file():
        return None
    with importlib.resources.as_file(packaged) as path:
        curves = read_reference(path)
    frame = next(iter(curves.values())).frames[0]
    return curves if list(frame.numbers) == list(atoms.numbers) else None
