"""`gmnn export MODEL OUT`: write a trained potential as a StableHLO program, which runs without this package."""

import argparse
from pathlib import Path

from gmnn.commands._frame import Command

DESCRIPTION = """Write the energies and forces of a trained model as a StableHLO program, parameters included, that runs
with JAX alone. OUT gets the program, potential.bin, and export.json, which describes its arguments and results.
examples/exported.py is an ASE calculator of such a folder."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="folder of a trained model")
    parser.add_argument("output", metavar="OUT", type=Path, help="folder to write into, new or of an earlier export")
    parser.add_argument(
        "--dtype", default="float32", choices=["float32", "float64"], help="precision; default: %(default)s"
    )


def run(arguments: argparse.Namespace) -> int:
    """Load the potential, write the program and report."""
    from gmnn import folders
    from gmnn.interfaces.export import DESCRIPTION as about
    from gmnn.interfaces.export import PROGRAM, export
    from gmnn.model import folder

    folders.require_ours(arguments.output, "export", (PROGRAM, about))
    potential = folder.load(arguments.model)
    with folders.output_folder(arguments.output, "export", (PROGRAM, about)):
        export(potential, arguments.output, arguments.dtype)
    size = (arguments.output / PROGRAM).stat().st_size / 1e6
    print(f"{arguments.output / PROGRAM} ({size:.1f} MB, {arguments.dtype}), {arguments.output / about}")
    return 0


COMMAND = Command("export", DESCRIPTION, add_arguments, run)
main, parser = COMMAND.main, COMMAND.parser
