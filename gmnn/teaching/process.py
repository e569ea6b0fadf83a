"""One teacher in a process of its own: started, spoken to without waiting, and ended with all that it started."""

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from gmnn.errors import UserError
from gmnn.teaching.teachers import WORKER, Teacher
from gmnn.teaching.worker import HEADER, message

CHUNK = 1 << 16  # bytes read at once
FAREWELL = 2.0  # s, for a process that ends by itself
LOG_END = 4096  # bytes of a log in which its last line is looked for


class Process:
    """A worker. `outgoing` waits to be written; `messages` reads what has come.

    It has its own session, so that Ctrl-C at the terminal reaches the pool alone. It ends when its pipes do.
    """

    def __init__(self, teacher: Teacher, log: int, log_path: Path, scratch: Path) -> None:
        requests, self.requests = os.pipe()
        self.answers, answers = os.pipe()
        life, self.life = os.pipe()
        inherited = (requests, answers, life)
        self.log_path, self.log_start = log_path, os.fstat(log).st_size
        command = [teacher.interpreter, str(WORKER), *map(str, inherited)]
        try:
            self.process = subprocess.Popen(
                command, env=teacher.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=inherited, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._close()
            raise UserError(
                f"the teacher's interpreter {teacher.interpreter} cannot be started ({error.strerror}); correct "
                "teacher.python"
            ) from None
        finally:
            for pipe in inherited:
                os.close(pipe)
        for pipe in (self.requests, self.answers):
            os.set_blocking(pipe, False)
        self.outgoing, self.incoming = bytearray(), bytearray()
        self.ready, self.task = False, -1
        self.since = time.monotonic()
        self.send({**teacher.declaration, "scratch": str(scratch)})

    def send(self, values: dict[str, Any]) -> None:
        """Queue a message, and count the time from now."""
        self.outgoing += message(values)
        self.since = time.monotonic()
        self.write()

    def write(self) -> None:
        """Write as much as the pipe takes. That nobody reads any more shows when the answer is read."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            while self.outgoing:
                del self.outgoing[: os.write(self.requests, self.outgoing[:CHUNK])]

    def messages(self) -> tuple[list[dict[str, Any]], bool]:
        """Read what has come: whole messages, and whether the process has ended or speaks another language."""
        ended = self.process.poll() is not None  # before the pipe is emptied; a child of it may hold the pipe open
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self.answers, CHUNK):
                self.incoming += part
            ended = True
        whole: list[dict[str, Any]] = []
        while len(self.incoming) >= HEADER.size:
            size = HEADER.unpack_from(self.incoming)[0] + HEADER.size
            if len(self.incoming) < size:
                break
            try:
                values = json.loads(bytes(self.incoming[HEADER.size : size]))
            except ValueError:
                return whole, True
            del self.incoming[:size]
            whole.append(values)
        return whole, ended

    def end(self, kindly: bool = False) -> str:
        """End the process and all that it started; return how it ended. `kindly` lets an idle one end by itself."""
        os.close(self.requests)
        if kindly:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(FAREWELL)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)  # so that one that just ended says how
        code = self.process.poll()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.answers)
        os.close(self.life)
        return self._how(code)

    def _close(self) -> None:
        for pipe in (self.requests, self.answers, self.life):
            os.close(pipe)

    def _how(self, code: int | None) -> str:
        if code is None:
            return "it was ended"
        how = f"exit code {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                how = f"signal {signal.Signals(-code).name}"
        last = self._last_line()
        return f"{how}, the log ends with: {last}" if last else how

    def _last_line(self) -> str:
        """The last line in the log since this process began; other workers write there, too."""
        try:
            with open(self.log_path, "rb") as file:
                file.seek(max(self.log_start, os.fstat(file.fileno()).st_size - LOG_END))
                lines = file.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1][:300] if lines else ""
