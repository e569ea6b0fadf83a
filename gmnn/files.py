"""Safe files: written whole or not at all, verified by a checksum when read again, never through a link."""

import contextlib
import hashlib
import io
import json
import os
import platform
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmnn.errors import UserError, shortened

if TYPE_CHECKING:
    from ase import Atoms


NAME_BYTES = 255  # of one name, as file systems allow
CHUNK = 1 << 24  # bytes read at once
SEAL = "checksum"  # key of the checksum of all other values, in a JSON file that is read again


def expanded(text: str) -> str:
    """Return a path with `~` and `~user` replaced, as in a shell; UserError for an unknown user and for `$NAME`."""
    if not text or "\0" in text:
        raise UserError(f"{shortened(text)} cannot be the name of a file or folder; write a path")
    path = os.path.expanduser(text)
    if path.startswith("~") and not os.path.lexists(path):
        raise UserError(f"{shortened(text)} begins with ~ and no user who has a home; write the path itself, or ./~...")
    if re.search(r"\$(\w|\{)", path) and not os.path.lexists(path):
        raise UserError(f"{shortened(text)} names a variable with $, and variables are not replaced here; write the "
                        "path itself, or let the shell replace it")  # fmt: skip
    return path


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """Add a checksum of all values, for a JSON file that a program will read again."""
    return {**values, SEAL: _seal(json.loads(json.dumps(values)))}


def read_sealed(file: Path, hint: str) -> dict[str, Any]:
    """Read a JSON object and verify its checksum; UserError with the hint if it is damaged."""
    return verified(read_json(file, hint), file, hint)


def read_json(file: Path, hint: str) -> dict[str, Any]:
    """Read a JSON object; UserError with the hint if it is damaged."""
    try:
        values = strict_json(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it is no object")
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); {hint}") from None
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}); {hint}") from None
    return values


def strict_json(text: str) -> Any:
    """Return the value of a JSON text; ValueError for NaN, a repeated key, and what is too deep or too long to read."""
    try:
        return json.loads(text.removeprefix("\ufeff"), parse_constant=_no_number, object_pairs_hook=_without_repeats)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in values if names.count(name) > 1)[:100]!r} stands twice")
    return values


def verified(values: dict[str, Any], file: Path, hint: str) -> dict[str, Any]:
    """Return the values of a JSON file if they match their checksum; UserError with the hint if not."""
    if SEAL not in values:
        raise UserError(f"{file} is damaged: its checksum is missing; {hint}")
    if values[SEAL] != _seal({key: value for key, value in values.items() if key != SEAL}):
        raise UserError(f"{file} does not match its checksum, so it was damaged or edited; {hint}")
    return values


def is_sealed(file: Path) -> bool:
    """Whether a file is a JSON object with its checksum, as only we write."""
    with contextlib.suppress(UserError):
        return bool(not file.is_symlink() and file.is_file() and read_sealed(file, ""))
    return False


