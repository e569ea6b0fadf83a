"""`train.py CONFIG`: from labelled frames to a model folder with errors and figures."""

import argparse
import contextlib
import warnings
from collections.abc import Iterator
from functools import partial

from gmnn.commands._frame import CONFIGURED, Command, add_configuration, exit_code

DESCRIPTION = """Train a potential as CONFIG says and evaluate it. Everything lands in the folder `output` of the
configuration: config.json and params/ (the potential), metrics.json, history.csv, split.json and figures. A run
that was stopped or killed continues with --resume and ends as if it had not been."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    add_configuration(parser, "train.epochs=100 output=runs/b")
    parser.add_argument(
        "--process", metavar="K/N", help="this is process K, from 0, of N that train together; auto under srun"
    )
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="of several processes, where process 0 listens")


def run(arguments: argparse.Namespace) -> int:
    """Train alone or with other processes and report.

    The exit code is 0 for a finished training, 130 for one that was stopped, and 3 if another process was lost.
    """
    from gmnn.commands import _printing
    from gmnn.config.reading import read_config
    from gmnn.training import train
    from gmnn.training.distributed import rendezvous

    config = read_config(arguments.config, arguments.overrides)
    group = rendezvous.join(arguments.process, arguments.coordinator)

    def body() -> int:
        with _warnings_as_lines(group.first):
            result = train(config, resume=arguments.resume, group=group, announce=_printing.describe)
        if group.first:
            _printing.report(result, config.output)
        return 0 if result.finished else 130

    return group.run(body, partial(exit_code, "train"))


@contextlib.contextmanager
def _warnings_as_lines(shown: bool) -> Iterator[None]:
    """Our own warnings as one line each, without the source line Python adds; none if not `shown`."""
    original = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"WARNING: {message}\n" if shown else ""
    try:
        yield
    finally:
        warnings.formatwarning = original


COMMAND = Command("train", DESCRIPTION, add_arguments, run, CONFIGURED)
main, parser = COMMAND.main, COMMAND.parser
