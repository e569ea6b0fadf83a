"""Several teachers at once, each in its own process: one that fails, hangs or dies costs one structure alone."""

import os
import selectors
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from ase import Atoms

from gmnn.errors import UserError
from gmnn.files import append_stream
from gmnn.teaching.answers import Answer, Failure, judged
from gmnn.teaching.process import Process
from gmnn.teaching.teachers import Teacher

STARTS = 2  # failed ones without a success between, after which the teacher is given up
LOADING = 600.0  # s, for a teacher to load, or the time limit of a call where that is longer
PATIENCE = 0.5  # s, between two looks at processes that say nothing


class Pool:
    """Teachers that label structures side by side; a context manager, which leaves no process behind.

    What they print is appended to the file `log_path`. They start when first needed and stay until the end.
    """

    def __init__(self, teacher: Teacher, log_path: Path) -> None:
        self.teacher, self.log_path = teacher, log_path
        self.workers: list[Process] = []
        self.calls = 0  # structures handed to a teacher
        self._failed_starts = 0
        self._log = -1

    def __enter__(self) -> "Pool":
        self._log = append_stream(self.log_path)
        self._scratch = tempfile.TemporaryDirectory(prefix="gmnn-teacher-", ignore_cleanup_errors=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.end(kindly=worker.ready and worker.task < 0 and kind is None)
        self.workers.clear()
        os.close(self._log)
        self._scratch.cleanup()

    def label(self, frames: Iterable[Atoms]) -> Iterator[tuple[int, Answer]]:
        """Yield (index, answer) for every structure, in the order of completion.

        UserError with the reason if teachers cannot be started twice in a row.
        """
        frames = list(frames)
        waiting = deque(range(len(frames)))
        try:
            while waiting or any(worker.task >= 0 for worker in self.workers):
                answers: list[tuple[int, Answer]] = []
                mistake = None
                try:
                    self._hand_out(frames, waiting)
                    for worker in self._heard():
                        answers.extend(self._answers(worker, frames))
                    self._hand_out(frames, waiting)  # so that teachers work while the caller does
                except UserError as error:
                    mistake = error
                yield from answers
                if mistake is not None:
                    raise mistake
        finally:  # also where the caller wants no more of them
            for worker in [worker for worker in self.workers if worker.task >= 0]:
                self._end(worker)

    def _hand_out(self, frames: list[Atoms], waiting: deque[int]) -> None:
        for worker in self.workers:
            if waiting and worker.ready and worker.task < 0 and worker.process.poll() is None:
                worker.task = waiting.popleft()
                self.calls += 1
                worker.send(_request(frames[worker.task]))
        starting = sum(not worker.ready for worker in self.workers)
        room = self.teacher.n_processes - len(self.workers)
        for _ in range(min(len(waiting) - starting, room)):
            number = sum(1 for _ in Path(self._scratch.name).iterdir())
            scratch = Path(tempfile.mkdtemp(prefix=f"{number}-", dir=self._scratch.name))
            self.workers.append(Process(self.teacher, self._log, self.log_path, scratch))

    def _heard(self) -> list[Process]:
        """Wait until a worker speaks, ends or exceeds its time, at most a moment; return all of them."""
        with selectors.DefaultSelector() as selector:
            for worker in self.workers:
                selector.register(worker.answers, selectors.EVENT_READ)
                if worker.outgoing:
                    selector.register(worker.requests, selectors.EVENT_WRITE)
            left = [self._limit(worker) + worker.since - time.monotonic() for worker in self.workers]
            selector.select(max(0.0, min([PATIENCE, *left])))
        for worker in self.workers:
            worker.write()
        return list(self.workers)

    def _limit(self, worker: Process) -> float:
        """Seconds that a worker may be silent."""
        if not worker.ready:
            return max(LOADING, self.teacher.seconds)
        return self.teacher.seconds if worker.task >= 0 else float("inf")

    def _answers(self, worker: Process, frames: list[Atoms]) -> Iterator[tuple[int, Answer]]:
        messages, ended = worker.messages()
        seconds = time.monotonic() - worker.since
        for values in messages:
            if "ready" in values:
                worker.ready, self._failed_starts = True, 0
            elif "unmade" in values:
                how, remedy = "cannot be imported", self.teacher.hint
                if values["imported"]:
                    how, remedy = "cannot be made", f"correct teacher.kwargs, or {self.teacher.hint}"
                self._end(worker)
                return self._not_started(f"{how}: {values['unmade']}", remedy)
            elif worker.task >= 0:
                index, worker.task = worker.task, -1
                if values.get("last"):  # it ends by itself, and must not be given another structure
                    self._end(worker)
                yield index, judged(values, len(frames[index]), seconds)
        if worker not in self.workers or (not ended and seconds <= self._limit(worker)):
            return
        index, started = worker.task, worker.ready
        how = self._end(worker)
        if not started:
            why = "does not start: " + (how if ended else f"nothing within {seconds:.0f} s")
            self._not_started(why, "try it there by hand")
        elif index >= 0 and ended:
            yield index, Failure("died", f"the teacher's process ended: {how}", seconds)
        elif index >= 0:
            yield index, Failure("hung", f"no answer within {self.teacher.seconds:g} s", seconds)

    def _end(self, worker: Process) -> str:
        worker.task = -1
        if worker in self.workers:
            self.workers.remove(worker)
            return worker.end()
        return ""

    def _not_started(self, why: str, remedy: str) -> None:
        self._failed_starts += 1
        if self._failed_starts >= STARTS:
            where = f" under {self.teacher.interpreter}" if self.teacher.python else ""
            raise UserError(
                f"the teacher {self.teacher.name} {why}{where}; a calculator that works is needed; {remedy}; "
                f"{self.log_path} holds what it printed"
            )


def _request(atoms: Atoms) -> dict[str, object]:
    """A structure as plain numbers."""
    return {
        "numbers": atoms.numbers.tolist(), "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(), "pbc": atoms.pbc.tolist(),
    }  # fmt: skip
