"""Structures named on the command line or in a configuration as FILE[@INDEX]."""

import importlib.resources
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from ase import Atoms

from gmnn.commands._trained import EMBEDDED, training_frames
from gmnn.errors import UserError
from gmnn.scanning import read_reference
from gmnn.scanning.reference import ReferenceCurve
from gmnn.structures import read_structure, read_structures, split_index

STRUCTURE_FILE, REFERENCE_FILE = "ethanol.extxyz.xz", "ethanol_curves.extxyz.xz"


def load_structure(text: str | None, model: str | None = None) -> tuple[Atoms, str]:
    """Read the structure of FILE[@INDEX], by default index 0, and name it for titles.

    Without a text it is the first frame that the model in the folder `model` was trained on, with at least two atoms;
    packaged ethanol without a model, and for one that was trained on it. UserError if the frames are not found.
    """
    if text is None and model is not None:
        frames = training_frames(Path(model))
        if frames.source != EMBEDDED:
            chosen = next((k for k, frame in enumerate(frames.atoms) if len(frame) > 1), None)
            if chosen is None:
                raise UserError(f"no training frame of {model} has two atoms; give a structure with --structure FILE")
            return frames.atoms[chosen], f"{Path(frames.source).name} frame {frames.indices[chosen]}"
    if text is None:
        with _packaged_structures() as path:
            return read_structure(path, "0"), "ethanol frame 0"
    path, index = split_index(text)
    return read_structure(text, "0"), path.name + (f" frame {index}" if index else "")


def other_frames(text: str | None, atoms: Atoms, model: str | None = None) -> list[Atoms]:
    """Read the frames of the same atoms from the structure's own file, without the structure itself.

    Without a text they are the model's training frames, or those of packaged ethanol, as in `load_structure`.
    """
    trained = training_frames(Path(model)) if text is None and model is not None else None
    if trained is not None and trained.source != EMBEDDED:
        frames = trained.atoms
    elif text is None:
        with _packaged_structures() as path:
            frames = read_structures(path)
    else:
        frames = read_structures(split_index(text)[0])
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
