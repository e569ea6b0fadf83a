"""Kind 8: a scan ends with exit code 0 only after a verdict was written, whatever a calculator raises or returns."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones

from gmnn.__main__ import main
from gmnn.commands._frame import exit_code
from tests.support import processes
from tests.support.paths import ROOT

TEXT = "import sys\n{0}\n"


class Own(BaseException):
    """An exception of somebody's that is no `Exception`."""


class Odd(Calculator):
    """A calculator that raises or returns what it is told, from its `after`-th structure on."""

    implemented_properties = ["energy", "forces"]

    def __init__(self, raises: BaseException | None = None, energy: object = 1.0, shape: tuple = (2, 3), after: int = 0,
                 made: BaseException | None = None) -> None:  # fmt: skip
        super().__init__()
        if made is not None:
            raise made
        self.raises, self.energy, self.shape, self.after, self.count = raises, energy, shape, after, 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.count += 1
        if self.count <= self.after:
            self.results = {"energy": 1.0, "forces": np.zeros((2, 3))}
            return
        if self.raises is not None:
            raise self.raises
        self.results = {"energy": self.energy, "forces": np.zeros(self.shape)}


class Batched(LennardJones):
    """A calculator whose `batch_eval` leaves."""

    def batch_eval(self, frames: list[Atoms]) -> list[Atoms]:
        raise SystemExit(0)


@pytest.fixture
def scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """scan(calculator) -> exit code of a scan of H2 with MODULE:CALLABLE; a report exists only after a verdict."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    ase.io.write(tmp_path / "h2.xyz", Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]))

    def run(calculator: str) -> int:
        command = ["scan", "--calculator", calculator, "--structure", "h2.xyz", "--frames", "4", "--reference", "none"]
        return main([*command, "--out", str(tmp_path / "out")])

    return run


LEAVING = [SystemExit(0), SystemExit(None), SystemExit(1), GeneratorExit(), Own("away")]


@pytest.mark.parametrize("raises", LEAVING, ids=repr)
@pytest.mark.parametrize("when", ["made", "first", "later", "batch"])
def test_kind_8_a_calculator_that_leaves_python(
    raises: BaseException, when: str, scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Exit code 2, one sentence, no report: when it is made, at the structure itself, and in the middle of the scan."""
    options = {"made": {"made": raises}, "first": {"raises": raises}, "later": {"raises": raises, "after": 3}}
    factory = Batched if when == "batch" else lambda: Odd(**options[when])
    monkeypatch.setattr(sys.modules[__name__], "factory", factory, raising=False)
    monkeypatch.setitem(sys.modules, "odd_calculators", sys.modules[__name__])
    assert scan("odd_calculators:factory") == 2
    said = capsys.readouterr()
    assert "tried to end the program" in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out" / "scan.json").exists()


@pytest.mark.parametrize("line", ["sys.exit(0)", "raise SystemExit", "raise GeneratorExit", "quit()",
                                  "class A(BaseException): pass\nraise A"])  # fmt: skip
def test_kind_8_an_import_that_leaves_python(
    line: str, scan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    name = f"leaves_{abs(hash(line))}"
    (tmp_path / f"{name}.py").write_text(TEXT.format(line), encoding="utf-8")
    assert scan(f"{name}:X") == 2
    assert "tried to end the program" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("results", "said"),
    [({"shape": (3,)}, "the forces have the shape (3,)"), ({"shape": (1, 3)}, "the forces have the shape (1, 3)"),
     ({"shape": ()}, "the forces have the shape ()"), ({"energy": np.zeros(2)}, "the energy has the shape (2,)"),
     ({"energy": None}, "cannot evaluate"), ({"energy": "low"}, "cannot evaluate")],
)  # fmt: skip
def test_kind_8_results_of_a_wrong_shape(
    results: dict, said: str, scan, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A sentence that names the shape and the one that is needed."""
    monkeypatch.setattr(sys.modules[__name__], "factory", lambda: Odd(**results), raising=False)
    monkeypatch.setitem(sys.modules, "odd_calculators", sys.modules[__name__])
    assert scan("odd_calculators:factory") == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("end", [SystemExit(0), GeneratorExit()], ids=repr)
def test_kind_8_no_command_ends_with_zero_before_its_result(
    end: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    def body() -> int:
        raise end

    assert exit_code("train", body) == 2
    assert "before there was a result" in capsys.readouterr().err


ENDS = """
import ctypes, os, signal, time
from ase.calculators.lj import LennardJones

class Odd(LennardJones):
    def calculate(self, *arguments, **more):
        {0}
        super().calculate(*arguments, **more)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code", "said"),
    [("os._exit(0)", 2, "a library ended the program before there was a result"),
     ("ctypes.CDLL(None).exit(0)", 2, "a library ended the program before there was a result"),
     ("os.kill(os.getpid(), signal.SIGSEGV)", 139, "ended by SIGSEGV before there was a result"),
     ("os._exit(5)", 5, ""), ("pass", 0, "")],
)  # fmt: skip
def test_kind_8_a_calculator_that_ends_the_process(line: str, code: int, said: str, tmp_path: Path) -> None:
    """From Python, C or Fortran, without any exception: exit code 0 only after a verdict; a verdict has its own."""
    (tmp_path / "ends.py").write_text(ENDS.format(line), encoding="utf-8")
    ase.io.write(tmp_path / "h2.xyz", Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]))
    scan = ["scan", "--calculator", "ends:Odd", "--structure", "h2.xyz", "--frames", "4", "--reference", "none"]
    done = processes.python(
        "-m", "gmnn", *scan, "--out", "out", cwd=tmp_path, PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}"
    )
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == bool(said)
    assert (tmp_path / "out" / "scan.json").exists() is (line == "pass")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_kind_8_signals_reach_the_scan(number: signal.Signals, tmp_path: Path) -> None:
    """A signal to the process that was started ends the scan, and no process is left."""
    (tmp_path / "ends.py").write_text(ENDS.format("print('here', flush=True); time.sleep(600)"), encoding="utf-8")
    scan = ["scan", "--calculator", "ends:Odd", "--reference", "none", "--out", "out"]
    command = [sys.executable, "-m", "gmnn", *scan]
    variables = processes.environment(PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}")
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as started:
        assert started.stdout.readline() == "here\n"
        started.send_signal(number)
        _, err = started.communicate(timeout=60)  # the pipes are closed, so the child has ended, too
    assert started.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert "Traceback" not in err
