"""Radial functions, moments and invariants against the oracle and against what symmetry and calculus demand."""

from functools import cache
from itertools import combinations_with_replacement, permutations, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from scipy.special import spherical_jn
from scipy.stats import ortho_group

from gmnn.config.model import ModelConfig
from gmnn.model import descriptor, radial
from gmnn.model.potential import Potential
from gmnn.neighbors.host import make_system
from gmnn.reference import Reference
from gmnn.system import System
from tests.support import oracle
from tests.support.plain import PLAIN

REFERENCE = Reference((1, 6, 8, 14), (0.0,) * 4, (1.0,) * 4, (0.0,) * 4)
EVERY_CHOICE = list(product(["bessel", "gaussian"], ["polynomial", "cosine"]))
# each number of channels with one basis and cutoff, and all four of those with two channels
CASES = [(n, *EVERY_CHOICE[n % 4]) for n in (1, 3, 4, 5, 6, 7)] + [(2, *choice) for choice in EVERY_CHOICE]


def config_of(n_radial: int, basis: str = "bessel", cutoff: str = "polynomial") -> ModelConfig:
    return ModelConfig(r_max=3.6, n_radial=n_radial, n_basis=5, basis=basis, cutoff=cutoff, r_min=0.4, **PLAIN)


def coefficients(config: ModelConfig) -> np.ndarray:
    """Random, and different for (e, e') and (e', e), which the model treats as two entries."""
    return np.random.default_rng(config.n_radial).normal(size=(4, 4, config.n_radial, config.n_basis))


_features = jax.jit(Potential.features, static_argnums=0)
_potential = cache(lambda config: Potential(config, REFERENCE))


def features_of(config: ModelConfig, system: System, weights: np.ndarray) -> np.ndarray:
    """The features as the potential computes them for given radial coefficients, [N, F]."""
    return np.asarray(_features(_potential(config), {"radial": {"coefficients": weights}}, system))


def features(config: ModelConfig, atoms: Atoms) -> np.ndarray:
    """Features of the real atoms of a structure in a common shape, so that one compilation serves all structures."""
    system = make_system(
        atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, config.r_max, n_atoms=10, n_slots=40
    )
    return features_of(config, system, coefficients(config))[: len(atoms)]


@pytest.mark.parametrize(("n_radial", "basis", "cutoff"), CASES)
def test_features_equal_oracle(structures: dict[str, Atoms], n_radial: int, basis: str, cutoff: str) -> None:
    """Packed moments and kept contractions equal full tensors, entry by entry; four elements, a periodic slab.

    Sums of about 15 neighbours and up to 27 products round to some 1e-14 of the largest feature.
    """
    config = config_of(n_radial, basis, cutoff)
    got = features(config, structures["slab"])
    params = {"radial": {"coefficients": coefficients(config)}}
    expected = oracle.features(config, REFERENCE, params, structures["slab"])
    assert got.shape == expected.shape == (4, descriptor.n_features(n_radial))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_number_of_features() -> None:
    """The published sizes: 360 invariants for 5 radial channels, 910 for 7."""
    assert descriptor.n_features(5) == 360
    assert descriptor.n_features(7) == 910


@pytest.mark.parametrize("determinant", [1, -1])
def test_features_do_not_see_orientation(structures: dict[str, Atoms], determinant: int) -> None:
    """Every feature is a scalar under proper and improper rotations."""
    config, molecule = config_of(2), structures["molecule"]
    before = features(config, molecule)
    Q = ortho_group.rvs(3, random_state=5)
    molecule.positions = molecule.positions @ (Q * determinant * np.sign(np.linalg.det(Q))).T
    np.testing.assert_allclose(features(config, molecule), before, rtol=0, atol=1e-12 * np.abs(before).max())


