"""The invariants of descriptor.py and their adjoint written out, for evaluation: pure functions.

They return the same numbers as `descriptor.invariants` and its derivative, several times as fast on a CPU. The last
axis of every array is the atoms of a block, so that all loops run over adjacent memory, and what is used more than once
is computed once. A product with a unit matrix keeps XLA from computing an intermediate again wherever it is used;
without it the adjoint takes seven times as long.
"""

from functools import cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from gmnn.model.descriptor import (  # fmt: skip
    COMPONENTS,
    HIGHEST,
    INDEX,
    PAIRS,
    channel_pairs,
    component,
    feature_counts,
    gram_products,
    multiplicity,
    total,
)

DIAGONAL = tuple(x for x, (c, d) in enumerate(PAIRS) if c == d)


class Residuals(NamedTuple):
    """Results of the forward pass that the adjoint needs."""

    moments: list[Array]  # 20 components [S, N]
    second: list[Array]  # 6 components of M2 times their multiplicity, [S, N]
    grams: list[list[Array]]  # of M1, M2, M3: 6 components cd of sum_x M_r,cx M_s,dx, [pairs, N]
    mixed: list[Array]  # 3 components c of M3_r,abc M2_s,ab, [S, S, N]


class Shape(NamedTuple):
    """Constant matrices and sizes for S channels."""

    first: np.ndarray  # [pairs, S] picks the first channel of a pair r <= s
    second: np.ndarray  # [pairs, S] picks the second
    triples: np.ndarray  # [multisets, pairs * S] picks r <= s <= t
    spread: np.ndarray  # [S * S, pairs] from d/d(pair) to what multiplies each partner, twice for r = s
    cuts: np.ndarray  # where the parts of the features end


@cache
def shape(n: int) -> Shape:
    """The constants for n channels."""
    r, s, p, t = channel_pairs(n)
    pairs, eye = len(r), np.eye(n)
    triples = np.zeros((len(p), pairs * n))
    triples[np.arange(len(p)), p * n + t] = 1.0
    spread = np.zeros((n, n, pairs))
    for k in range(pairs):
        spread[r[k], s[k], k] += 1.0
        spread[s[k], r[k], k] += 1.0
    return Shape(eye[r], eye[s], triples, spread.reshape(n * n, pairs), np.cumsum(feature_counts(n)[:-1]))


@cache
def gram_terms(order: int) -> tuple[tuple[tuple[int, int, float], ...], ...]:
    """T_cd = sum_x M_cx M_dx, symmetric part: for each cd, which packed components are multiplied and their weight."""
    table = []
    for c, d in PAIRS:
        terms = gram_products(order, c, d)
        halves = [(i, j, w / 2) for i, j, w in terms] + [(j, i, w / 2) for i, j, w in terms]
        table.append(terms if c == d else halves)
    return tuple(map(tuple, table))


def invariants(moments: Array) -> tuple[Array, Residuals]:
    """The features in the order of `descriptor.invariants`, and what `pullback` needs.  [S, 20, N] -> [F, N]"""
    n, _, count = moments.shape
    constant, flat = shape(n), moments.reshape(n, -1)
    left, right = (_dot(x, flat).reshape(-1, len(COMPONENTS), count) for x in (constant.first, constant.second))
    m = [moments[:, c] for c in range(len(COMPONENTS))]
    second = [multiplicity(ab) * m[INDEX[ab]] for ab in PAIRS]
    grams = [
        _once([total(w * left[:, i] * right[:, j] for i, j, w in terms) for terms in gram_terms(order)])
        for order in (1, 2, 3)
    ]
    third = [[m[component(*ab, c)][:, None] for ab in PAIRS] for c in range(3)]
    mixed = _once([total(third[c][x] * second[x][None] for x in range(6)) for c in range(3)])

    def with_second(gram: list[Array]) -> Array:  # [pairs * S, N]
        return total(gram[x][:, None] * second[x][None] for x in range(6)).reshape(-1, count)

    features = [
        m[0],
        *(total(gram[x] for x in DIAGONAL) for gram in grams),
        _dot(constant.triples, with_second(grams[1])),
        with_second(grams[0]),
        with_second(grams[2]),
        total(mixed[c][:, :, None] * m[1 + c][None, None] for c in range(3)).reshape(n**3, count),
    ]
    return jnp.concatenate(features), Residuals(m, second, grams, mixed)


def pullback(kept: Residuals, cotangent: Array) -> Array:
    """d(cotangent . features) / d(moments) with respect to the packed components.  [F, N] -> [S, 20, N]"""
    m, second, grams, mixed = kept
    n, count = m[0].shape
    constant = shape(n)
    d_zero, *d_traces, d_triples, d_dipoles, d_cubes, d_mixed = jnp.split(cotangent, constant.cuts)
    d_squares = _dot(constant.triples.T, d_triples)
    d_with = [x.reshape(-1, n, count) for x in (d_dipoles, d_squares, d_cubes)]  # [pairs, S, N] each
    d_mixed = d_mixed.reshape(n, n, n, count)
    partners = []  # [S, S, 6, N]: factor of M_s in dE/dM_q, by the component cd of a gram
    for d, trace in zip(d_with, d_traces, strict=True):
        of_gram = [
            total(d[:, t] * second[x][t][None] for t in range(n)) + (trace if x in DIAGONAL else 0.0) for x in range(6)
        ]
        flat = jnp.stack(of_gram, axis=1).reshape(len(trace), -1)
        partners.append(_dot(constant.spread, flat).reshape(n, n, 6, count))
    families = list(zip(grams, d_with, strict=True))
    pairs = range(len(constant.first))
    d_second = _once([total(gram[x][p][None] * d[p] for gram, d in families for p in pairs) for x in range(6)])
    d_product = _once([total(d_mixed[:, :, t] * m[1 + c][t][None, None] for t in range(n)) for c in range(3)])
    d_first = _once([total(mixed[c][r, s][None] * d_mixed[r, s] for r in range(n) for s in range(n)) for c in range(3)])
    out = [d_zero]
    for position, abc in enumerate(COMPONENTS[1:], start=1):
        order = len(abc)
        terms = [
            w * partners[order - 1][:, s, x] * m[j][s][None]
            for x, listed in enumerate(gram_terms(order))
            for i, j, w in listed
            if i == position
            for s in range(n)
        ]
        if order == 1:
            terms.append(d_first[position - 1])
        elif order == 2:
            through = [d_product[c][q] * m[component(*abc, c)][q][None] for c in range(3) for q in range(n)]
            terms.append(multiplicity(abc) * (d_second[PAIRS.index(abc)] + total(through)))
        else:
            holds = [(c, x) for c in range(3) for x, ab in enumerate(PAIRS) if component(*ab, c) == position]
            terms += [d_product[c][:, s] * second[x][s][None] for c, x in holds for s in range(n)]
        out.append(total(terms))
    return jnp.stack(out, axis=1)


def _dot(matrix: np.ndarray, x: Array) -> Array:
    return jnp.dot(jnp.asarray(matrix, x.dtype), x, precision=HIGHEST)


def _once(arrays: list[Array]) -> list[Array]:
    """The same arrays, each computed once: XLA does not fuse across a matrix product."""
    rows = jnp.stack(arrays)
    copies = _dot(np.eye(len(arrays)), rows.reshape(len(arrays), -1)).reshape(rows.shape)
    return [copies[k] for k in range(len(arrays))]
