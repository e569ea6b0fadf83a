"""The certificate: no sampled number exceeds a certified one, planted errors are seen, and nothing is claimed unproved.

Every bound is compared with values found by random sampling and by gradient ascent, the inner ones one by one.
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms

from gmnn.certificate import (
    Certificate,
    adversary,
    barrier,
    certify,
    lipschitz,
    monotone,
    radial_bounds,
    stationary,
    wall,
)
from gmnn.commands import certify as command
from gmnn.config.model import CoreConfig, ZBLConfig
from gmnn.errors import UserError
from gmnn.model import descriptor, short_range
from gmnn.model.potential import Potential
from gmnn.neighbors.host import make_system
from gmnn.system import System
from tests.support.paths import GOLDEN

Make = Callable[..., tuple[Potential, dict[str, Any]]]
CORE = CoreConfig()
WEIGHT = np.sqrt(descriptor.MULTIPLICITIES)  # packed components times this: coordinates in which norms are Euclidean
RANK = np.array([len(abc) for abc in descriptor.COMPONENTS])
NLH_H_H = (-8.99999, 9.55658, 9.99999, 8.89086, 0.0, 0.0)
energy = jax.jit(Potential.energy, static_argnums=0)


@pytest.fixture
def full(make_potential: Make) -> Potential:
    """Clamp, gate and bounded moments, a feature scale and random weights."""
    potential, params = make_potential(scaled=True, core=CORE)
    return potential.with_params(params)


@pytest.fixture
def gentle(full: Potential) -> Potential:
    """The same with a weak network, so that the radii are of the size of an atom."""
    params = jax.tree.map(np.copy, full.trained)
    params["scale_shift"]["scale"] = np.full_like(params["scale_shift"]["scale"], -8.0)
    return full.with_params(params)


@pytest.fixture
def molecule() -> Atoms:
    return Atoms("COHH", [[0.0, 0.0, 0.0], [1.5, 0.1, 0.0], [-0.6, 0.9, 0.2], [-0.5, -0.9, 0.4]])


def random_moments(rng: np.random.Generator, size: int, n_radial: int = 2) -> np.ndarray:
    """Moments in isometric coordinates, some with one rank alone.  [size, S, 20]"""
    values = rng.normal(size=(size, n_radial, 20))
    return values * rng.choice([0.05, 1.0], (size, 1, 4))[:, :, RANK]


def features(v: jax.Array) -> jax.Array:
    """Invariants of one atom from moments in isometric coordinates.  [S, 20] -> [F]"""
    return descriptor.invariants(v[None] / WEIGHT[None, None, :])[0]


def test_copies_complete_the_tensors() -> None:
    """Squares of the kept features times their copies sum to the squared norm of the full contraction."""
    v = jnp.asarray(random_moments(np.random.default_rng(0), 1, n_radial=3)[0])
    classes = lipschitz.feature_classes(3)
    assert len(classes.number) == descriptor.n_features(3)
    m1, m2, m3 = (_tensors(v, rank) for rank in (1, 2, 3))
    whole = [
        v[:, 0] / WEIGHT[0],
        jnp.einsum("ra,sa->rs", m1, m1),
        jnp.einsum("rab,sab->rs", m2, m2),
        jnp.einsum("rabc,sabc->rs", m3, m3),
        jnp.einsum("rab,sac,tbc->rst", m2, m2, m2),
        jnp.einsum("ra,sb,tab->rst", m1, m1, m2),
        jnp.einsum("rabc,sabd,tcd->rst", m3, m3, m2),
        jnp.einsum("rabc,sab,tc->rst", m3, m2, m1),
    ]
    kept = np.asarray(jax.jit(features)(v)) ** 2 * classes.copies
    norms = [float(np.linalg.norm(_tensors(v, rank))) for rank in range(4)]
    powers = (
        np.array(["1000", "0200", "0020", "0002", "0030", "0210", "0012", "0111"]).view("U1").astype(int).reshape(8, 4)
    )
    for k, tensor in enumerate(whole):
        square = float(jnp.sum(tensor**2))
        np.testing.assert_allclose(kept[classes.number == k].sum(), square, rtol=1e-12)
        assert np.sqrt(square) <= np.prod(np.array(norms) ** powers[k]) * (1 + 1e-12)


def _tensors(v: jax.Array, rank: int) -> jax.Array:
    """Full symmetric tensors of one rank.  [S, 20] -> [S, 3, ...]"""
    packed = v / WEIGHT[None, :]
    index = np.array([descriptor.INDEX[tuple(sorted(abc))] for abc in np.ndindex(*(3,) * rank)])
    return packed[:, index].reshape(len(v), *(3,) * rank)


def test_jacobians_of_the_classes() -> None:
    """Each block of the Jacobian stays below its bound, and comes close to most of them for rank-one moments."""
    rng, classes = np.random.default_rng(1), lipschitz.feature_classes(2)
    axis = np.asarray(descriptor.monomials(jnp.array([1.0, 0.0, 0.0]))) * WEIGHT
    aligned = np.outer([1.0, 0.0], axis)[None] * rng.uniform(0.2, 2.0, (40, 1, 4))[:, :, RANK]
    jacobian, closest = jax.jit(jax.jacobian(features)), np.zeros((8, 4))
    for v in [*random_moments(rng, 60), *aligned]:
        ranks = [np.linalg.norm(v[:, rank == RANK]) for rank in (1, 2, 3)]
        table = lipschitz.jacobian_norms(np.array(ranks))
        blocks = np.asarray(jacobian(jnp.asarray(v))) * np.sqrt(classes.copies)[:, None, None]
        for k, rank in np.ndindex(8, 4):
            found = np.linalg.norm(
                blocks[classes.number == k][:, :, rank == RANK].reshape((classes.number == k).sum(), -1), 2
            )
            assert found <= table[k, rank] * (1 + 1e-9) + 1e-12
            closest[k, rank] = max(closest[k, rank], found / table[k, rank] if table[k, rank] > 0 else 0.0)
    assert (closest[lipschitz.jacobian_norms(np.ones(3)) > 0] > 0.7).all()


def test_cells_cover_the_ball() -> None:
    """Norms of any bounded moment lie under an upper corner whose attenuation is at least theirs."""
    m = np.abs(np.random.default_rng(2).normal(size=(200, 3)))
    m *= (2.0 * np.random.default_rng(3).random((200, 1)) ** 0.3) / np.linalg.norm(m, axis=1, keepdims=True)
    m = m[np.linalg.norm(m, axis=1) < 2.0]
    corners, left = lipschitz.norm_cells(2.0)
    exact = np.sqrt(1.0 - np.sum(m**2, axis=1) / 4.0)
    covered = (
        (m[:, None] <= corners).all(-1) & (left >= exact[:, None] - 1e-12) & (corners - m[:, None] <= 0.051).all(-1)
    )
    assert covered.any(axis=1).all()


@pytest.mark.parametrize("shape", [(9, 1), (9, 6, 1), (9, 6, 7, 1)])
def test_chain_of_layers(shape: tuple[int, ...]) -> None:
    """The worst slopes that sign iteration finds stay below the bound; half of the bound would be caught."""
    rng = np.random.default_rng(4)
    matrices = [rng.normal(size=pair) for pair in pairwise(shape)]
    slopes = (lipschitz.SWISH_SLOPES[0], lipschitz.SWISH_SLOPES[1])
    bound, best = lipschitz.chain_bound(matrices, slopes), 0.0

    def size(diagonals: list[jax.Array]) -> jax.Array:
        product = jnp.asarray(matrices[0])
        for diagonal, matrix in zip(diagonals, matrices[1:], strict=True):
            product = (product * diagonal[None, :]) @ matrix
        return jnp.sqrt(jnp.sum(product**2))

    gradient, size = jax.jit(jax.grad(size)), jax.jit(size)
    for _ in range(8):
        worst = [jnp.asarray(rng.choice(slopes, n)) for n in shape[1:-1]]
        for _ in range(10):
            worst = [jnp.where(g > 0, slopes[1], slopes[0]) for g in gradient(worst)] if worst else worst
            best = max(best, float(size(worst)))
    assert 0.4 * bound < best <= bound
    with pytest.raises(AssertionError):
        assert best <= 0.4 * bound


def test_slopes_of_swish() -> None:
    slope = jax.vmap(jax.grad(jax.nn.swish))(jnp.linspace(-30.0, 30.0, 600_001))
    assert lipschitz.SWISH_SLOPES[0] <= float(slope.min()) < lipschitz.SWISH_SLOPES[0] + 1e-6
    assert lipschitz.SWISH_SLOPES[1] >= float(slope.max()) > lipschitz.SWISH_SLOPES[1] - 1e-6


@pytest.mark.slow
def test_sensitivity_exceeds_every_gradient(full: Potential) -> None:
    """Gradient ascent on |dE_i/dM| over unbounded moments; a bound fifty times smaller is refuted."""
    certified, params = lipschitz.sensitivities(full), full.trained
    scale, layers = jnp.asarray(full.reference.feature_scale), params["readout"]
    linear = replace(full, config=replace(full.config, output_activation="identity"))
    np.testing.assert_allclose(lipschitz.SWISH_SLOPES[1] * lipschitz.sensitivities(linear), certified, rtol=1e-12)
    e = 1

    def atom(v: jax.Array) -> jax.Array:
        bound = CORE.moment_room * full.reference.moment_scale[e]
        h = descriptor.invariants(short_range.bounded(v[None] / WEIGHT[None, None, :], jnp.asarray([bound])))[0] / scale
        for k in range(3):
            h = h @ layers[f"layer_{k}"]["kernel"] + layers[f"layer_{k}"]["bias"]
            h = lipschitz.SWISH_UNIT * jax.nn.swish(h) if k < 2 else lipschitz.OUTPUT_GAIN * h
        return jax.nn.softplus(params["scale_shift"]["scale"][e]) * jax.nn.swish(h)[0]

    ascend = jax.jit(jax.vmap(jax.value_and_grad(lambda v: jnp.sqrt(jnp.sum(jax.grad(atom)(v) ** 2)))))
    v, best = 3.0 * jnp.asarray(random_moments(np.random.default_rng(5), 200)), 0.0
    for step in np.geomspace(0.5, 0.02, 40):
        values, gradient = ascend(v)
        best = max(best, float(values.max()))
        v = v + step * gradient / (jnp.sqrt(jnp.sum(gradient**2, axis=(1, 2), keepdims=True)) + 1e-12)
    assert certified[e] / 50.0 < best <= certified[e]


def contribution(potential: Potential, vector: jax.Array, e: int, f: int) -> jax.Array:
    """What a neighbour at `vector` adds to the moments of its centre, isometric coordinates.  [3] -> [S * 20]"""
    numbers = jnp.asarray([potential.reference.elements[k] for k in (e, f)])
    empty = jnp.zeros((2, 1, 3), int)
    system = System(jnp.stack([jnp.zeros(3), vector]), numbers, jnp.zeros((3, 3)), jnp.array([[1], [0]]), empty)
    return jnp.ravel(potential._apply(potential.trained, system, "moments")[0] * WEIGHT[None, :])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param(
            {"basis": "gaussian", "cutoff": "cosine", "core": replace(CORE, gate=False)}, marks=pytest.mark.slow
        ),
        pytest.param({"core": replace(CORE, clamp=False)}, marks=pytest.mark.slow),
        pytest.param({"smoothness": 1.5}, marks=pytest.mark.slow),
    ],
    ids=lambda changes: "-".join(changes) or "default",
)
def test_one_neighbor(make_potential: Make, changes: dict[str, Any]) -> None:
    """|dC/dr| and the norm of dC/dx stay below their interval's bound, and within a quarter of the largest one."""
    potential, params = make_potential(**({"core": CORE} | changes))
    potential = potential.with_params(params)
    e, f = 0, 1
    tables = short_range.pair_tables(potential.config, potential.reference)
    radii = short_range.PairTables(*(float(t[e, f]) for t in tables))
    bounds = radial_bounds.neighbor_bounds(potential, lambda *_: radial_bounds.switch_points(radii))[e][f]
    bend = np.linspace(radii.clamp_in + 0.02, radii.clamp_in + 0.2, 50)
    r = np.concatenate([np.random.default_rng(6).uniform(0.02, 3.6, 300), bend])
    along, any_way, where = sampled_derivatives(potential, r, e, f, bounds)
    assert (along <= bounds.along[where] + 1e-12).all()
    assert (any_way <= bounds.any_way[where] + 1e-12).all()
    assert along.max() > 0.75 * bounds.along[where].max()
    assert any_way.max() > 0.75 * bounds.any_way[where].max()
    if potential.config.core.clamp and potential.config.core.gate:
        assert bounds.any_way[bounds.edges[1:] <= radii.gate_in].max() == 0.0


