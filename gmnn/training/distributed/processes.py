"""Several processes that train one potential: how they agree, and how they learn that one of them is gone.

Every process has two connections to process 0 (made in `meeting`): over one they exchange what they must agree on, over
the other a thread of each listens for signs of life.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

import jax
import numpy as np

from gmnn.errors import UserError, reason

BEAT = 5.0  # s between signs of life
PATIENCE = 300.0  # s without one, after which a process counts as lost; one that was killed is noticed at once
LOST = 3  # exit code of those that are left
ALIVE, OVER, ENDED, READ_OUT = b".", b"o", b"e", b"r"  # what watching threads say to each other


class Group:
    """The processes of a training; of one process, everything here returns what it was given."""

    def __init__(
        self, index: int = 0, size: int = 1, talk: tuple[Connection, ...] = (), watched: tuple[Connection, ...] = ()
    ) -> None:
        """`talk` and `watched`: of process 0 one connection to each other process, of those the one to process 0."""
        self.index, self.size, self.talk, self.watched = index, size, talk, watched
        self._ending = threading.Lock()  # taken once, by the thread that says why this process ends
        if watched:
            threading.Thread(target=self._watch, daemon=True).start()

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.index == 0

    def exchange(self, mine: Any) -> list[Any]:
        """What every process brings, as JSON allows it, in their order."""
        return [json.loads(one) for one in self._round(json.dumps(mine).encode())]

    def broadcast(self, mine: Any) -> Any:
        """What process 0 brings."""
        return mine if self.size == 1 else self.exchange(mine if self.first else None)[0]

    def any(self, mine: bool) -> bool:
        """Whether any process says so."""
        return mine if self.size == 1 else any(self.exchange(mine))

    def tree_of_first(self, mine: Any) -> Any:
        """The arrays of process 0, bit for bit; those of the others have the same names, shapes and types."""
        if self.size == 1:
            return mine
        leaves, form = jax.tree.flatten(jax.tree.map(np.asarray, mine))
        sent = self._round(b"".join(leaf.tobytes() for leaf in leaves) if self.first else b"")[0]
        found, place = [], 0
        for leaf in leaves:
            found.append(np.frombuffer(sent, leaf.dtype, leaf.size, place).reshape(leaf.shape))
            place += leaf.nbytes
        return jax.tree.unflatten(form, found)

    def check_same(self, mine: str, what: str) -> None:
        """UserError in every process if they do not all bring the same text."""
        found = self.exchange(mine) if self.size > 1 else [mine]
        if other := [k for k, one in enumerate(found) if one != found[0]]:
            raise UserError(
                f"process {other[0]} of {self.size} has {what} than process 0; give all processes the same command, "
                "the same files and the same versions"
            )

    def run(self, body: Callable[[], int]) -> int:
        """The exit code of what this process does in the group; a mistake or an interruption ends the others too."""
        if self.size == 1:
            return body()
        try:
            code = body()
            self.exchange(None)  # the others wait for the first, which evaluates
            self._say(OVER)
            jax.distributed.shutdown()
            return code
        except UserError as error:
            self._end_others(str(error))
            raise
        except KeyboardInterrupt:
            self._end_others("it was interrupted")
            raise
        except Exception as error:
            time.sleep(2 * BEAT)  # if it is because another process is gone, the watching thread ends this one
            self._end_others(reason(error, 300))
            raise

    def _end_others(self, why: str) -> None:
        """Before this process says it itself; where the watching thread already speaks, that one ends it."""
        self._ending.acquire()
        self._say(ENDED + why.encode())

    def leave(self, code: int) -> int:
        """Of several processes, end this one at once: JAX would wait for the others, which may be gone."""
        if self.size > 1:
            _exit(code)
        return code

    def _round(self, mine: bytes) -> list[bytes]:
        if self.index > 0:
            self.talk[0].send_bytes(mine)
            return [self.talk[0].recv_bytes() for _ in range(self.size)]
        found = [mine, *(connection.recv_bytes() for connection in self.talk)]
        for connection in self.talk:
            for one in found:
                connection.send_bytes(one)
        return found

    def _say(self, what: bytes) -> None:
        for connection in self.watched:
            send(connection, what)

    def _watch(self) -> None:
        """What the watching thread does: send and await signs of life."""
        others = {c: k + 1 if self.first else 0 for k, c in enumerate(self.watched)}
        heard = dict.fromkeys(others, time.monotonic())
        beaten = 0.0
        while heard:
            for connection in wait(list(heard), timeout=BEAT):
                try:
                    said = connection.recv_bytes()  # type: ignore[union-attr]
                except (EOFError, OSError):
                    said = b""
                if said == OVER:
                    del heard[connection]  # type: ignore[arg-type]
                elif said == ALIVE:
                    heard[connection] = time.monotonic()  # type: ignore[index]
                else:
                    self._end(others[connection], said)  # type: ignore[index]
            now = time.monotonic()
            if now - beaten >= BEAT:
                self._say(ALIVE)
                beaten = now
            for connection, last in heard.items():
                if now - last > PATIENCE:
                    self._end(others[connection], f"it has given no sign of life for {PATIENCE:.0f} s".encode())

    def _end(self, k: int, said: bytes) -> NoReturn:
        """Say why it cannot go on and end this process; process 0 also tells the others."""
        self._ending.acquire()
        if said.startswith(READ_OUT):
            text = said[1:].decode()
        elif said.startswith(ENDED):
            text = f"process {k} of {self.size} ended: {said[1:].decode()}"
        else:
            why = said.decode() or "it was killed, or its machine or the network failed"
            text = (
                f"process {k} of {self.size} was lost ({why}), so that this one cannot go on; what was saved before is "
                "kept. Start all processes again with --resume"
            )
        if self.first:
            self._say(READ_OUT + text.encode())
        print(f"train: {text}", file=sys.stderr, flush=True)
        _exit(LOST)


def send(connection: Connection, what: bytes) -> None:
    """To a process that may be gone."""
    with suppress(OSError):  # the watching thread will say so
        connection.send_bytes(what)


def _exit(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
