"""What `speed.py` measures of gmnn, in a process of its own: speed_worker.py MODEL STRUCTURE CORES PATH

For every line of standard input (`loop 20`) a line of JSON. PATH is fast, with one device of JAX for each core, or
kernel, with one that uses all, as `gmnn md` has them.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax

if int(sys.argv[3]) > 1 and sys.argv[4] != "kernel":
    jax.config.update("jax_num_cpu_devices", int(sys.argv[3]))

import ase.io
import jax.numpy as jnp
import numpy as np
from ase import Atoms

from benchmarks.timing import elapsed, neighbor_facts
from gmnn import Calculator, device, load, md, neighbors
from gmnn.device import on_device
from gmnn.kernels import choice, xla
from gmnn.kernels.parameters import to_kernel_parameters
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
        found = []
        for _ in range(count):
            self.atoms.positions = self.home + 1e-5 * self.rng.normal(size=self.home.shape)
            clock = time.perf_counter()
            self.atoms.get_forces()
            self.atoms.get_potential_energy()
            found.append(time.perf_counter() - clock)
        return found

    def loop(self, count: int, path: str = "") -> list[float]:
        """Seconds of an evaluation in a compiled loop of `count`, whose positions follow the forces a little."""
        path = path or self.path
        if path not in self.programs:
            a = self.atoms
            system = make_system(a.positions, a.numbers, a.cell.array, a.pbc, self.potential.config.r_max + SKIN)
            there = on_device(system, "float32")
            params, predict = choice.evaluator(self.potential, path, "float32")

            def run(params: Any, x: Any, count: Any) -> Any:
                once = lambda _, x: x + 1e-7 * predict(params, there._replace(positions=x)).forces  # noqa: E731
                return jax.lax.fori_loop(0, count, once, x)

            self.programs[path] = partial(device.compiled(run), params, there.positions)
        return [elapsed(self.programs[path], count) / count]

    def reference(self, count: int) -> list[float]:
        """The same by autodiff, five times."""
        return [self.loop(count, "reference")[0] for _ in range(5)]

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
        one = make_system(a.positions, a.numbers, a.cell.array, a.pbc, self.potential.config.r_max)
        batch = on_device(stack([one] * count), "float32")
        params, predict = choice.evaluator(self.potential, self.path, "float32")
        program = device.compiled(predict)
        elapsed(program, params, batch)
        return [elapsed(program, params, batch) for _ in range(5)]

    def parts(self, count: int) -> dict[str, float]:
        """Least seconds of a list, of the invariants with their adjoint, of the network's matrix products:
        all atoms, in blocks.
        """
        a, n, radius = self.atoms, len(self.atoms), self.potential.config.r_max + SKIN
        grid = neighbors.plan(a.positions, a.cell.array, a.pbc, radius)
        x, cell = jnp.asarray(a.positions, "float32"), jnp.asarray(a.cell.array, "float32")
        pbc = tuple(map(bool, a.pbc))
        params, config = to_kernel_parameters(self.potential, "float32"), self.potential.config
        blocks = -(-n // xla.CPU_BLOCK)
        moments = jnp.asarray(self.rng.normal(size=(blocks, config.n_radial, 20, xla.CPU_BLOCK)), "float32")

        def invariants(m: Any) -> Any:
            features, kept = invariants.invariants(m)
            return invariants.pullback(kept, features)

        def products(f: Any) -> Any:
            for kernel in params.kernels:
                f = jnp.dot(kernel, f, precision="highest")
            for kernel in params.kernels[::-1]:
                f = jnp.dot(kernel.T, f, precision="highest")
            return f

        features = jnp.asarray(self.rng.normal(size=(blocks, params.kernels[0].shape[1], xla.CPU_BLOCK)), "float32")
        programs: dict[str, tuple[Callable[..., Any], Any]] = {
            "list": (lambda x: neighbors.build(grid, pbc, radius, x, cell), x),  # type: ignore[arg-type]
            "invariants and adjoint": (lambda m: jax.lax.map(invariants, m), moments),
            "matrix products of network and gradient": (lambda f: jax.lax.map(products, f), features),
        }
        found = {}
        for name, (function, argument) in programs.items():
            program = jax.jit(function)
            elapsed(program, argument)
            found[name] = min(elapsed(program, argument) for _ in range(count))
        return found


def main() -> None:
    """Answer every line."""
    measured = Measured(*sys.argv[1:3], sys.argv[4])
    for line in sys.stdin:
        kind, count = line.split()
        print("RESULT", json.dumps(getattr(measured, kind)(int(count))), flush=True)


if __name__ == "__main__":
    main()
