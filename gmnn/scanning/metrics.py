"""Numbers that describe an energy curve on the way in, computed from arrays alone.

Every curve runs from the largest distance inwards. Letters: r distance (Å), E energy (eV), s = dE/dr (eV/Å), f = −s the
force along the bond. "Rises inwards" means that E grows as r falls, s < 0.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Point = Array | tuple[float, float, float]  # (r, E, s)

COULOMB = 14.3996454784  # k_e = e² / (4 π ε0), eV Å
ZBL_COEFFICIENTS = np.array([0.18175, 0.50986, 0.28022, 0.02817])
ZBL_EXPONENTS = np.array([3.19980, 0.94229, 0.40290, 0.20162])
ZBL_LENGTH = 0.46850  # Å

PROMINENCE = 0.010  # eV, above which a minimum is listed as spurious
OWN = 0.15  # of a bond's length, within which its own minimum lies
WALL_LEVELS = (1.0, 5.0, 10.0, 20.0, 50.0, 100.0)  # eV above E(r_eq)
OUTLIER = 100.0  # in medians; a larger scatter of E is a jump
FLIP_FORCE, FLIP_ENERGY = 1e-2, 1e-3  # eV/Å, eV: MLIP Arena takes smaller values as zero

ARENA_NUMBERS = (
    "tortuosity", "force_flips", "spearman_energy", "spearman_energy_attraction", "spearman_force",
    "spearman_force_attraction",
)  # fmt: skip


def zbl_screening(r: Array, z1: int, z2: int) -> Array:
    """φ(r/a) of the universal ZBL potential, a = 0.46850 / (Z1^0.23 + Z2^0.23) Å; φ(0) = 1.

    Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Matter (Pergamon, 1985).
    """
    x = np.asarray(r, float)[..., None] * (z1**0.23 + z2**0.23) / ZBL_LENGTH
    return np.sum(ZBL_COEFFICIENTS * np.exp(-ZBL_EXPONENTS * x), axis=-1)


def divergence_ratio(r: Array, rise: Array, z1: int, z2: int) -> Array:
    """(E(r) − E(r_eq)) · r / (k_e Z1 Z2), which tends to 1 at contact for bare nuclei; compare with φ(r/a)."""
    return rise * r / (COULOMB * z1 * z2)


def hermite(a: Point, b: Point, r: Any) -> tuple[Any, Any]:
    """E and dE/dr at r (a number or an array) of the cubic through two points with their slopes (Hermite)."""
    h = b[0] - a[0]
    t = (r - a[0]) / h
    mean = (b[1] - a[1]) / h
    energy = a[1] + h * t * (a[2] + t * (3 * mean - 2 * a[2] - b[2] + t * (a[2] + b[2] - 2 * mean)))
    slope = a[2] + t * (2 * (3 * mean - 2 * a[2] - b[2]) + 3 * t * (a[2] + b[2] - 2 * mean))
    return energy, slope


def drops(energies: Array) -> Array:
    """Depth of E below the highest energy outside it, [n] in eV: all 0 if and only if E never falls inwards."""
    return np.maximum.accumulate(energies) - energies


def spurious_minima(r: Array, energies: Array) -> list[dict[str, Any]]:
    """Minima of a curve that should rise inwards, the outermost first.

    Each has `r`; `depth`, its energy below the highest point outside it; `prominence`, its energy below the lower of
    the two barriers that separate it from deeper points (topographic; below the outer barrier if E still falls at the
    end); and `falls_to_the_end`. Minima with a prominence of at most 10 meV are not listed.
    """
    minima = []
    depth = drops(energies)
    for k in range(1, len(r)):
        at_end = k == len(r) - 1
        if energies[k] >= energies[k - 1] or not (at_end or energies[k + 1] >= energies[k]):
            continue
        prominence = _barrier(energies[k - 1 :: -1], energies[k]) - energies[k]
        if not at_end:
            prominence = min(prominence, _barrier(energies[k + 1 :], energies[k]) - energies[k])
        if prominence > PROMINENCE:
            minima.append(
                {
                    "r": float(r[k]),
                    "depth": float(depth[k]),
                    "prominence": float(prominence),
                    "falls_to_the_end": at_end,
                }
            )
    return minima


def outer_minima(r: Array, energies: Array, bond: tuple[float, float]) -> list[dict[str, Any]]:
    """Minima of a stretched bond, the outermost first, in the form of `spurious_minima`.

    r [n] falls from the longest bond inwards, beyond the bond's own minimum, which is the lowest point within 15 % of
    the two lengths `bond` (Å). A curve that falls outwards to its end by more than 10 meV has a minimum there.
    """
    near = np.flatnonzero((r >= (1 - OWN) * min(bond)) & (r <= (1 + OWN) * max(bond)))
    if not len(near):
        return []
    own = int(near[np.argmin(energies[near])])
    minima = [minimum for minimum in spurious_minima(r, energies) if minimum["r"] > r[own]]
    fall = float(np.max(energies[: own + 1]) - energies[0])
    if fall > PROMINENCE and energies[1] > energies[0]:
        end = {"r": float(r[0]), "depth": fall, "prominence": fall, "falls_to_the_end": True}
        minima.insert(0, end)
    return minima


def _barrier(energies: Array, level: float) -> float:
    """The highest of the energies before the first one below level, or of all if none is below it."""
    below = np.flatnonzero(energies < level)
    return float(np.max(energies[: below[0]] if len(below) else energies))


def arena_metrics(r: Array, energies: Array, slopes: Array) -> dict[str, float]:
    """The shape numbers of MLIP Arena's diatomics, for r from outside inwards, as defined in this code.

    With r_o the place of the lowest E, r_f that of the lowest f, Δ_k = E_{k+1} − E_k:
    tortuosity = Σ|Δ_k| / (|E(r_first) − E(r_o)| + |E(r_last) − E(r_o)|), ideal 1;
    force_flips = sign changes of f, |f| < 1e-2 eV/Å left out: 1 for a curve with one minimum, 0 for one without;
    spearman_energy = rank correlation of r and E for r ≤ r_o, ideal −1; spearman_energy_attraction for r ≥ r_o,
    ideal 1;
    spearman_force of r and f for r ≤ r_f, ideal −1 (f grows inwards); spearman_force_attraction for r ≥ r_f, ideal 1.
    All are nan if any E or s is not finite.
    """
    if not np.isfinite(energies + slopes).all():
        return dict.fromkeys(ARENA_NUMBERS, math.nan)
    force, steps = -slopes, np.diff(energies)
    at_lowest, at_pull = int(np.argmin(energies)), int(np.argmin(force))
    extent = abs(energies[0] - energies[at_lowest]) + abs(energies[-1] - energies[at_lowest])
    pushes = np.sign(force[np.abs(force) >= FLIP_FORCE])
    values = (
        float(np.sum(np.abs(steps)) / extent) if extent > 0 else math.nan,
        int(np.sum(pushes[1:] != pushes[:-1])),
        spearman(r[at_lowest:], energies[at_lowest:]),
        spearman(r[: at_lowest + 1], energies[: at_lowest + 1]),
        spearman(r[at_pull:], force[at_pull:]),
        spearman(r[: at_pull + 1], force[: at_pull + 1]),
    )
    return dict(zip(ARENA_NUMBERS, values, strict=True))


def energy_jump(energies: Array) -> float:
    """MLIP Arena's energy jump (eV): Σ |Δ_{k−1}| + |Δ_k| over all k where Δ_k = E_{k+1} − E_k changes sign.

    Steps |Δ| < 1e-3 eV are left out; the two steps beside each extremum count. The result is 0 for a curve that rises
    throughout, and nan if any E is not finite.
    """
    if not np.isfinite(energies).all():
        return math.nan
    steps = np.diff(energies)
    steps = steps[np.abs(steps) >= FLIP_ENERGY]
    turned = np.sign(steps[1:]) != np.sign(steps[:-1])
    return float(np.sum(np.abs(steps[1:][turned])) + np.sum(np.abs(steps[:-1][turned])))


def spearman(x: Array, y: Array) -> float:
    """Rank correlation: Pearson's coefficient of the ranks, where ties share their mean rank; nan for a constant."""
    ranks = []
    for values in (x, y):
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2)[inverse])
        if len(counts) < 2:
            return math.nan
    return float(np.clip(np.corrcoef(ranks[0], ranks[1])[0, 1], -1.0, 1.0))


