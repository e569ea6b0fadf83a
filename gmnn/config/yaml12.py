"""YAML 1.2 with its core schema, for every file that a user writes."""

import re
from itertools import accumulate
from typing import Any

import yaml

from gmnn.errors import UserError

MOST_LETTERS, DEEPEST = 100_000, 50  # read within a second, whatever they are


def parsed(text: str, source: str) -> Any:
    """Return the values of a text in YAML; UserError, which begins with `source`, if it is none or too long."""
    steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[][{}]", text))
    opened = max(accumulate(steps), default=0)
    if len(text) > MOST_LETTERS or opened > DEEPEST:
        raise UserError(
            f"{source} is not valid YAML here: it has {len(text):,} letters and up to {opened:,} open brackets, "
            f"but at most {MOST_LETTERS:,} and {DEEPEST} are read; shorten it"
        )
    try:
        return yaml.load(text, Yaml)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{source} is not valid YAML: {' '.join(str(error).split())[:300]}") from None


class Yaml(yaml.SafeLoader):
    """YAML 1.2 with its core schema: `1e3` and `010` are numbers, `yes`, `1:30` and dates are text.

    A repeated key is an error and does not silently win; `<<` is a key like any other.
    """

    yaml_implicit_resolvers: dict[Any, Any] = {}
    yaml_constructors = {
        tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "str", "seq", "map")
    }  # fmt: skip

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
            if key_node.value in seen:
                where = f"the key {key_node.value[:100]!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, where, key_node.start_mark)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge nothing: YAML 1.2 has no `<<`."""


def _integer(loader: yaml.Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    base = {"0o": 8, "0x": 16}.get(text[:2])
    return int(text[2:], base) if base else int(text)


def _float(loader: yaml.Loader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node)
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


CORE_SCHEMA = (  # https://yaml.org/spec/1.2.2, 10.3.2
    ("null", r"|~|null|Null|NULL", ["", "~", "n", "N"]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]{1,1000}|0o[0-7]{1,1000}|0x[0-9a-fA-F]{1,1000}", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
     list("-+.0123456789")),
)  # fmt: skip
for _name, _pattern, _first in CORE_SCHEMA:
    Yaml.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first)
Yaml.add_constructor("tag:yaml.org,2002:int", _integer)
Yaml.add_constructor("tag:yaml.org,2002:float", _float)
