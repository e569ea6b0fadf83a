"""Taylor models contain the functions that they enclose, with their derivatives, and are no wider than they must be.

References are computed with 50 decimal digits.
"""

from collections.abc import Callable
from decimal import Decimal, getcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from gmnn.certificate import elementary
from gmnn.certificate.taylor import ORDER, Taylor, concatenate, constant, product

getcontext().prec = 50
STEP = Decimal(10) ** -20  # of differences, whose error is far below every radius
KERNEL = np.array([[0.3, -1.7], [0.9, 0.2], [-0.4, 1.1]])
CLAMP = (0.5, 0.0, 0.0, 0.0, 2.5, -3.0, 1.0)


def exact(x: Any) -> Decimal:
    ratio = Fraction(float(x))
    return Decimal(ratio.numerator) / Decimal(ratio.denominator)


def sine(x: Decimal) -> Decimal:
    term = total = x
    for k in range(1, 60):
        term *= -x * x / (2 * k * (2 * k + 1))
        total += term
    return total


def polynomial(x: Decimal, coefficients: tuple[float, ...]) -> Decimal:
    return sum((exact(a) * x**k for k, a in enumerate(coefficients)), Decimal(0))


def piecewise(x: Decimal, inside: tuple[float, ...], above: tuple[float, ...]) -> Decimal:
    return exact(inside[0]) if x < 0 else polynomial(x, above if x > 1 else inside)


UNARY: dict[str, tuple[Callable[[Taylor], Taylor], Callable[[Decimal], Decimal], float]] = {
    "reciprocal": (lambda v: elementary.power(v, -1.0), lambda x: 1 / x, 1.5),
    "root": (lambda v: elementary.power(v, 0.5), lambda x: x.sqrt(), 1.5),
    "reciprocal root": (lambda v: elementary.power(v, -0.5), lambda x: 1 / x.sqrt(), 1.5),
    "exp": (elementary.exponential, lambda x: x.exp(), -3.0),
    "sine": (elementary.sine, sine, 2.0),
    "swish": (elementary.swish, lambda x: x / (1 + (-x).exp()), 0.7),
    "swish, negative": (elementary.swish, lambda x: x / (1 + (-x).exp()), -6.0),
    "step, inside": (elementary.step, lambda x: piecewise(x, elementary.STEP, (1.0,)), 0.5),
    "step, at its foot": (elementary.step, lambda x: piecewise(x, elementary.STEP, (1.0,)), 0.01),
    "step, at its head": (elementary.step, lambda x: piecewise(x, elementary.STEP, (1.0,)), 0.99),
    "step, below": (elementary.step, lambda x: piecewise(x, elementary.STEP, (1.0,)), -2.0),
    "clamp, inside": (lambda v: elementary.piecewise(v, CLAMP, (0.0, 1.0)), lambda x: piecewise(x, CLAMP, (0, 1)), 0.4),
    "clamp, at 1": (lambda v: elementary.piecewise(v, CLAMP, (0.0, 1.0)), lambda x: piecewise(x, CLAMP, (0, 1)), 1.01),
    "clamp, above": (lambda v: elementary.piecewise(v, CLAMP, (0.0, 1.0)), lambda x: piecewise(x, CLAMP, (0, 1)), 3.0),
}
BINARY: dict[
    str, tuple[Callable[[Taylor, Taylor], Taylor], Callable[[list[Decimal], list[Decimal]], list[Decimal]]]
] = {
    "product": (product, lambda x, y: [a * b for a, b in zip(x, y, strict=True)]),
    "sum": (lambda a, b: a + b, lambda x, y: [a + b for a, b in zip(x, y, strict=True)]),
    "scalar product": (
        lambda a, b: product(a, b, lambda x, y: (x * y).sum(axis=-1, keepdims=True), 3),
        lambda x, y: [sum((a * b for a, b in zip(x, y, strict=True)), Decimal(0))],
    ),
    "constants": (
        lambda a, b: concatenate([a.times(0.7).plus(-0.3), b.total(-1)[..., None]]),
        lambda x, y: [exact(0.7) * a - exact(0.3) for a in x] + [sum(y, Decimal(0))],
    ),
    "matrix": (
        lambda a, b: a.matmul(KERNEL),
        lambda x, y: [sum((a * exact(w) for a, w in zip(x, column, strict=True)), Decimal(0)) for column in KERNEL.T],
    ),
}


def models(rng: np.random.Generator, middle: float, size: float, error: float, n: int, displaced: bool) -> Taylor:
    """n random functions near `middle`, displaced by two vectors, with radii for a rest of amplitude `error`."""
    c = size * rng.normal(size=(ORDER + 1, n)) / 4.0 ** np.arange(ORDER + 1)[:, None]
    c[0] = middle + 0.1 * size * rng.normal(size=n)
    linear = 0.2 * size * rng.normal(size=(2, 6, n)) if displaced else None
    return Taylor(c, np.full(n, error), np.full(n, error), linear)


