"""Read xyz files frame by frame, and refuse what ASE's reader would drop, cut or guess, with the line of the mistake.

Frames are counted here, also those after an empty line, where that reader stops.
"""

import io
import re
import warnings
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gmnn.elements import SYMBOLS
from gmnn.errors import UserError, reason, shortened

if TYPE_CHECKING:
    from ase import Atoms

PROPERTIES = re.compile(r"""(?:^|\s)Properties\s*=\s*["'{]?([^\s"'}]+)""")
DIGITS = re.compile(r"[^.eE]*(?:\.(\d*))?(?:[eE][+-]?(\d*))?")
FIXED = 3  # decimals from which equal ones in a column are a fixed format, and not chance
LINES = 1 << 62  # more lines than any file has


class Block(NamedTuple):
    """The lines of one frame of an xyz file."""

    line: int  # number of the first one in the file, from 1
    comment: str
    rows: list[str]
    vectors: list[str]  # VEC lines of ADF


def read_xyz(path: Path, chosen: int | slice) -> "Iterator[Atoms]":
    """Frames of an xyz file, compressed or not, that an index or a slice selects; every frame is checked."""
    from ase.io.formats import open_with_compression

    with (
        open_with_compression(str(path), "rb") as binary,
        io.TextIOWrapper(binary, encoding="utf-8-sig", errors="replace") as text,
    ):
        blocks = _blocks(text, path)
        for block in _selected(blocks, chosen):
            yield _parsed(block, path)
        deque(blocks, maxlen=0)  # the frames after the last one selected are checked, too


def _selected(blocks: Iterator[Block], chosen: int | slice) -> Iterator[Block]:
    if isinstance(chosen, slice):
        if all(part is None or part >= 0 for part in (chosen.start, chosen.stop, chosen.step)):
            return islice(blocks, chosen.start, chosen.stop, chosen.step)
        return iter(list(blocks)[chosen])
    kept = list(islice(blocks, chosen, chosen + 1)) if chosen >= 0 else list(deque(blocks, maxlen=-chosen))
    if len(kept) < max(1, -chosen):
        raise IndexError(chosen)
    return iter(kept[:1])


def _blocks(file: io.TextIOBase, path: Path) -> Iterator[Block]:
    """Frames of an xyz file, also those after an empty line; UserError names the line of a mistake."""
    number, line, unnamed = 1, file.readline(), 0
    while line:
        if not line.strip():
            number, line = number + 1, file.readline()
            continue
        if not re.fullmatch(r"\s*[0-9]+\s*", line):
            raise UserError(
                f"{path} cannot be read: line {number} of {path} is {shortened(line.strip(), 40)}, but must be the "
                "number of atoms of the next frame; correct the number before it, or remove the line"
            )
        n = min(int(line.strip()[:18]), LINES)
        lines = list(islice(file, n + 1))
        if len(lines) < n + 1:
            raise UserError(
                f"line {number} of {path} says that {line.strip()[:12]} atoms follow after a comment, but only "
                f"{len(lines)} lines do; the file was cut or changed, get it again or correct the number"
            )
        vectors: list[str] = []
        following = file.readline()
        while following.lstrip().startswith("VEC"):
            vectors.append(following)
            following = file.readline()
        block = Block(number, lines[0], lines[1:], vectors)
        unnamed = max(unnamed, _require_columns(block, path))
        if not following:
            _require_uncut(block, path)
        yield block
        number, line = number + n + 2 + len(vectors), following
    if unnamed:
        warnings.warn(
            f"{path}: {unnamed} columns after the positions are not read, because the comments do not name them; "
            "declare them with Properties=",
            stacklevel=2,
        )


