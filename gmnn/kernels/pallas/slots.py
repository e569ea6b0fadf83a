"""The two kernels' work on the slots of an atom: forward, radial functions and moments; backward, forces.

Every array is [T, A]: A atoms along the lanes of a warp, so that loads and stores of one slot are adjacent in memory,
and T slots at a time, one for each warp. The loop over slots stays inside the kernel. Its sums, 20 moments per channel,
live in registers.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from gmnn.kernels import tables
from gmnn.model import descriptor
from gmnn.model.descriptor import monomial_components, monomial_gradient, total

LANES = 32  # A
MULTIPLICITIES = [float(w) for w in descriptor.MULTIPLICITIES]


class Plan(NamedTuple):
    """Numbers that are fixed when a kernel is compiled."""

    atoms: int  # number of atoms of all systems
    per_system: int
    slots: int  # K, a multiple of T
    together: int  # T
    n_radial: int  # S
    n_elements: int
    intervals: int
    r_max: float
    unit_offset: float
    bounded: bool


class Atoms(NamedTuple):
    """Data of atoms and slots for the kernels, padded to whole blocks of A atoms; arrays, or references to them."""

    atoms: Any  # [N, 4] x, y, z in Å and the element
    cell: Any  # [B, 9] Å
    neighbors: Any  # [K, N] int32, `Plan.atoms` or more = empty
    shifts: Any  # [3, K, N] int32
    table: Any  # as tables.tabulate returns it
    room: Any  # [N] square of the bound of the moments


class Own(NamedTuple):
    """Data of the atoms of a block, [T, A] each."""

    at: Array
    turn: Array  # which of the T
    position: list[Array]  # Å
    element: Array
    cell: list[Array]  # 9 numbers, Å


class Slot(NamedTuple):
    """One slot of every atom, [T, A] each."""

    at: Array
    normal: list[Array]  # vector / r
    unit: list[Array]  # vector / (r + offset)
    inverse: Array  # 1 / r
    shorter: Array  # 1 / (r + offset)
    value: list[Array]  # S radial functions, the gate, r V(r)
    slope: list[Array]  # by r


def own(plan: Plan, refs: Atoms) -> Own:
    """Load the atoms of this block."""
    turn, lane = (jax.lax.broadcasted_iota(jnp.int32, (plan.together, LANES), axis) for axis in (0, 1))
    index = pl.program_id(0).astype(jnp.int32) * LANES + lane
    x, y, z, element = (triton.load(refs.atoms.at[index, a]) for a in range(4))
    system = jnp.minimum(index, plan.atoms - 1) // plan.per_system
    cell = [triton.load(refs.cell.at[system, c]) for c in range(9)]
    return Own(index, turn, [x, y, z], element.astype(jnp.int32), cell)


def slot(plan: Plan, refs: Atoms, centre: Own, k: Array) -> Slot:
    """Load the k-th slots, T at a time, with functions and slopes from the tables."""
    index = k * plan.together + centre.turn
    j = triton.load(refs.neighbors.at[index, centre.at])
    shift = [triton.load(refs.shifts.at[a, index, centre.at]).astype(centre.cell[0].dtype) for a in range(3)]
    empty, j = j >= plan.atoms, jnp.minimum(j, plan.atoms - 1)
    vector = []
    for a in range(3):
        image = shift[0] * centre.cell[a] + shift[1] * centre.cell[3 + a] + shift[2] * centre.cell[6 + a]
        difference = triton.load(refs.atoms.at[j, a]) + image - centre.position[a]
        vector.append(jnp.where(empty, 0.0 if a else 2.0 * plan.r_max, difference))
    e_j = triton.load(refs.atoms.at[j, 3]).astype(jnp.int32)
    r = jnp.sqrt(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2])
    place = jnp.minimum(r * (plan.intervals / plan.r_max), float(plan.intervals))
    row = place.astype(jnp.int32)
    t = place - row.astype(place.dtype)
    pair = (centre.element * plan.n_elements + e_j) * (plan.intervals + 1) + row
    channels = plan.n_radial + 2
    pieces = [
        tables.piece([triton.load(refs.table.at[pair, p * channels + c]) for p in range(4)], t) for c in range(channels)
    ]
    inverse = 1.0 / r
    shorter = 1.0 / (r + plan.unit_offset) if plan.unit_offset else inverse
    return Slot(
        index, [x * inverse for x in vector], [x * shorter for x in vector], inverse, shorter,
        [value for value, _ in pieces], [slope * (plan.intervals / plan.r_max) for _, slope in pieces],
    )  # fmt: skip


def moments(plan: Plan, refs: Atoms, into: Any) -> None:
    """Sum the slots: rows 20 s + c are the bounded moments, then follow the bound's factor and the repulsion, eV."""
    centre, n = own(plan, refs), plan.n_radial
    zero = jnp.zeros_like(centre.position[0])

    def add(k: Array, sums: tuple[list[Array], Array]) -> tuple[list[Array], Array]:
        entry = slot(plan, refs, centre, k)
        monomials = [entry.value[n] * m if abc else m for abc, m in monomial_components(entry.unit).items()]
        added = [x + entry.value[row // 20] * monomials[row % 20] for row, x in enumerate(sums[0])]
        return added, sums[1] + entry.value[n + 1] * entry.inverse

    turns = plan.slots // plan.together
    raw, repulsion = jax.lax.fori_loop(0, turns, add, ([zero] * (20 * n), zero))
    raw, repulsion = [jnp.sum(x, axis=0) for x in raw], jnp.sum(repulsion, axis=0)
    index = pl.program_id(0).astype(jnp.int32) * LANES + jax.lax.iota(jnp.int32, LANES)
    shrink = jnp.ones_like(repulsion)
    if plan.bounded:
        square = sum(w * x * x for x, w in zip(raw, MULTIPLICITIES * n, strict=True))
        shrink = jax.lax.rsqrt(1.0 + square / triton.load(refs.room.at[index]))
    for row, x in enumerate([*(shrink * x for x in raw), shrink, 0.5 * repulsion]):
        triton.store(into.at[row, index], x)


def forces(plan: Plan, refs: Atoms, moment: Any, by_moment: Any, gradient: Any, sums: Any) -> None:
    """Store dE/d(vector) of every slot, [3, K, N] eV/Å, and for each atom their sum and the 9 virial numbers, [12, N].

    `moment` is the output of `moments`; `by_moment` [20 S, N] holds dE/d(moment) behind the bound.
    """
    centre, n = own(plan, refs), plan.n_radial
    at, zero = centre.at, jnp.zeros_like(centre.position[0])
    d_raw = [triton.load(by_moment.at[row, at]) for row in range(20 * n)]
    if plan.bounded:

        def bounded(row: int) -> Array:
            return triton.load(moment.at[row, at])

        along = sum(d * bounded(row) for row, d in enumerate(d_raw)) / triton.load(refs.room.at[at])
        shrink = bounded(20 * n)
        d_raw = [shrink * (d - along * MULTIPLICITIES[row % 20] * bounded(row)) for row, d in enumerate(d_raw)]

    def add(k: Array, totals: list[Array]) -> list[Array]:
        entry = slot(plan, refs, centre, k)
        gate, plain = entry.value[n], list(monomial_components(entry.unit).values())
        d_r = zero
        for s in range(n):
            behind = sum(plain[c] * d_raw[20 * s + c] for c in range(1, 20))
            d_r = d_r + entry.slope[s] * (d_raw[20 * s] + gate * behind)
        by_monomial = [total(entry.value[s] * d_raw[20 * s + c] for s in range(n)) for c in range(1, 20)]
        d_unit, d_gate = monomial_gradient(entry.unit, by_monomial)
        d_r = d_r + entry.slope[n] * d_gate
        d_r = d_r + 0.5 * (entry.slope[n + 1] - entry.value[n + 1] * entry.inverse) * entry.inverse
        d_unit = [gate * entry.shorter * d for d in d_unit]  # by the vector at fixed length
        d_r = d_r - sum(u * d for u, d in zip(entry.unit, d_unit, strict=True))
        by_vector = [d_r * a + d for a, d in zip(entry.normal, d_unit, strict=True)]
        for a in range(3):
            triton.store(gradient.at[a, entry.at, at], by_vector[a])
        vector = [x / entry.inverse for x in entry.normal]
        virial = [vector[a] * by_vector[b] for a in range(3) for b in range(3)]
        return [total + x for total, x in zip(totals, [*by_vector, *virial], strict=True)]

    totals = jax.lax.fori_loop(0, plan.slots // plan.together, add, [zero] * 12)
    index = pl.program_id(0).astype(jnp.int32) * LANES + jax.lax.iota(jnp.int32, LANES)
    for row, x in enumerate(totals):
        triton.store(sums.at[row, index], jnp.sum(x, axis=0))