def values(model: Taylor, s: Decimal, q: np.ndarray, sign: float) -> list[Decimal]:
    """The members of the models with the rest sign * radius * s, whose derivative is within r1."""
    linear = np.zeros((2, 1, *model.shape)) if model.linear is None else model.linear
    return [
        sum((exact(model.c[k, i]) * s**k for k in range(ORDER + 1)), Decimal(0))
        + sum((exact(x) * (exact(a) + exact(b) * s) for x, a, b in zip(q, *linear[..., i], strict=False)), Decimal(0))
        + exact(sign * model.r0[i]) * s
        for i in range(model.shape[0])
    ]


def check(result: Taylor, function: Callable[[Decimal], list[Decimal]], q: np.ndarray) -> None:
    """The function of s minus the polynomial of the result is within r0, its derivative within r1."""
    bare = Taylor(result.c, np.zeros_like(result.r0), np.zeros_like(result.r1), result.linear)

    def rest(s: Decimal) -> list[Decimal]:
        return [a - b for a, b in zip(function(s), values(bare, s, q, 0.0), strict=True)]

    for s in map(exact, (-1.0, -0.6, 2.0**-40, 0.35, 1.0)):
        around = rest(s), rest(s - STEP), rest(s + STEP)
        for i in range(result.shape[0]):
            assert abs(around[0][i]) <= exact(result.r0[i])
            slope = (around[2][i] - around[1][i]) / (2 * STEP)
            assert abs(slope) <= exact(result.r1[i]) + Decimal("1e-17")


@pytest.mark.parametrize("displaced", [False, True], ids=["path", "ball"])
@pytest.mark.parametrize("name", UNARY)
def test_functions_are_enclosed(name: str, displaced: bool) -> None:
    operation, reference, middle = UNARY[name]
    rng = np.random.default_rng(len(name))
    for size, error in ((0.1, 1e-3), (0.02, 0.0), (1e-4, 1e-9)):
        model = models(rng, middle, size, error, 4, displaced)
        for sign in (-1.0, 1.0):
            q = ball(rng) if displaced else np.zeros(6)
            with np.errstate(all="ignore"):
                result = operation(model)
            check(result, lambda s, q=q, m=model, sign=sign: [reference(x) for x in values(m, s, q, sign)], q)


@pytest.mark.parametrize("displaced", [False, True], ids=["path", "ball"])
@pytest.mark.parametrize("name", BINARY)
def test_operations_are_enclosed(name: str, displaced: bool) -> None:
    operation, reference = BINARY[name]
    rng = np.random.default_rng(len(name))
    for size, error in ((0.8, 1e-2), (0.1, 1e-3), (1e-3, 0.0)):
        a, b = models(rng, 0.4, size, error, 3, displaced), models(rng, -1.2, size, error, 3, displaced)
        for sign in (-1.0, 1.0):
            q = ball(rng) if displaced else np.zeros(6)

            def function(s: Decimal, a: Taylor = a, b: Taylor = b, q: Any = q, sign: float = sign) -> list[Decimal]:
                return reference(values(a, s, q, sign), values(b, s, q, -sign))

            check(operation(a, b), function, q)


def ball(rng: np.random.Generator) -> np.ndarray:
    """Two vectors of length just below 1, [6]."""
    q = rng.normal(size=(2, 3))
    return (q / np.linalg.norm(q, axis=1, keepdims=True) * (1.0 - 1e-12)).ravel()


def test_rounding_alone_is_small() -> None:
    """Exact inputs on a narrow interval give radii of the size of rounding, and yet they hold the exact product."""
    rng = np.random.default_rng(0)
    c, d = np.zeros((2, ORDER + 1, 50))
    c[:2], d[:2] = rng.normal(size=(2, 2, 50))
    c[1] *= 1e-5
    d[1] *= 1e-5
    zero = np.zeros(50)
    result = Taylor(c, zero, zero) * Taylor(d, zero, zero)
    assert result.r0.max() < 1e-13
    for i in range(50):
        lost = Fraction(c[0, i]) * Fraction(d[0, i]) - Fraction(result.c[0, i])
        assert abs(lost) <= Fraction(result.r0[i])
    for operation, _, middle in UNARY.values():
        narrow = Taylor(np.array([[middle], [1e-6], *[[0.0]] * (ORDER - 1)]), np.zeros(1), np.zeros(1))
        found = operation(narrow)
        assert found.r0[0] < 1e-12
        assert found.r1[0] < 1e-12


def test_what_is_not_defined_is_not_finite() -> None:
    """A root of what may be negative bounds nothing, so that nothing is proved by it."""
    with np.errstate(all="ignore"):
        result = elementary.power(
            Taylor(np.array([[1e-3], [1e-2], *[[0.0]] * (ORDER - 1)]), np.zeros(1), np.zeros(1)), 0.5
        )
    assert not np.isfinite(result.slopes()[1][0])


def test_slopes_of_a_line_and_of_a_constant() -> None:
    line = Taylor(np.array([[3.0], [-2.0], *[[0.0]] * (ORDER - 1)]), np.zeros(1), np.full(1, 0.5))
    low, high = line.slopes()
    assert low[0] <= -2.5 <= -1.5 <= high[0]
    assert high[0] - low[0] == pytest.approx(1.0)
    assert constant(np.ones(1)).slopes()[1][0] < 1e-100
