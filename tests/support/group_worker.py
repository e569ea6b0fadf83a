"""A process of a group that only exchanges: `python group_worker.py K/N HOST:PORT EVENT FOLDER`.

After some rounds its event happens, recorded as the file FOLDER/event; "none" for a process to which nothing happens.
"other": it has other data; "alone": it waits for five seconds only; "garbage": process 0 sends some to every listener.
"""

import ipaddress
import json
import os
import signal
import socket
import sys
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather

from gmnn.commands._frame import exit_code
from gmnn.errors import UserError
from gmnn.training.distributed import rendezvous
from gmnn.training.distributed.processes import Group

GARBAGE = (
    b"",
    b"gmnn 1 talk 1 of 2",
    b"GET / HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + 99 * b"\xff",
    4096 * b"\0",
)


def listeners() -> list[tuple[str, int]]:
    """Addresses and ports at which this process listens, as Linux lists them."""
    mine = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            mine.add(os.readlink(link))
        except FileNotFoundError:  # the one that lists
            continue
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text(encoding="utf-8").splitlines()[1:]
    ]
    places = [row[1].split(":") for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in mine]
    return [(decoded(address), int(port, 16)) for address, port in places]


def decoded(address: str) -> str:
    """An address of /proc/net, where every four bytes are in the order of the machine."""
    words = [bytes.fromhex(address[k : k + 8])[::-1] for k in range(0, len(address), 8)]
    whole = ipaddress.ip_address(b"".join(words))
    return str(getattr(whole, "ipv4_mapped", None) or whole)


def disturb(places: list[tuple[str, int]]) -> list[socket.socket]:
    """Connections of a stranger, left open, with garbage in them."""
    lines = []
    for place in places:
        for text in GARBAGE:
            lines.append(socket.create_connection(tuple(place), timeout=5))
            lines[-1].sendall(text)
    return lines


def body(group: Group, event: str, folder: Path) -> int:
    """The exit code of what the process does."""
    group.check_same(str(event == "other"), "other frames")
    values = {"a": np.array([-0.0, np.nan, 1e-40], np.float32), "b": np.float64(np.pi), "c": np.zeros((2, 0), np.int32)}
    sent = group.tree_of_first(values if group.first else jax.tree.map(np.zeros_like, values))
    same = all(np.asarray(values[key]).tobytes() == sent[key].tobytes() for key in values)
    places = [place for theirs in group.exchange(listeners()) for place in theirs]
    lines = []
    for k in range(60 if event == "garbage" else 2000):
        process_allgather(np.full(3, group.index))
        assert group.exchange(group.index) == list(range(group.size))
        if k == 20 and event != "none":
            (folder / "event").touch()
            if event == "mistake":
                raise UserError("the loss is no longer finite")
            if event == "garbage":
                lines = disturb(places) if group.first else []
            else:
                os.kill(os.getpid(), signal.Signals[event])
        time.sleep(0.02)
    print(same, json.dumps(sorted({address for address, _ in places})), len(places), len(lines), sep="|")
    return 0


if __name__ == "__main__":
    process, address, event, folder = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background sets to ignore
    rendezvous.ARRIVAL = 5 if event == "alone" else 120

    def join_and_run() -> int:
        group = rendezvous.join(process, address)
        return group.run(lambda: body(group, event, Path(folder)), partial(exit_code, "train"))

    sys.exit(exit_code("train", join_and_run))
