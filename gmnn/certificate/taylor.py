"""Taylor models with their derivative: enclosures of smooth functions of one variable and of small displacements.

A `Taylor` encloses functions f(s, q), many at once, by a polynomial and two radii. s is in
[-1, 1], and each q_m is a vector of three components and of length <= 1:

    f = sum_k c_k s^k + sum_m q_m . (l_m0 + l_m1 s) + e,    |e| <= r0,    |de/ds| <= r1.

Coefficients are float64 numbers, taken as exact. What truncation and rounding lose enters the radii. Radii are sums of
products of numbers >= 0, computed to nearest and then enlarged by more than the rounding of such sums (`outward`), so
they are upper bounds. The bounds hold for every order of summation, so BLAS may compute them:
|fl(x.y) - x.y| <= n u / (1 - n u) |x|.|y| with u = 2^-53 (Higham, Accuracy and Stability of Numerical Algorithms, 2002,
section 3.1). Products of matrices by Strassen's method would break them; NumPy's BLAS uses none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Bilinear = Callable[[Array, Array], Array]

ORDER = 4  # highest power of s that is kept
UNIT = 2.0**-52  # twice the rounding unit of float64
TINY = 1e-150  # added to every radius: products may underflow


def outward(x: Array, terms: int = 1) -> Array:
    """Upper bound of a number >= 0, computed as x by sums of `terms` numbers >= 0 and up to 200 other operations."""
    return x * (1.0 + (terms + 300) * UNIT) + TINY


@dataclass(frozen=True, eq=False)
class Taylor:
    """Functions of shape [...] as in the module's text.

    c: coefficients [ORDER + 1, ...]; r0, r1: radii [...]; linear: l_m0 and l_m1,
    [2, 3 M, ...], None without displacements.
    """

    c: Array
    r0: Array
    r1: Array
    linear: Array | None = None

    @cached_property
    def tails(self) -> Array:
        """Sums of |c_k| over k >= j.  [ORDER + 1, ...]"""
        return np.cumsum(np.abs(self.c)[::-1], axis=0)[::-1]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the functions."""
        return self.c.shape[1:]

    def linear_sizes(self) -> tuple[Array, Array]:
        """Upper bounds of the sums of |l_m0| and of |l_m1| over m.  [...], [...]"""
        if self.linear is None:
            return np.zeros(self.shape), np.zeros(self.shape)
        squares = (self.linear**2).reshape(2, -1, 3, *self.shape).sum(axis=2)
        sizes = np.sqrt(squares).sum(axis=1) + TINY
        return sizes[0], sizes[1]

    def sizes(self) -> tuple[Array, Array]:
        """Upper bounds of |polynomial| and of |its derivative by s|.  [...], [...]"""
        q0, q1 = self.linear_sizes()
        return self.tails[0] + q0 + q1, self.tails[1:].sum(axis=0) + q1

    def apply(self, f: Callable[[Array], Array]) -> "Taylor":
        """The same function of every array: one that selects, moves or negates trailing entries, without rounding.

        f gets arrays with one or two axes in front; radii are made non-negative again.
        """
        linear = None if self.linear is None else f(self.linear.reshape(-1, *self.shape))
        if linear is not None and self.linear is not None:
            linear = linear.reshape(2, -1, *linear.shape[1:])
        return Taylor(f(self.c), np.abs(f(self.r0[None])[0]), np.abs(f(self.r1[None])[0]), linear)

    def __getitem__(self, index: Any) -> "Taylor":
        """Select entries of the trailing axes; index begins with an Ellipsis."""
        return self.apply(lambda x: x[index])

    def __add__(self, other: "Taylor") -> "Taylor":
        c = self.c + other.c
        linear = self.linear if other.linear is None else other.linear
        if self.linear is not None and other.linear is not None:
            linear = self.linear + other.linear
        a0, a1 = self.sizes()
        b0, b1 = other.sizes()
        r0 = self.r0 + other.r0 + UNIT * (a0 + b0)
        r1 = self.r1 + other.r1 + UNIT * (a1 + b1)
        return Taylor(c, outward(r0), outward(r1), linear)

    def plus(self, constant: Any) -> "Taylor":
        """The sum with exact numbers that broadcast to [...]."""
        c = self.c.copy()
        c[0] += constant
        return Taylor(c, outward(self.r0 + UNIT * np.abs(c[0])), self.r1, self.linear)

    def times(self, factor: Any) -> "Taylor":
        """The product with exact numbers that broadcast to [...]."""
        size = np.abs(factor)
        a0, a1 = self.sizes()
        r0, r1 = (self.r0 + UNIT * a0) * size, (self.r1 + UNIT * a1) * size
        return Taylor(self.c * factor, outward(r0), outward(r1), None if self.linear is None else self.linear * factor)

    def uncertain(self, units: float) -> "Taylor":
        """The product with a constant that differs from 1 by up to some rounding units: the errors of factors."""
        a0, a1 = self.sizes()
        r0, r1 = self.r0 * (1.0 + units * UNIT), self.r1 * (1.0 + units * UNIT)
        return Taylor(self.c, outward(r0 + units * UNIT * a0), outward(r1 + units * UNIT * a1), self.linear)

    def __mul__(self, other: "Taylor") -> "Taylor":
        return product(self, other)

    def total(self, axis: int) -> "Taylor":
        """The sum over one trailing axis, which is negative."""
        terms = self.c.shape[axis]
        a0, a1 = self.sizes()
        gamma = terms * UNIT
        r0, r1 = (self.r0 + gamma * a0).sum(axis=axis), (self.r1 + gamma * a1).sum(axis=axis)
        linear = None if self.linear is None else self.linear.sum(axis=axis)
        return Taylor(self.c.sum(axis=axis), outward(r0, terms), outward(r1, terms), linear)

    def matmul(self, matrix: Array, size: Array | None = None) -> "Taylor":
        """The product [..., in] x [..., in, out] with exact numbers.

        size: if given, at least |matrix|. The entries may have errors of up to 32 rounding units of their size.
        """
        terms, size = matrix.shape[-2], np.abs(matrix) if size is None else size
        gamma = (terms + 32) * UNIT
        a0, a1 = self.sizes()
        r0, r1 = (self.r0 + gamma * a0) @ size, (self.r1 + gamma * a1) @ size
        linear = None if self.linear is None else self.linear @ matrix
        return Taylor(self.c @ matrix, outward(r0, terms), outward(r1, terms), linear)

    def slopes(self) -> tuple[Array, Array]:
        """Lower and upper bound of df/ds for all s and q.  [...], [...]"""
        _, steepness = self.sizes()
        rest = steepness - np.abs(self.c[1])
        spread = outward(np.maximum(rest, 0.0) + self.r1 + 8 * UNIT * steepness)
        return self.c[1] - spread, self.c[1] + spread

    def reach(self) -> tuple[Array, Array]:
        """Upper bounds of |f - c_0| and of |df/ds|.  [...], [...]"""
        a0, a1 = self.sizes()
        away = np.maximum(a0 - np.abs(self.c[0]), 0.0) + self.r0 + 8 * UNIT * a0
        return outward(away), outward(a1 + self.r1)


