"""A certified bound, over all moments, on how strongly the network energy of an atom depends on its moments.

docs/certificate.md, "The readout" and "The invariants", has every step with its proof. Norms of matrices come from
float64 eigenvalues and are multiplied by MARGIN.
"""

from typing import NamedTuple

import numpy as np

from gmnn.certificate import coverage
from gmnn.config.coverage import uncovered
from gmnn.model.network import OUTPUT_GAIN, scale_shift
from gmnn.model.potential import Potential
from gmnn.model.readout import SWISH_UNIT

SWISH_SLOPES = (-0.0998396, 1.0998396)  # extremes for x / (1 + exp(-x)), at x = -+2.399357, rounded outwards
OUTPUT_SLOPES = {"swish": SWISH_SLOPES[1], "identity": 1.0}  # largest |slope| of the output activation
MARGIN = 1.0 + 1e-9  # factor on every norm, far beyond the rounding of an eigenvalue
CELLS = 40  # cells per rank of the grid over the norms of the moments


class FeatureClasses(NamedTuple):
    """Which of the eight contractions each feature belongs to, and how often it occurs in the full tensor of it."""

    number: np.ndarray  # [F] 0 ... 7
    copies: np.ndarray  # [F] 1, 2, 3 or 6


def feature_classes(n_radial: int) -> FeatureClasses:
    """Class and number of equal entries of every feature, in the order of descriptor.invariants."""
    r, s = np.triu_indices(n_radial)
    pairs = np.where(r == s, 1, 2)
    triples = []
    for p in range(len(r)):
        for t in range(s[p], n_radial):
            triples.append({1: 1, 2: 3, 3: 6}[len({r[p], s[p], t})])
    with_channel = np.repeat(pairs, n_radial)
    parts = [np.ones(n_radial, int), pairs, pairs, pairs, np.array(triples), with_channel, with_channel]
    parts.append(np.ones(n_radial**3, int))
    number = np.concatenate([np.full(len(part), k) for k, part in enumerate(parts)])
    return FeatureClasses(number, np.concatenate(parts).astype(float))


def norm(matrix: np.ndarray) -> float:
    """Upper bound of the spectral norm: root of the largest eigenvalue of the smaller Gram matrix."""
    gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    return MARGIN * float(np.sqrt(max(np.linalg.eigvalsh(gram)[-1], 0.0)))


def chain_bound(matrices: list[np.ndarray], slopes: tuple[float, float]) -> float:
    """Upper bound of |A_0 D_1 A_1 ... D_H A_H| over all diagonal D_k with entries in `slopes`.

    It is the smaller of the product of norms and the expansion about the middle slope, D = c I + Delta.
    """
    low, high = slopes
    middle, half, steepest = 0.5 * (low + high), 0.5 * (high - low), max(abs(low), abs(high))
    product = steepest ** (len(matrices) - 1) * float(np.prod([norm(matrix) for matrix in matrices]))
    sums: list[float] = []
    for last in range(len(matrices)):
        segment, total = matrices[last], 0.0
        for first in range(last, -1, -1):
            total += norm(segment) * (half * sums[first - 1] if first else 1.0)
            if first:
                segment = middle * (matrices[first - 1] @ segment)
        sums.append(total)
    return min(product, sums[-1])


def jacobian_norms(m: np.ndarray) -> np.ndarray:
    """Bounds of the derivative of each class (rows) by the moments of each rank (columns).  [..., 3] -> [..., 8, 4]

    m holds the norms of the moments of ranks 1 to 3. Each entry is non-decreasing in them.
    """
    m1, m2, m3 = m[..., 0], m[..., 1], m[..., 2]
    table = np.zeros((*m1.shape, 8, 4))
    table[..., 0, 0] = 1.0
    for rank, value in ((1, m1), (2, m2), (3, m3)):
        table[..., rank, rank] = 2.0 * value
    table[..., 4, 2] = 3.0 * m2**2
    table[..., 5, 1], table[..., 5, 2] = 2.0 * m1 * m2, m1**2
    table[..., 6, 3], table[..., 6, 2] = 2.0 * m2 * m3, m3**2
    table[..., 7, 3], table[..., 7, 2], table[..., 7, 1] = m1 * m2, m1 * m3, m2 * m3
    return table


