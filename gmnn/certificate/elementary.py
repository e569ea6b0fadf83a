"""Elementary functions of Taylor models, with bounds of what their expansions lose.

g(v) is expanded about the constant coefficient c of v = c + w: sum_j g_j w^j, j <= n, with |rest| <= G |w|^(n+1) and
|d rest/ds| <= (n + 1) G |w|^n |w'| if |g^(n+1)| / (n+1)! <= G between c - |w| and c + |w|. An error of g_j enters like
a rest. Square roots and quotients are those of IEEE 754; exp, sin and cos of NumPy are trusted to ULPS units in the
last place.
"""

from math import comb, factorial

import numpy as np
from numpy.polynomial import polynomial

from gmnn.certificate.taylor import ORDER, UNIT, Array, Taylor, outward

ULPS = 8.0
STEP = (0.0, 0.0, 0.0, 10.0, -15.0, 6.0)  # the quintic step on [0, 1]
PIECES = 64  # of [0, 1], where the suprema of derivatives of polynomials are bounded
WIDENED = 1.0 + 1e-9  # factor on bounds that are computed once, far beyond their rounding


def expanded(v: Taylor, g: Array, errors: Array, rest: Array, degree: Array | int = ORDER) -> Taylor:
    """g(v) from g_j and bounds of their errors, [ORDER + 1, ...] each, and G, [...].

    degree: where it is smaller than ORDER, the last coefficient that is not zero and the degree that G belongs to.
    """
    w = Taylor(np.concatenate([np.zeros_like(v.c[:1]), v.c[1:]]), v.r0, v.r1, v.linear)
    away, speed = v.reach()
    result = w.times(g[ORDER]).plus(g[ORDER - 1])
    for j in range(ORDER - 2, -1, -1):
        result = (result * w).plus(g[j])
    lost = sum(errors[j] * away**j for j in range(ORDER + 1))
    lost_slope = sum(j * errors[j] * away ** (j - 1) * speed for j in range(1, ORDER + 1))
    tail = rest * away**degree
    r0, r1 = result.r0 + lost + tail * away, result.r1 + lost_slope + (degree + 1) * tail * speed
    return Taylor(result.c, outward(r0), outward(r1), result.linear)


def power(v: Taylor, exponent: float) -> Taylor:
    """v^exponent for v > 0 and the exponents -1, -1/2 and 1/2; not finite where v may be 0 or negative."""
    binomial = np.cumprod([1.0, *((exponent - j) / (j + 1) for j in range(ORDER + 1))])  # exact but for the last bits
    away, _ = v.reach()
    low = v.c[0] - away
    low = np.where(low > 0, low * (1.0 - 8 * UNIT), np.nan)
    at, at_low = _raised(v.c[0], exponent), _raised(low, exponent)
    g = np.stack([binomial[j] * at / v.c[0] ** j for j in range(ORDER + 1)])
    rest = abs(binomial[ORDER + 1]) * at_low / low ** (ORDER + 1)
    return expanded(v, g, 64 * UNIT * np.abs(g), rest * WIDENED)


def _raised(x: Array, exponent: float) -> Array:
    return {-1.0: lambda: 1.0 / x, -0.5: lambda: 1.0 / np.sqrt(x), 0.5: lambda: np.sqrt(x)}[exponent]()


def exponential(v: Taylor) -> Taylor:
    """exp(v)."""
    away, _ = v.reach()
    value = np.exp(v.c[0])
    g = np.stack([value / factorial(j) for j in range(ORDER + 1)])
    rest = np.exp(v.c[0] + away) / factorial(ORDER + 1) * WIDENED
    return expanded(v, g, (ULPS + 4) * UNIT * g, rest)


def sine(v: Taylor) -> Taylor:
    """sin(v)."""
    cycle = [np.sin(v.c[0]), np.cos(v.c[0])]
    cycle += [-cycle[0], -cycle[1]]
    g = np.stack([cycle[j % 4] / factorial(j) for j in range(ORDER + 1)])
    errors = np.stack([np.full_like(v.c[0], (ULPS + 4) * UNIT / factorial(j)) for j in range(ORDER + 1)])
    return expanded(v, g, errors, np.full_like(v.c[0], WIDENED / factorial(ORDER + 1)))


def _logistic_polynomials(count: int) -> list[Array]:
    """Coefficients of P_k with sigma^(k) = P_k(sigma), sigma = 1 / (1 + exp(-x))."""
    polynomials = [np.array([0.0, 1.0])]
    for _ in range(count):
        polynomials.append(polynomial.polymul(polynomial.polyder(polynomials[-1]), [0.0, 1.0, -1.0]))
    return polynomials