def scatter(stencils: Array) -> Array:
    """Standard error of E in eV from energies [..., 5] at equal, tiny steps: |Δ⁴E| / √70, [...]; 0 where not finite.

    The fourth difference of a smooth E over such steps is zero, and independent errors σ give it the variance 70 σ²
    (Hamming, Numerical Methods for Scientists and Engineers).
    """
    fourth = np.abs(stencils @ np.array([1.0, -4.0, 6.0, -4.0, 1.0])) / math.sqrt(70.0)
    return np.where(np.isfinite(fourth), fourth, 0.0)


def standard_errors(stencils: Array) -> Array:
    """Standard errors of E in eV at the places of curves from energies [C, m, 5], places from outside inwards.  [C, m]

    Each is the largest scatter at a place and its two neighbours, but at least the median over the curve, because
    coarse rounding leaves no scatter at all where E is flat. A scatter beyond OUTLIER medians, both relative to the
    largest |E| down to that place, is a jump of E inside a stencil and not rounding; it is capped at that limit.
    """
    scatters = scatter(stencils)
    size = np.abs(stencils[..., 2])
    size = np.maximum.accumulate(np.where(np.isfinite(size), np.maximum(size, 1.0), 1.0), axis=-1)
    typical = np.median(scatters / size, axis=-1, keepdims=True)
    scatters = np.minimum(scatters, np.where(typical > 0, OUTLIER * typical * size, np.inf))
    padded = np.pad(scatters, ((0, 0), (1, 1)))
    largest = np.max([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], axis=0)
    return np.maximum(largest, np.median(scatters, axis=-1, keepdims=True))


