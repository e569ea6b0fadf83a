"""`gmnn completion SHELL`: what a shell needs to complete commands, options and files."""

import argparse
from importlib import import_module
from typing import Any

from gmnn.commands._exit import exit_code

SHELLS = ("bash", "zsh", "tcsh")
DESCRIPTION = """Print the completions of `gmnn` for a shell, made by shtab (pip install shtab). For bash:
gmnn completion bash > ~/.local/share/bash-completion/completions/gmnn; for zsh: into a file _gmnn of a folder in
$fpath."""


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    parser = argparse.ArgumentParser(prog="gmnn completion", description=DESCRIPTION)
    parser.add_argument("shell", choices=SHELLS)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = parser().parse_args(argv)
    return exit_code("completion", lambda: run(arguments.shell))


def run(shell: str) -> int:
    """Print them."""
    from gmnn.errors import UserError

    try:
        import shtab
    except ImportError:
        raise UserError("completions are made by shtab, which is not installed here; pip install shtab") from None
    print(shtab.complete(whole(shtab.FILE), shell))
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
