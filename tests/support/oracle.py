"""The whole potential once more in plain NumPy, straight from the published equations: the tests' second opinion.

Nothing is shared with the package but the names of the settings and parameters: periodic images are summed by brute
force, moments are full tensors, every contraction is formed for all channels and the kept entries are picked
afterwards. Slow and float64. At the end, how numbers are compared and differentiated.
Index letters as in the package: i centre, j neighbour, a b c d Cartesian, r s t radial channel, n basis function.
"""

from collections.abc import Callable
from itertools import product

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

SWISH_UNIT = 1.6765  # the hidden activation has unit second moment
OUTPUT_GAIN = 0.04  # of the last layer
K_E = 14.3996454784  # eV Å


def images(atoms: Atoms, cutoff: float) -> list[tuple[int, int, tuple[int, int, int], np.ndarray]]:
    """Every (i, j, S, x_j + S cell - x_i) with a length below the cutoff, by trying all cells within reach."""
    x, cell = atoms.positions, atoms.cell.array
    reach = cutoff + max(np.linalg.norm(x[:, None] - x, axis=-1).max(), 0.0)
    most = np.zeros(3, int)
    periodic = np.flatnonzero(atoms.pbc)
    if len(periodic):  # |S_p| <= reach * |column p of the pseudo-inverse|
        most[periodic] = np.ceil(reach * np.linalg.norm(np.linalg.pinv(cell[periodic]), axis=0)).astype(int)
    cells = np.array(list(product(*(range(-m, m + 1) for m in most))))
    found = []
    for i, j in product(range(len(x)), repeat=2):
        vectors = x[j] + cells @ cell - x[i]
        for S, vector in zip(cells, vectors, strict=True):
            if np.linalg.norm(vector) < cutoff and not (i == j and not S.any()):
                found.append((i, j, tuple(map(int, S)), vector))
    return found


def basis(config, r: float) -> np.ndarray:
    """phi_n(r), [n_basis]."""
    n = np.arange(config.n_basis)
    if config.basis == "bessel":
        x = r / config.r_max
        return (-1.0) ** n * np.sqrt(2) * np.pi / config.r_max**1.5 * (np.sinc((n + 1) * x) + np.sinc((n + 2) * x))
    beta = config.n_basis**2 / config.r_max**2
    centres = config.r_min + (config.r_max - config.r_min) * n / max(config.n_basis - 1, 1)
    return (2 * beta / np.pi) ** 0.25 * np.exp(-beta * (r - centres) ** 2)


def cutoff(config, r: float) -> float:
    """f_c(r)."""
    if r >= config.r_max:
        return 0.0
    x = r / config.r_max
    return 1 - 10 * x**3 + 15 * x**4 - 6 * x**5 if config.cutoff == "polynomial" else np.cos(np.pi * x / 2) ** 2


def invariants(M0: np.ndarray, M1: np.ndarray, M2: np.ndarray, M3: np.ndarray) -> np.ndarray:
    """The eight kinds of contraction of the moments [S], [S, 3], [S, 3, 3], [S, 3, 3, 3] of one atom.  -> [F]"""
    S = len(M0)
    pairs = [(r, s) for r in range(S) for s in range(S) if r <= s]
    one = np.einsum("ra,sa->rs", M1, M1)
    two = np.einsum("rab,sab->rs", M2, M2)
    three = np.einsum("rabc,sabc->rs", M3, M3)
    four = np.einsum("rab,sac,tbc->rst", M2, M2, M2)
    five = np.einsum("ra,sb,tab->rst", M1, M1, M2)
    six = np.einsum("rabc,sabd,tcd->rst", M3, M3, M2)
    seven = np.einsum("rabc,sab,tc->rst", M3, M2, M1)
    return np.array(
        list(M0)
        + [one[r, s] for r, s in pairs]
        + [two[r, s] for r, s in pairs]
        + [three[r, s] for r, s in pairs]
        + [four[r, s, t] for r, s in pairs for t in range(s, S)]
        + [five[r, s, t] for r, s in pairs for t in range(S)]
        + [six[r, s, t] for r, s in pairs for t in range(S)]
        + [seven[r, s, t] for r in range(S) for s in range(S) for t in range(S)]
    )


def closest(reference, z1: int, z2: int) -> float | None:
    """Smallest distance of a pair of elements in the data; entries count the upper triangle row by row."""
    e1, e2 = sorted((reference.elements.index(z1), reference.elements.index(z2)))
    upper = [(a, b) for a in range(len(reference.elements)) for b in range(a, len(reference.elements))]
    return reference.closest[upper.index((e1, e2))]