def supremum(coefficients: Array) -> float:
    """Upper bound of |sum_i a_i u^i| on [0, 1]."""
    middles, half = (np.arange(PIECES) + 0.5) / PIECES, 0.5 / PIECES
    slope = np.abs(polynomial.polyder(coefficients))
    steep = polynomial.polyval(middles + half, slope)
    return float(np.max(np.abs(polynomial.polyval(middles, coefficients)) + half * steep)) * WIDENED


def _inner_suprema() -> tuple[float, float]:
    """Upper bounds on [0, 1] of |Q_k| for k = ORDER + 1 and k = ORDER, sigma^(k) = sigma (1 - sigma) Q_k(sigma)."""
    polynomials = _logistic_polynomials(ORDER + 1)
    high, low = (supremum(polynomial.polydiv(p, [0.0, 1.0, -1.0])[0]) for p in polynomials[: ORDER - 1 : -1])
    return high, low


POLYNOMIALS, (HIGH, LOW) = _logistic_polynomials(ORDER), _inner_suprema()


def _swish_rest(least: Array) -> Array:
    """Upper bound of |swish^(k)(x)| / k!, k = ORDER + 1, for |x| >= least >= 0.

    swish^(k) = x sigma^(k) + k sigma^(k-1), and sigma (1 - sigma) is at most 1/4 and exp(-|x|). x exp(-x) falls from 1.
    """
    k, far = ORDER + 1, np.maximum(least, 1.0)
    return (HIGH * far * np.exp(-far) + k * LOW * np.minimum(0.25, np.exp(-least))) / factorial(k) * WIDENED


def swish(v: Taylor) -> Taylor:
    """v / (1 + exp(-v))."""
    x = v.c[0]
    with np.errstate(over="ignore"):
        y = 1.0 / (1.0 + np.exp(-x))  # its error is at most 3 ULPS units of 1
    sigmas = [polynomial.polyval(y, p) for p in POLYNOMIALS]
    uncertain = [
        UNIT * ((len(p) + 3) * np.abs(p).sum() + 3 * ULPS * (np.arange(len(p)) @ np.abs(p))) for p in POLYNOMIALS
    ]
    g = [x * sigmas[0]] + [(x * sigmas[j] + j * sigmas[j - 1]) / factorial(j) for j in range(1, ORDER + 1)]
    errors = [np.abs(x) * uncertain[0] + 2 * UNIT * np.abs(g[0])]
    for j in range(1, ORDER + 1):
        parts = np.abs(x) * np.abs(sigmas[j]) + j * np.abs(sigmas[j - 1])
        errors.append((np.abs(x) * uncertain[j] + j * uncertain[j - 1] + 4 * UNIT * parts) / factorial(j))
    least = np.maximum(np.abs(x) - v.reach()[0], 0.0) / WIDENED
    return expanded(v, np.stack(g), np.stack(errors) * WIDENED, _swish_rest(least))


def piecewise(u: Taylor, inside: tuple[float, ...], above: tuple[float, ...]) -> Taylor:
    """The polynomial `inside` of u on [0, 1], its value at 0 below, and the polynomial `above` beyond.

    The function has two continuous derivatives. Where u may lie on both sides of 0 or 1 the expansion ends after w^2,
    as the second derivative is Lipschitz there.
    """
    at, (away, _) = u.c[0], u.reach()
    low, high = at - away, at + away
    middle = np.clip(at, 0.0, 1.0)
    within = np.array(inside)
    outside = np.zeros_like(within)
    outside[: len(above)] = above
    g, errors = np.zeros_like(u.c), np.zeros_like(u.c)
    for j in range(ORDER + 1):
        factors = np.array([comb(i, j) for i in range(j, len(within))], float)
        beyond = polynomial.polyval(at, factors * outside[j:])
        g[j] = np.where(at > 1.0, beyond, polynomial.polyval(middle, factors * within[j:]))
        if j:
            g[j] = np.where(at < 0.0, 0.0, g[j])
        size = np.where((at >= 0.0) & (at <= 1.0), factors @ np.abs(within[j:]), np.abs(g[j]))
        errors[j] = 4 * len(within) * UNIT * size
    crossing = ((low < 0.0) & (high > 0.0)) | ((low < 1.0) & (high > 1.0))
    bends = [supremum(polynomial.polyder(within, 3)) / 6.0]
    bends.append(supremum(polynomial.polyder(within, ORDER + 1)) / factorial(ORDER + 1))
    rest = np.where(crossing, bends[0], np.where((low >= 0.0) & (high <= 1.0), bends[1], 0.0))
    g[3:], errors[3:] = np.where(crossing, 0.0, g[3:]), np.where(crossing, 0.0, errors[3:])
    return expanded(u, g, errors, rest, np.where(crossing, 2, ORDER))


def step(u: Taylor) -> Taylor:
    """0 below 0, 1 above 1, 10 u^3 - 15 u^4 + 6 u^5 between."""
    return piecewise(u, STEP, (1.0,))
