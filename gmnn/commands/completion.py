"""`gmnn completion SHELL`: print the script with which a shell completes commands, options and files."""

import argparse
from importlib import import_module
from typing import Any

from gmnn.commands._frame import Command

SHELLS = ("bash", "zsh", "tcsh")
DESCRIPTION = """Print the script with which a shell (bash, zsh or tcsh) completes the commands, options and files of
`gmnn`. The package shtab makes it (pip install shtab). For bash, run: gmnn completion bash >
~/.local/share/bash-completion/completions/gmnn. For zsh, write it to a file _gmnn in a folder of $fpath."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("shell", choices=SHELLS)


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    from gmnn.errors import UserError

    try:
        import shtab
    except ImportError:
        raise UserError("completions are made by shtab, which is not installed here; pip install shtab") from None
    print(shtab.complete(whole(shtab.FILE), arguments.shell))
    return 0


def whole(files: Any) -> argparse.ArgumentParser:
    """Make the parser of all commands. Arguments that are neither choices nor numbers complete to names of files."""
    from gmnn.commands import COMMANDS

    root = argparse.ArgumentParser(prog="gmnn")
    root.add_argument("--version", action="store_true", help="print the version")
    commands = root.add_subparsers(metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        command = import_module(module).parser()
        for action in command._actions:
            if action.nargs != 0 and action.choices is None and action.type is not float and action.type is not int:
                action.complete = files
        commands.add_parser(
            name, parents=[command], help=text, description=command.description, conflict_handler="resolve"
        )
    return root


COMMAND = Command("completion", DESCRIPTION, add_arguments, run)
main, parser = COMMAND.main, COMMAND.parser
