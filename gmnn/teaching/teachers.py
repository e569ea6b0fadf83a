"""Teachers: any ASE calculator by name, the interpreter that runs it, and what makes its labels its own."""

import hashlib
import importlib.resources
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from gmnn.checking import check_fields
from gmnn.errors import UserError, require
from gmnn.files import digest, expanded, read_json
from gmnn.teaching import worker

WORKER = Path(__file__).with_name("worker.py")
ROOT = str(Path(__file__).parents[2])  # where this package lies
SECONDS = 600.0  # one call of a teacher, at most
DECIDES = ("module", *worker.NAMES, "args", "kwargs")  # keys of a declaration; the others say what to install
THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@cache
def presets() -> dict[str, dict[str, Any]]:
    """Declarations of calculators that come with the package, with what to install and the origin of their weights."""
    return json.loads((importlib.resources.files("gmnn") / "teaching" / "presets.json").read_text(encoding="utf-8"))


def from_preset(name: str, kwargs: dict[str, Any], asked_by: str) -> tuple[dict[str, Any], str]:
    """Return the declaration of a preset with further kwargs, and how to install it; UserError if it lacks some."""
    known = presets()
    if name not in known:
        raise UserError(
            f"There is no such preset, got '{name}' for {asked_by}; allowed are {', '.join(known)}; correct the name, "
            "or declare module and class."
        )
    preset = known[name]
    kwargs = {**preset.get("kwargs", {}), **kwargs}
    if preset.get("needs", "") not in ("", *kwargs):
        raise UserError(f"The preset {name} needs {preset['needs']}; weights: {preset['weights']}.")
    return {**preset, "kwargs": kwargs}, f"to install it: {preset['install']}; weights: {preset['weights']}"


@dataclass(frozen=True)
class Teacher:
    """Who labels: a preset, MODULE:CALLABLE of an ASE calculator, or a model folder of gmnn.

    kwargs: keyword arguments of the calculator, plain values. python: another interpreter, or the folder of its
    environment, which needs ASE and the teacher, not gmnn. processes: teachers at once; by default the usable cores.
    seconds: the time limit of one call.
    """

    name: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    python: str | None = None
    processes: int | None = None
    seconds: float = SECONDS

    def __post_init__(self) -> None:
        kwargs = self.kwargs
        object.__setattr__(self, "kwargs", {})  # of any plain type, which is checked here
        check_fields(self, "teacher")
        require(self.processes is None or self.processes >= 1, "teacher.processes", self.processes, "1 or more")
        require(self.seconds > 0, "teacher.seconds", self.seconds, "above 0")
        try:
            plain = json.loads(json.dumps(kwargs, allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            plain = None
        require(isinstance(plain, dict), "teacher.kwargs", kwargs, "a mapping of names to numbers, texts and lists")
        object.__setattr__(self, "kwargs", plain)
        assert self.declaration

    @cached_property
    def _declared(self) -> tuple[dict[str, Any], str]:
        module, colon, called = self.name.partition(":")
        if self.name in presets():
            return from_preset(self.name, self.kwargs, "the teacher")
        folder = Path(expanded(self.name))
        if (folder / "config.json").is_file():
            require(not self.kwargs, "teacher.kwargs", self.kwargs, "left out with a model folder")
            return {"folder": str(folder.absolute()), "module": "gmnn"}, "install gmnn there, or leave out the python"
        if not (colon and module and called):
            raise UserError(
                f"the teacher is '{self.name}', but must be a preset ({', '.join(presets())}), MODULE:CALLABLE of an "
                "ASE calculator, or a model folder of gmnn; correct the name"
            )
        return {"module": module, "factory": called, "kwargs": self.kwargs}, "install it there or correct the name"

    @property
    def declaration(self) -> dict[str, Any]:
        """What a worker makes the calculator from."""
        return self._declared[0]

    @property
    def hint(self) -> str:
        """What to do if the calculator cannot be imported."""
        return self._declared[1]

    @property
    def interpreter(self) -> str:
        """The Python that runs the teacher."""
        if self.python is None:
            return sys.executable
        path = Path(expanded(self.python))
        return str(path / "bin" / "python" if path.is_dir() else path)

    @property
    def n_processes(self) -> int:
        """Number of teachers at once."""
        return self.processes or usable_cores()

    def environment(self) -> dict[str, str]:
        """Variables of a worker: its share of the cores in threads, and no claim to all the memory of a GPU.

        OMP_NUM_THREADS, where it is set, is the number of threads for all libraries.
        """
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, usable_cores() // self.n_processes))
        known = {**dict.fromkeys(THREADS, threads), "XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ}
        if self.python is None:  # where the package is found; what lies beside it is no other interpreter's
            known["PYTHONPATH"] = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
        return {**known, "PYTHONUNBUFFERED": "1"}

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides its labels: declaration and versions of the packages, or the content of a model folder.

        UserError if the interpreter cannot be asked. The teacher itself is not loaded.
        """
        if "folder" in self.declaration:
            description = read_json(Path(self.declaration["folder"]) / "config.json", "copy the model folder again")
            return {"model": {key: description.get(key) for key in ("model", "reference", "parameters")}}
        declared = {key: value for key, value in self.declaration.items() if key in DECIDES}
        return {"calculator": declared, "versions": self._versions()}

    @cached_property
    def files(self) -> dict[str, str]:
        """Checksums of the files that its arguments name: parameters of a model, perhaps, or what it writes itself."""
        texts = sorted(set(_texts(self.kwargs)))
        return {text: digest(Path(text)) for text in texts if "\0" not in text and os.path.isfile(text)}

    def _versions(self) -> dict[str, str]:
        modules = sorted(_modules(self.declaration))
        if self.python is None:
            return worker.identified(modules)
        command = [self.interpreter, str(WORKER), "--identify", *modules]
        try:
            done = subprocess.run(
                command, env=self.environment(), capture_output=True, check=False, timeout=SECONDS,
                stdin=subprocess.DEVNULL, encoding="utf-8", errors="replace",
            )  # fmt: skip
            return json.loads(done.stdout.strip().splitlines()[-1])
        except OSError as error:
            why = error.strerror or str(error)
        except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
            why = type(error).__name__ if isinstance(error, subprocess.TimeoutExpired) else _last(done.stderr)
        raise UserError(
            f"the teacher's interpreter {self.interpreter} does not work ({why}); teacher.python must be a Python of "
            "version 3.9 or newer, or the folder of an environment, that has ASE and the teacher; correct it"
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the identity."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()


def usable_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["it printed nothing"])[-1][:300]


def _modules(declaration: Any) -> set[str]:
    """Modules that labels of a declaration depend on: its own, those within, and what a preset `uses`."""
    if not isinstance(declaration, dict):
        return set()
    names = {str(declaration["module"])} if "module" in declaration else set()
    names = {*(name for name in names if not name.startswith(worker.ROOM)), *declaration.get("uses", ())}
    values = [*(declaration.get("args") or []), *(declaration.get("kwargs") or {}).values()]
    return names.union(*map(_modules, values))


def _texts(values: Any) -> Iterator[str]:
    """All texts within plain values."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from _texts(value)
    elif isinstance(values, list):
        for value in values:
            yield from _texts(value)