def sampled_derivatives(
    potential: Potential, r: np.ndarray, e: int, f: int, bounds: radial_bounds.Bounds
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """|dC/dr|, the norm of dC/dx and the interval of each distance."""
    direction = np.array([0.48, -0.6, 0.64])
    jacobian = jax.jit(jax.vmap(jax.jacfwd(lambda x: contribution(potential, x, e, f))))
    found = np.asarray(jacobian(jnp.asarray(r[:, None] * direction)))
    return (
        np.linalg.norm(found @ direction, axis=-1),
        np.linalg.norm(found, ord=2, axis=(1, 2)),
        np.searchsorted(bounds.edges, r) - 1,
    )


def test_a_leaking_clamp_is_seen(full: Potential, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clamp that is not constant below its radius breaks the certified zero there."""
    bounds = radial_bounds.neighbor_bounds(full, lambda *_: [])[0][1]
    clamped = short_range.clamped
    monkeypatch.setattr(short_range, "clamped", lambda r, *of: clamped(r, *of) + 1e-4 * r)
    along, _, where = sampled_derivatives(full, np.linspace(0.05, 0.16, 20), 0, 1, bounds)
    assert (along > bounds.along[where] + 1e-12).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"window": "covalent"},
        pytest.param({"window": "cosine", "r_off": 3.0}, marks=pytest.mark.slow),
        pytest.param({"trainable": False}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("repulsion", ["zbl", "nlh"])
def test_slopes_of_the_wall(make_potential: Make, settings: dict[str, Any], repulsion: str) -> None:
    """|V'| lies between its bounds on every interval, close to both, for both repulsions and both windows."""
    potential, params = make_potential(core=CORE, zbl=ZBLConfig(**settings))
    config, reference = potential.config, replace(potential.reference, screening=(NLH_H_H,) * 10)
    potential = Potential(replace(config, repulsion=repulsion), reference, params)
    e, f = 0, 1
    tables = short_range.pair_tables(potential.config, potential.reference)
    ends = radial_bounds.edges(potential.config, [float(t[e, f]) for t in tables])
    assert wall.falls(potential, e, f)
    slopes = wall.slopes(potential, e, f, ends)
    r = np.random.default_rng(7).uniform(0.001, 3.6, 2000)
    found = np.abs(np.asarray(radial_bounds.derivative(wall.energy(potential, e, f))(jnp.asarray(r))))
    where = np.searchsorted(ends, r) - 1
    assert (slopes.at_least[where] <= found * (1 + 1e-12)).all()
    assert (found <= slopes.at_most[where] * (1 + 1e-12)).all()
    steep, tight = found > 20.0, 0.9 if repulsion == "zbl" else 0.5  # two large terms of NLH cancel
    assert (slopes.at_least[where] > tight * found)[steep].all()
    assert (slopes.at_most[where] < found / tight)[steep].all()
    deep = np.asarray(wall.energy(potential, e, f)(jnp.asarray([1e-8, 5e-5]))) / np.array([1e-8, 5e-5])
    assert (deep >= slopes.at_least[0]).all()  # below the first end |V'| >= V / r


def test_a_repulsion_that_turns_is_refused(make_potential: Make) -> None:
    potential, params = make_potential(core=CORE)
    turning = replace(potential.reference, screening=((2.0, 5.0, -1.0, 1.0, 0.0, 0.0),) * 10)
    assert not wall.falls(Potential(replace(potential.config, repulsion="nlh"), turning, params), 0, 1)


@pytest.mark.slow
def test_barrier(full: Potential, molecule: Atoms) -> None:
    """V brackets A + K at the radius, and no geometry with a pair inside it is as low, however the rest is arranged."""
    excess = 3.0
    found = barrier.barrier_radii(full, molecule, excess)
    start = total(full, molecule)
    for name, (e, f, i, j) in {"C-O": (1, 2, 0, 1), "C-H": (0, 1, 0, 2), "H-H": (0, 0, 2, 3)}.items():
        r_b, V = found.radii[e, f], wall.energy(full, e, f)
        assert float(V(jnp.asarray(r_b))) > found.above_floor + excess, name
        assert float(V(jnp.asarray(r_b * 1.0001))) < (found.above_floor + excess) * (1 + 1e-6), name
        lowest = minimised(full, molecule, i, j, 0.999 * r_b)
        assert lowest > start + excess, name
    assert np.isnan(found.radii[2, 2])  # one oxygen only
    assert np.isnan(found.radii[3, 3])
    flipped = full.with_params(jax.tree.map(np.copy, full.trained))
    flipped.trained["scale_shift"]["shift"] += 7.0  # moves start and floor alike
    np.testing.assert_allclose(barrier.barrier_radii(flipped, molecule, excess).radii, found.radii, atol=1e-6)


def total(potential: Potential, atoms: Atoms) -> float:
    system = make_system(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, potential.config.r_max)
    return float(energy(potential, potential.trained, system))


def all_pairs(atoms: Atoms) -> Any:
    """A system whose slots hold every other atom, at any distance."""
    return make_system(0.1 * atoms.positions, atoms.numbers, np.zeros((3, 3)), [False] * 3, 3.0)


def minimised(potential: Potential, atoms: Atoms, i: int, j: int, r: float) -> float:
    """Lowest energy that descent finds with atoms i and j held at distance r, from random places of the others."""
    rng, system = np.random.default_rng(8), all_pairs(atoms)
    batch = rng.normal(scale=1.5, size=(24, len(atoms), 3))
    batch[:, i], batch[:, j] = 0.0, [0.0, 0.0, r]
    step = jax.jit(
        jax.vmap(jax.value_and_grad(lambda x: potential.energy(potential.trained, system._replace(positions=x))))
    )
    x, lowest = jnp.asarray(batch), np.inf
    moving = jnp.asarray([0.0 if k in (i, j) else 1.0 for k in range(len(atoms))])[None, :, None]
    for size in np.geomspace(0.2, 0.01, 30):
        values, gradient = step(x)
        lowest = min(lowest, float(values.min()))
        x = x - size * moving * gradient / (jnp.sqrt(jnp.sum(gradient**2, axis=-1, keepdims=True)) + 1e-12)
    return lowest


@pytest.mark.slow
def test_monotone_approach_survives_the_search(gentle: Potential) -> None:
    """Inside r_c no environment turns dE/dr; beyond it the same search finds some: the theorem is not empty."""
    rho = short_range.covalent_sums(gentle.reference.elements) * 0.8
    grid = monotone.make_grid(gentle, lipschitz.sensitivities(gentle), rho)
    found = monotone.monotone_radii(gentle, grid, rho, 3)
    r_c = found.radii[0, 1]
    assert 0.05 < r_c < 1.0
    inside = adversary.search(gentle, (1, 6), (0.3 * r_c, r_c), rho, 3, environments=64, steps=15, batch=64)
    assert inside.environments > 50
    assert inside.violations == 0
    assert inside.highest < 0
    assert inside.network <= found.network[0, 1]
    outside = adversary.search(gentle, (1, 6), (1.3, 1.6), rho, 3, environments=64, steps=15, batch=64)
    assert outside.violations > 0
    hydrogens = monotone.monotone_radii(gentle, grid, rho, 3, np.array([3, 2, 0, 0]))
    assert hydrogens.radii[0, 1] >= r_c
    assert np.isnan(hydrogens.radii[0, 2])
    assert monotone.monotone_radii(gentle, grid, rho, 1).radii[0, 1] > r_c


@pytest.mark.slow
def test_stationary(gentle: Potential, molecule: Atoms) -> None:
    """The network's virial stays below its bound in random clusters; inside r* the repulsion's exceeds it."""
    bare = Potential(replace(gentle.config, repulsion="none"), gentle.reference)
    composition = np.array([2, 1, 1, 0])
    grid = monotone.make_grid(gentle, lipschitz.sensitivities(gentle), np.full((4, 4), 0.5))
    bound, system = stationary.virial_bound(grid, composition), all_pairs(molecule)
    positions = np.random.default_rng(9).normal(size=(300, 4, 3)) * np.geomspace(0.1, 2.0, 300)[:, None, None]

    def virial(model: Potential, x: jax.Array) -> jax.Array:
        def stretched(factor: jax.Array) -> jax.Array:
            return model.energy(gentle.trained, system._replace(positions=factor * x))

        return jax.grad(stretched)(1.0)

    values = np.asarray(jax.jit(jax.vmap(lambda x: virial(bare, x)))(jnp.asarray(positions)))
    assert 0 < np.abs(values).max() <= bound
    radii = stationary.stationary_radii(grid, composition)
    assert np.isnan(radii[1, 1])
    assert 0.02 < radii[0, 1] < 1.6
    positions[:, 2] = positions[:, 0] + np.array([0.0, 0.6, 0.8]) * 0.999 * radii[0, 1]  # C and a hydrogen
    assert (np.asarray(jax.jit(jax.vmap(lambda x: virial(gentle, x)))(jnp.asarray(positions))) < 0).all()


KEYS = {
    "energy_above_start_eV", "barrier_radius", "monotone_radius", "stationary_radius", "lambda_certified_eV_per_A",
    "lambda_sampled_eV_per_A", "lambda_certified_per_pair_eV_per_A", "lambda_sampled_per_pair_eV_per_A", "assumptions",
}  # fmt: skip


@pytest.mark.slow
def test_certificate_of_a_molecule(gentle: Potential, molecule: Atoms) -> None:
    """All three theorems, strict JSON, names in alphabetical order, and a table that rounds down."""
    certificate = certify(gentle, molecule, energy=2.0, samples=8)
    values = json.loads(json.dumps(certificate.to_dict(), allow_nan=False))
    assert set(values) == KEYS
    assert list(values["barrier_radius"]) == ["C-C", "C-H", "C-O", "C-Si", "H-H", "H-O", "H-Si", "O-O", "O-Si", "Si-Si"]
    for key in ("barrier_radius", "monotone_radius", "stationary_radius"):
        assert {name for name, r in values[key].items() if r} == {"C-H", "C-O", "H-H", "H-O"}
    for name, certified in values["lambda_certified_per_pair_eV_per_A"].items():
        assert certified is None or 0 <= values["lambda_sampled_per_pair_eV_per_A"][name] <= certified
    assert values["lambda_sampled_eV_per_A"] > 0
    assert certificate.monotone["C-H"] <= certify(gentle, molecule, rho=1.2, samples=0).monotone["C-H"]
    assert certificate.barrier["C-H"] > certify(gentle, molecule, energy=50.0, samples=0).barrier["C-H"]
    printed = float(next(line for line in certificate.table().splitlines() if line.startswith("C-H")).split()[1])
    assert certificate.barrier["C-H"] - 1e-3 < printed <= certificate.barrier["C-H"]


@pytest.mark.slow
def test_kind_10_certificates_of_odd_structures(gentle: Potential) -> None:
    """A verdict or one sentence: lone and distant atoms, cells of one atom, atoms at one place, 10,000 atoms."""
    rng = np.random.default_rng(0)
    grid = 2.0 * np.stack(np.meshgrid(*[np.arange(22)] * 3), axis=-1).reshape(-1, 3)[:10_000]
    many = Atoms(rng.choice([1, 6, 8], 10_000), grid + rng.uniform(-0.3, 0.3, grid.shape))
    proved = {
        "one": Atoms("C", [[0.0, 0, 0]]),
        "apart": Atoms("CO", [[0.0, 0, 0], [500.0, 0, 0]]),
        "close": Atoms("CO", [[0.0, 0, 0], [0.0, 0, 0.05]]),
        "cell": Atoms("C", [[0.0, 0, 0]], cell=[1.5, 1.5, 1.5], pbc=True),
        "slab": Atoms("CO", [[0.0, 0, 0], [1.2, 0, 0]], cell=[4.0, 4.0, 0.0], pbc=[True, True, False]),
        "many": many,
    }
    for name, atoms in proved.items():
        began = time.perf_counter()
        certificate = certify(gentle, atoms, samples=4)
        assert time.perf_counter() - began < 300
        json.dumps(certificate.to_dict(), allow_nan=False)
        limited = any("among 24 other atoms at most" in sentence for sentence in certificate.assumptions)
        assert limited is (name in ("cell", "many"))
        assert (certificate.barrier["C-O"] is not None) is (name in ("apart", "close", "slab", "many"))
        for pair, sampled in certificate.sampled.items():
            assert sampled is None or 0 <= sampled <= certificate.network[pair]
    for atoms, words in (
        (Atoms("CO", [[0.0, 0, 0], [0.0, 0, 0]]), "at the same place"),
        (Atoms("CU", [[0.0, 0, 0], [2.0, 0, 0]]), "not trained on U"),
        (Atoms(), "no atoms"),
        (Atoms("CO", [[0.0, 0, 0], [np.nan, 0, 0]]), "must be finite numbers"),
        (Atoms("H9000", rng.uniform(0, 5, (9000, 3))), "are the positions in nm"),
    ):
        began = time.perf_counter()
        with pytest.raises(UserError, match=words):
            certify(gentle, atoms)
        assert time.perf_counter() - began < 10


def test_kind_10_the_search_of_a_certificate_is_bounded(gentle: Potential, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many other atoms there are, few are searched, of every element of the structure."""
    crowds: list[np.ndarray] = []

    def search(*arguments: Any, others: np.ndarray, **more: Any) -> adversary.Search:
        assert len(others) == arguments[4]
        crowds.append(others)
        return adversary.Search(1, 1, 0, -1.0, 0.0, 0.0)

    monkeypatch.setattr(adversary, "search", search)
    side = 2.5 * np.arange(60)[:, None] * [1.0, 0.0, 0.0]
    certificate = certify(gentle, Atoms("H40C10O10", side))
    assert "among 24 other atoms at most" in " ".join(certificate.assumptions)
    assert {len(crowd) for crowd in crowds} == {24}
    assert all(set(crowd) == {1, 6, 8} for crowd in crowds)


def nothing(radii: dict[str, float | None]) -> bool:
    return all(r is None for r in radii.values())


def test_nothing_is_claimed_without_its_assumption(make_potential: Make, molecule: Atoms) -> None:
    def made(atoms: Atoms | None = molecule, **changes: Any) -> Certificate:
        potential, params = make_potential(**({"core": CORE} | changes))
        return certify(potential.with_params(params), atoms, samples=0)

    free = made(None)
    assert nothing(free.barrier)
    assert nothing(free.stationary)
    assert not nothing(free.monotone)
    assert "no structure was given" in " ".join(free.assumptions)
    linear = made(output_activation="identity")
    assert nothing(linear.barrier)
    assert not nothing(linear.monotone)
    bare = made(repulsion="none")
    assert nothing(bare.barrier)
    assert nothing(bare.monotone)
    assert nothing(bare.stationary)
    for changes in (
        {"core": replace(CORE, bounded_moments=False)},
        {"core": replace(CORE, nearest_switch=True)},
        {"distance": "agnesi"},
    ):
        loose = made(**changes)
        assert not nothing(loose.barrier)
        assert nothing(loose.monotone)
        assert nothing(loose.stationary)
        assert loose.to_dict()["lambda_certified_eV_per_A"] is None
    crystal = molecule.copy()
    crystal.set_cell([6.0, 6.0, 6.0])
    crystal.pbc = True
    periodic = made(crystal)
    assert nothing(periodic.stationary)
    assert not nothing(periodic.barrier)
    assert "per cell" in " ".join(periodic.assumptions)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"energy": -1.0}, "must be zero or positive"),
        ({"energy": float("nan")}, "must be zero or positive"),
        ({"rho": 0.0}, "rho is 0.0"),
        ({"n": -1}, "number of other atoms is -1"),
        ({"atoms": Atoms("CN", [[0, 0, 0], [0, 0, 1.1]])}, "not trained on N"),
        ({"atoms": Atoms()}, "no atoms"),
    ],
)
def test_mistakes_are_named(full: Potential, arguments: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError, match=part):
        certify(full, **arguments)


@pytest.mark.slow
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A table and strict JSON for the golden model."""
    model, out = str(GOLDEN / "v2" / "model"), tmp_path / "certificate.json"
    assert command.main([model, "--structure", "ethanol", "--json", str(out)]) == 0
    values = json.loads(out.read_text(encoding="utf-8"))
    assert values.keys() >= KEYS
    assert values["barrier_radius"]["C-H"] > 0.1
    printed = capsys.readouterr().out.splitlines()
    assert f"C-H {np.floor(1e3 * values['barrier_radius']['C-H']) / 1e3:.3f}" in printed[1], "the line of use is first"
    assert any(line.startswith("C-H  ") for line in printed)


def test_the_line_of_use(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """The barrier if one is proved, rounded down; else what is proved below which distance, or nothing."""
    none: dict[str, float | None] = {"C-C": None, "C-H": None}

    def said(**radii: dict[str, float | None]) -> str:
        tables = {"barrier": none, "monotone": none, "stationary": none} | radii
        return command.summary(Certificate(energy=5.0, network=none, sampled=none, **tables))

    assert said(barrier={"C-C": 0.90789, "C-H": None}, monotone={"C-C": 0.02, "C-H": 0.01}) == (
        "No trajectory within this energy brings two atoms closer than C-C 0.907 Å; nothing is proved for C-H."
    )
    assert "below 0.020 Å at most" in said(monotone={"C-C": 0.02099, "C-H": 0.01})
    assert said().startswith("Nothing is proved")
    monkeypatch.setattr(command, "INTERVAL", 0.02)
    with command._signs_of_life():
        time.sleep(0.2)
    assert "certify: at work for 0 s\n" in capsys.readouterr().err


def test_mistakes_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One sentence and exit code 2."""
    model, broken = str(GOLDEN / "v2" / "model"), tmp_path / "broken.xyz"
    broken.write_text("3\nhello\nC 0 0\n", encoding="utf-8")
    for wrong in (["--structure", "nowhere.xyz"], ["--structure", str(broken)], ["--energy", "-3"]):
        assert command.main([model, *wrong]) == 2
        said = capsys.readouterr().err
        assert said.startswith("certify: ")
        assert said.count("\n") == 1