def test_features_do_not_see_order(structures: dict[str, Atoms]) -> None:
    """Permuting equal or unequal atoms permutes the rows; permuting the slots of an atom changes nothing."""
    config, molecule = config_of(2), structures["molecule"]
    before = features(config, molecule)
    order = np.random.default_rng(0).permutation(len(molecule))
    bound = 1e-12 * np.abs(before).max()
    np.testing.assert_allclose(features(config, molecule[order]), before[order], rtol=0, atol=bound)
    system = make_system(molecule.positions, molecule.numbers, molecule.cell.array, molecule.pbc, 3.6, 10, 40)
    slots = np.random.default_rng(1).permutation(40)
    shuffled = system._replace(neighbors=system.neighbors[:, slots], shifts=system.shifts[:, slots])
    after = features_of(config, shuffled, coefficients(config))
    np.testing.assert_allclose(after[: len(molecule)], before, rtol=0, atol=bound)


def test_features_see_direction_of_element_pairs(structures: dict[str, Atoms]) -> None:
    """R_s(r; Z_i, Z_j) is not R_s(r; Z_j, Z_i): of O-H, the coefficients [O, H] act on oxygen only."""
    config = config_of(2)
    weights = np.zeros((4, 4, 2, 5))
    weights[2, 0] = 1.0
    dimer = structures["dimer"]
    system = make_system(dimer.positions, dimer.numbers, dimer.cell.array, dimer.pbc, 3.6, 10, 40)
    oxygen, hydrogen = features_of(config, system, weights)[:2]
    assert np.abs(oxygen).max() > 0.1
    assert not hydrogen.any()


def test_monomials_are_components_of_outer_powers() -> None:
    """Packed entry abc is u_a u_b u_c, and each distinct component of ranks 0 to 3 is there once."""
    u = np.random.default_rng(2).normal(size=(4, 3))
    got = np.asarray(descriptor.monomials(jnp.asarray(u)))
    assert got.shape == (4, 20)
    expected = [abc for rank in range(4) for abc in combinations_with_replacement(range(3), rank)]
    assert list(descriptor.COMPONENTS) == expected
    for column, abc in enumerate(expected):
        np.testing.assert_allclose(got[:, column], np.prod(u[:, list(abc)], axis=1), rtol=1e-14)


def test_multiplicities_count_permutations() -> None:
    """A packed component stands for its distinct permutations, 3^L in all for rank L."""
    for abc in descriptor.COMPONENTS:
        assert descriptor.multiplicity(abc) == len(set(permutations(abc)))
    for rank in range(4):
        assert sum(descriptor.multiplicity(abc) for abc in descriptor.COMPONENTS if len(abc) == rank) == 3**rank


def test_polynomial_cutoff_is_twice_smooth() -> None:
    """At r_max value, slope and curvature vanish as 10 d^3, 30 d^2 and 60 d (d = 1 - r/r_max); at 0 it starts flat."""
    r_max, d = 3.6, 1e-5
    f = lambda r: radial.polynomial_cutoff(r, r_max)  # noqa: E731
    derivatives = [f, jax.grad(f), jax.grad(jax.grad(f))]
    inside = [float(g(r_max * (1 - d))) * r_max**k for k, g in enumerate(derivatives)]
    np.testing.assert_allclose(inside[1:], [-30 * d**2, 60 * d], rtol=1e-3)  # f itself rounds at 1e-16 here
    assert abs(inside[0]) < 1e-14
    assert [float(g(1.1 * r_max)) for g in derivatives] == [0, 0, 0]
    start = [float(g(1e-5 * r_max)) * r_max**k for k, g in enumerate(derivatives)]
    np.testing.assert_allclose(start, [1, 0, 0], atol=1e-3)


def test_cosine_cutoff_is_once_smooth() -> None:
    """(1 + cos(pi x)) / 2: value and slope vanish at r_max, the curvature there is pi^2 / (2 r_max^2), then 0."""
    r_max = 3.6
    f = lambda r: radial.cosine_cutoff(r, r_max)  # noqa: E731
    r = np.linspace(0, r_max, 50)
    np.testing.assert_allclose(f(jnp.asarray(r)), np.cos(np.pi * r / r_max / 2) ** 2, atol=1e-15)
    inside = r_max * (1 - 1e-6)
    np.testing.assert_allclose([f(inside), jax.grad(f)(inside)], 0, atol=1e-5)
    np.testing.assert_allclose(jax.grad(jax.grad(f))(inside), np.pi**2 / 2 / r_max**2, rtol=1e-6)
    assert f(1.1 * r_max) == 0


