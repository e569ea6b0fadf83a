"""Radial functions of a trained potential as piecewise cubic polynomials of the distance, for evaluation.

Of every ordered pair of elements: the radial functions R_s as the core shows them, the gate of the directions, and
r V(r) of the repulsion, which is finite at contact. Cubic Hermite pieces on equal intervals, from exact values and
slopes: continuous with their first derivative, so that forces are the exact gradient of the tabulated energy.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmnn import core, radial
from gmnn.model import pair_potential

if TYPE_CHECKING:
    from gmnn.potential import Potential

INTERVALS = 1024  # errors of value and slope are stated by `errors`; doubling it makes them 16 and 8 times smaller
CONTACT = 1e-9  # Å, stands for zero distance


class Table(NamedTuple):
    """Polynomials c_0 + t (c_1 + t (c_2 + t c_3)), t in [0, 1]; the last row of each pair is 0, beyond the cutoff."""

    rows: jax.Array  # [E * E * (intervals + 1), 4 * C], powers before channels


def channels(potential: "Potential", e: int, f: int) -> Callable[[jax.Array], jax.Array]:
    """R_s(r) for s < S, the gate(r) and r V(r) in eV Å of the ordered pair of the e-th and f-th element.  [] -> [C]"""
    config, reference = potential.config, potential.reference
    coefficients = jnp.asarray(potential.trained["radial"]["coefficients"], float)[e, f]
    radii = core.PairTables(*(float(np.asarray(x)[e, f]) for x in core.pair_tables(config, reference)))
    basis, cutoff = radial.radial_basis(config), radial.cutoff_function(config)
    repulsion = pair_potential(potential.trained, config, reference)

    def values(r: jax.Array) -> jax.Array:
        seen = core.clamped(r, radii.clamp_in, radii.clamp_width) if config.core.clamp else r
        shown = core.gate(r, radii.gate_in, radii.gate_out) if config.core.gate else jnp.ones_like(r)
        x = seen
        if config.distance == "agnesi":
            x = core.agnesi(seen, core.covalent_sums(reference.elements)[e, f] / 2.0, config.r_max)
        functions = jnp.matmul(coefficients, basis(x), precision="highest") * cutoff(seen)
        return jnp.concatenate([functions, shown[None], (r * repulsion(r, e, f))[None]])

    return values


def tabulate(potential: "Potential", dtype: str, intervals: int = INTERVALS) -> Table:
    """The tables of all pairs of elements, computed in float64 and stored as `dtype`."""
    n, rows = len(potential.reference.elements), []
    with jax.enable_x64(True):
        step = potential.config.r_max / intervals
        nodes = jnp.maximum(step * jnp.arange(intervals + 1), CONTACT)
        for e in range(n):
            for f in range(n):
                function = channels(potential, e, f)
                both = jax.jit(jax.vmap(lambda r, g=function: jax.jvp(g, (r,), (jnp.ones_like(r),))))
                value, slope = (np.array(x) for x in both(nodes))
                y0, y1, d0, d1 = value[:-1], value[1:], step * slope[:-1], step * slope[1:]
                pieces = np.stack([y0, d0, 3 * (y1 - y0) - 2 * d0 - d1, 2 * (y0 - y1) + d0 + d1], axis=1)
                rows += [pieces.reshape(intervals, -1), np.zeros((1, pieces[0].size))]
        return Table(jnp.asarray(np.concatenate(rows), dtype))


def errors(potential: "Potential", intervals: int = INTERVALS) -> tuple[np.ndarray, np.ndarray]:
    """Largest error of every channel and of its slope, over all pairs and seven places in every interval.  2 x [C]

    Beyond 0.1 Å, below which r V(r) is kept as well but nothing is ever computed.
    """
    n, step = len(potential.reference.elements), potential.config.r_max / intervals
    with jax.enable_x64(True):
        rows = np.asarray(tabulate(potential, "float64", intervals).rows).reshape(n, n, intervals + 1, 4, -1)[:, :, :-1]
        t = np.linspace(0, 1, 9)[1:-1]
        r = jnp.asarray((step * (np.arange(intervals)[:, None] + t)).ravel())
        worst_value, worst_slope = np.zeros(rows.shape[-1]), np.zeros(rows.shape[-1])
        for e in range(n):
            for f in range(n):
                function = channels(potential, e, f)
                both = jax.jit(jax.vmap(lambda x, g=function: jax.jvp(g, (x,), (jnp.ones_like(x),))))
                value, slope = (np.asarray(x).reshape(intervals, len(t), -1) for x in both(r))
                c0, c1, c2, c3 = (rows[e, f, :, p][:, None] for p in range(4))
                x = t[None, :, None]
                off = np.abs(c0 + x * (c1 + x * (c2 + x * c3)) - value)
                off_slope = np.abs((c1 + x * (2 * c2 + 3 * x * c3)) / step - slope)
                far = int(np.ceil(0.1 / step))
                worst_value = np.maximum(worst_value, off[far:].max(axis=(0, 1)))
                worst_slope = np.maximum(worst_slope, off_slope[far:].max(axis=(0, 1)))
    return worst_value, worst_slope