def norm_cells(bound: float) -> tuple[np.ndarray, np.ndarray]:
    """Upper corners and largest attenuation of cells that cover the norms of ranks 1 to 3 of moments below `bound`.

    -> [C, 3], [C]. The attenuation sqrt(1 - |M|^2 / bound^2) is the factor of the bounding map on a derivative.
    """
    steps = np.arange(CELLS) / CELLS
    low = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    square = np.sum(low**2, axis=-1)
    inside = square <= 1.0
    return bound * (low[inside] + 1.0 / CELLS), np.sqrt(1.0 - square[inside])


def gradient_bounds(readout: dict, feature_scale: np.ndarray, n_radial: int, bounds: np.ndarray) -> np.ndarray:
    """Upper bounds of |dx/dM| over all moments M, which the model bounds by `bounds` [E].  [E]

    x is the readout before its output activation. Each result is the smaller of two: with the classes of invariants
    bounded one by one, or all of them together.
    """
    classes = feature_classes(n_radial)
    layers = [np.asarray(readout[f"layer_{k}"]["kernel"], float) for k in range(len(readout))]
    first = layers[0] / (feature_scale * np.sqrt(classes.copies))[:, None]
    n_classes = len(jacobian_norms(np.ones(3)))
    if classes.number.max() + 1 != n_classes:
        raise AssertionError(f"bounds of {n_classes} classes of invariants, but there are {classes.number.max() + 1}")
    blocks = [first[classes.number == k] for k in range(n_classes)]
    slopes = (SWISH_UNIT * SWISH_SLOPES[0], SWISH_UNIT * SWISH_SLOPES[1])
    class_bounds = np.array([chain_bound([block, *layers[1:]], slopes) for block in blocks])  # of dx/d(class)
    gradients = []
    for bound in bounds:
        corners, attenuation = norm_cells(float(bound))
        tables = jacobian_norms(corners)
        separate = attenuation * np.linalg.norm(np.einsum("b,cbl->cl", class_bounds, tables), axis=-1)
        size = np.linalg.norm(tables[np.argmax(separate)], axis=-1)
        weight = np.sqrt(np.maximum(size, 1e-12 * size.max()) / np.maximum(class_bounds, 1e-12 * class_bounds.max()))
        scaled = np.concatenate([block * factor for block, factor in zip(blocks, weight, strict=True)])
        divided = tables / weight[:, None]
        squares = np.linalg.eigvalsh(np.einsum("cbl,cbk->clk", divided, divided))[:, -1]
        joint = chain_bound([scaled, *layers[1:]], slopes) * float(np.max(attenuation * np.sqrt(squares)))
        gradients.append(min(float(separate.max()), joint))
    return OUTPUT_GAIN * MARGIN * np.array(gradients)


def obstacle(potential: Potential) -> str:
    """The reason why this module does not bound the network's force; empty if it does."""
    setting = uncovered(potential.config, coverage.FORCE) or ""
    return setting and f"no bound is derived for {setting}"


def sensitivities(potential: Potential) -> np.ndarray:
    """G_e: upper bound of |dE_i,network / dM_i| in eV for a centre of each element.  [E]

    M_i are the moments *before* they are bounded, in the norm of descriptor.squared_norm. UserError for a model that is
    not covered.
    """
    config, reference, params = potential.config, potential.reference, potential.trained
    coverage.require(config, coverage.FORCE, "a bound of the network's force")
    classes = feature_classes(config.n_radial)
    scale = np.asarray(reference.feature_scale or np.ones(len(classes.number)))
    slope = OUTPUT_SLOPES[config.output_activation]
    bounds = config.core.moment_room * np.asarray(reference.moment_scale)
    return MARGIN * slope * scale_shift(params)[0] * gradient_bounds(params["readout"], scale, config.n_radial, bounds)
