"""`gmnn learn CONFIG`: from structures and a teacher to a potential that holds."""

import argparse
from functools import partial

from gmnn.commands._frame import CONFIGURED, Command, add_configuration

DESCRIPTION = """Learn a potential from structures and a teacher, which is any ASE calculator or a model folder. A few
rattled frames are labelled; then rounds of training and dynamics at all temperatures and strains find frames that leave
the data, which are labelled in turn, until all replicas hold twice in a row and again with fresh seeds. The folder
`output` gets model/ (the potential), frames.extxyz (all labels), learn.csv, learn.png and learn.json. With --resume a
run that was stopped or killed goes on; no label is computed twice. Exit code: 0 if it holds, 1 if the budget was spent
before, 2 for misuse, 130 if interrupted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_configuration(parser, "temperatures_K='[300, 1000]' hold_ps=20 output=runs/learnt")


def run(arguments: argparse.Namespace) -> int:
    """Learn and report; 0 if the potential holds, 1 if the budget was spent before."""
    from gmnn.config.learn import LearnConfig
    from gmnn.config.reading import read_any
    from gmnn.learning import learn, report

    config = read_any(LearnConfig, arguments.config, arguments.overrides)
    summary = learn(config, resume=arguments.resume, say=partial(print, flush=True))
    print(report.table(summary))
    print(f"labels, potential and report: {config.output}")
    print(f"{config.output} {report.sentence(summary, config.hold_ps)}")
    return 0 if summary["held"] else 1


COMMAND = Command("learn", DESCRIPTION, add_arguments, run, CONFIGURED)
main, parser = COMMAND.main, COMMAND.parser
