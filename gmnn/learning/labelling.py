"""Labels of frames from the teacher, all kept on the disk and none computed twice."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress

from gmnn.config.learn import LearnConfig
from gmnn.data import read_dataset
from gmnn.errors import UserError
from gmnn.structures import bare
from gmnn.teaching import Label, LabelStore, Pool, Teacher
from gmnn.teaching.differences import Differences, differences
from gmnn.teaching.records import Origin

LARGEST_FORCE = 30.0  # eV/Å; frames with larger ones are labelled, but not learnt
SAME = 1e-2  # eV/Å; largest difference of forces of one method
COMPARED = 60  # start frames that the teacher labels too


class Labeller:
    """The teacher of a learning and the store of its labels; a context manager."""

    def __init__(self, config: LearnConfig, output: Path) -> None:
        self.teacher = Teacher(
            config.teacher, config.teacher_kwargs, config.teacher_python, config.teacher_processes,
            config.teacher_seconds,
        )  # fmt: skip
        self.store = LabelStore(output / "labels", self.teacher)
        self.pool = Pool(self.teacher, output / "teacher.log")
        self.last_failure = "no frame was asked for"
        self.differences: Differences | None = None
        self.frames: list[Atoms] = []  # all that have a label, in the order in which they were asked for

    def __enter__(self) -> "Labeller":
        self.store.__enter__()
        self.pool.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.pool.__exit__(kind, error, traceback)
        self.store.__exit__(kind, error, traceback)

    def label(self, frames: Sequence[Atoms], origin: str) -> list[Atoms]:
        """Label frames, in their order; those that fail, and those with forces out of all proportion, are left out."""
        answers: list[Any] = [None] * len(frames)
        origins: list[Origin] = [{"origin": origin} for _ in frames]
        for index, answer in self.store.label(self.pool, frames, origins):
            answers[index] = answer
            if not isinstance(answer, Label):
                self.last_failure = answer.reason
        usable = []
        for atoms, answer in zip(frames, answers, strict=True):
            if isinstance(answer, Label):
                label = answer if self.differences is None else self.differences.corrected(atoms, answer)
                self.frames.append(label.on(atoms))
                self.frames[-1].info["origin"] = origin
                usable += [self.frames[-1]] if _usable(answer) else []
        return usable

    def begin_with(self, starts: Sequence[Atoms]) -> bool:
        """Compare the teacher with the labels of start frames; return whether they are of another method.

        The teacher's labels are then moved by the differences between the two.
        """
        better = [Label(**atoms.calc.results) for atoms in starts]
        rows = evenly(len(starts), COMPARED)
        found = differences(self.store, self.pool, [starts[k] for k in rows], [better[k] for k in rows])
        apart = max(float(np.abs(a.forces - b.forces).max()) for a, b in found.pairs)
        self.differences = found if apart > SAME else None
        return self.differences is not None

    def counts(self) -> dict[str, Any]:
        """Calls of the teacher and its failures, of all sessions."""
        counters = self.store.counters
        return {
            "teacher_calls": counters.teacher_calls, "teacher_failures": sum(counters.teacher_failures.values()),
            "teacher_failures_by_kind": dict(counters.teacher_failures),
        }  # fmt: skip


def _usable(label: Label) -> bool:
    return bool(np.linalg.norm(label.forces, axis=1).max(initial=0.0) < LARGEST_FORCE)


def start_frames(source: str) -> list[Atoms]:
    """Read labelled frames to begin with; UserError unless all have an energy and forces."""
    data = read_dataset(source)
    if not data.present[:, :2].all():
        raise UserError(f"{source} has frames without an energy or forces; `start` needs both in every frame")
    frames = []
    for k, atoms in enumerate(data.atoms):
        stress = full_3x3_to_voigt_6_stress(data.stresses[k]) if data.present[k, 2] else None
        frames.append(Label(float(data.energies[k]), data.forces[k], stress).on(bare(atoms)))
    return frames


def evenly(n: int, most: int) -> list[int]:
    """At most `most` of the numbers 0 ... n - 1, evenly spaced."""
    return sorted({int(x) for x in np.linspace(0, n - 1, min(most, n))})
