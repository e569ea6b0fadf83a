"""Radial functions of a trained potential as piecewise cubic polynomials of the distance, for evaluation.

Every ordered pair of elements has the radial functions R_s behind the core, the gate of the directions, and r V(r) of
the repulsion, which is finite at contact. The polynomials are cubic Hermite pieces on equal intervals, from exact
values and slopes. They are continuous with their first derivative, so that forces are the exact gradient of the
tabulated energy.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from gmnn.model import radial, short_range
from gmnn.model.repulsion import pair_potential

if TYPE_CHECKING:
    from gmnn.model.potential import Potential

INTERVALS = 1024  # `errors` measures errors of value and slope; doubling this makes them 16 and 8 times smaller
CONTACT = 1e-9  # Å, stands for zero distance


def channels(potential: "Potential", e: int, f: int) -> Callable[[jax.Array], jax.Array]:
    """The function r -> R_s(r) for s < S, gate(r) and r V(r) in eV Å for the e-th and f-th element.  [] -> [C]"""
    config, reference = potential.config, potential.reference
    coefficients = jnp.asarray(potential.trained["radial"]["coefficients"], float)[e, f]
    radii = short_range.PairTables(*(float(np.asarray(x)[e, f]) for x in short_range.pair_tables(config, reference)))
    basis, cutoff = radial.radial_basis(config), radial.cutoff_function(config)
    repulsion = pair_potential(potential.trained, config, reference)

    def values(r: jax.Array) -> jax.Array:
        clamped = short_range.clamped_distance(r, radii, config.core)
        gate = short_range.gate(r, radii.gate_in, radii.gate_out) if config.core.gate else jnp.ones_like(r)
        x = clamped
        if config.distance == "agnesi":
            x = short_range.agnesi(clamped, short_range.covalent_sums(reference.elements)[e, f] / 2.0, config.r_max)
        functions = jnp.matmul(coefficients, basis(x), precision="highest") * cutoff(clamped)
        return jnp.concatenate([functions, gate[None], (r * repulsion(r, e, f))[None]])

    return values


def tabulate(potential: "Potential", dtype: str, intervals: int = INTERVALS) -> jax.Array:
    """The tables of all pairs of elements, computed in float64 and stored as `dtype`.  [E * E * (intervals + 1), 4 * C]

    A row holds c_0 ... c_3 of `piece`, powers before channels; the last row of each pair is 0, beyond the cutoff.
    """
    n, rows = len(potential.reference.elements), []
    with jax.enable_x64(True):
        step = potential.config.r_max / intervals
        nodes = jnp.maximum(step * jnp.arange(intervals + 1), CONTACT)
        for e, f in product(range(n), repeat=2):
            value, slope = _exact(potential, e, f, nodes)
            y0, y1, d0, d1 = value[:-1], value[1:], step * slope[:-1], step * slope[1:]
            pieces = np.stack([y0, d0, 3 * (y1 - y0) - 2 * d0 - d1, 2 * (y0 - y1) + d0 + d1], axis=1)
            rows += [pieces.reshape(intervals, -1), np.zeros((1, pieces[0].size))]
        return jnp.asarray(np.concatenate(rows), dtype)


def piece(c: Sequence[Any], t: Any) -> tuple[Any, Any]:
    """c_0 + t (c_1 + t (c_2 + t c_3)) at t in [0, 1] of an interval, and its slope by t."""
    return c[0] + t * (c[1] + t * (c[2] + t * c[3])), c[1] + t * (2.0 * c[2] + 3.0 * t * c[3])


def errors(potential: "Potential", intervals: int = INTERVALS) -> tuple[np.ndarray, np.ndarray]:
    """Largest error of every channel and of its slope, over all pairs and seven places in every interval.  2 x [C]

    Only distances beyond 0.1 Å count; below it r V(r) is tabulated too, but nothing is ever computed.
    """
    n, step = len(potential.reference.elements), potential.config.r_max / intervals
    t, far = np.linspace(0, 1, 9)[1:-1], int(np.ceil(0.1 / step))
    with jax.enable_x64(True):
        rows = np.asarray(tabulate(potential, "float64", intervals)).reshape(n, n, intervals + 1, 4, -1)[:, :, far:-1]
        r = jnp.asarray((step * (np.arange(far, intervals)[:, None] + t)).ravel())
        worst: list[list[np.ndarray]] = [[], []]
        for e, f in product(range(n), repeat=2):
            value, slope = piece([rows[e, f, :, p][:, None] for p in range(4)], t[None, :, None])
            for maxima, table, exact in zip(worst, (value, slope / step), _exact(potential, e, f, r), strict=True):
                maxima.append(np.abs(table - exact.reshape(table.shape)).max(axis=(0, 1)))
    return np.max(worst[0], axis=0), np.max(worst[1], axis=0)


def _exact(potential: "Potential", e: int, f: int, r: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """The channels of a pair of elements and their slopes at distances r [n] Å, 2 x [n, C]."""
    function = channels(potential, e, f)
    # not jitted: operations run one by one, and all pairs share them
    value, slope = jax.vmap(lambda x: jax.jvp(function, (x,), (jnp.ones_like(x),)))(r)
    return np.asarray(value), np.asarray(slope)
