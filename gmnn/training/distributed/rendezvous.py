"""How the processes of a training find each other: an address from the user or the launcher, then JAX's own runtime."""

import os
import re
import signal
import socket

import jax

from gmnn.errors import UserError, shortened
from gmnn.training.distributed.processes import Group

ARRIVAL = 300  # s until the last process must have come
BEAT = 8  # s without a sign of life, after which JAX counts a process as lost
ADDRESS = "JAX_COORDINATOR_ADDRESS"  # JAX's name for it in the environment


def join(process: str | None, coordinator: str | None) -> Group:
    """The group that this process belongs to; to be called before any use of JAX.

    `process`: "K/N"; "auto" for what the launcher says; None for a process alone. `coordinator`: "host:port" of
    process 0, which listens at this address alone. UserError if either cannot be understood. A process that waits in
    vain for the others ends with a sentence.
    """
    if process is None:
        if coordinator is not None:
            raise UserError("--coordinator is for several processes; add --process K/N, as in --process 0/2")
        return Group()
    coordinator = coordinator or os.environ.get(ADDRESS)
    if process == "auto":
        coordinator, size, index = _launched(coordinator)
    elif (match := re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", process)) and int(match[1]) < int(match[2]):
        index, size = int(match[1]), int(match[2])
    else:
        raise UserError(
            f"--process is {shortened(process)}, but must be K/N, as 0/2 and 1/2 for two processes, or auto under srun"
        )
    if size == 1:
        return Group()
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[\w.-]{1,253}):([0-9]{1,5})", coordinator or "", re.ASCII)
    if coordinator is None or match is None or not 0 < int(match[2]) < 1 << 16:
        raise UserError(
            f"--coordinator is {shortened(coordinator)}, but must be HOST:PORT, the machine of process 0 and a free "
            f"port of it, 1 to 65535, that the others can reach; or set {ADDRESS}"
        )
    host, port = match[1].strip("[]"), int(match[2])
    if re.fullmatch(r"[0:.]+", host):
        raise UserError(
            f"--coordinator is {coordinator}, which stands for all addresses of this machine, so that anybody could "
            "come; name the one that the other processes use, or 127.0.0.1 if all are here"
        )
    if index == 0:
        _check_free(host, port)
    absent = (
        f"not all {size} processes came to {coordinator} within {ARRIVAL} s; start every one, with that --coordinator"
    )
    group = Group(index, size, absent)
    jax.config.update("jax_enable_preemption_service", False)  # which would take SIGTERM from `stop_requested`
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)  # JAX waits where Python cannot be interrupted
    try:
        jax.distributed.initialize(
            coordinator, size, index, cluster_detection_method=None if process == "auto" else "deactivate",
            initialization_timeout=ARRIVAL, heartbeat_timeout_seconds=BEAT, coordinator_bind_address=coordinator,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, interrupt)
    return group.connected()


def _launched(coordinator: str | None) -> tuple[str | None, int, int]:
    """Address, number of processes, and number of this one, as the launcher says and JAX finds."""
    from jax._src.clusters import ClusterEnv  # JAX offers no public way to ask without starting its runtime

    address, size, index, _ = ClusterEnv.auto_detect_unset_distributed_params(
        coordinator, None, None, None, None, ARRIVAL
    )
    if size is None or index is None:
        raise UserError(
            "--process auto, but no launcher that JAX knows (as srun of Slurm) started this process; give --process "
            "K/N and --coordinator HOST:PORT"
        )
    return address, size, index


def _check_free(host: str, port: int) -> None:
    """UserError if process 0 cannot listen there; JAX shares a port with another training in silence."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address[:2], family=family).close()
    except (OSError, UnicodeError) as error:
        why = str(getattr(error, "strerror", "it is no name of a machine")).partition(" (")[0]
        raise UserError(
            f"process 0 cannot listen at {host}:{port}: {why}; give an address of this machine and a free "
            "port with --coordinator"
        ) from None