def _seal(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def digest(file: Path) -> str:
    """SHA-256 of a file's content."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def refuse_link(path: Path) -> None:
    """Raise UserError if the path is a symbolic link."""
    if path.is_symlink():
        raise UserError(f"{path} is a link, and nothing is written through links; name the place itself, or remove it")


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON beside its place and move it there in one step."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """Strict JSON as it stands in our files."""
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write text beside its place and move it there in one step."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write bytes beside their place and move them there in one step. UserError if a link is in their place."""
    refuse_link(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags | os.O_CLOEXEC, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def require_place(path: Path) -> None:
    """Raise UserError, before any work, if no file or folder can be made at this path, or nothing in this folder."""
    if wrong := [part for part in path.parts if "\0" in part or len(os.fsencode(part)) > NAME_BYTES]:
        raise UserError(f"{shortened(wrong[0], 40)} is longer than {NAME_BYTES} bytes, or not text, and cannot be the "
                        "name of a file or folder; choose another output")  # fmt: skip
    place = next(place for place in (path, *path.absolute().parents) if place.is_dir() or
                 (os.path.lexists(place) and place != path))  # fmt: skip
    if not place.is_dir():
        raise UserError(f"cannot write {path}: {place} is no folder; choose another output")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"cannot write {path}: {place} cannot be written into; choose another output")


def require_sealed(path: Path) -> None:
    """Raise UserError if a file that is not ours, as its checksum shows, or a link or a folder has this path."""
    require_place(path)
    refuse_link(path)
    if os.path.lexists(path) and not is_sealed(path):
        raise UserError(f"{path} exists and was not written by gmnn, or was edited since; choose another file")


def require_new(path: Path) -> None:
    """Raise UserError if a file, a folder or a link has this path, or none can be made there."""
    require_place(path)
    if os.path.lexists(path):
        raise UserError(f"{path} exists; choose another --out")


def remove_tree(path: Path) -> None:
    """Delete a folder with all that is in it, as far as that is possible. A link stays."""
    shutil.rmtree(path, ignore_errors=True)


def private_bytes(path: Path) -> bytes | None:
    """Read a file that belongs to this user and that nobody else can write; None if there is no such file."""
    try:
        with open(path, "rb", opener=_not_through_links) as file:
            about = os.fstat(file.fileno())
            safe = stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & 0o022
            return file.read() if safe else None
    except OSError:
        return None


def _not_through_links(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)


def append_line(path: Path, line: str) -> None:
    """Append text to a file, which is made if absent."""
    refuse_link(path)
    with open(path, "a", encoding="utf-8", opener=_not_through_links) as file:
        file.write(line)


def append_stream(path: Path) -> int:
    """Open a file, which is made if absent, for what other programs print; return the descriptor."""
    refuse_link(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


class AppendOnlyFile:
    """A file that only grows. `mark` holds its size in bytes and its CRC-32."""

    def __init__(self, path: Path) -> None:
        self.path, self.mark = path, (0, 0)

    def empty(self) -> None:
        """Empty the file."""
        write_bytes(self.path, b"")
        self.mark = (0, 0)

    def append(self, text: str) -> None:
        """Append text and flush it to the disk."""
        data = text.encode()
        refuse_link(self.path)
        with open(self.path, "ab", opener=_not_through_links) as file:
            self._require_single(file.fileno())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self.mark = (self.mark[0] + len(data), zlib.crc32(data, self.mark[1]))

    def cut(self, size: int, crc: int) -> None:
        """Cut the file to its first `size` bytes; UserError if their CRC-32 is not `crc`."""
        checksum = 0
        refuse_link(self.path)
        try:
            with open(self.path, "r+b", opener=_not_through_links) as file:
                self._require_single(file.fileno())
                for start in range(0, size, CHUNK):
                    checksum = zlib.crc32(file.read(min(CHUNK, size - start)), checksum)
                if file.tell() != size or checksum != crc:
                    raise UserError(
                        f"{self.path} is not what it was when the state was written (shorter, or changed); start again "
                        "with another output"
                    )
                file.truncate(size)
        except OSError as error:
            raise UserError(f"{self.path} cannot be read ({error.strerror}); start again with another output") from None
        self.mark = (size, crc)

    def _require_single(self, file: int) -> None:
        if os.fstat(file).st_nlink > 1:
            raise UserError(f"{self.path} has another name (a hard link) whose content would change with it; replace "
                            "it by a copy")  # fmt: skip


def extxyz(frames: "list[Atoms]") -> str:
    """Text of an extxyz file."""
    import ase.io

    text = io.StringIO()
    ase.io.write(text, frames, format="extxyz")
    return text.getvalue()


def write_whole(path: Path, frames: "list[Atoms]") -> None:
    """Write an extxyz file that does not exist yet beside its place and move it there in one step."""
    text = extxyz(frames)
    require_new(path)
    write_text(path, text)


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
