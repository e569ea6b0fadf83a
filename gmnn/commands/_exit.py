"""How every command ends: exit code 0, or one clear sentence and 2 for a user's mistake, 130 when interrupted.

And how those begin that a configuration file describes.
"""

import argparse
import sys
from collections.abc import Callable


def exit_code(name: str, run: Callable[[], int]) -> int:
    """Run a command's body; a UserError becomes one sentence on stderr and 2, Ctrl-C becomes 130."""
    from gmnn.errors import UserError

    try:
        return run()
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno is None:
            raise
        where = f": {error.filename}" if error.filename else ", while a file was written"
        print(f"{name}: {error.strerror}{where}; what was saved before is kept", file=sys.stderr)
        return 2


def configured(program: str, description: str, overrides: str) -> argparse.ArgumentParser:
    """The parser of `program CONFIG [key=value ...] [--resume]`; `overrides` stands in its help."""
    usage = f"{program} CONFIG [key.path=value ...] [--resume]"
    parser = argparse.ArgumentParser(prog=program, usage=usage, description=description)
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="YAML file; docs/config.md explains every key")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help=f"e.g. {overrides}")
    parser.add_argument("--resume", action="store_true", help="continue the run in the output folder, if there is one")
    return parser


def configured_exit_code(
    parser: argparse.ArgumentParser, argv: list[str] | None, example: str, run: Callable[..., int]
) -> int:
    """Exit code of such a program, `run` with all arguments; `example` is named where CONFIG is missing."""
    arguments = vars(parser.parse_intermixed_args(argv))
    if arguments["config"] is None:
        parser.error(f"CONFIG is missing; {example} is an example")
    name = parser.prog.removeprefix("gmnn ").removesuffix(".py")
    return exit_code(name, lambda: run(arguments.pop("config"), **arguments))
