"""The decoupled core: what the network sees of a pair that comes closer than any pair of the data.

This module holds pure functions of distances and moments, and the radii at which they act. Below the clamp's inner
radius the network sees a constant distance, below the gate's inner radius no direction; the moments of a centre are
bounded. Only the repulsion then depends on the approach. Its window closes where the clamp begins or beyond
(docs/certificate.md).
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from gmnn.config.model import CoreConfig, ModelConfig
from gmnn.elements import covalent_radius, pair_name
from gmnn.errors import UserError
from gmnn.model.descriptor import squared_norm
from gmnn.reference import Reference

AGNESI_A, AGNESI_Q, AGNESI_P = 1.0805, 0.9183, 4.5791  # as in MACE (Batatia et al., arXiv:2401.00096)
ABSENT_OUTER = 1.5  # smallest outer end of the window of pairs absent from the data, in summed covalent radii


class PairTables(NamedTuple):
    """Radii in Å of every pair of elements, [E, E] float64 in NumPy, or of every slot, [N, K] in the model."""

    clamp_in: Any  # below it the network sees a constant; r_max for pairs absent from the data
    clamp_width: Any  # from clamp_in + clamp_width it sees the distance itself
    gate_in: Any  # below it directions are hidden
    gate_out: Any  # from it on they are visible in full
    switch_in: Any  # a neighbour below it switches off the network's energy of an atom
    switch_out: Any  # from it on a neighbour leaves that energy as it is; 0 for pairs absent from the data
    r_on: Any  # here the window of the repulsion starts to close
    r_off: Any  # here it has closed


def pair_tables(config: ModelConfig, reference: Reference) -> PairTables:
    """Radii of all pairs of elements; UserError if the configuration and the data leave a gap.

    The network or the repulsion must depend on every distance of a pair: a window in covalent sums closes at the larger
    of `outer` sums and the outer radius of the clamp. Pairs absent from the data repel each other from at least 1.5
    covalent sums inwards.
    """
    elements, core, zbl = reference.elements, config.core, config.zbl
    n = len(elements)
    names = [[pair_name(elements[e], elements[f]) for f in range(n)] for e in range(n)]
    zeros = np.zeros((n, n))
    needs_sums = config.repulsion != "none" and zbl.window != "cosine"
    sums = covalent_sums(elements) if needs_sums else zeros
    r_on, r_off = (zeros, zeros + zbl.r_off) if zbl.window == "cosine" else (zbl.inner * sums, zbl.outer * sums)
    clamp_in, clamp_width, gate_in, gate_out, switch_in, switch_out = (zeros,) * 6
    if config.uses_distances:
        for name in core.radii:
            if name not in {x for row in names for x in row}:
                known = ", ".join(sorted({x for row in names for x in row}))
                raise UserError(f"model.core.radii names {name}, but the pairs of this potential are {known}")
        configured = np.array([[core.radii.get(name, np.nan) for name in row] for row in names])
        closest = np.where(np.isnan(configured), closest_table(reference), configured)
        absent = np.isnan(closest)
        top = np.where(absent, config.r_max, np.where(np.isnan(configured), 1.0 - core.margin, 1.0) * closest)
        width = core.width * top
        inside = np.where(absent, config.r_max, top - width)
        if core.clamp:
            clamp_in, clamp_width = inside, np.where(absent, 1.0, width)
        if core.gate:
            gate_in, gate_out = core.gate_inner * inside, core.gate_outer * inside
        if core.nearest_switch:
            switch_in, switch_out = np.where(absent, 0.0, inside), np.where(absent, 0.0, top)
        if needs_sums and zbl.window == "closest":
            r_on = zbl.inner * np.where(absent, sums, closest)
            r_off = np.where(absent, max(zbl.outer, ABSENT_OUTER) * sums, zbl.outer * closest)
        elif needs_sums and (core.clamp or core.nearest_switch):
            r_off = np.where(absent, np.maximum(r_off, ABSENT_OUTER * sums), np.maximum(r_off, top))
    if needs_sums:
        r_off = np.minimum(r_off, config.r_max)  # large atoms: the window closes where the neighbour list ends
    tables = PairTables(clamp_in, clamp_width, gate_in, gate_out, switch_in, switch_out, r_on, r_off)
    if config.repulsion != "none":
        _check_windows(config, tables, names)
    return tables


def _check_windows(config: ModelConfig, tables: PairTables, names: list[list[str]]) -> None:
    """Raise UserError if the neighbour list cuts off a window or a window closes where the network sees no distance."""
    late = tables.r_on >= tables.r_off
    if late.any():
        e, f = np.argwhere(late)[0]
        raise UserError(
            f"the repulsion's window of {names[e][f]} starts to close at {tables.r_on[e, f]:.2f} Å, but must be closed "
            f"at model.r_max = {config.r_max} Å; raise model.r_max or lower model.zbl.inner"
        )
    for inner, width in (
        (tables.clamp_in, tables.clamp_width),
        (tables.switch_in, tables.switch_out - tables.switch_in),
    ):
        gap = (inner > 0) & (inner < config.r_max) & (tables.r_off < inner + 0.5 * width)
        if gap.any():
            e, f = np.argwhere(gap)[0]
            raise UserError(
                f"between {tables.r_off[e, f]:.2f} and {inner[e, f]:.2f} Å nothing depends on the distance of "
                f"{names[e][f]}: the repulsion's window has closed and the network is not shown it; raise "
                f"model.zbl.{'r_off' if config.zbl.window == 'cosine' else 'outer'}"
            )


def closest_table(reference: Reference) -> np.ndarray:
    """Smallest distance of each pair of elements in the training data, [E, E] Å; NaN for absent pairs."""
    n = len(reference.elements)
    if len(reference.closest) != n * (n + 1) // 2:
        raise UserError(
            "model.core.clamp, model.core.gate and model.zbl.window=closest need the smallest distances of the "
            "training data, and this potential has none; train it on data, or switch them off"
        )
    table = np.full((n, n), np.nan)
    upper = np.triu_indices(n)
    table[upper] = [np.nan if value is None else value for value in reference.closest]
    return np.where(np.isnan(table), table.T, table)


def covalent_sums(elements: tuple[int, ...]) -> np.ndarray:
    """Summed covalent radii of all pairs, [E, E] Å."""
    radii = np.array([covalent_radius(number) for number in elements])
    return radii[:, None] + radii


def clamped_distance(r: Array, radii: PairTables, settings: CoreConfig) -> Array:
    """Distance that the radial functions see: the clamped r, or r without a clamp.  [...] Å -> [...] Å"""
    return clamped(r, radii.clamp_in, radii.clamp_width, settings.depth) if settings.clamp else r


def clamped(r: Array, r_in: Array, width: Array, depth: float) -> Array:
    """r from r_in + w, the constant r_in + (1 - depth) w below r_in, C3 between.  [...] Å -> [...] Å

    Between, it is r_in + w (1 - d + (2d - 1) (20 u^4 - 45 u^5 + 36 u^6 - 10 u^7) + (1 - d) (5 u^4 - 6 u^5 + 2 u^6))
    with u = (r - r_in) / w and d the depth. At d = 1/2 the slope is the quintic step of u; at d = 1 it reaches 1.6603.
    """
    u = jnp.clip((r - r_in) / width, 0.0, 1.0)
    steep = 20.0 + u * (-45.0 + u * (36.0 - 10.0 * u))
    gentle = 5.0 + u * (-6.0 + 2.0 * u)
    inside = r_in + width * (1.0 - depth + u**4 * ((2.0 * depth - 1.0) * steep + (1.0 - depth) * gentle))
    return jnp.where(r < r_in + width, inside, r)


def gate(r: Array, inner: Array, outer: Array) -> Array:
    """0 up to inner, 1 from outer, 10 u^3 - 15 u^4 + 6 u^5 between: C2.  [...] Å -> [...]"""
    u = jnp.clip((r - inner) / jnp.maximum(outer - inner, 1e-12), 0.0, 1.0)
    return u**3 * (10.0 + u * (-15.0 + 6.0 * u))


def agnesi(r: Array, r_0: Array, r_max: float) -> Array:
    """r_max (1 - y(x)) / (1 - y(r_max / r_0)), x = r / r_0, y = 1 / (1 + a x^p / (1 + x^(p-q))): flat at contact.

    This is the form of MACE (arXiv:2401.00096, eq. 3 of its supplement, written equivalently), mapped back to
    [0, r_max].
    """

    def share(x: Array) -> Array:  # 1 - y
        z = AGNESI_A * x**AGNESI_P / (1.0 + x ** (AGNESI_P - AGNESI_Q))
        return z / (1.0 + z)

    return r_max * share(r / r_0) / share(r_max / r_0)


def bounded(moment: Array, m_0: Array) -> Array:
    """M_i / sqrt(1 + |M_i|^2 / m_0^2), whose norm is below m_0; the map is 1-Lipschitz.  [N, S, 20], [N]"""
    return moment * (1.0 / jnp.sqrt(1.0 + squared_norm(moment) / m_0**2))[:, None, None]
