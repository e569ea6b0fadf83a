"""The command `gmnn` and its subcommands, each a module of gmnn/commands."""

import sys
from importlib import import_module

from gmnn.commands import COMMANDS
from gmnn.commands._frame import degrade_output
from gmnn.commands._supervision import SUPERVISED, supervised


def usage() -> str:
    """Overview of the commands."""
    lines = [f"  gmnn {name:<13}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: gmnn COMMAND ...", "", *lines, "", "gmnn COMMAND --help explains each; gmnn --version"])


def main(argv: list[str] | None = None) -> int:
    """Dispatch to a command and return its exit code."""
    degrade_output()
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        from gmnn import __version__

        print(f"gmnn {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"gmnn: {name!r} is not a command; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    if argv is None and name in SUPERVISED:
        return supervised(name, lambda: import_module(COMMANDS[name][0]).main(rest))
    return import_module(COMMANDS[name][0]).main(rest)


if __name__ == "__main__":
    sys.exit(main())
