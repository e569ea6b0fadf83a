"""Values within plain mappings and configurations, by dotted keys."""

import copy
from typing import Any


def with_value(values: dict, key: str, value: Any) -> dict:
    """Copy of nested mappings with a value at a dotted key."""
    made = copy.deepcopy(values)
    *parents, last = key.split(".")
    place = made
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return made


def value_at(config: Any, key: str) -> Any:
    """The value of a configuration, with mappings in it, at a dotted key."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else getattr(config, part)
    return config
