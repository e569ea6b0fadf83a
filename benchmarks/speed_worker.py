"""What `speed.py` measures of gmnn, in a process of its own.

    python benchmarks/speed_worker.py MODEL STRUCTURE CORES PATH

For every line of standard input (`loop 20`) a line of JSON. PATH is fast, with one device of JAX for each core, or
kernel, with one that uses all, as `gmnn md` has them.
"""

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import ase.io
import jax
import numpy as np
from ase import Atoms

from benchmarks.timing import elapsed, neighbor_facts
from gmnn import Calculator, device, load, md
from gmnn.device import on_device
from gmnn.kernels import choice
from gmnn.neighbors.host import make_system, stack

SKIN = 0.4


class Measured:
    """A potential and a structure."""

    def __init__(self, model: str, structure: str, path: str) -> None:
        self.potential, self.path = load(model), path
        atoms = ase.io.read(structure)
        assert isinstance(atoms, Atoms)
        self.atoms, self.rng, self.programs = atoms, np.random.default_rng(0), {}  # type: ignore[var-annotated]

    def facts(self, count: int) -> dict:
        """Atoms, neighbours, slots."""
        return neighbor_facts(self.atoms, self.potential.config.r_max, SKIN)

    def calculator(self, count: int) -> list[float]:
        """Seconds of calls of the ASE calculator, positions moved by 1e-5 Å before each."""
        if self.atoms.calc is None:
            self.atoms.calc, self.home = Calculator(self.potential, path=self.path), self.atoms.positions.copy()
        seconds = []
        for _ in range(count):
            self.atoms.positions = self.home + 1e-5 * self.rng.normal(size=self.home.shape)
            clock = time.perf_counter()
            self.atoms.get_forces()
            self.atoms.get_potential_energy()
            seconds.append(time.perf_counter() - clock)
        return seconds

    def loop(self, count: int) -> list[float]:
        """Seconds of an evaluation in a compiled loop of `count`, whose positions follow the forces a little."""
        if "loop" not in self.programs:
            a = self.atoms
            system = make_system(a.positions, a.numbers, a.cell.array, a.pbc, self.potential.config.r_max + SKIN)
            placed = on_device(system, "float32")
            params, predict = choice.evaluator(self.potential, self.path, "float32")

            def run(params: Any, x: Any, count: Any) -> Any:
                once = lambda _, x: x + 1e-7 * predict(params, placed._replace(positions=x)).forces  # noqa: E731
                return jax.lax.fori_loop(0, count, once, x)

            self.programs["loop"] = partial(device.compiled(run), params, placed.positions)
        return [elapsed(self.programs["loop"], count) / count]

    def md(self, steps: int) -> dict:
        """A segment of dynamics at constant energy from 300 K."""
        if "md" not in self.programs:
            bath = md.Bath("nve", 300.0, 300.0)
            clean = Atoms(self.atoms.numbers, self.atoms.positions, cell=self.atoms.cell, pbc=self.atoms.pbc)
            self.programs["md"] = md.Dynamics(clean, self.potential, bath, 0.5, path=self.path, skin=SKIN)
        dynamics = self.programs["md"]
        clock, processor = time.perf_counter(), time.process_time()
        now = dynamics.run(steps)
        return {
            "seconds": time.perf_counter() - clock, "processor_s": time.process_time() - processor,
            "rebuilds": now.rebuilds, "temperature_K": now.temperature,
            "total_eV": now.energy + now.kinetic, "slots": dynamics.grid.slots, "growths": dynamics.growths,
        }  # fmt: skip

    def copies(self, count: int) -> list[float]:
        """Seconds of a batch of copies, five times."""
        a = self.atoms
        system = make_system(a.positions, a.numbers, a.cell.array, a.pbc, self.potential.config.r_max)
        batch = on_device(stack([system] * count), "float32")
        params, predict = choice.evaluator(self.potential, self.path, "float32")
        program = device.compiled(predict)
        elapsed(program, params, batch)
        return [elapsed(program, params, batch) for _ in range(5)]


def main() -> None:
    """Answer every line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("structure")
    parser.add_argument("cores", type=int)
    parser.add_argument("path")
    arguments = parser.parse_args()
    if arguments.cores > 1 and arguments.path != "kernel":
        jax.config.update("jax_num_cpu_devices", arguments.cores)
    measured = Measured(arguments.model, arguments.structure, arguments.path)
    for line in sys.stdin:
        kind, count = line.split()
        print("RESULT", json.dumps(getattr(measured, kind)(int(count))), flush=True)


if __name__ == "__main__":
    main()
