"""The prediction of `xla.predict` by two kernels and the network between them; forces without atomic additions.

The forward kernel goes from slots over radial functions and moments to invariants; the backward kernel goes from the
derivative by the invariants to the derivative by every slot's vector. This last derivative, 12 bytes, is all that is
written for a slot. An atom gathers it from its partners' slots if the list knows them.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from gmnn.kernels.blocks import joined, offset_reverse_slots, scatter_forces, to_prediction
from gmnn.kernels.pallas import invariants as pallas_invariants
from gmnn.kernels.pallas import slots as pallas_slots
from gmnn.kernels.pallas.slots import LANES, Atoms, Plan
from gmnn.kernels.parameters import FastParams
from gmnn.kernels.readout import Precision, network
from gmnn.kernels.xla import HIGHEST
from gmnn.model.descriptor import n_features
from gmnn.model.grade import distances
from gmnn.model.potential import Potential
from gmnn.system import Prediction, System

FEW, TOGETHER = 32768, 4  # below so many atoms four warps share their slots, or the GPU would not be full


def predict(
    potential: Potential, params: FastParams, system: System, reverse: Any = None, precision: Precision = HIGHEST
) -> Prediction:
    """Energy, forces and virial of one system, or of a batch with a leading axis, whose atoms share the blocks.

    `reverse` and `precision` are as in `xla.predict`. On a CPU Pallas interprets the kernels, which is for tests.
    """
    atoms, count = joined(system), system.numbers.size
    elements = jnp.asarray(potential.element_index)[atoms.numbers]
    plan, arrays = laid_out(potential, params, atoms, elements, system.numbers.shape[-1])
    padded, n = len(arrays.atoms), plan.n_radial
    places = jnp.asarray(pallas_invariants.places(n))
    moments, invariants = call(
        plan, "moments_and_invariants", forward, [(20 * n + 2, padded), (n_features(n), padded)], *arrays, places
    )
    e_i = jnp.pad(elements, (0, padded - count))
    members, by_feature, last_hidden = network(params, potential.config.bounded, invariants, e_i, precision)
    shapes = [(20 * n, padded), (3, plan.slots, padded), (12, padded)]
    _, gradient, sums = call(plan, "forces", backward, shapes, *arrays, places, moments, by_feature)
    members = (members + moments[20 * n + 1][:, None])[:count]
    slot_sums = sums[:3, :count].T
    if reverse is None:
        onto = jnp.transpose(gradient[:, : atoms.neighbors.shape[1], :count], (2, 1, 0))
        forces = scatter_forces(slot_sums, onto, atoms.neighbors, None)
    else:
        forces = slot_sums - gathered(gradient, atoms.neighbors, offset_reverse_slots(system, reverse))
    virial = sums[3:, :count].reshape(3, 3, len(atoms.cell), -1)
    grades = None if params.grade is None else distances(params.grade, last_hidden, e_i)[:count]
    return to_prediction(system, members, forces, jnp.transpose(jnp.sum(virial, axis=3), (2, 0, 1)), grades)


def gathered(gradient: Array, neighbors: Array, reverse: Array) -> Array:
    """Sum of the derivatives by the vectors of each atom's reverse slots, [N, 3]: how other atoms' slots pull at it."""
    count, slots = neighbors.shape
    real = (neighbors < count).T
    flat = jnp.where(real, reverse.T, 0)
    row, slot = flat // slots, flat % slots
    return jnp.stack([jnp.sum(jnp.where(real, component[slot, row], 0.0), axis=0) for component in gradient], axis=1)


def laid_out(
    potential: Potential, params: FastParams, atoms: System, elements: Array, per_system: int
) -> tuple[Plan, Atoms]:
    """Lay out atoms along the last axis, padded to whole blocks, and slots padded to whole turns."""
    config, count, dtype = potential.config, len(atoms.numbers), atoms.positions.dtype
    together = TOGETHER if count < FEW else 1
    more, wide = -count % LANES, -atoms.neighbors.shape[1] % together
    neighbors = jnp.where((atoms.numbers == 0)[:, None], count, atoms.neighbors).astype(jnp.int32)
    around = ((0, wide), (0, more))
    pairs = len(params.scale) ** 2
    bounded = config.core.bounded_moments
    room = params.moment_bound[elements] ** 2 if bounded else jnp.ones(count, dtype)
    plan = Plan(
        count, per_system, neighbors.shape[1] + wide, together, config.n_radial, len(params.scale),
        len(params.table) // pairs - 1, config.r_max, config.unit_offset, bounded,
    )  # fmt: skip
    return plan, Atoms(
        jnp.pad(jnp.concatenate([atoms.positions, elements[:, None].astype(dtype)], axis=1), ((0, more), (0, 0))),
        atoms.cell.reshape(-1, 9),
        jnp.pad(neighbors.T, around, constant_values=count),
        jnp.pad(jnp.transpose(atoms.shifts.astype(jnp.int32), (2, 1, 0)), ((0, 0), *around)),
        params.table,
        jnp.pad(room, (0, more), constant_values=1.0),
    )


def call(plan: Plan, name: str, kernel: Any, shapes: list[tuple[int, ...]], *arrays: Array) -> Any:
    """Run a kernel over blocks of A atoms, with one warp for each of T slots at a time."""
    whole = pl.BlockSpec(memory_space=pl.ANY)
    return pl.pallas_call(
        lambda *references: kernel(plan, *references),
        out_shape=[jax.ShapeDtypeStruct(shape, arrays[0].dtype) for shape in shapes],
        grid=(arrays[0].shape[0] // LANES,),
        in_specs=[whole] * len(arrays),
        out_specs=[whole] * len(shapes),
        compiler_params=triton.CompilerParams(num_warps=plan.together, num_stages=1),
        interpret=jax.default_backend() == "cpu",
        name=name,
    )(*arrays)


def forward(plan: Plan, *references: Any) -> None:
    atoms, (places, moments, invariants) = Atoms(*references[:6]), references[6:]
    pallas_slots.moments(plan, atoms, moments)
    _meet()
    pallas_invariants.invariants(plan, pallas_slots.own(plan, atoms), places, moments, invariants)


def backward(plan: Plan, *references: Any) -> None:
    atoms, (places, moments, by_feature, by_moment, gradient, sums) = Atoms(*references[:6]), references[6:]
    pallas_invariants.pullback(plan, pallas_slots.own(plan, atoms), places, moments, by_feature, by_moment)
    _meet()
    pallas_slots.forces(plan, atoms, moments, by_moment, gradient, sums)


def _meet() -> None:
    """Synchronise the warps of a block, so that each sees what all have written."""
    if jax.default_backend() != "cpu":
        triton.debug_barrier()
