"""The prediction of `xla.predict` on a CPU by functions in C++, with the data of an atom in the cache of one core.

This is `path="kernel"` on a CPU. Forces of atoms and their slots are added up one after the other, so that they are the
same every time.
"""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gmnn.config.model import ModelConfig
from gmnn.device import cores
from gmnn.errors import UserError
from gmnn.kernels import parameters
from gmnn.kernels.blocks import Contributions, Part, joined, scatter_rows, shard_atoms, to_prediction
from gmnn.kernels.cpp.library import register
from gmnn.kernels.parameters import FastParams
from gmnn.model.potential import Potential
from gmnn.system import Prediction, System

TILE = 6  # rows of a matrix that are multiplied together, as in vectors.h
MOST_CHANNELS = 14  # radial channels; a row of the tables has two more


class NativeParams(NamedTuple):
    """The trained numbers, and the network's matrices in the order in which they are read."""

    fast: FastParams
    layers: tuple[tuple[Array, Array], ...]  # kernel and its transpose in tiles, [rows / TILE, depth, TILE]
    grade_rows: Array | None  # those of the grade in tiles, [E, rows / TILE, H, TILE]; None where none is asked for


def to_kernel_parameters(potential: Potential, dtype: str, grades: bool = False) -> NativeParams:
    """Return `parameters.to_kernel_parameters` in tiles; UserError as in `require_available`."""
    require_available(potential.config)
    return tiled(parameters.to_kernel_parameters(potential, dtype, grades=grades))


def require_available(config: ModelConfig) -> None:
    """Raise UserError for too many radial channels, or if the functions cannot be compiled. No device is touched."""
    if config.n_radial > MOST_CHANNELS:
        raise UserError(
            f"path kernel evaluates at most {MOST_CHANNELS} radial channels on a CPU, but n_radial is "
            f"{config.n_radial}; use path fast"
        )
    registered()


def tiled(params: FastParams) -> NativeParams:
    """Put the matrices into tiles, the last of them padded by zeros, and make the functions known to XLA."""
    registered()

    def tiles(kernel: Array) -> Array:
        rows = jnp.pad(kernel, ((0, -len(kernel) % TILE), (0, 0)))
        return jnp.swapaxes(rows.reshape(-1, TILE, kernel.shape[1]), 1, 2)

    layers = tuple((tiles(kernel), tiles(kernel.T)) for kernel in params.kernels)
    return NativeParams(params, layers, None if params.grade is None else jax.vmap(tiles)(params.grade.rows))


def predict(potential: Potential, params: NativeParams, system: System, reverse: Any = None) -> Prediction:
    """Energy, forces and virial of one system, or of a batch with a leading axis. `reverse` is not needed.

    A single device evaluates on all cores, several devices on one core each.
    """
    share, atoms = partial(_share, potential, system.numbers.shape[-1]), joined(system)
    return to_prediction(system, *shard_atoms(share, params, atoms, system.numbers.size, None))


def _share(
    potential: Potential, per_system: int, params: NativeParams, atoms: System, rows: Array, reverse: Any
) -> Contributions:
    """Contributions of some atoms: a `blocks.Share`."""
    count, one_core = len(atoms.numbers), cores().size > 1
    members, forces, virials, grades = _evaluated(potential, per_system, params, atoms, rows.ravel(), one_core)
    virial = jnp.sum(scatter_rows(virials, rows, count).reshape(-1, per_system, 3, 3), axis=1)
    members, grades = jax.tree.map(lambda x: scatter_rows(x, rows, count), (members, grades))
    return Contributions(members, forces, virial, grades)


def predict_part(potential: Potential, params: NativeParams, system: System, one_core: bool = False) -> Part:
    """Energies [C] of some of the atoms, their forces [N, 3] on all, virials [C, 3, 3], as `xla.predict_part`."""
    n, count = len(system.numbers), len(system.neighbors)
    whole = system._replace(cell=system.cell[None])
    members, forces, virials, grades = _evaluated(potential, n, params, whole, jnp.arange(count), one_core)
    return Part(jnp.mean(members, axis=1), forces, virials, grades)


def _evaluated(
    potential: Potential, per_system: int, params: NativeParams, atoms: System, rows: Array, one_core: bool
) -> tuple[Array, Array, Array, Array | None]:
    """Energies of some atoms [n, M] eV, forces of these energies on all atoms [N, 3], virials [n, 3, 3], grades [n].

    They are zero for rows beyond the last atom with slots, and for padding atoms.
    """
    config, (table, kernels, biases, scale, shift, bound, grade), count = potential.config, params.fast, len(rows)
    index = jnp.asarray(potential.element_index, jnp.int32)
    elements = jnp.where(atoms.numbers > 0, index[atoms.numbers], -1)
    shapes = [(count, len(kernels[-1])), atoms.positions.shape, (count, 3, 3), (count if grade else 0,)]
    layers = [x for tiles, bias in zip(params.layers, biases, strict=True) for x in (*tiles, bias)]
    dtype = atoms.positions.dtype
    call = jax.ffi.ffi_call(f"gmnn_{dtype}", [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes])
    places = (x.astype(jnp.int32) for x in (atoms.neighbors, atoms.shifts, rows))
    distances = (grade.center, params.grade_rows, grade.rest) if grade else [jnp.zeros(0, dtype)] * 3
    members, forces, virials, grades = call(
        atoms.positions, elements, atoms.cell, *places, table, scale, shift, bound, *distances, *layers,
        per_system=np.int64(per_system), r_max=np.float64(config.r_max), unit_offset=np.float64(config.unit_offset),
        bounded_readout=config.bounded, bounded_moments=config.core.bounded_moments, one_core=one_core,
    )  # fmt: skip
    return members, forces, virials, grades if grade else None


@cache
def registered() -> None:
    """Make the functions known to XLA; UserError if they cannot be compiled."""
    try:
        register("predict", "gmnn")
    except UserError as error:
        raise UserError(f"path kernel is in C++, but {error}; or use path fast") from error
