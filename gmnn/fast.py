"""The same prediction as `Potential.predict`, several times as fast: tables, an adjoint written out, blocks of atoms.

Nothing is differentiated by JAX here. A block of atoms goes from its slots to moments, invariants, network and back to
the derivative of the energy by the vector of every slot; arrays of slots are [N, channel, K], those of atoms
[channel, N]. Selected by name: `path="fast"` of the calculator and of dynamics.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gmnn import contractions, core, tables
from gmnn.apart import apart
from gmnn.descriptor import COMPONENTS, HIGHEST, monomial_components, monomial_gradient
from gmnn.errors import UserError
from gmnn.joining import collected, everyone, joined, predicted
from gmnn.model_config import ModelConfig
from gmnn.potential import Potential
from gmnn.prepared import FastParams, cores, prepare
from gmnn.sharing import in_blocks, placed, shared
from gmnn.system import Prediction, System

CPU_BLOCK, BLOCK = 128, 16384  # atoms together: so that their arrays stay in the cache; that fill a GPU, some 5 GB
PATHS = ("reference", "fast", "kernel")
Precision = Any  # of jax.numpy.dot
TF32 = jax.lax.DotAlgorithmPreset.TF32_TF32_F32


def evaluator(
    potential: Potential, path: str, dtype: str, tf32_network: bool = False
) -> tuple[Any, Callable[..., Prediction]]:
    """Parameters as `dtype` and predict(parameters, system, reverse=None) of the path.

    `reference` is autodiff, `fast` this module, `kernel` gmnn/kernels: C++ on a CPU, else Pallas. UserError for another
    name, or for what the path cannot evaluate. `tf32_network`: the network's products only, on a GPU only.
    """
    if path not in PATHS:
        raise UserError(f"path is {path!r}, but must be one of {', '.join(PATHS)}")
    if tf32_network and (path == "reference" or dtype != "float32" or jax.default_backend() == "cpu"):
        raise UserError(
            f"tf32_network needs path fast or kernel, dtype float32 and a GPU, but path is {path}, dtype {dtype} "
            f"and the device a {jax.default_backend()}; leave it out"
        )
    if path == "reference":
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), potential.trained)
        return params, lambda params, system, reverse=None: potential.predict(params, system)
    from gmnn.kernels import fused, native  # built on this module

    if path == "kernel" and jax.default_backend() == "cpu":
        return native.prepare(potential, dtype), partial(native.predict, potential)
    function = fused.predict if path == "kernel" else predict
    return prepare(potential, dtype), partial(function, potential, precision=TF32 if tf32_network else HIGHEST)


def compiled(function: Callable[..., Any], one_core: bool = False) -> Callable[..., Any]:
    """`jax.jit` in which every device of the CPU computes on one core if there are several devices, or several
    processes (`one_core`), so that they do not get in each other's way; on other platforms nothing else.
    """
    single = {"xla_cpu_multi_thread_eigen": False} if one_core or cores().size > 1 else None
    return jax.jit(function, compiler_options=single)


def predict(
    potential: Potential, params: FastParams, system: System, reverse: Any = None, precision: Precision = HIGHEST
) -> Prediction:
    """Energy, forces and virial of one system; of a batch with a leading axis, whose atoms share the blocks.

    With `reverse` [N, K], as in `cell_list.Slots`, forces are gathered, not added up in any order. `precision`: of the
    network's products. CPU devices (`jax.config.update("jax_num_cpu_devices", 2)` first of all) share the atoms.
    """
    share = partial(_share, potential, system.numbers.shape[-1], precision)
    found = shared(share, params, joined(system), _block_size(), everyone(system, reverse))
    return predicted(system, *found)


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
) -> tuple[Array, Array, Array]:
    """What some blocks of atoms add: a `sharing.Share`."""
    count = len(atoms.numbers)
    members, own, virials, onto = _evaluated(potential, per_system, precision, params, atoms, rows)
    neighbors = atoms.neighbors if reverse is not None else atoms.neighbors[jnp.minimum(rows.ravel(), count - 1)]
    forces = collected(placed(own, rows, count), onto if reverse is None else onto[:count], neighbors, reverse)
    virial = jnp.sum(placed(virials, rows, count).reshape(-1, per_system, 3, 3), axis=1)
    return placed(members, rows, count), forces, virial


def predict_part(potential: Potential, params: FastParams, system: System) -> tuple[Array, Array, Array]:
    """Of a part of the atoms: their energies [C] eV, the forces of these on all atoms [N, 3], their virials [C, 3, 3].

    For programs that share the atoms of a structure out. `neighbors` and `shifts` of the system are those of its first
    C atoms; the others are only neighbours. The virials are eV and sum to dE/d(strain). On one device.
    """
    n, count = len(system.numbers), len(system.neighbors)
    rows = in_blocks(count, _block_size())
    found = _evaluated(potential, n, HIGHEST, params, system._replace(cell=system.cell[None]), rows)
    members, own, virials, onto = (x[:count] for x in found)
    forces = collected(jnp.pad(own, ((0, n - count), (0, 0))), onto, system.neighbors, None)
    return jnp.where(system.numbers[:count] > 0, jnp.mean(members, axis=1), 0.0), forces, virials


def _evaluated(
    potential: Potential, per_system: int, precision: Precision, params: FastParams, atoms: System, rows: Array
) -> tuple[Array, Array, Array, Array]:
    """Of blocks of atoms [b, B], one after the other: energies [b B, M], dE/d(vector) summed over the slots [b B, 3],
    virials [b B, 3, 3] and dE/d(vector) of each slot [b B, K, 3]. Zero for rows beyond the last atom with slots.
    """
    count = len(atoms.neighbors)
    elements = jnp.append(jnp.asarray(potential.element_index)[atoms.numbers], 0)

    def block(row: Array) -> tuple[Array, Array, Array, Array]:
        chosen, real = jnp.minimum(row, count - 1), (row < count)[:, None]
        vectors = _vectors(atoms, chosen, per_system, potential.config.r_max)
        neighbors = atoms.neighbors[chosen]
        members, gradient = _block(potential, params, vectors, elements[chosen], elements[neighbors], precision)
        gradient = jnp.where(real[..., None], gradient, 0.0)  # [B, 3, K] by the vector of every slot
        virials = jnp.einsum("iak,ibk->iab", jnp.stack(vectors, axis=1), gradient, precision=HIGHEST)
        return jnp.where(real, members, 0.0), jnp.sum(gradient, axis=2), virials, jnp.swapaxes(gradient, 1, 2)

    found = tuple(x[None] for x in block(rows[0])) if len(rows) == 1 else jax.lax.map(block, rows)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)


def _vectors(atoms: System, rows: Array, per_system: int, r_max: float) -> tuple[Array, Array, Array]:
    """Components of the vectors of the slots of some atoms, 3 x [B, K] Å; (2 r_max, 0, 0) of an empty one."""
    n, j = len(atoms.numbers), atoms.neighbors[rows]
    shifts, cell = atoms.shifts[rows].astype(atoms.cell.dtype), atoms.cell[rows // per_system]
    empty = (j >= n) | (atoms.numbers[rows] == 0)[:, None]
    there, here = atoms.positions[jnp.minimum(j, n - 1)], atoms.positions[rows]
    found = []
    for a in range(3):
        image = sum(shifts[..., b] * cell[:, b, a][:, None] for b in range(3))
        found.append(jnp.where(empty, 0.0 if a else 2.0 * r_max, there[..., a] + image - here[:, a][:, None]))
    return found[0], found[1], found[2]


def _block(
    potential: Potential,
    params: FastParams,
    vectors: tuple[Array, Array, Array],
    e_i: Array,
    e_j: Array,
    precision: Precision,
) -> tuple[Array, Array]:
    """Energies of atoms [B, M] and dE/d(vector) of their slots [B, 3, K]."""
    config = potential.config
    real = params.scale[0] >= 0  # as always
    inverse, value, slope = apart(real, partial(_lookup, config, params), *vectors, e_i, e_j)
    normal = tuple(x * inverse for x in vectors)
    shorter = 1.0 / (1.0 / inverse + config.unit_offset) if config.unit_offset else inverse
    unit = tuple(x * shorter for x in vectors)
    functions, gate, repulsion = value[:, : config.n_radial], value[:, -2], value[:, -1] * inverse
    raw, shown = apart(real, _moments, unit, functions, gate)

    moments = jnp.transpose(raw, (1, 2, 0))  # [S, 20, B]
    shrink, weights = jnp.ones_like(inverse[:, 0]), jnp.asarray(core.MULTIPLICITIES, raw.dtype)[None, :, None]
    if config.core.bounded_moments:
        room = params.moment_bound[e_i] ** 2
        shrink = jax.lax.rsqrt(1.0 + jnp.sum(weights * moments**2, axis=(0, 1)) / room)
    features, kept = contractions.invariants(moments * shrink[None, None])
    members, d_features = network(params, config.bounded, features, e_i, precision)
    d_moments = contractions.pullback(kept, d_features) * shrink[None, None]
    if config.core.bounded_moments:
        along = jnp.sum(moments * d_moments, axis=(0, 1)) * shrink**2 / room
        d_moments = d_moments - along[None, None] * weights * moments
    d_raw = jnp.transpose(d_moments, (2, 0, 1))  # [B, S, 20]

    d_functions = jnp.einsum("ick,isc->isk", shown, d_raw, precision=HIGHEST)
    d_shown = sum(functions[:, s][:, None] * d_raw[:, s][:, :, None] for s in range(config.n_radial))  # [B, 20, K]
    d_unit, d_gate = monomial_gradient(unit, [d_shown[:, c] for c in range(1, len(COMPONENTS))])
    d_r = jnp.sum(slope[:, : config.n_radial] * d_functions, axis=1) + slope[:, -2] * d_gate
    d_r = d_r + 0.5 * (slope[:, -1] - repulsion) * inverse
    d_unit = [gate * shorter * d for d in d_unit]  # by the vector at fixed length
    d_r = d_r - sum(u * d for u, d in zip(unit, d_unit, strict=True))
    gradient = jnp.stack([d_r * a + d for a, d in zip(normal, d_unit, strict=True)], axis=1)
    return members + 0.5 * jnp.sum(repulsion, axis=1)[:, None], gradient


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
    shown = jnp.stack([one if not abc else gate * one for abc, one in monomial_components(unit).items()], axis=1)
    return jnp.einsum("isk,ick->isc", functions, shown, precision=HIGHEST), shown


def network(
    params: FastParams, bounded: bool, features: Array, e_i: Array, precision: Precision
) -> tuple[Array, Array]:
    """Energies of atoms from their features [F, B], [B, M] eV, and the derivative of their mean, [F, B]."""
    h, slopes = features, []
    for kernel, bias in zip(params.kernels, params.biases, strict=True):
        x = jnp.dot(kernel, h, precision=precision) + bias
        s = jax.nn.sigmoid(x)
        h = x * s
        slopes.append(s * (1.0 + x * (1.0 - s)))
    psi, last = (h, slopes.pop()) if bounded else (x, jnp.ones_like(slopes.pop()))
    sigma = params.scale[e_i]
    back = last * (sigma / len(psi))[None]
    for kernel, slope in zip(params.kernels[:0:-1], slopes[::-1], strict=True):
        back = slope * jnp.dot(kernel.T, back, precision=precision)
    return (params.shift[e_i][None] + sigma[None] * psi).T, jnp.dot(params.kernels[0].T, back, precision=precision)
