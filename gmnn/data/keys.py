"""Which key of the frames holds a label: the one that is named, or else those of the usual names."""

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
    """Columns that may hold a label, by name: that of the given key, or all of the usual names; may be none.

    A given key is looked up in info (forces: arrays) first and then in the results of the calculator.
    """
    if key is not None:
        column = [next((values[key] for _, values in _places(a, label) if key in values), None) for a in frames]
        return {key: column}
    found: dict[str, Column] = {}
    for k, atoms in enumerate(frames):
        for place, values in _places(atoms, label):
            for name in filter(lambda name: _is_usual(name, label), values):
                title = name if place != "calculator" else f"calculator's {name}"
                found.setdefault(title, [None] * len(frames))[k] = values[name]
    return found


def require(frames: list[Atoms], column: Column, source: str, label: str, key: str) -> None:
    """UserError if no frame has a key that was named."""
    if all(value is None for value in column):
        raise UserError(
            f"{source}: data.{label}_key is {key!r}, but no frame has it; {there(frames)}; name one of them "
            f"or leave data.{label}_key out"
        )


def there(frames: Iterable[Atoms]) -> str:
    """The keys of all frames, as a part of a sentence."""
    names = {name for atoms in frames for label in STEMS for _, values in _places(atoms, label) for name in values}
    shown = sorted(names - {"numbers", "positions"}, key=str.lower)
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return f"the keys there are {', '.join(shown[:SHOWN])}{more}" if shown else "the frames have no keys"


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
