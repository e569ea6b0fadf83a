"""The same prediction as `Potential.predict`, several times as fast: tables, an adjoint written out, blocks of atoms.

JAX differentiates nothing here. A block of atoms goes from its slots to moments, invariants, network and back to the
derivative of the energy by the vector of every slot. Arrays of slots are [N, channel, K], arrays of atoms [channel, N].
The calculator and dynamics select this by `path="fast"`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gmnn.config.model import ModelConfig
from gmnn.device import computed_once
from gmnn.kernels import invariants, tables
from gmnn.kernels.blocks import (
    Contributions,
    Part,
    in_blocks,
    joined,
    offset_reverse_slots,
    scatter_forces,
    scatter_rows,
    shard_atoms,
    to_prediction,
)
from gmnn.kernels.parameters import FastParams
from gmnn.kernels.readout import Precision, network
from gmnn.model import descriptor
from gmnn.model.descriptor import COMPONENTS, HIGHEST, monomial_components, monomial_gradient
from gmnn.model.grade import distances
from gmnn.model.potential import Potential
from gmnn.system import Prediction, System

CPU_BLOCK, BLOCK = 128, 16384  # atoms at a time: their arrays stay in the cache; they fill a GPU, some 5 GB


def predict(
    potential: Potential, params: FastParams, system: System, reverse: Any = None, precision: Precision = HIGHEST
) -> Prediction:
    """Energy, forces and virial of one system, or of a batch with a leading axis, whose atoms share the blocks.

    With `reverse` [N, K], as in `neighbors.Slots`, forces are gathered and not added up in an arbitrary order.
    `precision` is that of the network's products. Several CPU devices share the atoms; ask for them by
    `jax.config.update("jax_num_cpu_devices", 2)` before all else.
    """
    share = partial(_share, potential, system.numbers.shape[-1], precision)
    contributions = shard_atoms(share, params, joined(system), _block_size(), offset_reverse_slots(system, reverse))
    return to_prediction(system, *contributions)


def _block_size() -> int:
    return CPU_BLOCK if jax.default_backend() == "cpu" else BLOCK


def _share(
    potential: Potential,
    per_system: int,
    precision: Precision,
    params: FastParams,
    atoms: System,
    rows: Array,
    reverse: Any,
) -> Contributions:
    """Contributions of some blocks of atoms: a `blocks.Share`."""
    count = len(atoms.numbers)
    members, slot_sums, virials, onto, grades = _evaluated(potential, per_system, precision, params, atoms, rows)
    neighbors = atoms.neighbors if reverse is not None else atoms.neighbors[jnp.minimum(rows.ravel(), count - 1)]
    forces = scatter_forces(
        scatter_rows(slot_sums, rows, count), onto if reverse is None else onto[:count], neighbors, reverse
    )
    virial = jnp.sum(scatter_rows(virials, rows, count).reshape(-1, per_system, 3, 3), axis=1)
    members, grades = jax.tree.map(lambda x: scatter_rows(x, rows, count), (members, grades))
    return Contributions(members, forces, virial, grades)


def predict_part(potential: Potential, params: FastParams, system: System) -> Part:
    """Energies of some of the atoms [C] eV, the forces of these energies on all atoms [N, 3], the virials [C, 3, 3].

    This is for programs that distribute the atoms of a structure. `neighbors` and `shifts` of the system are those of
    its first C atoms; the others are only neighbours. The virials are in eV and sum to dE/d(strain). It runs on one
    device.
    """
    n, count = len(system.numbers), len(system.neighbors)
    rows = in_blocks(count, _block_size())
    results = _evaluated(potential, n, HIGHEST, params, system._replace(cell=system.cell[None]), rows)
    members, slot_sums, virials, onto, grades = jax.tree.map(lambda x: x[:count], results)
    forces = scatter_forces(jnp.pad(slot_sums, ((0, n - count), (0, 0))), onto, system.neighbors, None)
    real = system.numbers[:count] > 0
    grades = None if grades is None else jnp.where(real, grades, 0.0)
    return Part(jnp.where(real, jnp.mean(members, axis=1), 0.0), forces, virials, grades)


def _evaluated(
    potential: Potential, per_system: int, precision: Precision, params: FastParams, atoms: System, rows: Array
) -> tuple[Array, Array, Array, Array, Array | None]:
    """Evaluate blocks of atoms [b, B], one after the other.

    Returns energies [b B, M], dE/d(vector) summed over the slots [b B, 3], virials [b B, 3, 3], dE/d(vector) of each
    slot [b B, K, 3] and grades [b B] or None. They are zero for rows beyond the last atom with slots.
    """
    count = len(atoms.neighbors)
    elements = jnp.append(jnp.asarray(potential.element_index)[atoms.numbers], 0)

    def block(row: Array) -> tuple[Array, Array, Array, Array, Array | None]:
        chosen, real = jnp.minimum(row, count - 1), (row < count)[:, None]
        vectors = _vectors(atoms, chosen, per_system, potential.config.r_max)
        neighbors = atoms.neighbors[chosen]
        members, gradient, grades = _block(potential, params, vectors, elements[chosen], elements[neighbors], precision)
        gradient = jnp.where(real[..., None], gradient, 0.0)  # [B, 3, K] by the vector of every slot
        virials = jnp.einsum("iak,ibk->iab", jnp.stack(vectors, axis=1), gradient, precision=HIGHEST)
        grades = None if grades is None else jnp.where(real[:, 0], grades, 0.0)
        members = jnp.where(real, members, 0.0)
        return members, jnp.sum(gradient, axis=2), virials, jnp.swapaxes(gradient, 1, 2), grades

    results = jax.tree.map(lambda x: x[None], block(rows[0])) if len(rows) == 1 else jax.lax.map(block, rows)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), results)


def _vectors(atoms: System, rows: Array, per_system: int, r_max: float) -> tuple[Array, Array, Array]:
    """Components of the vectors of the slots of some atoms, 3 x [B, K] Å; (2 r_max, 0, 0) for an empty slot."""
    n, j = len(atoms.numbers), atoms.neighbors[rows]
    shifts, cell = atoms.shifts[rows].astype(atoms.cell.dtype), atoms.cell[rows // per_system]
    empty = (j >= n) | (atoms.numbers[rows] == 0)[:, None]
    x_j, x_i = atoms.positions[jnp.minimum(j, n - 1)], atoms.positions[rows]
    vectors = []
    for a in range(3):
        image = sum(shifts[..., b] * cell[:, b, a][:, None] for b in range(3))
        vectors.append(jnp.where(empty, 0.0 if a else 2.0 * r_max, x_j[..., a] + image - x_i[:, a][:, None]))
    return vectors[0], vectors[1], vectors[2]


def _block(
    potential: Potential,
    params: FastParams,
    vectors: tuple[Array, Array, Array],
    e_i: Array,
    e_j: Array,
    precision: Precision,
) -> tuple[Array, Array, Array | None]:
    """Energies of atoms [B, M], dE/d(vector) of their slots [B, 3, K], and grades [B] if asked for."""
    config = potential.config
    real = params.scale[0] >= 0  # always true
    inverse, value, slope = computed_once(real, partial(_lookup, config, params), *vectors, e_i, e_j)
    normal = tuple(x * inverse for x in vectors)
    shorter = 1.0 / (1.0 / inverse + config.unit_offset) if config.unit_offset else inverse
    unit = tuple(x * shorter for x in vectors)
    functions, gate, repulsion = value[:, : config.n_radial], value[:, -2], value[:, -1] * inverse
    raw, monomials = computed_once(real, _moments, unit, functions, gate)

    moments = jnp.transpose(raw, (1, 2, 0))  # [S, 20, B]
    shrink, weights = jnp.ones_like(inverse[:, 0]), jnp.asarray(descriptor.MULTIPLICITIES, raw.dtype)[None, :, None]
    if config.core.bounded_moments:
        room = params.moment_bound[e_i] ** 2
        shrink = jax.lax.rsqrt(1.0 + jnp.sum(weights * moments**2, axis=(0, 1)) / room)
    features, residuals = invariants.invariants(moments * shrink[None, None])
    members, d_features, last_hidden = network(params, config.bounded, features, e_i, precision)
    d_moments = invariants.pullback(residuals, d_features) * shrink[None, None]
    if config.core.bounded_moments:
        along = jnp.sum(moments * d_moments, axis=(0, 1)) * shrink**2 / room
        d_moments = d_moments - along[None, None] * weights * moments
    d_raw = jnp.transpose(d_moments, (2, 0, 1))  # [B, S, 20]

    d_functions = jnp.einsum("ick,isc->isk", monomials, d_raw, precision=HIGHEST)
    d_monomials = sum(functions[:, s][:, None] * d_raw[:, s][:, :, None] for s in range(config.n_radial))  # [B, 20, K]
    d_unit, d_gate = monomial_gradient(unit, [d_monomials[:, c] for c in range(1, len(COMPONENTS))])
    d_r = jnp.sum(slope[:, : config.n_radial] * d_functions, axis=1) + slope[:, -2] * d_gate
    d_r = d_r + 0.5 * (slope[:, -1] - repulsion) * inverse
    d_unit = [gate * shorter * d for d in d_unit]  # by the vector at fixed length
    d_r = d_r - sum(u * d for u, d in zip(unit, d_unit, strict=True))
    gradient = jnp.stack([d_r * a + d for a, d in zip(normal, d_unit, strict=True)], axis=1)
    grades = None if params.grade is None else distances(params.grade, last_hidden, e_i)
    return members + 0.5 * jnp.sum(repulsion, axis=1)[:, None], gradient, grades


def _lookup(
    config: ModelConfig, params: FastParams, x: Array, y: Array, z: Array, e_i: Array, e_j: Array
) -> tuple[Array, Array, Array]:
    """1 / r [B, K], tabulated functions and their slopes [B, C, K] of every slot."""
    n_elements = len(params.scale)
    intervals = len(params.table) // n_elements**2 - 1
    r = jnp.sqrt(x * x + y * y + z * z)
    place = r * (intervals / config.r_max)
    row = jnp.minimum(place.astype(jnp.int32), intervals)
    t = (place - row)[:, None]
    pair = (e_i[:, None] * n_elements + e_j) * (intervals + 1) + row
    c = jnp.swapaxes(params.table[pair], 1, 2).reshape(len(r), 4, config.n_radial + 2, -1)  # [B, 4, C, K]
    value, slope = tables.piece([c[:, p] for p in range(4)], t)
    return 1.0 / r, value, slope * (intervals / config.r_max)


def _moments(unit: tuple[Array, Array, Array], functions: Array, gate: Array) -> tuple[Array, Array]:
    """Moments before any bound, [B, S, 20], and the gated monomials of every slot, [B, 20, K]."""
    monomials = jnp.stack([m if not abc else gate * m for abc, m in monomial_components(unit).items()], axis=1)
    return jnp.einsum("isk,ick->isc", functions, monomials, precision=HIGHEST), monomials
