"""Faults on purpose: a disk that ends the process or is full at its k-th change, files that were cut or changed.

Python's audit events tell of every file that is opened, renamed, removed or made; `open` is wrapped so that a write can
end in its middle. After the end nothing in the process reaches the folder any more, not even what `finally` would do.
"""

import builtins
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

CHANGES = {"os.rename": 1, "os.remove": 0, "os.rmdir": 0, "os.mkdir": 0, "os.truncate": 0, "shutil.rmtree": 0}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Killed(BaseException):
    """Where the process would not be any more."""


class Disk:
    """Changes under a folder, counted; at the `at`-th one, and from then on, it fails as `kind` says."""

    def __init__(self, root: Path, kind: str, at: int) -> None:
        self.root, self.kind, self.at, self.count, self.struck = str(root), kind, at, 0, False
        self.nameless = False  # a write to an open file says no name

    def change(self, path: Any, frees: bool = False) -> None:
        """One more; raises what is due."""
        try:
            name = os.fspath(path)
        except TypeError:
            return
        name = os.path.abspath(name.decode() if isinstance(name, bytes) else name)
        if not name.startswith(self.root):
            return
        self.count += 1
        self.struck = self.struck or self.count >= self.at
        if not self.struck:
            return
        if self.kind == "kill":
            raise Killed
        if not frees:
            code = errno.ENOSPC if self.kind == "full" else errno.EACCES
            raise OSError(code, os.strerror(code), *([] if self.nameless else [name]))


_disk: Disk | None = None


def _hook(event: str, arguments: tuple) -> None:
    if _disk is None:
        return
    if event == "open":
        path, mode, flags = arguments
        if (isinstance(mode, str) and set(mode) & set("wax+")) or (mode is None and flags & WRITING):
            _disk.change(path)
    elif event in CHANGES:
        _disk.change(
            arguments[CHANGES[event]], frees=event in ("os.remove", "os.rmdir", "shutil.rmtree", "os.truncate")
        )


sys.addaudithook(_hook)


class Written:
    """A file opened for writing whose write can end in its middle."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: Any) -> int:
        disk = _disk
        if disk is not None:
            disk.nameless = True
            try:
                disk.change(self._file.name)
            except BaseException:
                if disk.count == disk.at:
                    self._file.write(data[: len(data) // 2])
                    self._file.flush()
                raise
            finally:
                disk.nameless = False
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "Written":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator:
        return iter(self._file)


@contextmanager
def failing(root: Path, kind: str, at: int) -> Iterator[Disk]:
    """Within, changes of files under `root` fail from the `at`-th on: `kill`, `full` or `denied`."""
    global _disk
    original = io.open

    def opened(file: Any, mode: str = "r", *more: Any, **kwargs: Any) -> Any:
        made = original(file, mode, *more, **kwargs)
        inside = isinstance(file, str | os.PathLike) and os.path.abspath(os.fspath(file)).startswith(str(root))
        return Written(made) if inside and set(mode) & set("wax") else made

    disk = Disk(root, kind, at)
    try:
        builtins.open = io.open = opened  # type: ignore[assignment]
        _disk = disk
        yield disk
    finally:
        _disk = None
        builtins.open = io.open = original


def outcome(run: Callable[[], int], root: Path, kind: str, at: int) -> tuple[int | None, Disk]:
    """Exit code of a command on such a disk; None where it was killed."""
    with failing(root, kind, at) as disk:
        try:
            return run(), disk
        except BaseException:
            if disk.struck and kind == "kill":
                return None, disk
            raise


def damaged(data: bytes, kind: str, rng: np.random.Generator) -> bytes | None:
    """What is left of a file: `cut`, `flipped` (one bit), `empty`, `zeroed` (a block) or gone."""
    if kind == "cut":
        return data[: int(rng.integers(0, max(len(data), 1)))]
    if kind == "flipped":
        changed = bytearray(data)
        if changed:
            changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
        return bytes(changed)
    if kind == "zeroed":
        start = int(rng.integers(0, max(len(data), 1)))
        return data[:start] + bytes(min(512, len(data) - start)) + data[start + 512 :]
    return b"" if kind == "empty" else None


DAMAGES = ("cut", "flipped", "zeroed", "empty", "gone")
