"""Functions in C++ for XLA, compiled for this processor when they are first needed and kept in the user's cache folder.

Their sources are in `source/`; the compiler is any g++ or clang++.
"""

import ctypes
import hashlib
import os
import platform
import sys
import tempfile
from pathlib import Path

import jax
import jaxlib.version

from gmnn.errors import UserError
from gmnn.kernels.cpp.compiler import compiler, first_error

SOURCES = Path(__file__).parent / "source"
FLAGS = ("-std=c++17", "-O2", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")


def register(source: str, function: str) -> None:
    """Make FUNCTION_float32 and FUNCTION_float64 of source/SOURCE.cpp known to XLA under these names, for CPUs.

    UserError, whose text goes on after "but", if they cannot be compiled, kept or loaded.
    """
    file = _compiled(source)
    try:
        library = ctypes.CDLL(str(file))
    except OSError as error:
        raise UserError(
            f"what was compiled of it cannot be loaded ({error}); delete {file}, or name a folder from which programs "
            "may run in XDG_CACHE_HOME"
        ) from error
    for dtype in ("float32", "float64"):
        name = f"{function}_{dtype}"
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")


def _compiled(source: str) -> Path:
    """Path of the library for this processor and this JAX, from the cache or compiled now."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gmnn"
    flags = [*FLAGS, "-march=native" if platform.machine() in ("x86_64", "AMD64") else "-mcpu=native"]
    parts = [path.read_bytes() for path in sorted(SOURCES.iterdir())]
    facts = " ".join([*flags, jaxlib.version.__version__, _processor()])
    library = home / f"{source}-{hashlib.sha256(b''.join([*parts, facts.encode()])).hexdigest()[:16]}.so"
    if library.exists():
        return library
    program = compiler()
    try:
        home.mkdir(parents=True, exist_ok=True)
        file, temporary = tempfile.mkstemp(".so", dir=home)
    except OSError as error:
        raise UserError(
            f"compiled functions are kept in {home}, which cannot be written ({error.strerror}); name another folder "
            "in XDG_CACHE_HOME"
        ) from error
    os.close(file)
    command = [program, *flags, f"-I{jax.ffi.include_dir()}", str(SOURCES / f"{source}.cpp"), "-o", temporary]
    print(f"gmnn: compiling {source}.cpp for this processor, once (some 10 s)", file=sys.stderr, flush=True)
    try:
        if problem := first_error(command):
            raise UserError(f"{program} does not compile it ({problem}); name another compiler in CXX")
        os.replace(temporary, library)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return library


def _processor() -> str:
    """Text that distinguishes processors which may share a home folder."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return " ".join([platform.machine(), *(line for line in lines if line.startswith(("flags", "Features")))][:2])
