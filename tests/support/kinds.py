"""The kinds of faults that the reliability tests count, and what generated cases have in common.

`generated` gives a test its cases, each with a random generator of its own. After each: no traceback was printed, and
the case took no more time and memory than allowed.
"""

import os
import signal
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest

from gmnn.__main__ import main
from gmnn.errors import UserError
from tests.support.counts import record

CASES = int(os.environ.get("GMNN_CASES", "6"))  # of a generator with share 1
WORDS = ("Traceback", "object at 0x", "NoneType", "_DimExpr", "<class", "numpy.", "np.float", "<function")
PATIENCE = 10  # times longer a case may wait than compute
SHOWN = 12  # cases that fail and are shown


class TooLong(BaseException):
    """Where a case took more time than it is allowed."""


class Case:
    """One generated case: its random numbers, and the limits of what it may take."""

    def __init__(self, kind: int, name: str, k: int, seconds: float, megabytes: float) -> None:
        self.kind, self.name, self.seconds, self.megabytes = kind, f"{name}, case {k}", seconds, megabytes
        self.rng = np.random.default_rng([zlib.crc32(name.encode()), k])
        self.index = k
        self.about: Any = ""
        self.failure: BaseException | None = None
        self.late = False

    def __enter__(self) -> Self:
        self._peak = _reset_peak()
        self._before = {number: signal.signal(number, self._late) for number in (signal.SIGALRM, signal.SIGPROF)}
        signal.setitimer(signal.ITIMER_PROF, self.seconds)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE * self.seconds)
        return self

    def _late(self, *_: object) -> None:
        self.late = True
        raise TooLong(f"more than {self.seconds} s of computation, or {PATIENCE} times as much of waiting")

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0.0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        grown = (_peak() - self._peak) / 1024
        if error is None and grown > self.megabytes:
            error = AssertionError(f"{grown:.0f} MB more than before")
        if error is None and self.late:
            error = TooLong("what it raised was taken for something else")
        if error is None:
            record(self.kind)
        elif isinstance(error, KeyboardInterrupt | pytest.skip.Exception):
            return False
        self.failure = error
        return True


def _reset_peak() -> int:
    """Memory of this process in kB; its peak counts from now on."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return 1 << 60
    return _peak()


def _peak() -> int:
    text = Path("/proc/self/status").read_text(encoding="utf-8") if os.path.exists("/proc/self/status") else ""
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM")), 0)


def generated(
    kind: int, name: str, share: float = 1.0, at_least: int = 3, seconds: float = 10.0, megabytes: float = 1500.0
) -> Iterator[Case]:
    """Cases for a loop `for case in generated(...): with case: ...`; at the end all that failed are shown together."""
    failed: list[str] = []
    for k in range(max(at_least, round(share * CASES))):
        case = Case(kind, name, k, seconds, megabytes)
        yield case
        if (error := case.failure) is not None:
            at = error.__traceback__
            while at is not None and at.tb_next is not None:
                at = at.tb_next
            line = f"{Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}" if at is not None else ""
            about = f"{case.about!r}"[:400]
            failed.append(f"kind {kind}, {case.name}, {about}: {type(error).__name__}: {str(error)[:500]} ({line})")
    assert not failed, f"{len(failed)} failed:\n" + "\n".join(failed[:SHOWN])


def clear(text: str | UserError, *names: str, at_most: int = 1500) -> None:
    """Assert that this is one sentence a user can read, and that it names what it is about."""
    text = str(text)
    assert 10 < len(text) < at_most, text[:at_most]
    assert not any(word in text for word in WORDS), text
    assert not names or any(name in text for name in names), (names, text)


def command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, output and errors of a command in this process.

    Asserted is that there is no traceback, and that exit code 2 comes with one sentence.
    """
    capsys.readouterr()
    try:
        code: Any = main([str(argument) for argument in arguments])
    except SystemExit as end:  # argparse
        code = 0 if end.code is None else end.code
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err, err[-2000:]
    assert code in (0, 1, 2, 130), (arguments, code)
    if code == 2:
        clear(err.strip().splitlines()[-1])
    return code, out, err


def content(path: Path) -> dict[str, tuple]:
    """All that lies in a folder: links with their targets, folders, the bytes of files, kinds of other things."""
    found: dict[str, tuple] = {}
    for entry in sorted(path.rglob("*")):
        about = entry.lstat()
        mode = stat.S_IFMT(about.st_mode)
        what = os.readlink(entry) if mode == stat.S_IFLNK else entry.read_bytes() if mode == stat.S_IFREG else ""
        found[str(entry.relative_to(path))] = (mode, what)
    return found


def changes(before: dict[str, tuple], after: dict[str, tuple]) -> list[str]:
    """Names of what was there and is no longer there as it was."""
    return [name for name, what in before.items() if after.get(name) != what]
