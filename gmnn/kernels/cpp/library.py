"""Functions in C++ for XLA, compiled for this processor when they are first needed and kept in the user's cache folder.

Their sources are in `source/`; the compiler is any g++ or clang++.
"""

import ctypes
import hashlib
import os
import platform
import sys
from pathlib import Path

import jax
import jaxlib.version

from gmnn import files, folders
from gmnn.errors import UserError
from gmnn.kernels.cpp.compiler import compiled, compiler

SOURCES = Path(__file__).parent / "source"
FLAGS = ("-std=c++17", "-O2", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")


def register(source: str, function: str) -> None:
    """Make FUNCTION_float32 and FUNCTION_float64 of source/SOURCE.cpp known to XLA under these names, for CPUs.

    UserError, whose text goes on after "but", if they cannot be compiled, kept or loaded.
    """
    names = [f"{function}_{dtype}" for dtype in ("float32", "float64")]
    file = _kept(source, names)
    try:
        library = ctypes.CDLL(str(file))
        functions = [getattr(library, name) for name in names]
    except (OSError, AttributeError) as error:
        raise UserError(
            f"what was compiled of it cannot be loaded ({error}); delete {file}, or name a folder from which programs "
            "may run in XDG_CACHE_HOME"
        ) from error
    for name, address in zip(names, functions, strict=True):
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(address), platform="cpu")


def _kept(source: str, names: list[str]) -> Path:
    """Path of the library for this processor and this JAX, which has these functions: kept, or compiled now.

    The folder is ours alone. A library without the checksum beside it, or that somebody else could have written, is
    compiled again and never loaded.
    """
    home = _home()
    flags = [*FLAGS, "-march=native" if platform.machine() in ("x86_64", "AMD64") else "-mcpu=native"]
    parts = [path.read_bytes() for path in sorted(SOURCES.iterdir())]
    facts = " ".join([*flags, jaxlib.version.__version__, _processor()])
    library = home / f"{source}-{hashlib.sha256(b''.join([*parts, facts.encode()])).hexdigest()[:16]}.so"
    checksum = library.with_suffix(".sha256")
    try:
        folders.private_folder(home)
    except UserError as error:
        raise UserError(
            f"compiled functions are kept in {home}, but {error}; name another folder in XDG_CACHE_HOME"
        ) from None
    except OSError as error:
        raise UserError(
            f"compiled functions are kept in {home}, which cannot be written ({error.strerror}); name another folder "
            "in XDG_CACHE_HOME"
        ) from error
    content = files.private_bytes(library)
    if content and files.private_bytes(checksum) == hashlib.sha256(content).hexdigest().encode():
        return library
    program = compiler()
    attempt = (str(library), *program)
    if attempt in _failures:
        raise UserError(_failures[attempt])
    print(f"gmnn: compiling {source}.cpp for this processor, once (some 10 s)", file=sys.stderr, flush=True)
    try:
        content = compiled([*program, *flags, f"-I{jax.ffi.include_dir()}", str(SOURCES / f"{source}.cpp")], names)
    except UserError as error:
        _failures[attempt] = f"{program[0]} does not compile it ({error}); name another compiler in CXX"
        raise UserError(_failures[attempt]) from None
    try:
        for path, data in ((library, content), (checksum, hashlib.sha256(content).hexdigest().encode())):
            files.write_bytes(path, data, 0o600)
    except OSError as error:
        raise UserError(
            f"compiled functions are kept in {home}, which cannot be written ({error.strerror}); name another folder "
            "in XDG_CACHE_HOME"
        ) from error
    return library


_failures: dict[tuple[str, ...], str] = {}  # of compilations in this process, which are not tried again


def _home() -> Path:
    """Folder of the compiled functions. A relative XDG_CACHE_HOME is ignored, as the specification asks."""
    named = Path(os.environ.get("XDG_CACHE_HOME") or "")
    try:
        base = named if named.is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        base = Path()
    if not base.is_absolute():
        raise UserError("this user has no home folder to keep compiled functions in; name a folder in XDG_CACHE_HOME")
    return base / "gmnn"


def _processor() -> str:
    """Text that distinguishes processors which may share a home folder."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    return " ".join([platform.machine(), *(line for line in lines if line.startswith(("flags", "Features")))][:2])
