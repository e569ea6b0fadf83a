"""What a scan starts from: a structure, reference curves and a calculator, read with one sentence for every mistake."""

import importlib
import importlib.resources
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from gmnn.commands.structures import file_and_index, read_frames
from gmnn.errors import UserError
from gmnn.scanning import read_reference
from gmnn.scanning.reference import ReferenceCurve

STRUCTURE_FILE, REFERENCE_FILE = "ethanol.extxyz.xz", "ethanol_curves.extxyz.xz"


def load_structure(text: str | None) -> tuple[Atoms, str]:
    """The structure of FILE[@INDEX] (index 0 if left out) and its name for titles."""
    if text is None:
        with _packaged_structures() as path:
            return read_frames(path, "0")[0], "ethanol frame 0"
    path, index = file_and_index(text)
    return read_frames(path, index or "0")[0], path.name + (f" frame {index}" if index else "")


def other_frames(text: str | None, atoms: Atoms) -> list[Atoms]:
    """Frames of the same atoms, but not the structure itself, from the file that it came from."""
    if text is None:
        with _packaged_structures() as path:
            frames = read_frames(path, ":")
    else:
        frames = read_frames(file_and_index(text)[0], ":")
    same = [frame for frame in frames if np.array_equal(frame.numbers, atoms.numbers)]
    return [frame for frame in same if not np.array_equal(frame.positions, atoms.positions)]


def _packaged_structures() -> AbstractContextManager[Path]:
    return importlib.resources.as_file(importlib.resources.files("gmnn") / "data" / STRUCTURE_FILE)


def load_reference(text: str | None, atoms: Atoms) -> dict[str, ReferenceCurve] | None:
    """The curves asked for, or the packaged ones if they are there and of a structure with the same atoms."""
    if text == "none":
        return None
    if text is not None:
        return read_reference(text)
    packaged = importlib.resources.files("gmnn") / "data" / REFERENCE_FILE
    if not packaged.is_file():
        return None
    with importlib.resources.as_file(packaged) as path:
        curves = read_reference(path)
    frame = next(iter(curves.values())).frames[0]
    return curves if list(frame.numbers) == list(atoms.numbers) else None


def load_model(folder: Path) -> BaseCalculator:
    """The calculator of a model folder, in double precision."""
    try:
        module = importlib.import_module("gmnn.calculator")
    except ImportError as error:
        raise UserError(
            f"A gmnn model cannot be loaded here, got {type(error).__name__}: {error}; the package with its "
            "dependencies is needed; install it, or pass --calculator."
        ) from error
    return module.Calculator(folder, dtype="float64")  # so that no verdict is a matter of rounding


def load_calculator(text: str, kwargs: str | None) -> tuple[BaseCalculator, str]:
    """The calculator that MODULE:CALLABLE makes from the JSON object kwargs, and the callable's name."""
    module_name, _, name = text.partition(":")
    try:
        module = importlib.import_module(module_name) if module_name and name else None
        factory = getattr(module, name) if module is not None else None
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"The calculator cannot be imported, got '{text}' ({error}); an importable module and a name in it are "
            "needed, MODULE:CALLABLE; install the package or correct the name."
        ) from error
    if not callable(factory):
        raise UserError(
            f"The calculator is not named as MODULE:CALLABLE, got '{text}'; an example is ase.calculators.emt:EMT; "
            "correct the text."
        )
    arguments = _json_object(kwargs)
    try:
        return factory(**arguments), name
    except Exception as error:
        raise UserError(
            f"The calculator '{text}' cannot be made from {arguments}, got {type(error).__name__}: {error}; the "
            "keyword arguments it knows are allowed; correct --kwargs."
        ) from error


def _json_object(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"--kwargs is not valid JSON, got '{text}' ({error}); an object such as '{{\"sigma\": 1.0}}' is allowed; "
            "correct the text and quote it for the shell."
        ) from error
    if not isinstance(value, dict):
        raise UserError(
            f"--kwargs is not a JSON object, got '{text}'; an object such as '{{\"sigma\": 1.0}}' is allowed; "
            "put the values into braces with their names."
        )
    return value