def force_error(stencils: Array, slopes: Array, step: Array, rounding: Array) -> dict[str, float]:
    """|F + dE/dr| (eV/Å) over the m places of the stencils: forces against central differences over ± step [m] (Å).

    rounding [m] (eV) is the possible error of E. In the result, `rounding` is the error this causes in such a
    difference, and `excess` the largest error beyond it and 0.1 % of the slope, 0 for consistent forces.
    """
    errors = np.abs(slopes - (stencils[:, 3] - stencils[:, 1]) / (2.0 * step))
    noise = rounding / step
    excess = np.maximum(errors - noise - 1e-3 * np.abs(slopes) - 1e-6, 0.0)
    return {"max": _largest(errors), "rounding": _largest(noise), "excess": _largest(excess)}


def work_error(r: Array, energies: Array, slopes: Array, rounding: Array) -> dict[str, float]:
    """|ΔE − ∫ s dr| (eV) over pairs of neighbouring intervals, the integral by Simpson's rule for unequal steps.

    rounding [n] (eV) is the possible error of E. `excess`, at distance `r` (Å), is the largest part beyond twice that,
    0.1 % of ΔE and the possible error of the rule itself (the width times the range of its three slopes). It shows a
    jump of E, or forces that are not its derivative.
    """
    a, b = np.diff(r)[0:-1:2], np.diff(r)[1::2]
    s0, s1, s2 = slopes[0:-2:2], slopes[1:-1:2], slopes[2::2]
    work = (a + b) / 6.0 * ((2.0 - b / a) * s0 + (a + b) ** 2 / (a * b) * s1 + (2.0 - a / b) * s2)
    spread = np.abs(a + b) * np.ptp([s0, s1, s2], axis=0)
    change = energies[2::2] - energies[0:-2:2]
    errors = np.abs(change - work)
    allowed = 2.0 * rounding[1:-1:2] + 1e-3 * np.maximum(np.abs(change), np.abs(work)) + spread
    excess = np.maximum(errors - allowed, 0.0)
    return {"max": _largest(errors), "excess": _largest(excess), "r": float(r[1:-1:2][np.argmax(excess)])}


