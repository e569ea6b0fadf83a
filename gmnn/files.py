"""Safe files: written whole or not at all, verified by a checksum when read again, one run at a time in a folder."""

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import stat
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmnn.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms


SEAL = "checksum"  # key of the checksum of all other values, in a JSON file that is read again


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """Add a checksum of all values, for a JSON file that a program will read again."""
    return {**values, SEAL: _seal(json.loads(json.dumps(values)))}


def read_sealed(file: Path, hint: str) -> dict[str, Any]:
    """Read a JSON object and verify its checksum; UserError with the hint if it is damaged."""
    return _verified(_read_json(file, hint), file, hint)


def _read_json(file: Path, hint: str) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text())
        if not isinstance(values, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({error}); {hint}") from None
    return values


def _verified(values: dict[str, Any], file: Path, hint: str) -> dict[str, Any]:
    if SEAL not in values:
        raise UserError(f"{file} is damaged: its checksum is missing; {hint}")
    if values[SEAL] != _seal({key: value for key, value in values.items() if key != SEAL}):
        raise UserError(f"{file} does not match its checksum, so it was damaged or edited; {hint}")
    return values


def _seal(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON beside its place and move it there in one step."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text beside its place and move it there in one step."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes beside their place and move them there in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a folder for one run; UserError if another process holds it.

    The lock ends with the process, however the process ends.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = open(path / ".lock", "w")  # noqa: SIM115 - closed below, after the error message for this line
    except OSError as error:
        raise UserError(f"cannot write into the folder {path}: {error.strerror}; choose another output") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another run is writing into {path}; wait for it or choose another output") from None
        yield


def write_files(folder: Path, contents: dict[str, bytes]) -> dict[str, Path]:
    """Write files into a folder (made if absent), each whole or not at all; return their paths by name.

    Raises UserError if the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_bytes(folder / name, content)
    except OSError as error:
        raise UserError(
            f"The report cannot be written to '{folder}', got {error.strerror or error}; a folder with write "
            "permission is needed; choose another with --out."
        ) from error
    return {name: folder / name for name in contents}


def write_whole(path: Path, frames: "list[Atoms]") -> None:
    """Write an extxyz file beside its place and move it there in one step."""
    import ase.io

    temporary = path.with_name(f".{path.name}")
    ase.io.write(temporary, frames, format="extxyz")
    temporary.replace(path)


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of Python and of those of the packages that are installed."""
    versions = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def require_file(path: Path, allowed: str) -> None:
    """Raise UserError unless this is a file: not absent, no folder, no pipe and no device, which may not end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        absent = isinstance(error, FileNotFoundError)
        why = (
            "does not exist and cannot be read"
            if absent
            else f"cannot be opened ({getattr(error, 'strerror', None) or error})"
        )
        raise UserError(f"the file {path} {why}; give the name of {allowed}") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise UserError(f"{path} is {kind}, but must be {allowed}; give the name of one")
