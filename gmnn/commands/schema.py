"""`gmnn schema`: print the JSON schema of the training configuration, or docs/config.md."""

import argparse
import json
from typing import Any

from gmnn.commands._frame import Command

DESCRIPTION = """Print the JSON schema of the training configuration. With --markdown print docs/config.md
instead, which has tables of all keys of training, dynamics and learning."""
TABLE = """
|key|default|meaning|
|---|---|---|
"""
HEAD = f"""# Configuration

This page lists every key of a configuration with its default and meaning. Run `gmnn schema --markdown` to make it \
again. Any key can be set on the command line as `key.path=value`; unknown keys are errors; file names are relative to \
the working directory.

## Training
{TABLE}"""
RARE_HEAD = f"""

## For imported models and studies
{TABLE}"""
DYNAMICS_HEAD = f"""

## Dynamics

These are the keys of `gmnn md` ([md.md](md.md)).
{TABLE}"""
LEARN_HEAD = f"""

## Learning

These are the keys of `gmnn learn` ([learn.md](learn.md)); `model` and `train` are the sections of a training.
{TABLE}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--markdown", action="store_true", help="print tables of all keys instead of the schema")


def run(arguments: argparse.Namespace) -> int:
    """Print the schema or the page."""
    from gmnn.config.reading import schema

    print(page() if arguments.markdown else json.dumps(schema(), indent=2, ensure_ascii=False))
    return 0


def page() -> str:
    """Make docs/config.md: tables of the usual keys of training, of the rare ones, of dynamics and of learning."""
    from gmnn.config.learn import LearnConfig
    from gmnn.config.md import DynamicsConfig
    from gmnn.config.model import RARE
    from gmnn.config.reading import schema

    training = rows(schema())
    rare = [line for line in training if line.split("`")[1] in RARE]
    usual = [line for line in training if line not in rare]
    learning = [line for line in rows(LearnConfig.model_json_schema()) if "." not in line.split("`")[1]]
    dynamics = rows(DynamicsConfig.model_json_schema())
    tables = (HEAD, usual), (RARE_HEAD, rare), (DYNAMICS_HEAD, dynamics), (LEARN_HEAD, learning)
    return "".join(head + "\n".join(lines) for head, lines in tables)


def rows(root: dict[str, Any], node: dict[str, Any] | None = None, prefix: str = "") -> list[str]:
    """Make one table row per key, with sections unfolded. Choices that a description lacks are added to it."""
    from gmnn.config.reading import section_of

    lines: list[str] = []
    node = node or root
    for key, value in node["properties"].items():
        if reference := section_of(value):
            section = root["$defs"][reference.rsplit("/", 1)[-1]]
            lines += rows(root, section, f"{prefix}{key}.")
            continue
        required = key in node.get("required", ())
        default = "required" if required else json.dumps(value.get("default"), ensure_ascii=False)
        choices = value.get("enum", ())
        text = " ".join(value.get("description", "").split())
        if not all(f"`{choice}`" in text for choice in choices):
            text += f" One of {', '.join(map(str, choices))}."
        lines.append(f"|`{prefix}{key}`|{default}|{text}|")
    return lines


COMMAND = Command("schema", DESCRIPTION, add_arguments, run)
main, parser = COMMAND.main, COMMAND.parser