@pytest.mark.parametrize(("dtype", "rounding"), [("float32", 3e-7), ("float64", 3e-15)])
def test_sinc(dtype: str, rounding: float) -> None:
    """Beside NumPy in float64, over the periods that a basis has, and its first two derivatives by differences."""
    y = np.linspace(0, 33, 5001).astype(dtype)
    found = radial.sinc(jnp.asarray(y))
    assert found.dtype == dtype
    assert found[0] == 1
    np.testing.assert_allclose(found, np.sinc(y.astype(float)), rtol=0, atol=rounding)
    at = np.linspace(0.1, 33, 101)
    for f in (radial.sinc, jax.grad(radial.sinc)):
        there, here = (jax.vmap(f)(at + h) for h in (1e-5, -1e-5))
        np.testing.assert_allclose(jax.vmap(jax.grad(f))(at), (there - here) / 2e-5, atol=1e-8)


def test_bessel_basis_is_finite_at_contact() -> None:
    """phi_n(0) = (-1)^n 2 sqrt(2) pi / r_max^(3/2) with zero slope; sin(x)/x must not become 0/0 there."""
    f = lambda r: radial.bessel_basis(r, 3.6, 6)  # noqa: E731
    alternating = (-1.0) ** np.arange(6)
    np.testing.assert_allclose(f(jnp.zeros(())), alternating * 2 * np.sqrt(2) * np.pi / 3.6**1.5, rtol=1e-14)
    np.testing.assert_allclose(jax.jacfwd(f)(jnp.zeros(())), 0, atol=1e-12)
    np.testing.assert_allclose(f(jnp.asarray(1e-9)), f(jnp.zeros(())), rtol=1e-12)
    assert np.isfinite(jax.jacfwd(jax.jacfwd(f))(jnp.zeros(()))).all()


def test_bessel_basis_is_a_sum_of_spherical_bessel_functions() -> None:
    """sinc(x) = j0(pi x) of SciPy, and every function vanishes at r_max."""
    r, n = np.linspace(0.01, 3.6, 40)[:, None], np.arange(6)
    waves = spherical_jn(0, (n + 1) * np.pi * r / 3.6) + spherical_jn(0, (n + 2) * np.pi * r / 3.6)
    expected = (-1.0) ** n * np.sqrt(2) * np.pi / 3.6**1.5 * waves
    np.testing.assert_allclose(radial.bessel_basis(jnp.asarray(r[:, 0]), 3.6, 6), expected, atol=1e-13)
    np.testing.assert_allclose(expected[-1], 0, atol=1e-13)


def test_smoothness_makes_amplitudes_fall() -> None:
    """Function n is (n + 1)^-p times a common factor, of unit mean square; 0 leaves them equal."""
    r, n = jnp.linspace(0.0, 3.6, 40), np.arange(6)
    equal, falling = (radial.bessel_basis(r, 3.6, 6, smoothness) for smoothness in (0.0, 1.5))
    ratio = np.asarray(falling[3] / equal[3])
    np.testing.assert_allclose(ratio / ratio[0], (n + 1.0) ** -1.5, rtol=1e-12)
    np.testing.assert_allclose(np.mean(ratio**2), 1.0, rtol=1e-12)
    np.testing.assert_allclose(equal, radial.bessel_basis(r, 3.6, 6), rtol=1e-14)


def test_gaussian_basis_is_normalised_and_spaced() -> None:
    """The integral of phi_n^2 over the line is 1, and the maxima lie evenly from r_min to r_max."""
    r = np.linspace(-10, 15, 50001)
    values = np.asarray(radial.gaussian_basis(jnp.asarray(r), 3.6, 5, 0.4))
    np.testing.assert_allclose(np.sum(values**2, axis=0) * (r[1] - r[0]), 1, rtol=1e-10)
    np.testing.assert_allclose(r[values.argmax(axis=0)], np.linspace(0.4, 3.6, 5), atol=1e-3)
