"""Enclosures of dE/dr of a potential along a straight approach of two atoms, on many intervals of r at once.

This is the energy of gmnn/model, written once more with Taylor models. Only the centres that see a moving atom enter.
"""

import numpy as np

from gmnn.certificate import coverage, elementary, wall
from gmnn.certificate.motion import Edges, Motion, with_own
from gmnn.certificate.taylor import ORDER, UNIT, Array, Taylor, concatenate, constant, product
from gmnn.errors import UserError
from gmnn.model import descriptor, radial, repulsion, short_range
from gmnn.model.network import OUTPUT_GAIN, scale_shift
from gmnn.model.potential import Potential
from gmnn.model.readout import SWISH_UNIT
from gmnn.model.repulsion import strengths

ROWS = 8  # centres of intervals whose invariants and readout are computed together


class Enclosure:
    """Bounds of dE/dr for one potential and one motion. UserError for a model that is not covered."""

    def __init__(self, potential: Potential, motion: Motion) -> None:
        config, reference = potential.config, potential.reference
        coverage.require(config, coverage.PATH, "a proof of a whole curve")
        potential.require_elements(motion.numbers)
        self.potential, self.config, self.motion = potential, config, motion
        self.edges = Edges(motion, config.r_max)
        index = potential.element_index[motion.numbers]
        self.e_i, self.e_j = index[self.edges.centres], index[self.edges.neighbors]
        self.pair = index[list(motion.members)]
        self.tables = short_range.pair_tables(config, reference)
        inner, width = self.tables.clamp_in, self.tables.clamp_width
        if np.any((inner < config.r_max) & (inner + width > config.r_max)):
            raise UserError(
                "a proof of a whole curve is not derived for a clamp that reaches beyond model.r_max; raise it"
            )
        radii = {name: table[self.e_i[:, None], self.e_j] for name, table in self.tables._asdict().items()}
        self.radii = short_range.PairTables(**radii)
        self.strength = strengths(potential.trained, config, reference.elements)
        if not all(wall.falls(potential, e, f) for e in {*self.e_i} for f in {*self.e_j.ravel()}):
            raise UserError(
                "a proof of a whole curve needs a repulsion that is certified to fall, and docs/certificate.md says "
                "which is; train another one"
            )
        self.readout = self._layers()
        self.sigma = scale_shift(potential.trained)[0]
        self.bounds = config.core.moment_room * np.asarray(reference.moment_scale)

    def _layers(self) -> list[tuple[Array, Array]]:
        readout = self.potential.trained["readout"]
        layers = [tuple(np.asarray(readout[f"layer_{k}"][name], float) for name in ("kernel", "bias"))
                  for k in range(len(readout))]  # fmt: skip
        scale = np.asarray(self.potential.reference.feature_scale or np.ones(len(layers[0][0])), float)
        return [(layers[0][0] / scale[:, None], layers[0][1]), *layers[1:]]  # type: ignore[list-item]

    @property
    def breaks(self) -> list[float]:
        """Distances at which a function of the pair's own distance changes its formula, Å, ascending."""
        t, (e, f) = self.tables, self.pair
        ends = (t.gate_in, t.gate_out, t.clamp_in, t.clamp_in + t.clamp_width, t.r_on, t.r_off)
        return sorted({float(table[e, f]) for table in ends})

    def slopes(self, low: Array, high: Array, core: bool = False) -> tuple[Array, Array]:
        """Lower and upper bound of dE/dr on the intervals, eV/Å.  [B], [B] -> [B], [B]

        core: the pair's own repulsion enters by V' <= -V(high) / high only, so that low may be 0; there is no lower
        bound then.
        """
        with np.errstate(all="ignore"):
            r = 0.5 * (low + high)
            half = np.maximum(high - r, r - low) * (1.0 + 4 * UNIT)
            energy = self._network(r, half) + self._repulsion(r, half, core)
            least, most = energy.slopes()
            least, most = least / half, most / half
            least, most = least - 8 * UNIT * np.abs(least), most + 8 * UNIT * np.abs(most)
            if core:
                most = most - self._wall(high) / high * (1.0 - 64 * UNIT)
                least = np.full_like(most, -np.inf)
            return least, most

    def _wall(self, r: Array) -> Array:
        """V(r) of the pair, rounded down, eV."""
        e, f = self.pair
        numbers = self.potential.reference.elements
        a, b = wall.screening(self.potential, e, f)
        terms = a * np.exp(-np.outer(r, b))
        value = terms.sum(axis=1) - 64 * UNIT * np.abs(terms).sum(axis=1) * (1.0 + b.max() * r)
        window = np.where(r <= self.tables.r_on[e, f], 1.0, 0.0)
        return window * self.strength[e, f] * repulsion.COULOMB * numbers[e] * numbers[f] * np.maximum(value, 0.0) / r

    def _distances(self, r: Array, half: Array) -> tuple[Taylor, Taylor]:
        """Distances [B, C, K] and unit vectors [B, C, K, 3]."""
        vectors = self.edges.vectors(r, half)
        square = product(vectors, vectors, lambda x, y: (x * y).sum(axis=-1), 3)
        inverse, length = elementary.power(square, -0.5), elementary.power(square, 0.5)
        unit = product(vectors, inverse[..., None])
        n_own = int(self.edges.own.sum())
        c = np.zeros((ORDER + 1, len(r), n_own))
        c[0], c[1] = r[:, None], half[:, None]
        error = 4 * UNIT * (np.abs(c[0]) + c[1])
        own_length = Taylor(c, error, 4 * UNIT * c[1])
        direction = np.broadcast_to(self.edges.speed[self.edges.own], (len(r), n_own, 3))
        return with_own(length, self.edges, own_length), with_own(unit, self.edges, constant(direction, 4 * UNIT))

    def _scaled(self, x: Taylor, inner: Array, width: Array) -> Taylor:
        """(x - inner) / width for tables [C, K]."""
        return x.plus(-inner).times(1.0 / width).uncertain(2)

    def _network(self, r: Array, half: Array) -> Taylor:
        """Energy of the network of all centres.  [B]"""
        length, unit = self._distances(r, half)
        core, radii = self.config.core, self.radii
        d = core.depth
        inside = (1 - d, 0, 0, 0, 20 * (2 * d - 1) + 5 * (1 - d), -45 * (2 * d - 1) - 6 * (1 - d),
                  36 * (2 * d - 1) + 2 * (1 - d), -10 * (2 * d - 1))  # fmt: skip
        u = self._scaled(length, radii.clamp_in, radii.clamp_width)
        clamped = elementary.piecewise(u, inside, (0.0, 1.0)).times(radii.clamp_width).plus(radii.clamp_in)
        gate = elementary.step(self._scaled(length, radii.gate_in, np.maximum(radii.gate_out - radii.gate_in, 1e-12)))
        terms = _monomials(unit, gate)
        radials = self._radials(clamped).times(1.0 * self.edges.filled[..., None])
        moments = product(radials, terms, lambda x, y: np.swapaxes(x, -1, -2) @ y, self.e_j.shape[1])
        b, c = moments.shape[:2]
        rows = moments.apply(lambda x: x.reshape(x.shape[0], b * c, *x.shape[3:]))
        element = np.tile(self.e_i, b)
        parts = []
        stride = ROWS if moments.linear is None else max(ROWS // 4, 1)
        for begin in range(0, b * c, stride):
            part = slice(begin, begin + stride)
            parts.append(self._centres(rows[..., part, :, :], element[part]))
        energies = concatenate(parts)
        return energies.apply(lambda x: x.reshape(x.shape[0], b, c)).total(-1)

    def _radials(self, x: Taylor) -> Taylor:
        """R_s at the clamped distances.  [B, C, K] -> [B, C, K, S]"""
        config, r_max = self.config, self.config.r_max
        scaled = x.times(1.0 / r_max).uncertain(2)
        envelope = elementary.step(scaled).times(-1.0).plus(1.0)
        weights = np.asarray(self.potential.trained["radial"]["coefficients"], float)[self.e_i[:, None], self.e_j]
        n = config.n_basis
        if config.basis == "gaussian":
            beta = (n / r_max) ** 2
            away = _outer(x, np.ones(n)).plus(-np.linspace(config.r_min, r_max, n))
            away = Taylor(away.c, away.r0 + 4 * UNIT * r_max, away.r1, away.linear)
            basis = elementary.exponential((away * away).times(-beta).uncertain(8))
            return product(_by_edge(basis, weights * (2.0 * beta / np.pi) ** 0.25), envelope[..., None])
        amplitude = (-1.0) ** np.arange(n) * np.sqrt(2.0) * np.pi / r_max**1.5 * radial.amplitudes(n, config.smoothness)
        left, zero = weights * amplitude, np.zeros((*weights.shape[:-1], 1))
        orders = np.arange(1.0, n + 2)
        waves = (np.concatenate([left, zero], axis=-1) + np.concatenate([zero, left], axis=-1)) / orders
        size = (np.concatenate([np.abs(left), zero], -1) + np.concatenate([zero, np.abs(left)], -1)) / orders
        y = scaled.times(np.pi).uncertain(2)
        tones = _by_edge(elementary.sine(_outer(y, orders)), waves, size)
        return product(tones, product(elementary.power(y, -1.0), envelope)[..., None])

    def _centres(self, moments: Taylor, element: np.ndarray) -> Taylor:
        """Energies of centres, without the shift, from their moments.  [R, S, 20] -> [R]"""
        weights = descriptor.MULTIPLICITIES
        size = moments.shape[1] * len(weights)
        square = product(moments, moments, lambda x, y: (x * y * weights).sum(axis=(-1, -2)), size + 2)
        factor = elementary.power(square.times(1.0 / self.bounds[element] ** 2).uncertain(8).plus(1.0), -0.5)
        x = _invariants(product(moments, factor[..., None, None]))
        for k, (kernel, bias) in enumerate(self.readout):
            x = (elementary.swish(x).times(SWISH_UNIT) if k else x).matmul(kernel).plus(bias)
        x = x[..., 0].times(OUTPUT_GAIN)
        x = elementary.swish(x) if self.config.bounded else x
        return x.times(self.sigma[element]).uncertain(32)

    def _repulsion(self, r: Array, half: Array, core: bool) -> Taylor:
        """Repulsion of all pairs, without that of the pair itself if core is true.  [B]"""
        elements = np.array(self.potential.reference.elements, float)
        length = self._distances(r, half)[0]
        counted = self.edges.filled & ~self.edges.own if core else self.edges.filled
        if core:
            length = with_own(length, self.edges, constant(np.ones((len(r), int(self.edges.own.sum())))))
        a, b = np.zeros((*self.e_j.shape, 4)), np.zeros((*self.e_j.shape, 4))
        for e in np.unique(self.e_i):
            for f in np.unique(self.e_j):
                here = (self.e_i[:, None] == e) & (self.e_j == f)
                found = wall.screening(self.potential, e, f)
                a[here, : len(found[0])], b[here, : len(found[1])] = found
        charge = repulsion.COULOMB * elements[self.e_i][:, None] * elements[self.e_j]
        charge = 0.5 * charge * self.strength[self.e_i[:, None], self.e_j] * counted
        screening = elementary.exponential(_outer(length, -b).uncertain(16)).times(a).total(-1)
        on, off = self.radii.r_on, self.radii.r_off
        window = elementary.step(self._scaled(length, on, off - on)).times(-1.0).plus(1.0)
        pairs = product(product(screening, elementary.power(length, -1.0)), window).times(charge).uncertain(64)
        return pairs.total(-1).total(-1)


def _by_edge(x: Taylor, weights: Array, size: Array | None = None) -> Taylor:
    """sum_n w_sn x_n with other weights for every edge.  [B, C, K, n], [C, K, S, n] -> [B, C, K, S]"""
    size = np.swapaxes(np.abs(weights) if size is None else size, -1, -2)
    return x[..., None, :].matmul(np.swapaxes(weights, -1, -2), size)[..., 0, :]


def _outer(x: Taylor, factors: Array) -> Taylor:
    """Every function times each of the factors [..., n].  [...] -> [..., n]"""
    return x[..., None].times(factors)


def _monomials(unit: Taylor, gate: Taylor) -> Taylor:
    """Packed components of 1, g u, g u u, g u u u.  [..., 3], [...] -> [..., 20]"""
    axes = [unit[..., k : k + 1] for k in range(3)]
    packed: dict[tuple[int, ...], Taylor] = {(): constant(np.ones((*gate.shape, 1)))}
    if gate.linear is not None:
        packed[()] = constant(np.ones((*gate.shape, 1)), n_linear=gate.linear.shape[1])
    closed = gate[..., None]
    for abc in descriptor.COMPONENTS[1:]:
        packed[abc] = product(packed[abc[:-1]] if len(abc) > 1 else closed, axes[abc[-1]])
    return concatenate(list(packed.values()))


def _invariants(moment: Taylor) -> Taylor:
    """The invariants of descriptor.invariants in their order.  [R, S, 20] -> [R, F]"""
    n = moment.shape[1]
    r, s, p, t = descriptor.channel_pairs(n)
    m = moment.apply(lambda x: np.swapaxes(x, -1, -2))  # [R, 20, S]
    grams = [_gram(m, order, r, s) for order in (1, 2, 3)]  # [R, 6, pairs] each
    weights = np.array([descriptor.multiplicity(ab) for ab in descriptor.PAIRS], float)
    second = m[..., 4:10, :]  # [R, 6, S]
    parts = [m[..., 0, :], *(gram[..., [0, 3, 5], :].total(-2) for gram in grams)]

    def with_second(x: Array, y: Array) -> Array:  # [6, P], [6, S] -> [P, S]
        return np.swapaxes(x, -1, -2) @ (weights[:, None] * y)

    triples = product(grams[1][..., p], second[..., t], lambda x, y: (weights[:, None] * x * y).sum(axis=-2), 8)
    parts.append(triples)
    for gram in (grams[0], grams[2]):
        parts.append(_flat(product(gram, second, with_second, 8), 2))
    rows = [[descriptor.component(*ab, c) for ab in descriptor.PAIRS] for c in range(3)]
    thirds = m[..., np.array(rows), :]  # [R, 3, 6, S]
    vectors = product(thirds, second[..., None, :, :], with_second, 8)  # [R, 3, S, S]
    last = product(
        _flat(vectors, 2), m[..., 1:4, :], lambda x, y: np.swapaxes(x, -1, -2) @ y, 3
    )  # [R, 3, S S], [R, 3, S] -> [R, S S, S]
    return concatenate([*parts, _flat(last, 2)])


def _gram(m: Taylor, order: int, r: Array, s: Array) -> Taylor:
    """Symmetric part of M_r,c... M_s,d... summed over the other indices.  [R, 20, S] -> [R, 6, pairs]"""
    left, right, places, weights = [], [], [], []
    for place, (c, d) in enumerate(descriptor.PAIRS):
        for first, second in ((c, d), (d, c)):
            for i, j, weight in descriptor.gram_products(order, first, second):
                left.append(i)
                right.append(j)
                places.append(place)
                weights.append(0.5 * weight)
    matrix = np.zeros((len(descriptor.PAIRS), len(places)))
    matrix[places, np.arange(len(places))] = weights
    return product(m[..., left, :][..., r], m[..., right, :][..., s], lambda x, y: matrix @ (x * y), len(places) + 2)


def _flat(x: Taylor, axes: int) -> Taylor:
    """The last axes as one."""
    return x.apply(lambda y: y.reshape(*y.shape[: y.ndim - axes], -1))
