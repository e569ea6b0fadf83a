"""Kind 5: in a locale whose letters are ASCII, models load, commands work and what is printed degrades."""

import io
import sys

import pytest

from gmnn.__main__ import main
from tests.support import processes
from tests.support.paths import GOLDEN, ROOT

ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}

MODELS = [str(GOLDEN / "v4" / "model"), str(ROOT / "examples" / "ethanol")]
LOAD = f"import gmnn; print([gmnn.load(path).reference.elements for path in {MODELS}])"


@pytest.mark.parametrize("command", [["--help"], ["md", "--help"], ["schema", "--markdown"], ["scan", "--help"]])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_kind_5_output_degrades(command: list[str], encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal without our letters gets escapes and the exit code is the usual one."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, errors="strict"))
    try:
        code = main(command)
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    assert code == 0
    assert len(raw.getvalue()) > 100


def test_kind_5_a_stream_that_cannot_be_set_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert main(["--help"]) == 0


@pytest.mark.parametrize("command", [["-m", "gmnn", "--help"], ["-c", LOAD]])
def test_kind_5_commands_in_a_plain_locale(command: list[str]) -> None:
    """In a process whose files and streams are ASCII by default: a model folder is read as it was written."""
    done = processes.python(*command, **ASCII)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_kind_5_a_name_that_the_locale_has_no_letters_for() -> None:
    """One sentence with the way out, or the file itself; never a traceback."""
    done = processes.python("-m", "gmnn", "certify", "w\u00e4h/\u00c5", **ASCII)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
