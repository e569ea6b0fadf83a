"""Gaussian moments and their invariants: pure functions of the vectors to the neighbours.

Zaverkin and Kaestner, JCTC 16, 5410 (2020), arXiv:2109.07421; JCTC 17, 6658 (2021), arXiv:2109.09569.
Moments are stored packed: a symmetric tensor of rank L keeps only its (L+1)(L+2)/2 distinct components, which makes
1 + 3 + 6 + 10 = 20 numbers per radial channel. Small Cartesian sums are written out component by component, so that
XLA fuses them into loops over channels; only the contractions with many terms are dots.
"""

from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import combinations_with_replacement
from math import factorial, prod
from operator import add

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

HIGHEST = lax.Precision.HIGHEST  # on Hopper JAX's default for float32 dots is TF32, too coarse for geometry

COMPONENTS = tuple(abc for rank in range(4) for abc in combinations_with_replacement(range(3), rank))
"""Cartesian indices of the 20 packed components: (), x, y, z, xx, xy, xz, yy, yz, zz, xxx, xxy ... zzz."""
INDEX = {abc: position for position, abc in enumerate(COMPONENTS)}
PAIRS = COMPONENTS[4:10]  # ab with a <= b


def multiplicity(abc: tuple[int, ...]) -> int:
    """How often a packed component occurs in the full tensor: 1 for xx, 2 for xy, 6 for xyz."""
    return factorial(len(abc)) // prod(factorial(abc.count(a)) for a in range(3))


def component(*abc: int) -> int:
    """Position of the component with these indices, in any order, among the packed ones."""
    return INDEX[tuple(sorted(abc))]


def total(terms: Iterable[Array]) -> Array:
    """Sum of arrays, one after the other, without a 0 at the start."""
    return reduce(add, terms)


def feature_counts(n_radial: int) -> tuple[int, ...]:
    """Number of distinct invariants of each of the eight contractions, in their order."""
    n, pairs = n_radial, n_radial * (n_radial + 1) // 2
    return n, pairs, pairs, pairs, pairs * (n + 2) // 3, pairs * n, pairs * n, n**3


def n_features(n_radial: int) -> int:
    """Number of distinct invariants: 360 for n_radial 5, 910 for 7."""
    return sum(feature_counts(n_radial))


