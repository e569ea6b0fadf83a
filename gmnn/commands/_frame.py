"""The frame of every command: its parser, its exit code, and one clear sentence for a mistake of the user."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATHS = {"CONFIG", "DIR", "FILE", "FILE[@INDEX]", "MODEL", "OUT"}  # metavars of arguments that are paths


@dataclass(frozen=True)
class Command:
    """A command of `gmnn`: its name, its arguments and what it does with them."""

    name: str
    description: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    """The body. It returns the exit code and raises UserError for a mistake of the user."""
    usage: str | None = None

    def parser(self) -> argparse.ArgumentParser:
        """Make the command-line parser."""
        usage = self.usage and f"gmnn {self.name} {self.usage}"
        parser = argparse.ArgumentParser(prog=f"gmnn {self.name}", usage=usage, description=self.description)
        self.add_arguments(parser)
        return parser

    def main(self, argv: list[str] | None = None) -> int:
        """Run with these arguments, by default those of the process, and return the exit code."""
        degrade_output()
        quiet_cache()
        parser = self.parser()
        arguments = parser.parse_intermixed_args(argv)

        def body() -> int:
            _expand_paths(parser, arguments)
            return self.run(arguments)

        return exit_code(self.name, body)


def quiet_cache() -> None:
    """Silence XLA's alarms about features of the processor, false ones, where programs are kept between runs.

    XLA tells its own choices of instructions from those of this machine, and threatens with SIGILL for each program
    that it reads. Call before JAX is imported. What the user has set stays.
    """
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def degrade_output() -> None:
    """Let the terminal get escapes for letters that its encoding lacks, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a replaced stream may have none
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _expand_paths(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Replace `~` in all arguments that are paths, which their metavar tells."""
    for action in parser._actions:
        if action.metavar in PATHS:
            setattr(arguments, action.dest, _expanded(getattr(arguments, action.dest)))


def _expanded(value: Any) -> Any:
    from gmnn.files import expanded

    if isinstance(value, list):
        return [_expanded(item) for item in value]
    if isinstance(value, str | Path):
        return type(value)(expanded(str(value)))
    return value


def exit_code(name: str, run: Callable[[], int]) -> int:
    """Run a command's body and return its exit code.

    A UserError or a file error prints one sentence on stderr and gives 2, and so does a library that tries to end the
    process before the body has its result. Ctrl-C gives 130. Warnings are one line each.
    """
    from gmnn.errors import UserError, reason

    plain = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"WARNING: {message}\n"  # without the line of the source
    try:
        return run()
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    except (SystemExit, GeneratorExit) as end:
        what = f"{type(end).__name__}({end})"
        print(f"{name}: a library tried to end the program ({what}) before there was a result", file=sys.stderr)
        return 2
    except UnicodeEncodeError as error:
        print(f"{name}: {error.object!a} cannot be the name of a file in the encoding {error.encoding} of this locale; "
              "set PYTHONUTF8=1", file=sys.stderr)  # fmt: skip
        return 2
    except MemoryError as error:
        print(f"{name}: this machine has too little memory ({reason(error, 200)}); ask for "
              "fewer atoms or frames; what was saved before is kept", file=sys.stderr)  # fmt: skip
        return 2
    except OSError as error:
        if error.errno is None:
            raise
        where = f": {error.filename}" if error.filename else ", while a file was written"
        print(f"{name}: {error.strerror}{where}; what was saved before is kept", file=sys.stderr)
        return 2
    finally:
        warnings.formatwarning = plain


CONFIGURED = "CONFIG [key.path=value ...] [--resume]"


def add_configuration(parser: argparse.ArgumentParser, overrides: str) -> None:
    """Add CONFIG, overrides with the example `overrides`, and --resume."""
    parser.add_argument(
        "config", metavar="CONFIG", help="YAML file with the configuration; docs/config.md explains every key"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key.path=value",
        help=f"values that replace those of CONFIG, for example {overrides}",
    )
    parser.add_argument(
        "--resume", action="store_true",
        help="continue the run in the output folder, if there is one; default: refuse a folder that holds a run",
    )  # fmt: skip
