"""Lists of covered settings: a faster path or a theorem holds for the choices that its list names and for no others."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from gmnn.config.model import ModelConfig

ANY = None  # every value that the configuration allows
Covered = Mapping[str, Collection[Any] | None]
"""The covered values of each setting, by its key without `model.`, for example ``{"zbl.window": {"closest"}}``."""


def uncovered(config: ModelConfig, covered: Covered) -> str | None:
    """Return the first setting that is not covered, for example "model.basis: gaussian", or None.

    A setting that the list does not name is not covered, even at its default. A new setting is therefore refused until
    somebody has added it to the list.
    """
    for key, value in _settings(config, ""):
        allowed = covered.get(key, ())
        if allowed is not ANY and value not in allowed:
            return f"model.{key}: {str(value).lower() if isinstance(value, bool) else value}"
    return None


def _settings(config: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Key and value of every setting; those of nested sections have keys such as `zbl.window`."""
    for field in fields(config):
        value, key = getattr(config, field.name), f"{prefix}{field.name}"
        if is_dataclass(value):
            yield from _settings(value, f"{key}.")
        else:
            yield key, value
