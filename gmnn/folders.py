"""Output folders: files are written only into a folder that is new, empty or provably ours, by one run at a time.

A folder is ours if our marker lies in it, or a sealed record of version 0.1, which wrote no marker.
"""

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from gmnn.errors import UserError
from gmnn.files import is_sealed, read_sealed, refuse_link, require_place, sealed, write_bytes, write_json

MARKER, LOCK = ".gmnn", ".lock"  # in every output folder: what it holds; held by the process that writes
KINDS = {  # of output folders, with what version 0.1, which had no marker, wrote into them and read again
    "model": ("a model", ("split.json", "config.json")), "md": ("a run of dynamics", ("run.json",)),
    "scan": ("a scan", ()), "evaluation": ("an evaluation", ()), "export": ("an exported program", ()),
    "labels": ("labels of a teacher", ()),
    "learn": ("a learning", ()),
}  # fmt: skip
MD_FILES = ("run.json", "state.npz", "trajectory.extxyz", "log.csv", "beyond.extxyz", "md.png")
LISTED = 5  # strangers named in a message


def require_ours(path: Path, kind: str, names: Iterable[str]) -> set[str]:
    """Raise UserError unless a folder is new, empty or ours; return the names that are ours in it, `names` included.

    A folder is ours if our marker or a sealed record of version 0.1 lies in it and says the same `kind`. A file that
    bears one of `names` and that we did not write is refused, too, and so is a link, or what is no plain file where
    the name has a suffix.
    """
    what, records = KINDS[kind]
    require_place(path)
    for place in (path, path / MARKER, path / LOCK, *(path / name for name in names)):
        refuse_link(place)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file, but a folder is needed; choose another output")
    present = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    strangers = {name for name in present if not _scrap(path, name)} - {MARKER}
    ours: set[str] = set()
    if is_sealed(path / MARKER):
        marker = read_sealed(path / MARKER, "")
        if marker.get("kind") != kind:
            held = KINDS.get(str(marker.get("kind")), ("something else",))[0]
            raise UserError(f"{path} holds {held} of gmnn, but {what} is to be written; choose another output")
        ours = set(map(str, marker.get("names", ())))
        strangers &= set(names) - ours
    elif any(is_sealed(path / record) for record in records):
        strangers, ours = set(), set(names)
    elif MARKER in present:
        strangers |= {MARKER}
    if strangers:
        listed = ", ".join(sorted(strangers)[:LISTED]) + (" and others" if len(strangers) > LISTED else "")
        raise UserError(f"{path} holds what no {kind} run of gmnn wrote ({listed}) and what must not be lost; choose a "
                        "new or empty folder")  # fmt: skip
    for place in (path / name for name in sorted(set(names) & present) if Path(name).suffix):
        if not place.is_file():
            raise UserError(f"{place} is no plain file, and nothing is written in its place; remove it, or choose "
                            "another output")  # fmt: skip
    return ours | set(names)


def _scrap(path: Path, name: str) -> bool:
    """Whether a file is our lock, or a marker whose writer was killed."""
    if re.fullmatch(rf"\.{re.escape(MARKER)}\.[0-9a-f]{{8}}\.part", name):
        return True
    if name != LOCK or not (path / name).is_file():
        return False
    about = (path / name).stat()
    return about.st_size == 0 and about.st_nlink == 1


@contextlib.contextmanager
def output_folder(path: Path, kind: str, names: Iterable[str]) -> Iterator[None]:
    """Hold a folder, made if absent, for one run that writes files of these names.

    UserError before a byte is written unless it is new, empty or ours, or if another process holds it.
    """
    names = list(names)
    require_ours(path, kind, names)
    with exclusive(path):
        ours = sorted(require_ours(path, kind, names))
        marker = sealed({"kind": kind, "names": ours})
        if not is_sealed(path / MARKER) or read_sealed(path / MARKER, "") != marker:
            write_json(path / MARKER, marker)
        yield


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a folder for one run; UserError if another process holds it.

    The lock ends with the process, however the process ends. A lock that is a link or no plain file is refused.
    """
    refuse_link(path)
    refuse_link(path / LOCK)
    try:
        path.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        lock = os.open(path / LOCK, flags, 0o666)
    except OSError as error:
        raise UserError(f"cannot write into the folder {path}: {error.strerror}; choose another output") from None
    try:
        if not stat.S_ISREG(os.fstat(lock).st_mode):
            raise UserError(f"{path / LOCK} is no plain file; remove it, or choose another output")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another run is writing into {path}; wait for it or choose another output") from None
        yield
    finally:
        os.close(lock)


def write_files(folder: Path, contents: dict[str, bytes], kind: str = "scan") -> dict[str, Path]:
    """Write files into an output folder, each whole or not at all; return their paths by name.

    Raises UserError if the folder cannot be written or is not ours.
    """
    try:
        with output_folder(folder, kind, contents):
            for name, content in contents.items():
                write_bytes(folder / name, content)
    except OSError as error:
        raise UserError(
            f"The report cannot be written to '{folder}', got {error.strerror or error}; a folder with write "
            "permission is needed; choose another with --out."
        ) from error
    return {name: folder / name for name in contents}


def private_folder(path: Path) -> None:
    """Make a folder that only this user can enter, parents included, and give one of ours that mode.

    UserError if it is a link or belongs to another user, or if its parent does. OSError if it cannot be made.
    """
    refuse_link(path)
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.mkdir(folder, 0o700)
    for folder, owners in ((path.parent, (os.geteuid(), 0)), (path, (os.geteuid(),))):
        about = os.stat(folder) if folder != path else os.lstat(folder)
        if not stat.S_ISDIR(about.st_mode):
            raise NotADirectoryError(20, "Not a directory", str(folder))
        if about.st_uid not in owners:
            raise UserError(f"{folder} belongs to another user, who could change what is in it")
    if stat.S_IMODE(os.stat(path).st_mode) != 0o700:
        os.chmod(path, 0o700)
