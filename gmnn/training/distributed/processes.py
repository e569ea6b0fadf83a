"""Several processes that train one potential: how they agree, and how they learn that one of them is gone.

They agree by JAX's key-value store, which needs no devices: those of processes may differ. JAX notices a lost
process and then aborts the others with a page of text and exit code 134, also with `jax_enable_recoverability` where
process 0 is lost; the callback that could replace this ends in `std::bad_cast` (jaxlib 0.10.1). So its text is caught
in a file, and a handler of SIGABRT writes one sentence instead.
"""

import ctypes
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, Self

import jax
import numpy as np
from jax.errors import JaxRuntimeError
from jax.experimental.multihost_utils import broadcast_one_to_all

from gmnn.errors import UserError, reason

LOST = 3  # exit code of those that are left
NOTICED = 15.0  # s in which JAX has noticed that a process is gone
LONG = 10**9  # ms


class Group:
    """The processes of a training; of one process, everything here returns what it was given."""

    def __init__(self, index: int = 0, size: int = 1, absent: str = "") -> None:
        """`absent`: what to say if JAX aborts before all are connected."""
        self.index, self.size, self._absent, self._round = index, size, absent, 0
        self._told = ""  # why another process ended
        self._code: int | None = None  # with which this one ends, once its work is done
        self._ending, self._read = threading.Lock(), threading.Event()  # the lock is of the thread that says why
        if size > 1:
            self._catch_abort()

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.index == 0

    def connected(self) -> Self:
        """This group, once JAX's runtime has started."""
        from jax._src.distributed import global_state  # JAX offers no public way to its key-value store

        self._client: Any = global_state.client
        self._absent = ""
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def exchange(self, mine: Any) -> list[Any]:
        """What every process brings, as JSON allows it, in their order."""
        if self.size == 1:
            return [mine]
        key = f"gmnn/{self._round}"
        self._client.key_value_set(f"{key}/{self.index}", json.dumps(mine))
        texts = [self._get(f"{key}/{k}") for k in range(self.size)]
        if self._round:  # which all have read, as they have come to this one
            self._client.key_value_delete(f"gmnn/{self._round - 1}/{self.index}")
        self._round += 1
        return [json.loads(text) for text in texts]

    def broadcast(self, mine: Any) -> Any:
        """What process 0 brings."""
        return self.exchange(mine if self.first else None)[0]

    def any(self, mine: bool) -> bool:
        """Whether any process says so."""
        return any(self.exchange(mine))

    def tree_of_first(self, mine: Any) -> Any:
        """The arrays of process 0, bit for bit; those of the others have the same names, shapes and types."""
        if self.size == 1:
            return mine
        mine = jax.tree.map(np.asarray, mine)
        sent = broadcast_one_to_all(jax.tree.map(lambda leaf: np.frombuffer(leaf.tobytes(), np.uint8), mine))
        return jax.tree.map(lambda data, leaf: data.view(leaf.dtype).reshape(leaf.shape), sent, mine)

    def check_same(self, mine: str, what: str) -> None:
        """UserError in every process if they do not all bring the same text."""
        texts = self.exchange(mine)
        if other := [k for k, text in enumerate(texts) if text != texts[0]]:
            raise UserError(
                f"process {other[0]} of {self.size} has {what} than process 0; give all processes the same command, "
                "the same files and the same versions"
            )

    def run(self, body: Callable[[], int], to_exit_code: Callable[[Callable[[], int]], int]) -> int:
        """The exit code of what this process does; one of several processes ends here with it.

        A mistake or an interruption ends the others too. `to_exit_code` runs what it is given and reports mistakes.
        """
        if self.size == 1:
            return body()
        try:
            code = to_exit_code(lambda: self._run(body))
        except Exception:  # whatever it is, it is shown, and this process must end by itself
            self._show_caught()
            traceback.print_exc()
            code = 1
        _exit(code)

    def _run(self, body: Callable[[], int]) -> int:
        try:
            self.check_same(str(self.size), "another number of processes")
            code = body()
            self.exchange(None)  # the others wait for the first, which evaluates
            self._code = code
            with suppress(JaxRuntimeError):
                jax.distributed.shutdown()
            return code
        except KeyboardInterrupt:
            self._end_others("it was interrupted")
            raise
        except Exception as error:  # the others are told of any, and it goes on
            mistake = isinstance(error, UserError)
            time.sleep(0.0 if mistake else NOTICED)  # if it is because another process is gone, JAX ends this one
            self._end_others(reason(error, None if mistake else 300))
            raise

    def _end_others(self, why: str) -> None:
        """Tell the others why, before this process does; where another thread already speaks, that one ends it."""
        self._ending.acquire()
        threading.Thread(target=self._announce, args=[why], daemon=True).start()  # which may wait for ever
        self._read.wait(NOTICED)

    def _announce(self, why: str) -> None:
        with suppress(JaxRuntimeError):  # another process was first, or process 0 is lost
            self._client.key_value_set("gmnn/ended", json.dumps([self.index, why]))

    def _get(self, key: str, step: int = 1000) -> str:
        """A value that is or will be set; between steps in ms Python can be interrupted."""
        while True:
            try:
                return self._client.blocking_key_value_get(key, step)
            except JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise

    def _watch(self) -> None:
        """Wait in a thread for the process that ends all; JAX alone would report that it was lost."""
        with suppress(JaxRuntimeError):  # the runtime has ended, or is lost, which SIGABRT says
            k, why = json.loads(self._get("gmnn/ended", LONG))
            self._told = f"process {k} of {self.size} ended: {why}"
            with suppress(JaxRuntimeError):  # until all have read it, or for so many ms
                self._client.wait_at_barrier("gmnn/ending", 5000)
            self._read.set()
            self._end(self._told)

    def _end(self, text: str, code: int = LOST) -> NoReturn:
        """Say why and end the process, which one thread does; no other comes back from here."""
        self._ending.acquire()
        print(f"train: {text}", file=sys.stderr, flush=True)
        _exit(code)

    def _catch_abort(self) -> None:
        """Keep what libraries write to stderr in a file, and be called at SIGABRT; only process 0 has a stdout."""
        self._shown, self._caught = os.dup(2), tempfile.TemporaryFile()  # noqa: SIM115
        sys.stderr = os.fdopen(self._shown, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
        os.dup2(self._caught.fileno(), 2)
        if not self.first:
            sys.stdout.flush()
            with open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), 1)
        libc = ctypes.CDLL(None)
        libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]

        def aborted(number: int) -> None:  # from which JAX's threads do not return: nothing may wait for them
            text = os.pread(self._caught.fileno(), 1 << 20, 0).decode(errors="replace")
            if "JAX distributed service" not in text:  # another abort, which goes on
                self._show_caught()
                libc.signal(number, None)
                os.abort()
            self._read.set()
            if self._code is not None:  # all is done
                _exit(self._code)
            if self._told or self._absent:
                self._end(self._told or self._absent, LOST if self._told else 2)
            match = re.search(r"heartbeats\):\s*(\d+)|(\d+) unexpectedly tried to connect", text)
            k = (match[1] or match[2]) if match else 0
            time.sleep(1.0)  # until process 0 has sent this to all
            self._end(
                f"process {k} of {self.size} was lost (it was killed or started twice, or its machine or the network "
                "failed), so that this one cannot go on; what was saved before is kept. Start all processes again with "
                "--resume"
            )

        self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)  # kept, as C does not
        libc.signal(signal.SIGABRT, ctypes.cast(self._handler, ctypes.c_void_p))

    def _show_caught(self) -> None:
        os.write(self._shown, os.pread(self._caught.fileno(), 1 << 20, 0))


def _exit(code: int) -> NoReturn:
    """End this process at once: JAX would wait for the others, which may be gone."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
