"""The C++ compiler of this machine, for code that is compiled where it is used."""

import os
import shutil
import subprocess

from gmnn.errors import UserError


def compiler() -> str:
    """Path of $CXX, or of the first of c++, g++ and clang++ on the PATH; UserError if there is none."""
    for name in filter(None, [os.environ.get("CXX"), "c++", "g++", "clang++"]):
        if path := shutil.which(name):
            return path
    raise UserError("there is no C++ compiler on the PATH; install g++ or clang++, or name one in CXX")


def first_error(command: list[str]) -> str:
    """Run a compiler and return the first error that it reports, empty if there is none."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.returncode:
        return ""
    lines = [line for line in done.stderr.splitlines() if "error" in line] or [f"exit code {done.returncode}"]
    return lines[0].strip()