def channel_pairs(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Channels r, s of all pairs r <= s; for all triples r <= s <= t, the place of r, s among the pairs, and t."""
    r, s = np.triu_indices(n)
    p, t = np.array([(p, t) for p in range(len(r)) for t in range(s[p], n)]).T
    return r, s, p, t


def gram_products(order: int, c: int, d: int) -> list[tuple[int, int, int]]:
    """Terms of M_c... M_d... summed over the other indices: the two packed components and how often they occur."""
    inner = combinations_with_replacement(range(3), order - 1)
    return [(component(c, *x), component(d, *x), multiplicity(x)) for x in inner]


def monomial_components(u: Sequence[Array]) -> dict[tuple[int, ...], Array]:
    """Components of 1, u, u u, u u u by their indices, in the order of COMPONENTS, from the three components of u."""
    values: dict[tuple[int, ...], Array] = {(): jnp.ones_like(u[0])}
    for abc in COMPONENTS[1:]:
        values[abc] = values[abc[:-1]] * u[abc[-1]]
    return values


def monomial_gradient(u: Sequence[Array], factors: Sequence[Array]) -> tuple[list[Array], Array]:
    """Derivatives of sum_c Q_c u^c over the ranks 1 to 3 by the three components of u, and the value of the sum.

    `factors` are the 19 Q_c in the order of COMPONENTS, each in the shape of a component of u.
    """
    values = monomial_components(u)
    by_u, value = [jnp.zeros_like(u[0])] * 3, jnp.zeros_like(u[0])
    for q, abc in zip(factors, COMPONENTS[1:], strict=True):
        value = value + q * values[abc]
        for a in sorted(set(abc)):
            rest = list(abc)
            rest.remove(a)
            by_u[a] = by_u[a] + (abc.count(a) * q) * values[tuple(rest)]
    return by_u, value


def monomials(unit: Array) -> Array:
    """Packed components of 1, u, u u, u u u.  [..., 3] -> [..., 20]"""
    return jnp.stack(list(monomial_components((unit[..., 0], unit[..., 1], unit[..., 2])).values()), axis=-1)


def moments(radial: Array, unit: Array, gate: Array | None = None) -> Array:
    """M^L_{i,s} = sum_k R_s(r_ik) u_ik^(x L), L = 0 ... 3, packed.  [N, S, K], [N, K, 3] -> [N, S, 20]

    `gate` [N, K] multiplies the contribution of a slot to the ranks 1 to 3.
    """
    terms = monomials(unit)
    if gate is not None:
        terms = jnp.concatenate([terms[..., :1], gate[..., None] * terms[..., 1:]], axis=-1)
    radial = lax.optimization_barrier(radial)  # else XLA multiplies by its transpose, seven times as slow on a CPU
    return jnp.einsum("isk,ikc->isc", radial, terms, precision=HIGHEST)


def invariants(moment: Array) -> Array:
    """Distinct invariants of the eight contractions of docs/theory.md.  [N, S, 20] -> [N, F]

    Order: M0_r | M1_r,a M1_s,a | M2_r,ab M2_s,ab | M3_r,abc M3_s,abc (r <= s) | M2_r,ab M2_s,ac M2_t,bc (r <= s <= t) |
    M1_r,a M1_s,b M2_t,ab (r <= s, t) | M3_r,abc M3_s,abd M2_t,cd (r <= s, t) | M3_r,abc M2_s,ab M1_t,c (r, s, t).
    """
    n_atoms, n = moment.shape[:2]
    r, s, p, t = channel_pairs(n)
    m = [moment[..., c] for c in range(len(COMPONENTS))]  # [N, S] each
    left, right = [x[:, r] for x in m], [x[:, s] for x in m]  # [N, pairs] each

    def gram(order: int) -> list[Array]:
        """T_rs,cd = M_r,c... M_s,d... summed over the other indices; symmetric part, packed cd.  6 x [N, pairs]"""

        def entry(c: int, d: int) -> Array:
            return total(w * left[i] * right[j] for i, j, w in gram_products(order, c, d))

        return [entry(c, d) if c == d else 0.5 * (entry(c, d) + entry(d, c)) for c, d in PAIRS]

    dipoles, squares, cubes = gram(1), gram(2), gram(3)
    m2 = [multiplicity(ab) * m[INDEX[ab]] for ab in PAIRS]  # weighted, for sums over a and b
    m1_m1_and_m3_m3 = jnp.concatenate([jnp.stack(dipoles, axis=-1), jnp.stack(cubes, axis=-1)], axis=1)
    with_m2 = jnp.einsum("ipx,itx->ipt", m1_m1_and_m3_m3, jnp.stack(m2, axis=-1), precision=HIGHEST)

    def m3_m2(c: int) -> Array:  # M3_r,abc M2_s,ab  [N, S, S]
        rows = [m[component(*ab, c)] for ab in PAIRS]
        return total(row[:, :, None] * m2[x][:, None, :] for x, row in enumerate(rows))

    parts = [
        m[0],
        *(gram_cd[0] + gram_cd[3] + gram_cd[5] for gram_cd in (dipoles, squares, cubes)),  # traces over c = d
        total(squares[x][:, p] * m2[x][:, t] for x in range(6)),
        with_m2,
        total(m3_m2(c)[..., None] * m[1 + c][:, None, None, :] for c in range(3)),
    ]
    return jnp.concatenate([part.reshape(n_atoms, -1) for part in parts], axis=-1)


MULTIPLICITIES = np.array([multiplicity(abc) for abc in COMPONENTS], float)  # [20]


def squared_norm(moment: Array) -> Array:
    """|M_i|^2: Frobenius norms of the full tensors, summed over ranks and channels.  [N, S, 20] -> [N]"""
    return jnp.sum(moment**2 * jnp.asarray(MULTIPLICITIES, moment.dtype)[None, None, :], axis=(1, 2))
