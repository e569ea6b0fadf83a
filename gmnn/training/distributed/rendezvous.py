"""How the processes of a training find each other: an address from the user or the launcher, then JAX's own runtime.

Process 0 listens at the address. Every other process opens two connections to it, for `processes`. JAX's distributed
runtime, which shows every process the devices of all, starts when everybody is there, so that it never waits.
"""

import ctypes
import os
import re
import signal
import socket
import sys
import threading
import time
from multiprocessing.connection import Connection

import jax

from gmnn.errors import UserError, reason
from gmnn.training.distributed.processes import ALIVE, BEAT, PATIENCE, Group, send

ARRIVAL = 300.0  # s until the last process must have come
HELLO = b"gmnn 1"
ADDRESS = "JAX_COORDINATOR_ADDRESS"  # JAX's name for it in the environment


def join(process: str | None, coordinator: str | None) -> Group:
    """The group that this process belongs to; to be called before any use of JAX.

    `process`: "K/N"; "auto" for what the launcher says; None for a process alone. `coordinator`: "host:port" of
    process 0. UserError if either cannot be understood or somebody does not come.
    """
    local_devices = None
    if process is None:
        if coordinator is not None:
            raise UserError("--coordinator is for several processes; add --process K/N, as in --process 0/2")
        return Group()
    coordinator = coordinator or os.environ.get(ADDRESS)
    if process == "auto":
        coordinator, size, index, local_devices = _launched(coordinator)
    elif (match := re.fullmatch(r"(\d+)/(\d+)", process)) and int(match[1]) < int(match[2]):
        index, size = int(match[1]), int(match[2])
    else:
        raise UserError(
            f"--process is {process!r}, but must be K/N, as 0/2 and 1/2 for two processes, or auto under srun"
        )
    if size == 1:
        return Group()
    host, _, port = (coordinator or "").rpartition(":")
    if not host or not port.isdigit():
        raise UserError(
            f"--coordinator is {coordinator!r}, but must be HOST:PORT, the machine of process 0 and a free port of it "
            f"that the others can reach; or set {ADDRESS}"
        )
    return meet(index, size, host.strip("[]"), int(port), local_devices)


def _launched(coordinator: str | None) -> tuple[str | None, int, int, list[int] | None]:
    """What the launcher says, found by JAX: address, number of processes, number of this one, its devices."""
    from jax._src.clusters import ClusterEnv  # JAX offers no public way to ask without starting its runtime

    found = ClusterEnv.auto_detect_unset_distributed_params(coordinator, None, None, None, None, int(ARRIVAL))
    address, size, index, devices = found
    if size is None or index is None:
        raise UserError(
            "--process auto, but no launcher that JAX knows (as srun of Slurm) started this process; give --process "
            "K/N and --coordinator HOST:PORT"
        )
    if devices is None or "JAX_LOCAL_DEVICE_IDS" in os.environ:  # which JAX reads itself
        return address, size, index, None
    return address, size, index, list(devices)


def meet(index: int, size: int, host: str, port: int, local_devices: list[int] | None = None) -> Group:
    """Come together with the other processes and start JAX's distributed runtime; UserError if one does not come.

    Before any use of JAX. `host`, `port`: where process 0 listens. `local_devices`: those that this process may use.
    """
    talk, watched = _gathered(size, host, port) if index == 0 else _arrived(index, size, host, port)
    group = Group(index, size, talk, watched)
    if not group.first:
        _silence()
    address = group.broadcast(f"{host}:{_free_port()}" if group.first else None)
    jax.distributed.initialize(
        address, size, index, local_devices, "deactivate", heartbeat_timeout_seconds=int(10 * PATIENCE)
    )
    return group


def _gathered(size: int, host: str, port: int) -> tuple[tuple[Connection, ...], tuple[Connection, ...]]:
    """In process 0: the connections of all others."""
    try:
        server = socket.create_server(("", port), backlog=2 * size)
    except OSError as error:
        raise UserError(f"process 0 cannot listen at port {port}: {error.strerror}; choose another") from None
    found: dict[str, Connection] = {}
    end = time.monotonic() + ARRIVAL
    with server:
        while len(found) < 2 * (size - 1):
            server.settimeout(max(0.01, end - time.monotonic()))
            try:
                caller = server.accept()[0]
            except TimeoutError:
                missing = sorted({k for k in range(1, size) if f"talk {k}" not in found})
                raise UserError(
                    f"process {', '.join(map(str, missing))} of {size} did not come to {host}:{port} within "
                    f"{ARRIVAL:.0f} s; start every process, all with the same --coordinator"
                ) from None
            _keep(caller, size, found)
    numbers = range(1, size)
    return tuple(found[f"talk {k}"] for k in numbers), tuple(found[f"watch {k}"] for k in numbers)


def _keep(caller: socket.socket, size: int, found: dict[str, Connection]) -> None:
    """Add the connection to those found, if the caller is one of us; UserError for a process that should not be."""
    caller.settimeout(BEAT)
    try:
        said = caller.recv(100)
    except OSError:
        said = b""
    if not said.startswith(HELLO):
        caller.close()  # a stranger
        return
    name, of = said.removeprefix(HELLO).decode().strip().rsplit(" of ", 1)
    if name in found or int(of) != size:
        raise UserError(
            f"process {name.split()[-1]} of {of} came, but process 0 is one of {size} and every other must come once; "
            f"start processes 0 to {size - 1} once each"
        )
    caller.settimeout(None)
    found[name] = _connection(caller)
    send(found[name], ALIVE)


def _arrived(index: int, size: int, host: str, port: int) -> tuple[tuple[Connection, ...], tuple[Connection, ...]]:
    """In another process: its connections to process 0."""

    def call(name: str) -> Connection:
        end = time.monotonic() + ARRIVAL
        while True:
            try:
                line = socket.create_connection((host, port), timeout=BEAT)
                line.sendall(HELLO + f" {name} {index} of {size}".encode())
                line.settimeout(None)
                made = _connection(line)
                if made.poll(2 * BEAT) and made.recv_bytes() == ALIVE:
                    return made
                raise OSError("no answer")
            except (OSError, EOFError) as error:
                if time.monotonic() > end:
                    raise UserError(
                        f"process 0 was not found at {host}:{port} within {ARRIVAL:.0f} s ({reason(error)}); start it "
                        "there, or give its address with --coordinator"
                    ) from None
                time.sleep(0.2)

    return (call("talk"),), (call("watch"),)


def _connection(line: socket.socket) -> Connection:
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Connection(line.detach())


def _free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


def _silence() -> None:
    """Nothing on stdout; of what libraries write to stderr, nothing in the seconds before the end of this process.

    JAX aborts a process at once when process 0 is gone, with a page of addresses. The handler of that signal is C's
    `sleep`, called with the number of the signal: six seconds, in which the watching thread ends the process.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(int(signal.SIGABRT), ctypes.cast(libc.sleep, ctypes.c_void_p))
    sys.stdout.flush()
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
    shown = os.dup(2)
    sys.stderr = os.fdopen(shown, "w", buffering=1)
    read, write = os.pipe()
    os.dup2(write, 2)

    def late() -> None:
        while data := os.read(read, 1 << 16):
            time.sleep(2.0)
            os.write(shown, data)

    threading.Thread(target=late, daemon=True).start()
