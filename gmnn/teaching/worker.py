"""Label structures for another process: the program that a pool starts under the interpreter of a teacher.

It needs the standard library, numpy and ASE alone. Requests and answers are JSON behind their length in 8 bytes, whose
numbers are exact; they travel through pipes of their own, so that whatever the teacher prints goes to its log.

    python worker.py REQUESTS ANSWERS LIFE     numbers of three inherited pipes; the first request is a declaration
    python worker.py --identify MODULE ...     print the versions of the packages that modules belong to
"""

import hashlib
import importlib
import importlib.util
import json
import os
import signal
import struct
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

HEADER = struct.Struct(">Q")  # the length of a message in bytes
NAMES = ("class", "class_name", "factory")  # keys of a declaration for what is called
ROOM = "gmnn.teaching."  # modules that are loaded from beside this file where the package is absent


class NotImported(Exception):
    """The module of a declaration, or the name in it, cannot be imported."""


def make(declaration: "dict[str, Any]") -> Any:
    """Make what a declaration names: `module`, one of `NAMES`, and `args` and `kwargs`, which may be declarations."""
    name = next((str(declaration[key]) for key in NAMES if key in declaration), "")
    try:
        factory = getattr(_module(str(declaration["module"])), name)
    except Exception as error:  # an import may fail in any way
        raise NotImported(last_line(error)) from error
    kwargs = {key: _made(value) for key, value in (declaration.get("kwargs") or {}).items()}
    arguments: list[Any] = []
    for value in declaration.get("args") or []:
        argument = _made(value)
        arguments += argument if isinstance(argument, tuple) else [argument]  # a model and its reader of structures
    return factory(*arguments, **kwargs)


def _made(value: Any) -> Any:
    return make(value) if isinstance(value, dict) and "module" in value else value


def _module(name: str) -> Any:
    beside = Path(__file__).with_name(name[len(ROOM) :] + ".py")
    if name.startswith(ROOM) and beside.is_file() and importlib.util.find_spec("gmnn") is None:
        spec = importlib.util.spec_from_file_location(beside.stem, beside)
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    return importlib.import_module(name)


def last_line(error: BaseException) -> str:
    """Type and last line of the message of an exception, at most 300 characters."""
    lines = str(error).strip().splitlines()
    return (type(error).__name__ + (": " + lines[-1].strip() if lines else ""))[:300]


def message(values: Any) -> bytes:
    """Bytes of a message: its length and its values in JSON, whose numbers are exact."""
    data = json.dumps(values).encode()
    return HEADER.pack(len(data)) + data


def _read(pipe: int, size: int) -> "bytes | None":
    """Read so many bytes; None once the pipe has ended."""
    data = b""
    while len(data) < size:
        part = os.read(pipe, size - len(data))
        if not part:
            return None
        data += part
    return data


def _receive(pipe: int) -> Any:
    """Return the values of the next message; None once the pipe has ended."""
    header = _read(pipe, HEADER.size)
    data = None if header is None else _read(pipe, HEADER.unpack(header)[0])
    return None if data is None else json.loads(data)


def _send(pipe: int, values: Any) -> None:
    data = memoryview(message(values))
    while data:
        data = data[os.write(pipe, data) :]


def labels(calculator: Any, request: "dict[str, Any]") -> "dict[str, Any]":
    """Energy (eV), forces [N, 3] (eV/Å) and, of a periodic cell, stress [6] (eV/Å^3) or None, as plain numbers."""
    import numpy as np
    from ase import Atoms

    atoms = Atoms(request["numbers"], request["positions"], cell=request["cell"], pbc=request["pbc"])
    atoms.calc = calculator
    forces = atoms.get_forces()  # first: who computes them has the energy, too
    energy, stress = atoms.get_potential_energy(), None
    if atoms.pbc.any() and atoms.cell.rank == 3:
        try:
            stress = atoms.get_stress()
        except NotImplementedError:  # ASE's PropertyNotImplementedError included
            stress = None
    try:
        values: dict[str, Any] = {"energy": np.asarray(energy, float), "forces": np.asarray(forces, float)}
        values["stress"] = None if stress is None else np.asarray(stress, float)
    except (TypeError, ValueError) as error:
        return {"nonsense": "the results are no numbers, " + last_line(error)}
    if values["energy"].size == 1:
        values["energy"] = values["energy"].reshape(())
    return {key: None if value is None else value.tolist() for key, value in values.items()}


