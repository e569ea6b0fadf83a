"""The C++ compiler of this machine, for code that is compiled where it is used."""

import os
import shlex
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from gmnn.errors import UserError

ELF, MACH_O = b"\x7fELF", (b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")  # first bytes of a library


def compiler() -> list[str]:
    """Command of $CXX, options included, or of the first of c++, g++ and clang++; UserError if there is none."""
    text = os.environ.get("CXX", "").strip()
    if text:
        try:
            words = [text] if shutil.which(text) else shlex.split(text)
        except ValueError as error:
            raise UserError(f"CXX is {text!r}, which is no command ({error}); correct or unset it") from None
        if path := shutil.which(words[0]):
            return [path, *words[1:]]
        raise UserError(f"CXX names the compiler {words[0]!r}, which is not on the PATH; correct or unset it")
    for name in ("c++", "g++", "clang++"):
        if path := shutil.which(name):
            return [path]
    raise UserError("there is no C++ compiler on the PATH; install g++ or clang++, or name one in CXX")


def compiled(command: list[str], symbols: Iterable[str]) -> bytes:
    """Run a compiler and return the shared library that it writes.

    UserError with the first error that it reports, or if the library is not whole or lacks one of `symbols`.
    """
    with tempfile.TemporaryDirectory(prefix="gmnn-") as scratch:
        target = Path(scratch) / "library.so"
        if problem := first_error([*command, "-o", str(target)]):
            raise UserError(problem)
        library = target.read_bytes() if target.is_file() else b""
    if not whole(library):
        raise UserError("it reported no error, but what it wrote is no library, or half of one")
    for symbol in symbols:
        if symbol.encode() not in library:
            raise UserError(f"it reported no error, but the library that it wrote lacks {symbol}")
    return library


def whole(library: bytes) -> bool:
    """Whether these bytes begin as a library does and, for ELF of 64 bits, end with its table of sections."""
    if library.startswith(MACH_O):
        return True
    if not library.startswith(ELF) or len(library) < 64:
        return False
    if library[4] != 2:  # not 64 bits
        return True
    order = "<" if library[5] == 1 else ">"
    (start,), (size, count) = (struct.unpack_from(order + form, library, at) for form, at in (("Q", 40), ("HH", 58)))
    return start + size * count <= len(library)


def first_error(command: list[str]) -> str:
    """Run a compiler and return the first error that it reports, empty if there is none."""
    try:
        done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        return f"it cannot be run: {error.strerror}"
    if not done.returncode:
        return ""
    text = done.stderr.decode(errors="replace")
    lines = [line for line in text.splitlines() if "error" in line] or [f"exit code {done.returncode}"]
    return lines[0].strip()
