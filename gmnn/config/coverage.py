"""Lists of what is covered: a faster path or a theorem holds for the choices that it names, and for no others."""

from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from gmnn.config.model import ModelConfig

ANY = None  # every value that the configuration allows
Covered = Mapping[str, Collection[Any] | None]
"""Values of each setting that are covered, by its key without `model.`, as in ``{"zbl.window": {"closest"}}``."""


def uncovered(config: ModelConfig, covered: Covered) -> str | None:
    """The first setting that is not covered, as in "model.basis: gaussian"; None if all are.

    A setting that the list does not name is not covered unless it has its default, so that a new one is refused until
    somebody has added it to the list.
    """
    for key, value, default in _settings(config, ModelConfig(), ""):
        allowed = covered.get(key, [default])
        if allowed is not ANY and value not in allowed:
            return f"model.{key}: {str(value).lower() if isinstance(value, bool) else value}"
    return None


def _settings(config: Any, defaults: Any, prefix: str) -> list[tuple[str, Any, Any]]:
    """Key, value and default of every setting, those of the sections included."""
    rows = []
    for field in fields(config):
        value, default = getattr(config, field.name), getattr(defaults, field.name)
        key = f"{prefix}{field.name}"
        rows += _settings(value, default, f"{key}.") if is_dataclass(value) else [(key, value, default)]
    return rows