def _serve(requests: int, answers: int) -> int:
    """Answer requests until their pipe ends. A teacher that raised more than an `Exception` is not used again."""
    declaration = _receive(requests)
    if declaration is None:
        return 0
    try:
        import ase.calculators.calculator  # also numpy

        if "folder" in declaration:
            module = importlib.import_module("gmnn.interfaces.calculator")
            calculator = module.Calculator(declaration["folder"], dtype="float64")
        else:
            calculator = make(declaration)
        place = getattr(calculator, "directory", None)
        if isinstance(place, (str, Path)) and str(place) == "." and declaration.get("scratch"):
            calculator.directory = type(place)(declaration["scratch"])  # workers must not share their files
    except BaseException as error:  # whatever a teacher raises, SystemExit included
        imported = not isinstance(error, (NotImported, ImportError))
        _send(
            answers,
            {"unmade": str(error) if isinstance(error, NotImported) else last_line(error), "imported": imported},
        )
        return 1
    _send(answers, {"ready": ase.__version__})
    while True:
        request = _receive(requests)
        if request is None:
            return 0
        try:
            answer, usable = labels(calculator, request), True
        except BaseException as error:  # SystemExit and KeyboardInterrupt included
            answer, usable = {"raised": last_line(error)}, isinstance(error, Exception)
            usable = usable and not isinstance(error, MemoryError)
        if "energy" not in answer and hasattr(calculator, "reset"):
            calculator.reset()  # results of another structure may have stayed
        _send(answers, {**answer, "last": not usable})
        if not usable:
            return 1


def _guard(life: int, others: "tuple[int, ...]") -> None:
    """Have a process of its own end this process and all that it started once the pool's end of `life` is closed.

    It works while the teacher computes, whatever it holds, and however the pool's process ended.
    """
    group = os.getpgrp()
    child = os.fork()
    if child:
        os.close(life)
        os.waitpid(child, 0)
        return
    try:
        if os.fork() == 0:  # no child of the teacher's process, so that it never waits for it
            for pipe in others:
                os.close(pipe)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while os.read(life, 1):
                pass
            os.killpg(group, signal.SIGKILL)
    finally:
        os._exit(0)


@lru_cache(maxsize=1)
def _packages() -> "dict[str, list[str]]":
    """Packages by the modules that they install; empty before Python 3.10, where they mostly have the same name."""
    from importlib import metadata

    return dict(getattr(metadata, "packages_distributions", dict)())


def identified(modules: "list[str]") -> "dict[str, str]":
    """Versions of the packages that modules belong to; of a module without a package a checksum of its file."""
    from importlib import machinery, metadata

    if not modules:
        return {}
    names = _packages()
    known = {}
    for top in sorted({name.partition(".")[0] for name in modules}):
        for package in names.get(top, [top]):
            try:
                known[package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                spec = machinery.PathFinder.find_spec(top, [*sys.path, os.getcwd()])
                if spec is not None and spec.origin and os.path.isfile(spec.origin):
                    known[top] = hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
    return known


def main(arguments: "list[str]") -> int:
    """Identify modules or serve; return the exit code."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [place for place in sys.path if os.path.abspath(place) != here]  # whose modules have plain names
    sys.path.append(os.getcwd())  # last: a teacher beside the configuration, but nothing that hides a package
    if arguments[0] == "--identify":
        print(json.dumps(identified(arguments[1:])))
        return 0
    requests, answers, life = map(int, arguments)
    for pipe in (requests, answers, life):
        os.set_inheritable(pipe, False)
    _guard(life, (requests, answers))
    return _serve(requests, answers)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
