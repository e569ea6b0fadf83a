"""Labelled structures as text that gives back every number to the last bit, and that shows where it was cut.

A record is one frame of an extended xyz file. Its `key` is the checksum of the structure and of who labelled it, its
`seal`, at the end of the comment, that of all other text of the record.
"""

import hashlib
import io
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.io.extxyz import key_val_str_to_dict

from gmnn.errors import UserError, shortened
from gmnn.teaching.answers import Label

SEAL = re.compile(r" seal=s([0-9a-f]{32})\n")
WORD = re.compile(r"[A-Za-z_]\w*")
PLAIN = re.compile(r"[^\"\\\n\r]*")
KEY, SECONDS = "key", "seconds"
OURS = {KEY, "seal", SECONDS, "pbc", "Lattice", "Properties", *all_properties}  # names that no origin can have
Origin = dict[str, int | float | str]  # where a structure came from, as round, condition, replica, time_ps


class Record(NamedTuple):
    """A labelled structure with its key; info of `atoms` says where it came from."""

    key: str
    atoms: Atoms
    label: Label


def key_of(atoms: Atoms, fingerprint: str) -> str:
    """Checksum of atomic numbers, positions, cell and periodicity, all to the last bit, and of who labels."""
    content = hashlib.sha256(fingerprint.encode())
    for array, kind in ((atoms.numbers, "<i8"), (atoms.positions, "<f8"), (atoms.cell.array, "<f8"), (atoms.pbc, "?")):
        values = np.ascontiguousarray(array).astype(kind)
        content.update(str(values.shape).encode() + values.tobytes())
    return "k" + content.hexdigest()  # a letter first, so that no reader takes it for a number


def write_record(key: str, atoms: Atoms, label: Label, origin: Origin) -> str:
    """Text of a record. UserError for an origin that is no word with a number or a short text."""
    fields: dict[str, str] = {}
    if atoms.cell.array.any():
        fields["Lattice"] = _row(atoms.cell.array)
    fields["Properties"] = "species:S:1:pos:R:3:forces:R:3"
    fields |= {"pbc": " ".join("FT"[int(x)] for x in atoms.pbc), "energy": repr(label.energy)}
    if label.stress is not None:
        xx, yy, zz, yz, xz, xy = label.stress
        fields["stress"] = _row(np.array([xx, xy, xz, xy, yy, yz, xz, yz, zz]))
    fields |= {name: _value(name, value) for name, value in origin.items()}
    fields |= {SECONDS: f"{label.seconds:.4g}", KEY: key}
    comment = " ".join(f'{name}="{value}"' if " " in value or not value else f"{name}={value}"
                       for name, value in fields.items())  # fmt: skip
    rows = [f"{symbol} {_row(x)} {_row(f)}"
            for symbol, x, f in zip(atoms.symbols, atoms.positions, label.forces, strict=True)]  # fmt: skip
    head, tail = f"{len(atoms)}\n{comment}", "\n" + "".join(f"{row}\n" for row in rows)
    return f"{head} seal=s{_seal(head + tail)}{tail}"


def read_records(text: str) -> Iterator[tuple[Record, int]]:
    """Records of a text and the place in it where each ends, up to the first that is cut or changed."""
    place = 0
    while (block := _block(text, place)) is not None:
        place += len(block)
        atoms = ase.io.read(io.StringIO(block), 0, format="extxyz")
        assert isinstance(atoms, Atoms)
        info, results = dict(atoms.info), atoms.calc.results if atoms.calc else {}
        info.pop("seal")
        key, seconds = str(info.pop(KEY)), float(info.pop(SECONDS))
        stress = results.get("stress")
        label = Label(float(results["energy"]), np.asarray(results["forces"]), stress, seconds)
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=info)
        yield Record(key, bare, label), place


def _block(text: str, start: int) -> str | None:
    """The record that begins at a place, if it is whole and as it was written."""
    end = text.find("\n", start)
    count = text[start:end]
    if end < 0 or not re.fullmatch("[0-9]{1,12}", count):
        return None
    for _ in range(int(count) + 1):
        end = text.find("\n", end + 1)
        if end < 0:
            return None
    block = text[start : end + 1]
    sealed = SEAL.search(block)
    return block if sealed and _seal(SEAL.sub("\n", block, count=1)) == sealed[1] else None


def _seal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _row(values: np.ndarray) -> str:
    return " ".join(map(repr, np.asarray(values, float).ravel().tolist()))


def _value(name: str, value: Any) -> str:
    if isinstance(value, int | float | np.integer | np.floating | str) and WORD.fullmatch(name) and name not in OURS:
        text = value if isinstance(value, str) else repr(value.item() if isinstance(value, np.generic) else value)
        if PLAIN.fullmatch(text) and (not isinstance(value, str) or key_val_str_to_dict(f'x="{text}"')["x"] == text):
            return text
    raise UserError(
        f"the origin of a structure has {shortened(name)}: {shortened(value)}, but must be a word that names no "
        "property, with a number or one line of text that reads as no number; correct it"
    )