def constant(values: Array, error: Any = 0.0, n_linear: int | None = None) -> Taylor:
    """Functions that are constant numbers, within an error.  [...]"""
    c = np.zeros((ORDER + 1, *np.shape(values)))
    c[0] = values
    linear = None if n_linear is None else np.zeros((2, n_linear, *np.shape(values)))
    return Taylor(c, np.broadcast_to(np.asarray(error, float), c.shape[1:]).copy(), np.zeros(c.shape[1:]), linear)


def concatenate(parts: list[Taylor]) -> Taylor:
    """All functions in one array, side by side on the last axis."""
    linears = [part.linear for part in parts if part.linear is not None]
    c, r0, r1 = (np.concatenate(arrays, axis=-1) for arrays in zip(*((x.c, x.r0, x.r1) for x in parts), strict=True))
    return Taylor(c, r0, r1, np.concatenate(linears, axis=-1) if linears else None)


def product(a: Taylor, b: Taylor, f: Bilinear = np.multiply, terms: int = 1) -> Taylor:
    """f(a, b) for a bilinear f of numbers >= 0 that sums `terms` products, such as a product of matrices.

    f broadcasts over axes in front.
    """
    n = len(a.c) - 1
    ta, tb = a.tails, b.tails
    c = np.stack([sum((f(a.c[i], b.c[k - i]) for i in range(1, k + 1)), f(a.c[0], b.c[k])) for k in range(n + 1)])
    cut = sum((f(np.abs(a.c[i]), tb[n + 1 - i]) for i in range(2, n + 1)), f(np.abs(a.c[1]), tb[n]))
    (a0, a1), (b0, b1) = a.sizes(), b.sizes()
    rounding = (terms + n + 4) * UNIT * f(a0, b0)
    r0 = f(a0, b.r0) + f(a.r0, b0 + b.r0) + cut + rounding
    r1 = f(a1 + a.r1, b.r0) + f(a0 + a.r0, b.r1) + f(a.r0, b1) + f(a.r1, b0) + 2 * n * (cut + rounding)
    linear = None
    if a.linear is not None or b.linear is not None:
        la, lb = (np.zeros((2, 1, *x.shape)) if x.linear is None else x.linear for x in (a, b))
        linear = np.stack([
            f(a.c[0][None], lb[0]) + f(la[0], b.c[0][None]),
            f(a.c[0][None], lb[1]) + f(a.c[1][None], lb[0]) + f(la[0], b.c[1][None]) + f(la[1], b.c[0][None]),
        ])  # fmt: skip
        (qa0, qa1), (qb0, qb1) = a.linear_sizes(), b.linear_sizes()
        both = f(qa0 + qa1, qb0 + qb1)
        mixed = f(ta[2], qb0) + f(ta[1], qb1) + f(qa0, tb[2]) + f(qa1, tb[1])
        r0 = r0 + both + mixed
        r1 = r1 + f(qa1, qb0 + qb1) + f(qa0 + qa1, qb1) + (n + 1) * mixed
    return Taylor(c, outward(r0, terms), outward(r1, terms), linear)
