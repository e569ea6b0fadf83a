"""`scan.py`: drive every bond of a structure together with a model and say whether its energy always rises."""

import argparse
import importlib
import importlib.resources
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from gmnn.commands.outcome import exit_code
from gmnn.errors import UserError
from gmnn.scanning import read_reference, scan_bonds, write_report
from gmnn.scanning.paths import N_FRAMES, R_MIN
from gmnn.scanning.reference import ReferenceCurve, unpack
from gmnn.scanning.report import format_table

STRUCTURE_FILE, REFERENCE_FILE = "ethanol.extxyz.xz", "ethanol_curves.extxyz.xz"
DESCRIPTION = """Drive every bond of a structure (pairs within 1.6 Å) from its length, X-H from twice its length, to
0.1 Å, and test densely that the energy rises all the way in. Exit code: 0 all bonds pass, 1 a bond fails, 2 misuse."""


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0 all pass, 1 a curve failed, 2 misuse, 130 interrupted."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if (arguments.model is None) == (arguments.calculator is None):
        parser.error("give a model folder or --calculator module:callable, one of the two")
    if arguments.kwargs is not None and arguments.calculator is None:
        parser.error("--kwargs belongs to --calculator; leave it out with a model folder")
    return exit_code("scan", lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scan.py", description=DESCRIPTION)
    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL", help="folder of a trained model")
    add("--calculator", metavar="MODULE:CALLABLE", help="any ASE calculator instead, e.g. ase.calculators.emt:EMT")
    add("--kwargs", metavar="JSON", help="keyword arguments of --calculator as a JSON object")
    add("--structure", metavar="FILE[@INDEX]", help="default: frame 0 of the packaged ethanol set")
    add("--reference", metavar="FILE", help="curves to compare with, or 'none'; default: the packaged ones of ethanol")
    add("--out", metavar="DIR", help="where the report goes; default: MODEL/scan, or scan_NAME for a calculator")
    add("--frames", type=int, default=N_FRAMES, metavar="N", help="points of a plotted curve (default %(default)s)")
    add("--r-min", type=float, default=R_MIN, metavar="R", help="where the scan ends, Å (default %(default)s)")
    add("--window", type=float, nargs=2, metavar=("LO", "HI"), help="energies shown in scan.png, eV above E(r_eq)")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    if arguments.window is not None and not arguments.window[0] < arguments.window[1]:
        low, high = arguments.window
        raise UserError(
            f"The plot window is empty, got {low:g} to {high:g} eV; LO must be below HI; swap or correct the numbers."
        )
    atoms, structure = _load_structure(arguments.structure)
    reference = _load_reference(arguments.reference, atoms)
    if arguments.model is not None:
        folder = Path(arguments.model)
        calculator, name = _load_model(folder), folder.resolve().name
        out = Path(arguments.out) if arguments.out else folder / "scan"
    else:
        calculator, name = _load_calculator(arguments.calculator, arguments.kwargs)
        out = Path(arguments.out) if arguments.out else Path(f"scan_{name}")
    with _progress() as progress:
        result = scan_bonds(
            atoms, calculator, reference, n_frames=arguments.frames, r_min=arguments.r_min, progress=progress
        )
    written = write_report(
        result, out, model=name, structure=structure, window=tuple(arguments.window) if arguments.window else None
    )
    print(f"{name}, {structure}")
    print(format_table(result))
    unused = {curve.reference_note for curve in result.curves if curve.reference is None}
    if arguments.reference not in (None, "none") and unused:
        print(f"The reference was not used for every bond: {'; '.join(sorted(unused))}.")
    if arguments.model is not None:
        _print_model(folder, calculator)
    print(f"Written to {out}: {', '.join(path.name for path in written.values())}")
    return 0 if result.passed else 1


def _load_structure(text: str | None) -> tuple[Atoms, str]:
    """The structure of FILE[@INDEX] (index 0 if left out) and its name for titles."""
    if text is None:
        with importlib.resources.as_file(importlib.resources.files("gmnn") / "data" / STRUCTURE_FILE) as path:
            return _read_frame(path, 0), "ethanol frame 0"
    name, at, index = text.rpartition("@")
    if not at or not index.removeprefix("-").isdigit():
        name, index = text, "0"
    return _read_frame(Path(name), int(index)), Path(name).name + (f" frame {index}" if at else "")


def _read_frame(path: Path, index: int) -> Atoms:
    if not path.is_file():
        raise UserError(
            f"The structure file was not found, got '{path}'; a file that ASE reads is needed, with @INDEX for one of "
            "its frames; correct the path."
        )
    try:
        if path.suffix == ".xz":
            atoms = ase.io.read(io.StringIO(unpack(path)), index=index, format="extxyz")
        else:
            atoms = ase.io.read(path, index=index)
        assert isinstance(atoms, Atoms)
        return atoms
    except (IndexError, StopIteration) as error:
        raise UserError(
            f"The structure index is out of range, got {index} for '{path}'; the frames of the file, counted from 0, "
            "are allowed; choose one of them."
        ) from error
    except Exception as error:
        raise UserError(
            f"The structure file cannot be read, got '{path}' ({type(error).__name__}: {error}); any format that ASE "
            "recognises is allowed; convert it, for example to extended xyz."
        ) from error


def _load_reference(text: str | None, atoms: Atoms) -> dict[str, ReferenceCurve] | None:
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


def _load_model(folder: Path) -> BaseCalculator:
    try:
        module = importlib.import_module("gmnn.calculator")
    except ImportError as error:
        raise UserError(
            f"A gmnn model cannot be loaded here, got {type(error).__name__}: {error}; the package with its "
            "dependencies is needed; install it, or pass --calculator."
        ) from error
    return module.Calculator(folder, dtype="float64")  # so that no verdict is a matter of rounding


def _load_calculator(text: str, kwargs: str | None) -> tuple[BaseCalculator, str]:
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


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None] | None]:
    """A function (done, total, label) that draws a bar on stderr; None where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        tqdm = importlib.import_module("tqdm").tqdm
    except ImportError:
        yield lambda done, total, label: print(f"\r{done} of {total} bonds {label:<12}", end="", file=sys.stderr)
        print(file=sys.stderr)
        return
    with tqdm(unit="bond", leave=False) as bar:

        def update(done: int, total: int, label: str) -> None:
            bar.total = total
            bar.set_postfix_str(label, refresh=False)
            bar.update(done - bar.n)

        yield update


def _print_model(folder: Path, calculator: Any) -> None:
    """What the model folder says of itself: strengths of the repulsion and errors on its test set."""
    from gmnn.evaluation import repulsion_table
    from gmnn.folder import read_description

    rows = repulsion_table(calculator.potential)
    if rows:
        print("ZBL strength (1 = physical): " + ", ".join(f"{row['pair']} {row['strength']:.4f}" for row in rows))
    test = (read_description(folder).get("metrics") or {}).get("test")
    if test:
        print(
            f"test set, {test['n_frames']} frames: energy MAE {test['energy_mae_meV']:.2f} meV, "
            f"force MAE {test['forces_mae_meV_per_A']:.2f} meV/Å"
        )
