"""The two kernels' work on the moments of an atom: forward, invariants; backward, the derivative by the moments.

The contractions are those of descriptor.py. Arrays are [T, A], A atoms by T pieces of work: pairs of channels, or
channels. Loops over channels read moments from memory, where those of a block stay in the first cache, so that the code
stays short for any number of channels.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental.pallas import triton

from gmnn.kernels.invariants import DIAGONAL, gram_terms
from gmnn.kernels.pallas.slots import Own, Plan
from gmnn.model.descriptor import COMPONENTS, INDEX, PAIRS, channel_pairs, component, feature_counts, multiplicity

WEIGHTS = [float(multiplicity(ab)) for ab in PAIRS]
RANKS = {1: range(1, 4), 2: range(4, 10), 3: range(10, 20)}


def places(n: int) -> np.ndarray:
    """r and s of every pair r <= s of n channels, and the place among all features of (r, s, t) less t.  [3, P]"""
    r, s, _, _ = channel_pairs(n)
    before = np.concatenate([[0], np.cumsum(n - s)[:-1]])
    return np.stack([r, s, _starts(n)[4] + before - s]).astype(np.int32)


def _starts(n: int) -> list[int]:
    """Where each of the eight parts of the features begins."""
    return [0, *np.cumsum(feature_counts(n)).tolist()]


def _dot(a: list[Array], b: list[Array]) -> Array:
    result = a[0] * b[0]
    for x, y in zip(a[1:], b[1:], strict=True):
        result = result + x * y
    return result


def _grams(left: dict[int, Array], right: dict[int, Array], order: int) -> list[Array]:
    """sum_x M_cx M_dx, symmetric part, 6 components, from two channels' components of rank `order`."""
    return [
        _dot([w * left[i] for i, _, w in terms], [right[j] for _, j, _ in terms]) for terms in gram_terms(order)
    ]  # fmt: skip


class _Reader:
    """Reader of the moments of a channel, [T, A], for the atoms of the block."""

    def __init__(self, moments: Any, at: Array) -> None:
        self.moments, self.at = moments, at

    def rank(self, order: int, channel: Any) -> dict[int, Array]:
        """Components of a rank by their place."""
        return {c: triton.load(self.moments.at[20 * channel + c, self.at]) for c in RANKS[order]}

    def second(self, channel: Any) -> list[Array]:
        """The six components of rank 2 times their multiplicity."""
        components = self.rank(2, channel)
        return [w * components[INDEX[ab]] for w, ab in zip(WEIGHTS, PAIRS, strict=True)]