def _require_columns(block: Block, path: Path) -> int:
    """Return the number of columns without a name.

    UserError for a line with another number of columns, a number with an underscore or an unknown symbol.
    """
    declared = PROPERTIES.search(block.comment)
    parts = declared[1].split(":") if declared else ["species", "S", "1", "pos", "R", "3"]
    try:
        layout = [(parts[k], parts[k + 1], int(parts[k + 2])) for k in range(0, len(parts), 3)]
    except (IndexError, ValueError):
        raise UserError(
            f"line {block.line + 1} of {path} has Properties={shortened(declared and declared[1])}, but must have "
            "NAME:TYPE:COLUMNS for each of them; correct it"
        ) from None
    columns = named = sum(count for _, _, count in layout)
    starts = dict(zip((name for name, _, _ in layout), np.cumsum([0, *(c for _, _, c in layout)]), strict=False))
    species = starts.get("species", starts.get("symbols"))
    numbers = [starts[name] + k for name, kind, count in layout if kind in "RI" for k in range(count)]
    known: set[str] = set()
    if not declared and block.rows:
        columns = max(columns, len(block.rows[0].split()))
    for k, row in enumerate(block.rows):
        words, at = row.split(), block.line + 2 + k
        if len(words) != columns:
            expected = "its Properties declare" if declared else "it must have"
            raise UserError(
                f"line {at} of {path} has {len(words)} columns, but {expected} {columns}; the file was cut or changed, "
                "get it again or correct the line"
            )
        if species is not None and words[species] not in known:
            _require_symbol(words[species], at, path)
            known.add(words[species])
        if "_" in row and any("_" in words[column] for column in numbers):  # Python reads 1_0 as 10
            raise UserError(f"line {at} of {path} has a number with an underscore, {row.strip()!r}; correct it")
    return columns - named


def _require_symbol(word: str, at: int, path: Path) -> None:
    if word.capitalize() in SYMBOLS[1:]:
        return
    hint = "write the symbol of an element without a number or label"
    if word in ("D", "T"):
        hint = "write H, and the mass of the isotope in a column masses:R:1"
    if word.capitalize() == "X":
        hint = "a dummy atom has no energy; remove it"
    raise UserError(f"line {at} of {path} has the species {shortened(word, 20)}, which is no element; {hint}")


def _require_uncut(block: Block, path: Path) -> None:
    """Raise UserError if the file ends within a number; warn if it may."""
    rows = [*block.rows, *block.vectors]
    if not rows or rows[-1].endswith("\n"):
        return
    at, words = block.line + 1 + len(rows), rows[-1].split()
    last, format_ = words[-1], _format(words[-1])
    formats = {_format(row.split()[-1]) for row in rows[:-1]} | {_format(word) for word in words[:-1] if "." in word}
    if formats == {format_} and format_[0] >= FIXED:
        return
    if len(formats) == 1 and format_ not in formats:
        raise UserError(
            f"line {at} of {path}, the last one, has no line end, and its last number, {shortened(last, 30)}, has "
            "other digits than those before; the file was cut, get it again, or end the line if it is right"
        )
    warnings.warn(
        f"line {at} of {path}, the last one, has no line end: if the file was cut there, its last number, "
        f"{shortened(last, 30)}, is wrong; end the line if it is right",
        stacklevel=2,
    )


def _format(word: str) -> tuple[int, int]:
    """Number of decimals and of digits of the exponent; -1 without a point or an exponent."""
    parts = DIGITS.fullmatch(word)
    return (-1, -1) if parts is None else tuple(-1 if part is None else len(part) for part in parts.groups())  # type: ignore[return-value]


def _parsed(block: Block, path: Path) -> "Atoms":
    from ase.io import read

    text = "".join(
        [f"{len(block.rows)}\n", *(line.rstrip("\n") + "\n" for line in (block.comment, *block.rows, *block.vectors))]
    )
    try:
        return read(io.StringIO(text), 0, format="extxyz")  # type: ignore[return-value]
    except Exception as error:  # ASE's readers raise anything
        raise UserError(
            f"{path} cannot be read: the frame that begins in line {block.line} has a mistake, {reason(error, 200)} "
            f"({type(error).__name__}); correct it"
        ) from None
