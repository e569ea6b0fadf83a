"""The store of labels: every label is on the disk before it is used, and none is computed twice.

`frames.extxyz` holds the labelled structures and `failures.jsonl` what has no label; both only grow. `labels.json`
has their lengths at some time, and counters. A store that was cut anywhere opens again with all that was whole.
"""

import json
import time
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from ase import Atoms

from gmnn.errors import UserError
from gmnn.files import AppendOnlyFile, read_sealed, require_file, sealed, write_json
from gmnn.folders import output_folder
from gmnn.structures import bare
from gmnn.teaching.answers import KINDS, Answer, Failure, Label
from gmnn.teaching.pool import Pool
from gmnn.teaching.records import Origin, Record, key_of, read_records, write_record
from gmnn.teaching.teachers import Teacher

FRAMES, FAILURES, INDEX = "frames.extxyz", "failures.jsonl", "labels.json"
EVERY = 1.0  # s, between two writings of the index; what it does not know yet is found by its own seals
HOPELESS = 5  # failures without any label before, after which the teacher is taken to be the wrong one
HINT = "start again with another output"


@dataclass
class Counters:
    """Calls of the teacher and how many failed, by kind; structures that were answered from the store."""

    teacher_calls: int = 0
    teacher_failures: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    from_store: int = 0


