"""`gmnn completion SHELL`: what a shell needs to complete commands, options and files."""

import argparse
from importlib import import_module
from typing import Any

from gmnn.commands._frame import Command

SHELLS = ("bash", "zsh", "tcsh")
DESCRIPTION = """Print the completions of `gmnn` for a shell, made by shtab (pip install shtab). For bash:
gmnn completion bash > ~/.local/share/bash-completion/completions/gmnn; for zsh: into a file _gmnn of a folder in
$fpath."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    parser.add_argument("shell", choices=SHELLS)


def run(arguments: argparse.Namespace) -> int:
    """Print the completions."""
    from gmnn.errors import UserError

    try:
        import shtab
    except ImportError:
        raise UserError("completions are made by shtab, which is not installed here; pip install shtab") from None
    print(shtab.complete(whole(shtab.FILE), arguments.shell))
    return 0


def whole(files: Any) -> argparse.ArgumentParser:
    """The parser of all commands; what is no choice of words is the name of a file."""
    from gmnn.commands import COMMANDS

    root = argparse.ArgumentParser(prog="gmnn")
    root.add_argument("--version", action="store_true", help="print the version")
    commands = root.add_subparsers(metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        own = import_module(module).parser()
        for action in own._actions:
            if action.nargs != 0 and action.choices is None and action.type is not float and action.type is not int:
                action.complete = files
        commands.add_parser(name, parents=[own], help=text, description=own.description, conflict_handler="resolve")
    return root


COMMAND = Command("completion", DESCRIPTION, add_arguments, run)
main, parser = COMMAND.main, COMMAND.parser
