"""Lists of covered settings: a faster path or a theorem holds for the choices that its list names and for no others."""

from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from gmnn.config.model import ModelConfig

ANY = None  # every value that the configuration allows
Covered = Mapping[str, Collection[Any] | None]
"""The covered values of each setting, by its key without `model.`, for example ``{"zbl.window": {"closest"}}``."""


def uncovered(config: ModelConfig, covered: Covered) -> str | None:
    """Return the first setting that is not covered, for example "model.basis: gaussian", or None.

    A setting that the list does not name is covered only at its default. A new setting is therefore refused until it is
    added to the list.
    """
    for key, value, default in _settings(config, ModelConfig(), ""):
        allowed = covered.get(key, [default])
        if allowed is not ANY and value not in allowed:
            return f"model.{key}: {str(value).lower() if isinstance(value, bool) else value}"
    return None


def _settings(config: Any, defaults: Any, prefix: str) -> list[tuple[str, Any, Any]]:
    """Return key, value and default of every setting, including those of nested sections."""
    rows = []
    for field in fields(config):
        value, default = getattr(config, field.name), getattr(defaults, field.name)
        key = f"{prefix}{field.name}"
        rows += _settings(value, default, f"{key}.") if is_dataclass(value) else [(key, value, default)]
    return rows
