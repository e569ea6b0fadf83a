"""Find the key of the frames that holds a label: the configured one, or else the usual names."""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from ase import Atoms

from gmnn.errors import UserError

STEMS = {
    "energy": ("energy",),
    "forces": ("forces", "force"),
    "stress": ("stress",),
    "virial": ("virial", "virials"),
}
MARKS = ("ref", "dft", "qm")  # REF_energy, dft_energy, energy_qm
SHOWN = 20  # keys in an error message

Column = list[Any]  # one value for each frame, None where it has none


def columns(frames: list[Atoms], label: str, key: str | None) -> dict[str, Column]:
    """Columns that may hold a label, by name: that of the given key, or all with usual names, perhaps none.

    A given key is looked up first in info (forces: arrays) and then in the results of the calculator.
    """
    if key is not None:
        column = [next((values[key] for _, values in _places(a, label) if key in values), None) for a in frames]
        return {key: column}
    candidates: dict[str, Column] = {}
    for k, atoms in enumerate(frames):
        for place, values in _places(atoms, label):
            for name in filter(lambda name: _is_usual(name, label), values):
                title = name if place != "calculator" else f"calculator's {name}"
                candidates.setdefault(title, [None] * len(frames))[k] = values[name]
    return candidates


def require(frames: list[Atoms], column: Column, source: str, label: str, key: str) -> None:
    """Raise UserError if no frame has the configured key."""
    if all(value is None for value in column):
        raise UserError(
            f"{source}: data.{label}_key is {key!r}, but no frame has it; {there(frames)}; name one of them "
            f"or leave data.{label}_key out"
        )


def there(frames: Iterable[Atoms]) -> str:
    """Text that lists the keys of all frames, as part of a sentence."""
    names = {name for atoms in frames for label in STEMS for _, values in _places(atoms, label) for name in values}
    listed = sorted(names - {"numbers", "positions"}, key=str.lower)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return f"the keys there are {', '.join(listed[:SHOWN])}{more}" if listed else "the frames have no keys"


def _places(atoms: Atoms, label: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield ("arrays", atoms.arrays) if label == "forces" else ("info", atoms.info)
    if atoms.calc is not None:
        yield "calculator", atoms.calc.results


@cache
def _is_usual(name: Any, label: str) -> bool:
    plain = str(name).lower()
    return any(
        plain in (stem, *(f"{m}_{stem}" for m in MARKS), *(f"{stem}_{m}" for m in MARKS)) for stem in STEMS[label]
    )