def _work(plan: Plan, items: int, turn: Array, do: Callable[[Array], None]) -> None:
    """Call do(item) for all items, T at a time; for the last one repeatedly if T does not divide their number."""

    def some(k: Array, nothing: Array) -> Array:
        do(jnp.minimum(k * plan.together + turn, items - 1))
        return nothing

    jax.lax.fori_loop(0, -(-items // plan.together), some, jnp.int32(0))


def invariants(plan: Plan, centre: Own, places: Any, moments: Any, features: Any) -> None:
    """Store all invariants of the atoms of a block, [F, N] as descriptor.invariants, from moments [20 S, N]."""
    n, at, start = plan.n_radial, centre.at, _starts(plan.n_radial)
    read, pairs = _Reader(moments, at), feature_counts(n)[1]

    def put(row: Array, value: Array) -> None:
        triton.store(features.at[row, at], value)

    def of_pair(p: Array) -> None:
        r, s, first = (triton.load(places.at[row, p]) for row in range(3))
        grams = [_grams(read.rank(order, r), read.rank(order, s), order) for order in (1, 2, 3)]
        for order, gram in enumerate(grams, start=1):
            put(start[order] + p, gram[0] + gram[3] + gram[5])
        for t in range(n):
            second = read.second(t)
            later = jnp.maximum(s, t)  # triples with t < s have no place: (r, s, s) again
            put(first + later, _dot(grams[1], read.second(later)))
            put(start[5] + p * n + t, _dot(grams[0], second))
            put(start[6] + p * n + t, _dot(grams[2], second))

    def of_two(rs: Array) -> None:
        third, second = read.rank(3, rs // n), read.second(rs % n)
        mixed = [_dot([third[component(*ab, c)] for ab in PAIRS], second) for c in range(3)]
        for t in range(n):
            put(start[7] + rs * n + t, _dot(mixed, list(read.rank(1, t).values())))

    _work(plan, n, centre.turn, lambda s: put(s, triton.load(moments.at[20 * s, at])))
    _work(plan, pairs, centre.turn, of_pair)
    _work(plan, n * n, centre.turn, of_two)


def pullback(plan: Plan, centre: Own, places: Any, moments: Any, by_feature: Any, by_moment: Any) -> None:
    """Store dE/d(moment) [20 S, N] from dE/d(feature) [F, N]; those of each channel are written once.

    The part of a channel as third partner of a pair needs that pair's products, which every channel computes again.
    """
    n, at, start = plan.n_radial, centre.at, _starts(plan.n_radial)
    read, pairs = _Reader(moments, at), feature_counts(n)[1]
    zero = jnp.zeros_like(centre.position[0])

    def given(row: Array) -> Array:
        return triton.load(by_feature.at[row, at])

    def of_third(p: Array, t: Any) -> list[Array]:
        """dE/d(feature) of a pair's three products with M2_t."""
        s, first = (triton.load(places.at[row, p]) for row in (1, 2))
        triple = jnp.where(s <= t, given(first + jnp.maximum(s, t)), 0.0)
        return [given(start[5] + p * n + t), triple, given(start[6] + p * n + t)]

    def of_channel(q: Array) -> None:
        def partner(s: Array, sums: list[Array]) -> list[Array]:
            low, high = jnp.minimum(q, s), jnp.maximum(q, s)
            p, twice = low * (2 * n - low - 1) // 2 + high, jnp.where(q == s, 2.0, 1.0).astype(zero.dtype)

            def third(t: Array, grams: list[list[Array]]) -> list[list[Array]]:
                second, by = read.second(t), of_third(p, t)
                return [[x + d * y for x, y in zip(g, second, strict=True)] for g, d in zip(grams, by, strict=True)]

            traces = [given(start[order] + p) for order in (1, 2, 3)]
            grams = [[trace if x in DIAGONAL else zero for x in range(6)] for trace in traces]
            grams = jax.lax.fori_loop(0, n, third, grams)
            sums = list(sums)
            for order in (1, 2, 3):
                partner_rank = read.rank(order, s)
                for x, terms in enumerate(gram_terms(order)):
                    for i, j, w in terms:
                        sums[i] = sums[i] + (w * twice) * grams[order - 1][x] * partner_rank[j]
            # M3_q M2_s M1_t and M3_s M2_q M1_t
            by_third, by_second = ([zero] * 3, [zero] * 3)
            for t in range(n):
                dipole = list(read.rank(1, t).values())
                d_third, d_second = given(start[7] + (q * n + s) * n + t), given(start[7] + (s * n + q) * n + t)
                by_third = [x + d_third * y for x, y in zip(by_third, dipole, strict=True)]
                by_second = [x + d_second * y for x, y in zip(by_second, dipole, strict=True)]
            second, cubes = read.second(s), read.rank(3, s)
            weights = [zero] * 6  # sum_t M2_t of M3_s M2_t M1_q
            for t in range(n):
                d = given(start[7] + (s * n + t) * n + q)
                weights = [x + d * y for x, y in zip(weights, read.second(t), strict=True)]
            for c in range(3):
                for x, ab in enumerate(PAIRS):
                    place = component(*ab, c)
                    sums[place] = sums[place] + by_third[c] * second[x]
                    sums[INDEX[ab]] = sums[INDEX[ab]] + (WEIGHTS[x] * by_second[c]) * cubes[place]
                    sums[1 + c] = sums[1 + c] + weights[x] * cubes[place]
            return sums

        def pair(p: Array, sums: list[Array]) -> list[Array]:
            r, s = (triton.load(places.at[row, jnp.broadcast_to(p, q.shape)]) for row in range(2))
            by = of_third(jnp.broadcast_to(p, q.shape), q)
            for order in (1, 2, 3):
                gram = _grams(read.rank(order, r), read.rank(order, s), order)
                sums = [f + by[order - 1] * (w * g) for f, w, g in zip(sums, WEIGHTS, gram, strict=True)]
            return sums

        sums = jax.lax.fori_loop(0, n, partner, [given(q), *[zero] * 19])
        squares = jax.lax.fori_loop(0, pairs, pair, [sums[INDEX[ab]] for ab in PAIRS])
        for c in range(len(COMPONENTS)):
            x = squares[c - 4] if c in RANKS[2] else sums[c]
            triton.store(by_moment.at[20 * q + c, at], x)

    _work(plan, n, centre.turn, of_channel)
