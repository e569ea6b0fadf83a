"""Every number of speed on one GPU in one run of ten minutes: paths, precisions, sizes, drift, replicas, parts, floors.

    python benchmarks/gpu.py MODEL STRUCTURE [--output gpu.json] [--minutes 9] [--quick]

MODEL is a trained potential of water, STRUCTURE a file whose last frame is a box of water. Rows are written as they
come, so that a run which is stopped keeps what it has; a size that runs out of memory gets a row that says so. Peak
memory is that of the process so far. `--quick` is the same on a CPU with few atoms: whether the script works, not how
fast anything is.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from ase import Atoms  # noqa: E402

from benchmarks.timing import Record, neighbor_facts, peak_bytes, per_atom, spread, timed, water  # noqa: E402
from gmnn import System, device, load, neighbors  # noqa: E402
from gmnn.errors import UserError  # noqa: E402
from gmnn.kernels import choice, readout, xla  # noqa: E402
from gmnn.kernels.pallas import invariants as pallas_invariants  # noqa: E402
from gmnn.kernels.pallas import predict as pallas  # noqa: E402
from gmnn.kernels.pallas import slots as pallas_slots  # noqa: E402
from gmnn.kernels.parameters import to_kernel_parameters  # noqa: E402
from gmnn.md import Bath, Dynamics  # noqa: E402
from gmnn.model.descriptor import n_features  # noqa: E402
from gmnn.model.potential import Potential  # noqa: E402

SIZES = (192, 12288, 1536, 98304, 9, 1572864)  # in this order, as time may run out
AFTER = 98304  # of which parts, drift and replicas follow
REPLICAS = (1, 16, 256)  # of a box
SKIN, STEP_FS, TEMPERATURE_K = 0.4, 0.5, 300.0
DRIFT_PS, DRIFT_ATOMS = 50.0, 192
H200 = {"float32": 67e12, "tf32": 495e12, "bytes_per_s": 4.3e12}  # peak without sparsity; H100: the same, 2.9e12
Variant = tuple[str, bool]  # path, network in TF32


class Run:
    """One run of the script: what was asked for, and where rows go."""

    def __init__(self, potential: Potential, structure: str, record: Record, quick: bool, end: float) -> None:
        self.potential, self.structure, self.record, self.quick, self.end = potential, structure, record, quick, end
        on_gpu = jax.default_backend() != "cpu"
        tf32: list[Variant] = [("fast", True), ("kernel", True)] if on_gpu else []
        self.variants: list[Variant] = [("fast", False), ("kernel", False), *tf32]
        self.sizes = (9, 192) if quick else SIZES
        self.facts: dict[int, dict] = {}

    def attempt(self, part: str, function: Callable[[], dict], **about: Any) -> dict | None:
        """A row of what `function` finds; one that says why not, if memory or time is short, or anything else fails."""
        if time.perf_counter() > self.end:
            self.record.add(part=part, **about, skipped="no time left")
            return None
        clock = time.perf_counter()
        try:
            result = function()
        except Exception as problem:  # whatever it is, the other rows are worth having
            memory = "RESOURCE_EXHAUSTED" in str(problem) or isinstance(problem, MemoryError)
            self.record.add(part=part, **about, skipped="out of memory" if memory else str(problem)[:300])
            return None
        seconds = time.perf_counter() - clock
        return self.record.add(part=part, **about, **result, peak_bytes=peak_bytes(), row_took_s=seconds)


def about(run: Run, variant: Variant, atoms: Atoms) -> dict:
    """What every row says."""
    path, tf32 = variant
    if len(atoms) not in run.facts:
        run.facts[len(atoms)] = neighbor_facts(atoms, run.potential.config.r_max, SKIN)
    return {"path": path, "geometry": "float32", "network": "tf32" if tf32 else "float32", **run.facts[len(atoms)]}


def listed(potential: Potential, atoms: Atoms) -> tuple[System, Any, Callable[..., Any], Any]:
    """A system in float32 with its reverse slots, and the list that made them as a compiled function of positions."""
    radius = potential.config.r_max + SKIN
    grid = neighbors.plan(atoms.positions, atoms.cell.array, atoms.pbc, radius)
    cell, x = jnp.asarray(atoms.cell.array, jnp.float32), jnp.asarray(atoms.positions, jnp.float32)
    pbc: neighbors.Pbc = tuple(map(bool, atoms.pbc))  # type: ignore[assignment]
    build = jax.jit(partial(neighbors.build, grid, pbc, radius))
    built = build(x, cell)
    if built.overflow:
        raise UserError("the neighbour list did not fit")
    return (
        System(x, jnp.asarray(atoms.numbers, jnp.int32), cell, built.neighbors, built.shifts),
        built.reverse,
        build,
        x,
    )


def launches(program: Any) -> dict:
    """Kernels of a compiled program: fusions and calls of libraries or of Triton in the optimised HLO, each once."""
    text = program.as_text()
    names = ("fusion", "custom-call", "sort", "scatter", "gather", "copy", "dot", "while", "conditional")
    return {name: len(re.findall(rf"= [^=\n]* {name}\(", text)) for name in names}


def floors(potential: Potential, neighbors: float, slots: int, tf32: bool) -> dict:
    """Least µs per atom by arithmetic and by bytes on an H200, as docs/md.md counts them."""
    config = potential.config
    sizes = [n_features(config.n_radial), *config.hidden, config.n_members]
    network = 4.0 * sum(a * b for a, b in pairwise(sizes))
    edges, contractions = 950.0 * neighbors, 22e3
    moved = 4.0 * (2 * sizes[0] + 2 * 20 * config.n_radial + 6 * sum(config.hidden)) + 2 * 16.0 * slots + 28.0 * slots
    arithmetic = (edges + contractions) / H200["float32"] + network / H200["tf32" if tf32 else "float32"]
    return {
        "flop_per_atom": edges + contractions + network, "bytes_per_atom": moved,
        "floor_us_per_atom": 1e6 * max(arithmetic, moved / H200["bytes_per_s"]),
    }  # fmt: skip


def energy_and_forces(run: Run, atoms: Atoms, variant: Variant) -> dict:
    """Time of energy and forces with a list that stands."""
    potential, (path, tf32) = run.potential, variant
    system, reverse, _, _ = listed(potential, atoms)
    params, predict = choice.evaluator(potential, path, "float32", tf32)
    clock = time.perf_counter()
    program = device.compiled(predict).lower(params, system, reverse).compile()
    compile_s = time.perf_counter() - clock
    times = timed(program, params, system, reverse, seconds=0.1 if run.quick else 1.0)
    real = float(jnp.mean(jnp.sum(system.neighbors < len(atoms), axis=1)))
    least = floors(potential, real, system.neighbors.shape[1], tf32)
    rates = per_atom(times, len(atoms))
    if jax.default_backend() != "cpu":
        rates["fraction_of_floor"] = least["floor_us_per_atom"] / rates["median_us_per_atom"]
    again = program(params, system, reverse).forces
    same = bool(jnp.all(program(params, system, reverse).forces == again))
    return {
        "compile_s": compile_s, **times, **rates, **least, "neighbors_in_list": real, "bitwise_repeatable": same,
        "kernels": launches(program),
    }  # fmt: skip


def dynamics(run: Run, atoms: Atoms, variant: Variant) -> Dynamics:
    """At constant energy, in float32."""
    path, tf32 = variant
    bath = Bath("nve", TEMPERATURE_K)
    return Dynamics(atoms, run.potential, bath, STEP_FS, "float32", path, SKIN, seed=0, tf32_network=tf32)


def whole_steps(run: Run, atoms: Atoms, variant: Variant) -> dict:
    """Time of a full step at constant energy with the list made again when it must be: five segments after one."""
    steps = 2 if run.quick else max(20, min(1000, 20_000_000 // len(atoms)))
    clock = time.perf_counter()
    moving = dynamics(run, atoms, variant)
    moving.run(steps)  # warm
    compile_s = time.perf_counter() - clock
    taken, rebuilds = [], 0
    for _ in range(5):
        clock = time.perf_counter()
        now = moving.run(steps)
        rebuilds += now.rebuilds
        taken.append(time.perf_counter() - clock)
    times = spread(taken)
    return {
        "compile_and_warm_up_s": compile_s, "steps": 5 * steps, "rebuilds": rebuilds, "growths": moving.growths,
        "slots_used": moving.grid.slots, "temperature_K": now.temperature, **times,
        **per_atom(times, len(atoms), steps),
    }  # fmt: skip


def drift(run: Run, atoms: Atoms, variant: Variant) -> dict:
    """Slope and scatter of the total energy at constant energy, meV/atom."""
    picoseconds = 0.01 if run.quick else DRIFT_PS
    segments = 5 if run.quick else 100
    steps = max(1, round(1000 * picoseconds / STEP_FS / segments))
    moving, total = dynamics(run, atoms, variant), []
    for _ in range(segments):
        now = moving.run(steps)
        total.append(1e3 * (now.energy + now.kinetic) / len(atoms))
        if time.perf_counter() > run.end:
            break
    at = STEP_FS * steps * np.arange(len(total)) / 1000
    slope = float(np.polyfit(at, total, 1)[0]) if len(total) > 2 else None
    return {
        "ps": float(STEP_FS * steps * len(total) / 1000), "drift_meV_per_atom_per_ps": slope,
        "sigma_meV_per_atom": float(np.std(total)), "temperature_K": now.temperature,
    }  # fmt: skip


def replicas(run: Run, atoms: Atoms, variant: Variant, copies: int) -> dict:
    """Energy and forces of many copies of a box, as a batch."""
    potential, (path, tf32) = run.potential, variant
    system, reverse, _, _ = listed(potential, atoms)
    batch, reverses = jax.tree.map(lambda x: jnp.repeat(x[None], copies, axis=0), (system, reverse))
    params, predict = choice.evaluator(potential, path, "float32", tf32)
    times = timed(device.compiled(predict), params, batch, reverses, seconds=0.1 if run.quick else 1.0)
    return {**times, **per_atom(times, copies * len(atoms))}


def parts(run: Run, atoms: Atoms) -> dict:
    """µs per atom of the list, of each kernel, of the network between them and of gathering the forces."""
    potential = run.potential
    system, reverse, build, x = listed(potential, atoms)
    params = to_kernel_parameters(potential, "float32")
    elements = jnp.asarray(potential.element_index)[system.numbers]
    plan, arrays = pallas.laid_out(potential, params, pallas.joined(system), elements, len(atoms))
    n, padded = plan.n_radial, len(arrays.atoms)
    places = jnp.asarray(pallas_invariants.places(n))
    shapes = [(20 * n + 2, padded), (n_features(n), padded)]
    back = [(20 * n, padded), (3, plan.slots, padded), (12, padded)]
    forward = jax.jit(lambda arrays: pallas.call(plan, "forward", pallas.forward, shapes, *arrays, places))
    moments, invariants = forward(arrays)
    e_i = jnp.pad(elements, (0, padded - len(atoms)))
    measured = {"vectors_moments_invariants": timed(forward, arrays), "list": timed(build, x, system.cell)}
    for name, precision in (("network", xla.HIGHEST), ("network_tf32", choice.TF32)):
        if precision is xla.HIGHEST or jax.default_backend() != "cpu":
            net = jax.jit(lambda f, p=precision: readout.network(params, potential.config.bounded, f, e_i, p))
            measured[name] = timed(net, invariants)
    by_feature = jax.jit(lambda f: readout.network(params, potential.config.bounded, f, e_i, xla.HIGHEST)[1])(
        invariants
    )
    adjoint = jax.jit(lambda *a: pallas.call(plan, "backward", pallas.backward, back, *arrays, places, *a))
    measured["adjoint"] = timed(adjoint, moments, by_feature)
    gradient = adjoint(moments, by_feature)[1]
    measured["gather"] = timed(jax.jit(pallas.gathered), gradient, system.neighbors, reverse)
    layout = jax.jit(lambda s: pallas.laid_out(potential, params, s, elements, len(atoms))[1])
    measured["layout"] = timed(layout, pallas.joined(system))
    return {f"{name}_{k}": v for name, t in measured.items() for k, v in per_atom(t, len(atoms)).items()}


def main(run: Run) -> None:
    """First what a table needs most: the middle of the curve, then what belongs to one size, then the curve's ends."""
    for n in run.sizes:
        atoms = water(run.structure, n)
        for variant in run.variants:
            facts = about(run, variant, atoms)
            run.attempt("energy_and_forces", partial(energy_and_forces, run, atoms, variant), **facts)
            run.attempt("nve_step", partial(whole_steps, run, atoms, variant), **facts)
        if n == (run.sizes[-1] if run.quick else AFTER):
            of_one_size(run)


