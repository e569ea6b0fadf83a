"""Other processes: the environment that all of them have, how they are run, and what all workers of a run share."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.paths import ROOT

TIMEOUT = 600.0  # s, for a process that hangs
KNOWN_UNTIL = (0, 11)  # the first version of jaxlib that may end a process because of the flag below (0.12 does)
OLD = tuple(map(int, version("jaxlib").split(".")[:2])) < KNOWN_UNTIL
QUICK_XLA = "--xla_cpu_use_fusion_emitters=false" if OLD else ""  # compiles three times faster


def cache_folder() -> str:
    """The folder of compiled programs: $GMNN_TEST_CACHE, or one beside other temporary files."""
    return os.environ.get("GMNN_TEST_CACHE") or str(Path(tempfile.gettempdir()) / "gmnn-tests-jax-cache")


def settings() -> dict[str, str]:
    """Variables that the tests and their child processes have in common: CPU, quick compilation, a compile cache."""
    flags = os.environ.get("XLA_FLAGS", "")
    return {
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
        "TF_CPP_MIN_LOG_LEVEL": "3",  # silences false alarms about machine features of cached programs
        "XLA_FLAGS": flags if QUICK_XLA in flags else f"{flags} {QUICK_XLA}".strip(),
        "JAX_COMPILATION_CACHE_DIR": cache_folder(),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def environment(**more: str) -> dict[str, str]:
    """The environment of every child process; it finds this package first, and its text is UTF-8."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    child = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "PYTHONPATH": path, "PYTHONUTF8": "1"}
    return {**os.environ, **settings(), **child, **more}


def run(*command: str | Path, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever its exit code, and keep what it prints."""
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment(**variables), capture_output=True, text=True,
        encoding="utf-8", check=False, timeout=TIMEOUT,
    )  # fmt: skip


def python(*arguments: str | Path, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments."""
    return run(sys.executable, *arguments, cwd=cwd, **variables)


def once_for_all(shared: Path, name: str, build: Callable[[Path], None]) -> Path:
    """The folder `name` as `build(folder)` leaves it, made by whichever worker asks first; the others wait for it."""
    folder, done = shared / name, shared / f"{name}.done"
    with open(shared / f"{name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            done.touch()
    return folder


def engine(*modules: str) -> None:
    """Skip the test that calls this where a module is missing; fail it where GMNN_REQUIRE_ENGINES says that all are."""
    for module in modules:
        if os.environ.get("GMNN_REQUIRE_ENGINES"):
            __import__(module)
        else:
            pytest.importorskip(module)


def without(what: str) -> None:
    """Skip the test because something that no package brings is missing, or fail it under GMNN_REQUIRE_ENGINES."""
    if os.environ.get("GMNN_REQUIRE_ENGINES"):
        pytest.fail(f"GMNN_REQUIRE_ENGINES is set, but there is {what}")
    pytest.skip(what)