def clamp_radius(config, reference, z1: int, z2: int) -> float:
    """Below this distance the network sees no distance; never less than the cutoff for pairs absent from the data."""
    smallest = closest(reference, z1, z2)
    return config.r_max if smallest is None else (1 - config.core.margin) * smallest * (1 - config.core.width)


def seen(config, reference, r: float, z1: int, z2: int) -> float:
    """The distance that the network sees, constant in the core and the true one in the data."""
    if not config.core.clamp:
        return r
    inner, smallest = clamp_radius(config, reference, z1, z2), closest(reference, z1, z2)
    if smallest is None:
        return config.r_max
    width = (1 - config.core.margin) * smallest - inner
    if r >= inner + width:
        return r
    u, above = max(r - inner, 0.0) / width, 2 * config.core.depth - 1
    fast, slow = 20 * u**4 - 45 * u**5 + 36 * u**6 - 10 * u**7, 0.5 + 2.5 * u**4 - 3 * u**5 + u**6
    return inner + width * (above * fast + (1 - above) * slow)


def shown(config, reference, r: float, z1: int, z2: int) -> float:
    """How much of the direction the network sees."""
    if not config.core.gate:
        return 1.0
    radius = clamp_radius(config, reference, z1, z2)
    inner, outer = config.core.gate_inner * radius, config.core.gate_outer * radius
    u = min(max((r - inner) / (outer - inner), 0.0), 1.0)
    return 10 * u**3 - 15 * u**4 + 6 * u**5


def agnesi(config, r: float, z1: int, z2: int) -> float:
    """MACE's transform in its published form, mapped to [0, r_max]."""
    if config.distance != "agnesi":
        return r
    r_0 = (covalent_radii[z1] + covalent_radii[z2]) / 2
    y = lambda x: 1 / (1 + 1.0805 * x**0.9183 / (1 + x ** (0.9183 - 4.5791)))  # noqa: E731
    return config.r_max * (1 - y(r / r_0)) / (1 - y(config.r_max / r_0))


def features(config, reference, params: dict, atoms: Atoms) -> np.ndarray:
    """Invariants of every atom before any scaling, [N, F]."""
    coefficients = np.asarray(params["radial"]["coefficients"], float)
    element = [reference.elements.index(z) for z in atoms.numbers]
    N, S = len(atoms), config.n_radial
    M0, M1, M2, M3 = np.zeros((N, S)), np.zeros((N, S, 3)), np.zeros((N, S, 3, 3)), np.zeros((N, S, 3, 3, 3))
    for i, j, _, vector in images(atoms, config.r_max):
        r = float(np.linalg.norm(vector))
        u = vector / r
        pair = int(atoms.numbers[i]), int(atoms.numbers[j])
        at = seen(config, reference, r, *pair)
        R = cutoff(config, at) * coefficients[element[i], element[j]] @ basis(config, agnesi(config, at, *pair))  # R_s
        M0[i] += R
        R = R * shown(config, reference, r, *pair)
        M1[i] += np.einsum("s,a->sa", R, u)
        M2[i] += np.einsum("s,a,b->sab", R, u, u)
        M3[i] += np.einsum("s,a,b,c->sabc", R, u, u, u)
    if config.core.bounded_moments:
        for i in range(N):
            norm = sum(np.sum(M[i] ** 2) for M in (M0, M1, M2, M3))
            largest = config.core.moment_room * reference.moment_scale[element[i]]
            for M in (M0, M1, M2, M3):
                M[i] /= np.sqrt(1 + norm / largest**2)
    return np.array([invariants(M0[i], M1[i], M2[i], M3[i]) for i in range(N)])