def curvature_jump(r: Array, slopes: Array) -> dict[str, float]:
    """The largest jump of E'' at a node, relative to the largest |E''| within four nodes of it, and its place (Å).

    E'' of each side is extrapolated linearly to the node from the two intervals there. For a smooth curve the jump
    falls with the square of the spacing (below 0.02 at 200 nodes, 0.1 at a C² window). At a switch that is only C¹ it
    does not fall.
    """
    middle = 0.5 * (r[1:] + r[:-1])
    second = np.diff(slopes) / np.diff(r)
    change = np.diff(second) / np.diff(middle)
    outer = second[1:-2] + change[:-2] * (r[2:-2] - middle[1:-2])
    inner = second[2:-1] + change[2:] * (r[2:-2] - middle[2:-1])
    size = np.max(np.lib.stride_tricks.sliding_window_view(np.pad(np.abs(second[1:-1]), 4, mode="edge"), 8), axis=1)
    jump = np.abs(outer - inner) / (size[1:-1] + 1.0)  # 1 eV/Å²: a flat curve has no jump
    return {"relative": _largest(jump), "r": float(r[2:-2][np.argmax(jump)])}


def _largest(values: Array) -> float:
    """The maximum; nan if any value is nan."""
    return float(np.max(values)) if len(values) else math.nan


def wall_distance(r: Array, rise: Array, slopes: Array, level: float) -> float:
    """The outermost r (Å) at which E − E(r_eq) rises through `level` on the way in, cubic between points; else nan."""
    crossings = np.flatnonzero((rise[:-1] < level) & (rise[1:] >= level))
    if not len(crossings):
        return math.nan
    k = int(crossings[0])
    outer, inner = np.stack([r, rise, slopes], axis=1)[[k, k + 1]]
    low, high = inner[0], outer[0]
    for _ in range(60):
        middle = 0.5 * (low + high)
        if hermite(outer, inner, middle)[0] < level:
            high = middle
        else:
            low = middle
    return 0.5 * (low + high)


def clopper_pearson(n_passed: int, n_curves: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact binomial interval of a pass rate (Clopper and Pearson, Biometrika 26, 404 (1934)).

    lo solves P(X ≥ n_passed | lo) = (1 − confidence)/2, hi solves P(X ≤ n_passed | hi) = (1 − confidence)/2. Curves of
    one model are correlated; with curves of several models, also state the number of models.
    """
    if n_curves == 0:
        return 0.0, 1.0
    tail = 0.5 * (1.0 - confidence)
    log_factorials = np.array([math.lgamma(k + 1) for k in range(n_curves + 1)])
    log_choices = log_factorials[-1] - log_factorials - log_factorials[::-1]

    def probability(p: float, first: int, last: int) -> float:
        k = np.arange(first, last + 1)
        return float(np.sum(np.exp(log_choices[k] + k * math.log(p) + (n_curves - k) * math.log1p(-p))))

    low, high = 0.0, 1.0
    if n_passed > 0:
        low = _bisect(lambda p: probability(p, n_passed, n_curves) < tail)
    if n_passed < n_curves:
        high = _bisect(lambda p: probability(p, 0, n_passed) > tail)
    return low, high


def _bisect(is_below: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return 0.5 * (low + high)
