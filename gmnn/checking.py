"""One check of every setting by the types in its definition, for YAML, Python and ``config.json`` alike.

A dataclass states types, choices and defaults. `check_fields` compares its values with them when it is made, and
`from_mapping` makes one from the plain values of a file. This module needs only the standard library.
"""

import difflib
import math
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from gmnn.errors import UserError, require

T = TypeVar("T")
NUMBERS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text"}


def check_fields(settings: Any, section: str) -> None:
    """Check and convert the fields of a frozen dataclass in place; UserError names the key of a wrong value.

    Lists become tuples, mappings become the dataclass that the type names, and numbers become Python numbers.
    """
    for name, hint in _hints(type(settings)).items():
        object.__setattr__(settings, name, _checked(hint, getattr(settings, name), f"{section}.{name}"))


def from_mapping(kind: type[T], values: Any, section: str) -> T:
    """Make the dataclass `kind` from a mapping of its fields; UserError for an unknown key or a missing one."""
    require(isinstance(values, Mapping), section, values, "a section with keys")
    known = _hints(kind)
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key)[:100], known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(known)}"
            raise UserError(f"{section}.{str(key)[:100]} is not a key of the configuration; {hint}")
    try:
        return kind(**values)
    except TypeError as error:  # a field without a default is absent
        raise UserError(f"{section} is incomplete: {error}") from None


def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _checked(hint: Any, value: Any, key: str) -> Any:
    """Convert a value to its type; UserError if it does not fit."""
    form, inner = get_origin(hint), get_args(hint)
    if form is Literal:
        require(isinstance(value, str) and value in inner, key, value, f"one of {', '.join(inner)}")
        return value
    if form in (Union, types.UnionType):
        return None if value is None else _checked(next(x for x in inner if x is not type(None)), value, key)
    if form is tuple:
        require(isinstance(value, list | tuple), key, value, "a list")
        kinds = [inner[0]] * len(value) if inner[1:] == (...,) else list(inner)
        require(len(kinds) == len(value), key, value, f"a list of {len(kinds)}")
        return tuple(_checked(kind, x, f"{key}[{k}]") for k, (kind, x) in enumerate(zip(kinds, value, strict=True)))
    if form is dict:
        require(isinstance(value, Mapping), key, value, "a mapping of names to values")
        return {_checked(inner[0], k, key): _checked(inner[1], x, f"{key}.{k}") for k, x in value.items()}
    if is_dataclass(hint):
        return value if isinstance(value, hint) else from_mapping(hint, value, key)  # type: ignore[arg-type]
    return _plain(hint, value, key)


def is_finite(value: Any) -> bool:
    """Whether the value is a number, and finite as a float."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _plain(kind: Any, value: Any, key: str) -> Any:
    if kind is float and is_finite(value):
        return float(value)
    if kind is int and isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    require(kind in (bool, str) and isinstance(value, kind), key, value, NUMBERS[kind])
    return value