def swish(x: np.ndarray) -> np.ndarray:
    """x / (1 + exp(-x))."""
    return x / (1 + np.exp(-x))


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + exp(x))."""
    return np.logaddexp(0.0, np.asarray(x, float))


def readout(config, params: dict, h: np.ndarray) -> np.ndarray:
    """The multilayer perceptron with its output activation, [N, F] -> [N]."""
    for index in range(len(config.hidden) + 1):
        layer = params["readout"][f"layer_{index}"]
        h = h @ np.asarray(layer["kernel"], float) + np.asarray(layer["bias"], float)
        if index < len(config.hidden):
            h = SWISH_UNIT * swish(h)
    x = OUTPUT_GAIN * h[:, 0]
    return swish(x) if config.output_activation == "swish" else x


def screened_coulomb(r: float, z1: int, z2: int) -> float:
    """The universal ZBL energy of two atoms, eV."""
    x = r * (z1**0.23 + z2**0.23) / 0.46850
    phi = (
        0.18175 * np.exp(-3.19980 * x)
        + 0.50986 * np.exp(-0.94229 * x)
        + 0.28022 * np.exp(-0.40290 * x)
        + 0.02817 * np.exp(-0.20162 * x)
    )
    return K_E * z1 * z2 / r * phi


def nlh(reference, r: float, z1: int, z2: int) -> float:
    """The pair-specific screened Coulomb energy of Nordlund, Lehtola and Hobler, eV."""
    e1, e2 = sorted((reference.elements.index(z1), reference.elements.index(z2)))
    upper = [(a, b) for a in range(len(reference.elements)) for b in range(a, len(reference.elements))]
    a1, b1, a2, b2, a3, b3 = reference.screening[upper.index((e1, e2))]
    return K_E * z1 * z2 / r * (a1 * np.exp(-b1 * r) + a2 * np.exp(-b2 * r) + a3 * np.exp(-b3 * r))


def window(config, reference, r: float, z1: int, z2: int) -> float:
    """The factor that switches the repulsion off."""
    zbl = config.zbl
    if zbl.window == "cosine":
        return (1 + np.cos(np.pi * r / zbl.r_off)) / 2 if r < zbl.r_off else 0.0
    contact = covalent_radii[z1] + covalent_radii[z2]
    inner, outer = zbl.inner * contact, zbl.outer * contact
    smallest = closest(reference, z1, z2) if zbl.window == "closest" or config.core.clamp else None
    if zbl.window == "closest":
        inner, outer = (inner, 1.5 * contact) if smallest is None else (zbl.inner * smallest, zbl.outer * smallest)
    elif config.core.clamp:
        outer = max(outer, 1.5 * contact if smallest is None else (1 - config.core.margin) * smallest)
    if r <= inner:
        return 1.0
    if r >= outer:
        return 0.0
    u = (r - inner) / (outer - inner)
    return 1 - 10 * u**3 + 15 * u**4 - 6 * u**5


def strength(config, reference, params: dict, z1: int, z2: int) -> float:
    """The strength of a pair of elements; parameters count the upper triangle row by row."""
    if not config.zbl.trainable:
        return config.zbl.strength
    e1, e2 = sorted((reference.elements.index(z1), reference.elements.index(z2)))
    upper = [(a, b) for a in range(len(reference.elements)) for b in range(a, len(reference.elements))]
    return config.zbl.floor + float(softplus(params["repulsion"]["strength"])[upper.index((e1, e2))])


def repulsion(config, reference, params: dict, atoms: Atoms) -> float:
    """Sum over pairs; each is met twice in the list of images, hence the half."""
    total = 0.0
    for i, j, _, vector in images(atoms, config.r_max):
        r, z1, z2 = float(np.linalg.norm(vector)), int(atoms.numbers[i]), int(atoms.numbers[j])
        s = strength(config, reference, params, z1, z2)
        bare = screened_coulomb(r, z1, z2) if config.repulsion == "zbl" else nlh(reference, r, z1, z2)
        total += s * bare * window(config, reference, r, z1, z2) / 2
    return total


def energy(config, reference, params: dict, atoms: Atoms) -> float:
    """Total energy without the atomic references, eV."""
    h = features(config, reference, params, atoms)
    if reference.feature_scale:
        h = h / np.array(reference.feature_scale)
    element = [reference.elements.index(z) for z in atoms.numbers]
    scale, shift = softplus(params["scale_shift"]["scale"]), np.asarray(params["scale_shift"]["shift"], float)
    total = float(np.sum(shift[element] + scale[element] * readout(config, params, h)))
    return total + repulsion(config, reference, params, atoms) if config.repulsion != "none" else total


def assert_close(got: np.ndarray, expected: np.ndarray, relative: float = 1e-11, floor: float = 1.0) -> None:
    """Equal within a fraction of the largest number expected, or of `floor` (eV, eV/Å) where all should vanish."""
    bound = relative * max(np.abs(expected).max(initial=0), floor)
    np.testing.assert_allclose(got, expected, rtol=0, atol=bound, equal_nan=False)


def slope(f: Callable[[float], float], h: float) -> float:
    """Five-point central difference; its truncation error is h^4 f'''''/30."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)
