"""What `coupling.py` measures in LAMMPS, in a process of its own or one for each MPI rank.

    python benchmarks/coupling_worker.py INPUT

INPUT is read once. For every line of standard input (`step 20`, `alone 20`) a line of JSON: of each rank its own atoms,
seconds of its processor and of the wall, and, of `step`, those of its processor within the potential.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax

from gmnn.device import precision
from gmnn.interfaces import lammps as coupling


def told(comm: Any) -> Iterator[str]:
    """The lines that rank 0 reads, in all ranks. The others sleep until a line comes."""
    if comm.rank == 0:
        for line in sys.stdin:
            for rank in range(1, comm.size):
                comm.send(line, rank)
            yield line
        for rank in range(1, comm.size):
            comm.send("", rank)
        return
    while True:
        while not comm.iprobe():
            time.sleep(0.002)
        if not (line := comm.recv()):
            return
        yield line


def watched(engine: Any, spent: list[float]) -> None:
    """Add the processor's seconds of every evaluation to `spent`."""
    evaluate = engine.evaluate

    def timed() -> Any:
        clock = time.process_time()
        result = evaluate()
        spent[0] += time.process_time() - clock
        return result

    engine.evaluate = timed


def alone(engine: Any, count: int) -> None:
    """The compiled function, on the arrays that LAMMPS filled."""
    with precision(engine.dtype):
        given = jax.device_put((engine.positions.astype(engine.dtype), engine.numbers, engine.neighbors))
        for _ in range(count):
            jax.block_until_ready(engine._evaluate(engine._params, *given))


def main(script: str) -> None:
    """Answer every line."""
    from lammps import lammps  # here, as it starts MPI
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    lmp = lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
    lmp.file(script)
    engine, spent = next(iter(coupling._engines.values()), None), [0.0]
    if engine is not None:
        watched(engine, spent)
    for line in told(comm):
        kind, count = line.split()
        comm.Barrier()
        spent[0], wall, processor = 0.0, time.perf_counter(), time.process_time()
        if kind == "step":
            lmp.command(f"run {count} pre no post no")
        else:
            alone(engine, int(count))
        measured = {
            "atoms": lmp.extract_global("nlocal"), "processor_s": time.process_time() - processor,
            "wall_s": time.perf_counter() - wall, "potential_s": spent[0],
        }  # fmt: skip
        ranks = comm.gather(measured)
        if comm.rank == 0:
            print("RESULT", json.dumps(ranks), flush=True)
    lmp.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input")
    main(parser.parse_args().input)
