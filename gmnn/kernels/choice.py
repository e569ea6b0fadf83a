"""The choice of an implementation of the energy: its parameters and its `predict`, by the name of a path."""

import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from gmnn.config.choices import PathName
from gmnn.config.coverage import uncovered
from gmnn.config.model import ModelConfig
from gmnn.errors import UserError
from gmnn.kernels import parameters, xla
from gmnn.kernels.blocks import Part
from gmnn.kernels.cpp import predict as cpp
from gmnn.model.descriptor import HIGHEST
from gmnn.model.potential import Potential
from gmnn.neighbors import memory
from gmnn.system import Prediction, System

PATHS = get_args(PathName)
SLOT_BYTES = 64  # memory for a neighbour slot on paths that evaluate some atoms at a time, the list included
TF32 = jax.lax.DotAlgorithmPreset.TF32_TF32_F32


class Choice(NamedTuple):
    """The path that computes, and why."""

    path: str  # reference, fast or kernel
    why: str


def choose(potential: Potential, path: str) -> Choice:
    """Return the path itself, or what `auto` stands for here; UserError for a name that is no path.

    `auto` is C++ on a CPU where it compiles, else XLA, and autodiff for a potential that neither covers.
    """
    if path not in PATHS:
        raise UserError(f"path is {path!r}, but must be one of {', '.join(PATHS)}")
    if path != "auto":
        return Choice(path, "as asked for")
    return _automatic(potential.config, jax.default_backend())


def choose_for_cpu(config: ModelConfig) -> Choice:
    """Return what `auto` stands for on a CPU. No device is touched, so that JAX may make its devices later."""
    return _automatic(config, "cpu")


def _automatic(config: ModelConfig, backend: str) -> Choice:
    if setting := uncovered(config, parameters.COVERED):
        return Choice("reference", f"autodiff, as the faster paths do not cover {setting}")
    if backend != "cpu":
        return Choice("fast", f"XLA, on the {backend}")
    try:
        cpp.require_available(config)
    except UserError as error:
        return Choice("fast", f"XLA, as {error}")
    return Choice("kernel", "C++ on the CPU")


def evaluator(
    potential: Potential, path: str, dtype: str, tf32_network: bool = False, grades: bool = False
) -> tuple[Any, Callable[..., Prediction]]:
    """Return parameters as `dtype` and predict(parameters, system, reverse=None) of the path.

    With `grades` its predictions have the grade of every atom; UserError if the potential has none.

    `reference` is autodiff, `fast` XLA with tables and a hand-written adjoint, `kernel` C++ on a CPU and else Pallas;
    `auto` is one of them, and a line on stderr names it once. UserError for another name, or for what the path does not
    evaluate. `tf32_network` concerns only the network's products and is possible only on a GPU.
    """
    choice = choose(potential, path)
    if path == "auto":
        announce(choice)
    path = choice.path
    if tf32_network and (path == "reference" or dtype != "float32" or jax.default_backend() == "cpu"):
        raise UserError(
            f"tf32_network needs path fast or kernel, dtype float32 and a GPU, but path is {path}, dtype {dtype} "
            f"and the device a {jax.default_backend()}; leave it out"
        )
    if path == "reference":
        trained = potential.trained, potential.fitted_grade if grades else None
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), trained)
        return params, lambda params, system, reverse=None: potential.predict(params[0], system, params[1])
    if path == "kernel" and jax.default_backend() == "cpu":
        return cpp.to_kernel_parameters(potential, dtype, grades), partial(cpp.predict, potential)
    function = xla.predict
    if path == "kernel":
        from gmnn.kernels.pallas import predict as pallas  # Triton is slow to import

        function = pallas.predict
    params = parameters.to_kernel_parameters(potential, dtype, grades=grades)
    return params, partial(function, potential, precision=TF32 if tf32_network else HIGHEST)


def part_evaluator(
    potential: Potential, path: str, dtype: str, one_core: bool = False, grades: bool = False
) -> tuple[Any, Callable[..., Part]]:
    """Return parameters as `dtype` and a function of them and of a part of the atoms, for programs that share them out.

    The neighbour slots of its system belong to the first C of the N atoms; the function returns a `blocks.Part`, whose
    virials are summed on the reference path.
    """
    params, _ = evaluator(potential, path, dtype, grades=grades)
    path = choose(potential, path).path
    if path == "kernel" and jax.default_backend() != "cpu":
        raise UserError("path kernel evaluates a part of the atoms on a CPU only; use path fast or auto")
    parts: dict[str, Callable[..., Part]] = {
        "reference": _reference_part, "fast": xla.predict_part, "kernel": partial(cpp.predict_part, one_core=one_core),
    }  # fmt: skip
    return params, partial(parts[path], potential)


def _reference_part(potential: Potential, params: Any, system: System) -> Part:
    n, n_own = len(system.numbers), len(system.neighbors)
    more = ((0, n - n_own), (0, 0))
    neighbors = jnp.pad(system.neighbors, more, constant_values=n)  # a ghost alone has a constant energy
    whole = system._replace(neighbors=neighbors, shifts=jnp.pad(system.shifts, (*more, (0, 0))))
    trained, grade = params
    prediction = potential.predict(trained, whole, grade)
    grades = None if prediction.grades is None else prediction.grades[:n_own]
    return Part(prediction.energies[:n_own], prediction.forces, prediction.virial[None], grades)


def needed_memory(potential: Potential, path: str, dtype: str, atoms: int, slots: int) -> float:
    """Estimate the bytes that evaluating so many atoms with so many neighbour slots in all needs by a path's own name.

    Autodiff keeps every value of every slot; its estimate is within a factor of two of what XLA counts.
    """
    config, needed = potential.config, float(SLOT_BYTES * slots)
    if path == "reference":
        values = (7 * config.n_basis + 45 * config.n_radial) * slots + 4 * max(config.hidden, default=0) * atoms
        members = config.members if config.ensemble == "full" else 1
        needed += values * members * np.dtype(dtype).itemsize
    return needed


def require_memory(potential: Potential, path: str, dtype: str, atoms: int, slots: int, processes: int = 1) -> None:
    """Raise UserError if memory would not do for `needed_memory` in each of `processes` that share it."""
    needed = needed_memory(potential, path, dtype, atoms, slots)
    if needed * processes > memory.MEMORY_SHARE * (limit := _memory()):
        among = f" in each of {processes} processes" if processes > 1 else ""
        raise UserError(
            f"path {path} would need about {needed / 2**30:.3g} GB{among} for {atoms:,} atoms with {slots:,} neighbour "
            f"slots, but there are {limit / 2**30:.3g} GB; take fewer atoms, or path fast if it is not that already"
        )


def _memory() -> float:
    """Bytes of memory of the device that computes; those of the machine for a CPU."""
    stats = jax.local_devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    return float((stats or {}).get("bytes_limit", 0)) or memory.machine_memory()


@cache
def announce(choice: Choice) -> None:
    """Print the choice on stderr, once in a process."""
    print(f"gmnn: energies and forces by path {choice.path} ({choice.why})", file=sys.stderr, flush=True)