class LabelStore:
    """Labels in a folder, held by one process; a context manager.

    records: the labelled structures by key, in the order of the file, also those of other teachers. failures: what has
    no label, by key; none of an earlier time with `retry`. A teacher is known by all that decides its labels.
    """

    def __init__(self, folder: Path, teacher: Teacher, retry: bool = False) -> None:
        self.folder, self.teacher, self.retry = folder, teacher, retry
        self.records: dict[str, Record] = {}
        self.failures: dict[str, Failure] = {}
        self.counters = Counters()
        self._frames, self._failures = AppendOnlyFile(folder / FRAMES), AppendOnlyFile(folder / FAILURES)
        self._held = ExitStack()

    def __enter__(self) -> "LabelStore":
        fingerprint = self.teacher.fingerprint
        self._held.enter_context(output_folder(self.folder, "labels", (FRAMES, FAILURES, INDEX)))
        try:
            self._fingerprint = fingerprint
            self._open()
        except BaseException:  # Ctrl-C included; the folder is held no longer
            self._held.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._save()
        finally:
            self._held.close()

    def key(self, atoms: Atoms) -> str:
        """Key of a structure with this teacher. UserError if a position or the cell is not finite."""
        if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
            raise UserError("a structure for the teacher has positions or a cell that are not finite; leave it out")
        return key_of(atoms, self._fingerprint)

    def known(self, key: str) -> Answer | None:
        """The answer in the store, if there is one."""
        return self.records[key].label if key in self.records else self.failures.get(key)

    def label(
        self, pool: Pool, frames: Sequence[Atoms], origins: Sequence[Origin] | None = None
    ) -> Iterator[tuple[int, Answer]]:
        """Yield (index, answer) for every structure: those of the store first, the others as the teachers finish.

        An answer is on the disk before it is yielded. Equal structures are computed once. A failure is kept like a
        label and tried again only by a store with `retry`, or if the teacher has labelled nothing yet. origins: what to
        write beside each structure. UserError if a teacher that has labelled nothing fails `HOPELESS` times.
        """
        origins = [{}] * len(frames) if origins is None else origins
        frames = [bare(atoms) for atoms in frames]
        asked: dict[str, list[int]] = {}
        for index, atoms in enumerate(frames):
            asked.setdefault(self.key(atoms), []).append(index)
        for key, places in asked.items():
            answer = self.known(key)
            if answer is not None:
                self.counters.from_store += len(places)
                yield from ((index, answer) for index in places)
        missing = {key: places for key, places in asked.items() if self.known(key) is None}
        keys = list(missing)
        for k, answer in pool.label([frames[missing[key][0]] for key in keys]):
            first, *others = missing[keys[k]]
            self._keep(keys[k], frames[first], answer, origins[first])
            self.counters.from_store += len(others)
            if isinstance(answer, Failure) and not self._able and len(self.failures) >= HOPELESS:
                raise UserError(
                    f"the teacher {self.teacher.name} fails at each of the first {HOPELESS} structures, the last time: "
                    f"{answer.reason} ({answer.kind}); a teacher for these elements and structures is needed; correct "
                    f"it, or choose another; {pool.log_path} holds what it printed"
                )
            yield from ((index, answer) for index in (first, *others))

    def _keep(self, key: str, atoms: Atoms, answer: Answer, origin: Origin) -> None:
        self.counters.teacher_calls += 1
        if isinstance(answer, Label):
            self._frames.append(write_record(key, atoms, answer, origin))
            atoms.info.update(origin)
            self.records[key], self._able = Record(key, atoms, answer), True
        else:
            self.counters.teacher_failures[answer.kind] += 1
            line = {
                "key": key,
                "kind": answer.kind,
                "reason": answer.reason,
                "seconds": answer.seconds,
                "origin": origin,
            }
            self._failures.append(json.dumps(line) + "\n")
            self.failures[key] = answer
        if time.monotonic() > self._saved + EVERY:
            self._save()

    def _save(self) -> None:
        self._saved = time.monotonic()
        marks = {"frames": list(self._frames.mark), "failures": list(self._failures.mark)}
        values = {
            "teacher": self.teacher.identity,
            "files": self.teacher.files,
            **marks,
            "from_store": self.counters.from_store,
        }
        calls = {"teacher_calls": self.counters.teacher_calls, "teacher_failures": self.counters.teacher_failures}
        write_json(self.folder / INDEX, sealed({**values, **calls}))

    def _open(self) -> None:
        index = self.folder / INDEX
        known: dict[str, Any] = read_sealed(index, HINT) if index.exists() else {}
        self._failed: dict[str, int] = dict.fromkeys(KINDS, 0)
        for name, file, read in (
            ("frames", self._frames, self._read_frames), ("failures", self._failures, self._read_failures),
        ):  # fmt: skip
            size, crc = known.get(name, (0, 0))
            if not file.path.exists() and not size:
                file.empty()
            require_file(file.path, "the file that the store wrote")
            data = file.path.read_bytes()
            end = read(data)
            if end < size or zlib.crc32(data[:size]) != crc:
                raise UserError(f"{file.path} is not what was written (shorter, or changed); {HINT}")
            file.cut(end, zlib.crc32(data[:end]))
        if known.get("teacher") == self.teacher.identity:
            self._warn_of_changes(known.get("files", {}))
        self._able = any(self.key(record.atoms) == key for key, record in self.records.items())
        if self.retry or not self._able:
            self.failures.clear()
        calls = len(self.records) + sum(self._failed.values())
        self.counters = Counters(calls, self._failed, int(known.get("from_store", 0)))
        self._save()

    def _warn_of_changes(self, before: dict[str, str]) -> None:
        changed = [name for name, content in before.items() if self.teacher.files.get(name) != content]
        if changed:
            warnings.warn(
                f"{', '.join(changed)}, which teacher.kwargs name, changed since {self.folder} was written; its labels "
                "are used on, so choose another output if the teacher is made from them", stacklevel=4,
            )  # fmt: skip

    def _read_frames(self, data: bytes) -> int:
        """Read the records; return the number of bytes of the whole ones."""
        text, end = data.decode("utf-8", "replace"), 0
        for record, place in read_records(text):
            self.records[record.key], end = record, place
        return len(text[:end].encode())

    def _read_failures(self, data: bytes) -> int:
        end = 0
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            try:
                values = json.loads(line)
                failure = Failure(values["kind"], values["reason"], values["seconds"])
                self._failed[failure.kind] += 1
            except (ValueError, TypeError, KeyError):
                break
            self.failures[values["key"]] = failure
            end += len(line)
        return end