def of_one_size(run: Run) -> None:
    """Parts, drift and replicas."""
    for n in (9,) if run.quick else (192, 12288, 98304):
        atoms = water(run.structure, n)
        run.attempt("parts", partial(parts, run, atoms), **about(run, ("kernel", False), atoms))
    small = water(run.structure, 9 if run.quick else DRIFT_ATOMS)
    for variant in run.variants[:1] if run.quick else run.variants:
        run.attempt("drift", partial(drift, run, small, variant), **about(run, variant, small))
        for copies in REPLICAS[:2] if run.quick else REPLICAS:
            facts = about(run, variant, small)
            run.attempt("replicas", partial(replicas, run, small, variant, copies), **facts, copies=copies)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("structure")
    parser.add_argument("--output", default=str(ROOT / "benchmarks" / "results" / "gpu.json"))
    parser.add_argument("--minutes", type=float, default=9.0, help="begin no row after so long (9)")
    parser.add_argument("--quick", action="store_true", help="few atoms and steps, for a CPU")
    arguments = parser.parse_args()
    about_run = {"step_fs": STEP_FS, "start_K": TEMPERATURE_K, "block": xla.BLOCK, "lanes": pallas_slots.LANES}
    record = Record(Path(arguments.output), quick=arguments.quick, **about_run)
    end = time.perf_counter() + 60 * arguments.minutes
    main(Run(load(arguments.model), arguments.structure, record, arguments.quick, end))
