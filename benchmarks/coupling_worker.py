"""What `coupling.py` measures in LAMMPS, in a process of its own or one for each MPI rank: coupling_worker.py INPUT

INPUT is read once. For every line of standard input (`step 20`, `alone 20`) a line of JSON: of each rank its own atoms,
seconds of its processor and of the wall, and, of `step`, those of its processor within the potential.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax
from lammps import lammps
from mpi4py import MPI

from gmnn.device import precision
from gmnn.interfaces import lammps as coupling

COMM = MPI.COMM_WORLD


def told() -> Iterator[str]:
    """The lines that rank 0 reads, in all ranks; the others sleep until there is one."""
    if COMM.rank == 0:
        for line in sys.stdin:
            for rank in range(1, COMM.size):
                COMM.send(line, rank)
            yield line
        for rank in range(1, COMM.size):
            COMM.send("", rank)
        return
    while True:
        while not COMM.iprobe():
            time.sleep(0.002)
        if not (line := COMM.recv()):
            return
        yield line


def watched(engine: Any, spent: list[float]) -> None:
    """Add the processor's seconds of every evaluation to `spent`."""
    evaluate = engine.evaluate

    def timed() -> Any:
        clock = time.process_time()
        found = evaluate()
        spent[0] += time.process_time() - clock
        return found

    engine.evaluate = timed


def alone(engine: Any, count: int) -> None:
    """The compiled function, on the arrays that LAMMPS filled."""
    with precision(engine.dtype):
        given = jax.device_put((engine.positions.astype(engine.dtype), engine.numbers, engine.neighbors))
        for _ in range(count):
            jax.block_until_ready(engine._evaluate(engine._params, *given))


def main(script: str) -> None:
    """Answer every line."""
    lmp = lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
    lmp.file(script)
    engine, spent = next(iter(coupling._engines.values()), None), [0.0]
    if engine is not None:
        watched(engine, spent)
    for line in told():
        kind, count = line.split()
        COMM.Barrier()
        spent[0], wall, processor = 0.0, time.perf_counter(), time.process_time()
        if kind == "step":
            lmp.command(f"run {count} pre no post no")
        else:
            alone(engine, int(count))
        found = {
            "atoms": lmp.extract_global("nlocal"), "processor_s": time.process_time() - processor,
            "wall_s": time.perf_counter() - wall, "potential_s": spent[0],
        }  # fmt: skip
        ranks = COMM.gather(found)
        if COMM.rank == 0:
            print("RESULT", json.dumps(ranks), flush=True)
    lmp.close()


if __name__ == "__main__":
    main(sys.argv[1])
