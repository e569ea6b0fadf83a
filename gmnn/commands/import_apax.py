"""`gmnn import-apax DIR OUT`: make a model folder from a model that was trained with Apax."""

import argparse
import os
from pathlib import Path

from gmnn.commands._frame import Command

DESCRIPTION = """Write the model folder OUT from a model that Apax 0.14 trained in DIR. Energies and forces are the
same, except below 0.02 Å and where an atom sees its own periodic image, which Apax leaves out."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "model", metavar="DIR",
        help="folder directory/experiment of the Apax configuration, with config.yaml and best/",
    )  # fmt: skip
    parser.add_argument("out", metavar="OUT", help="new model folder; it must not exist")
    parser.add_argument(
        "--elements", metavar="H,C,O",
        help="trained elements, symbols with commas; default: those whose scale or shift was fitted",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Read the model, translate it and write it."""
    from gmnn import folders
    from gmnn.elements import SYMBOLS
    from gmnn.errors import UserError
    from gmnn.interfaces import apax
    from gmnn.model import folder

    out = Path(arguments.out)
    if os.path.lexists(out):
        raise UserError(f"{out} exists; choose another folder OUT")
    config, params, epoch = apax.read(Path(arguments.model))
    potential = apax.potential(config, params, _numbers(arguments.elements))
    with folders.output_folder(out, "model", folder.FILES):
        folder.save(out, potential, epoch, {"imported": {"program": apax.PROGRAM, "model": config["model"]}})
    names, kind = ", ".join(SYMBOLS[z] for z in potential.reference.elements), potential.config.repulsion
    print(f"epoch {epoch} of {arguments.model}: elements {names}, repulsion {kind}, written to {out}")
    return 0


def _numbers(names: str | None) -> list[int]:
    from gmnn.elements import SYMBOLS
    from gmnn.errors import UserError

    symbols = [name.strip() for name in names.split(",")] if names is not None else []
    for symbol in symbols:
        if symbol not in SYMBOLS[1:]:
            raise UserError(f"--elements names {symbol!r}; write symbols with commas, for example H,C,O")
    return [SYMBOLS.index(symbol) for symbol in symbols]


COMMAND = Command("import-apax", DESCRIPTION, add_arguments, run)
main, parser = COMMAND.main, COMMAND.parser
