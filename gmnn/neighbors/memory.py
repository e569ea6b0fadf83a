"""How much memory there is, and whether atoms with their neighbours fit into it."""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np

from gmnn.errors import UserError

ATOM_BYTES = 2000  # memory for an atom with some 50 neighbours
MEMORY_SHARE = 0.8  # of the machine's memory that a list may need
CGROUPS = Path("/sys/fs/cgroup")


def require_room(atoms: int, source: str) -> None:
    """Raise UserError if so many atoms with their neighbours need more memory than this machine has."""
    if atoms * ATOM_BYTES > MEMORY_SHARE * (memory := machine_memory()):
        raise UserError(
            f"{source} give {atoms:.3g} atoms, which need about {atoms * ATOM_BYTES / 2**30:.3g} GB with their "
            f"neighbours, but this machine has {memory / 2**30:.3g} GB of memory; take fewer"
        )


def machine_memory() -> float:
    """Bytes of memory that this process may use at most; infinite where the machine does not say.

    The least of the machine's memory, the limit of its control group, as batch systems set it, and `ulimit -v`.
    """
    limits = [np.inf]
    with suppress(AttributeError, ValueError, OSError):
        limits.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds in ("", "memory"):
                top, name = CGROUPS / kinds, "memory.limit_in_bytes" if kinds else "memory.max"
                inside = top / path.strip("/")
                files = [folder / name for folder in (inside, *inside.parents) if folder.is_relative_to(top)]
                texts = [file.read_text(encoding="utf-8").strip() for file in files if file.is_file()]
                limits += [float(text) for text in texts if text.isdigit()]
    with suppress(ImportError, OSError, ValueError):
        import resource  # not on every system

        soft = resource.getrlimit(resource.RLIMIT_AS)[0]
        limits += [float(soft)] if soft != resource.RLIM_INFINITY else []
    return min(limits)
