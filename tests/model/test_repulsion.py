"""The repulsion in physical units: reference numbers, windows, strengths, and divergence whatever is trained."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms

from gmnn.config.model import NO_CORE, SWISH_FLOOR, ModelConfig, ZBLConfig
from gmnn.elements import covalent_radius
from gmnn.model import repulsion
from gmnn.model.network import inverse_softplus
from gmnn.model.potential import Potential
from gmnn.model.readout import SWISH_UNIT
from gmnn.model.repulsion import element_pairs, pair_potential, strengths
from gmnn.model.short_range import pair_tables
from gmnn.neighbors.host import make_system
from gmnn.reference import Reference
from tests.support import oracle

# universal ZBL in eV and eV/Å, computed from the published formula in double precision by other code
TABLE = {  # (Z1, Z2): E(0.05), E(0.1), E(0.3), E(0.5), E(1.0), F(0.1), F(0.5)
    (1, 1): (228.34442251, 93.476133211, 16.539152328, 5.9131617243, 1.0255750227, 1285.1268071, 26.135386006),
    (6, 1): (1298.5443722, 511.11957521, 80.697590494, 26.356988468, 3.9053258390, 7383.0339496, 127.03662278),
    (8, 1): (1713.0978534, 669.20552172, 103.33311253, 33.175393432, 4.7715737894, 9756.3578627, 162.36711366),
    (6, 6): (7398.5419968, 2808.2046997, 398.19165937, 119.90806357, 15.409764253, 42374.469767, 619.73835059),
    (6, 8): (9764.0334292, 3679.9548003, 510.91214900, 151.49902597, 18.937143765, 55991.401700, 792.93969511),
    (74, 74): (903789.84605, 296530.33668, 27277.607507, 6121.9160364, 435.78550927, 5257569.3928, 39575.171245),
}
# another code, six digits, screening length 0.885341 Bohr radii instead of the rounded 0.46850 Å: 2e-5 apart at most
SPOTS = {  # (Z1, Z2, r in Å): eV
    (1, 14, 0.02): 8796.41,
    (1, 8, 0.2): 221.518,
    (6, 6, 0.5): 119.909,
    (42, 42, 0.5): 2608.27,
    (14, 14, 1.0): 50.9749,
    (7, 8, 1.5): 4.46427,
    (1, 6, 3.0): 0.0441925,
}

SETTINGS = {"strength": 1.0, "floor": 0.5, "window": "covalent", "inner": 0.6, "outer": 1.5}
energy = jax.jit(Potential.energy, static_argnums=0)
readout = jax.jit(Potential.readout, static_argnums=0)


def zbl(r: float, z1: int, z2: int) -> jax.Array:
    return repulsion.zbl(jnp.asarray(r), jnp.asarray(float(z1)), jnp.asarray(float(z2)))


@pytest.mark.parametrize(("z1", "z2"), TABLE)
def test_zbl_equals_reference(z1: int, z2: int) -> None:
    """Energies and forces of six pairs to 1e-9: the table has eleven digits."""
    distances = (0.05, 0.1, 0.3, 0.5, 1.0)
    force = jax.grad(lambda r: -zbl(r, z1, z2))
    got = [float(zbl(r, z1, z2)) for r in distances] + [float(force(0.1)), float(force(0.5))]
    np.testing.assert_allclose(got, TABLE[z1, z2], rtol=1e-9)


def test_zbl_equals_published_curves() -> None:
    """Values of an independent tabulation from 0.02 to 3 Å and from hydrogen to molybdenum."""
    for (z1, z2, r), expected in SPOTS.items():
        np.testing.assert_allclose(zbl(r, z1, z2), expected, rtol=3e-5)


def test_screening_starts_at_bare_nuclei() -> None:
    """phi(0) = 1: at 1e-9 Å only the Coulomb energy of the nuclei is left; it is never clipped."""
    assert sum(repulsion.COEFFICIENTS) == pytest.approx(1, abs=1e-15)
    np.testing.assert_allclose(zbl(1e-9, 6, 8), 14.3996454784 * 48 / 1e-9, rtol=1e-7)


@pytest.mark.parametrize("kind", ["covalent", "cosine"])
def test_window_never_rises(kind: str) -> None:
    """chi falls from 1 to 0 without leaving [0, 1]; the covalent one is exactly 1 up to r_on > 0. Rounding is 1e-15."""
    config = ZBLConfig(window=kind, inner=0.6, outer=1.3, r_off=2.0)
    r_on, r_off = (0.0, config.r_off) if kind == "cosine" else (config.inner * 1.5, config.outer * 1.5)
    r = np.linspace(0, 2.5, 2001)
    chi = np.asarray(repulsion.window(config, jnp.asarray(r), jnp.full(r.shape, r_on), jnp.full(r.shape, r_off)))
    assert (np.diff(chi) <= 1e-15).all()
    assert chi[0] == 1
    assert not chi[r >= r_off].any()
    assert ((chi >= -1e-15) & (chi <= 1)).all()
    if kind == "covalent":
        assert (r_on, r_off) == pytest.approx((0.9, 1.95))
        assert (chi[r <= r_on] == 1).all()
        assert (chi[(r > r_on + 0.01) & (r < r_off - 0.01)] < 1).all()
    else:
        np.testing.assert_allclose(chi, np.where(r < 2, (1 + np.cos(np.pi * r / 2.0)) / 2, 0), atol=1e-15)


def test_covalent_window_is_twice_smooth() -> None:
    """Second differences across both switches vanish like their step.

    Near a switch chi - 1 or chi is -+10 (d / w)^3, d the way past it and w the width, so that
    (chi(+h) - 2 chi + chi(-h)) / h^2 is 10 h / w^3; a window that is only C1 would leave a constant.
    The curvature by automatic differentiation is 60 h / w^3 on one side and 0 on the other.
    """
    r_on, r_off, w = 0.9, 1.95, 1.05
    chi = lambda r: repulsion.smooth_window(r, r_on, r_off)  # noqa: E731
    curvature = jax.grad(jax.grad(chi))
    for switch, sign in ((r_on, -1), (r_off, 1)):
        for h in (1e-2, 1e-3):
            second = (chi(switch + h) - 2 * chi(switch) + chi(switch - h)) / h**2
            assert sign * second == pytest.approx(10 * h / w**3, rel=20 * h / w)
            outside, inside = sorted((float(curvature(switch - h)), float(curvature(switch + h))), key=abs)
            assert outside == 0
            assert sign * inside == pytest.approx(60 * h / w**3, rel=4 * h / w)


def test_windows_follow_covalent_radii() -> None:
    """Every pair of elements has its own switches, at the given multiples of the summed covalent radii."""
    config = ModelConfig(zbl=ZBLConfig(window="covalent", inner=0.5, outer=1.2), core=NO_CORE)
    tables = pair_tables(config, bare((1, 6, 14)))
    r_on, r_off = tables.r_on, tables.r_off
    np.testing.assert_allclose(r_off, 1.2 * np.add.outer([0.31, 0.76, 1.11], [0.31, 0.76, 1.11]), rtol=1e-14)
    np.testing.assert_allclose(r_on, r_off * 0.5 / 1.2, rtol=1e-14)


def bare(elements: tuple[int, ...]) -> Reference:
    """What a potential without a core needs to know about its data."""
    n = len(elements)
    return Reference(elements, (0.0,) * n, (1.0,) * n, (0.0,) * n)


def dimer_repulsion(config: ModelConfig, params: dict, r: float) -> float:
    """The energy of an O-C dimer; trained elements are H, C, O."""
    return float(pair_potential({"repulsion": params}, config, bare((1, 6, 8)))(jnp.asarray(r), 2, 1))


@pytest.mark.parametrize("parameter", [-1e6, -40.0, 0.0, 3.0, 1e3])
def test_strength_never_below_floor(parameter: float) -> None:
    """s = floor + softplus(p) whatever p, so no training can take the repulsion away."""
    config = ModelConfig(zbl=ZBLConfig(**SETTINGS), core=NO_CORE)
    got = dimer_repulsion(config, {"strength": jnp.full(6, parameter)}, 0.3) / float(zbl(0.3, 6, 8))
    assert got == pytest.approx(0.5 + np.logaddexp(0, parameter), rel=1e-12)
    assert got >= 0.5 * (1 - 1e-12)


def test_each_pair_of_elements_has_its_own_strength() -> None:
    """Of H, C, O the upper triangle row by row: C-O, and O-C alike, is entry 4."""
    config = ModelConfig(zbl=ZBLConfig(**SETTINGS), core=NO_CORE)
    base = dimer_repulsion(config, {"strength": jnp.zeros(6)}, 0.3)
    changed = [dimer_repulsion(config, {"strength": jnp.zeros(6).at[k].set(1.0)}, 0.3) != base for k in range(6)]
    assert changed == [False, False, False, False, True, False]
    assert element_pairs(3).tolist() == [[0, 1, 2], [1, 3, 4], [2, 4, 5]]


def test_initial_strength_is_the_configured_one(make_potential: Callable) -> None:
    """Before training the repulsion is `strength` times physical ZBL; 1e-6 is float32 rounding of the parameter."""
    potential, _ = make_potential()
    start = np.logaddexp(0, np.asarray(jax.jit(potential.init)(0)["repulsion"]["strength"], float)) + 0.5
    np.testing.assert_allclose(start, np.ones(10), rtol=1e-6)
    np.testing.assert_allclose(np.logaddexp(0, inverse_softplus(np.array([1e-3, 0.5, 30.0]))), [1e-3, 0.5, 30.0])


def test_fixed_strength_has_no_parameter() -> None:
    """With `trainable: false` there is nothing to train and the strength is the configured one."""
    config = ModelConfig(zbl=ZBLConfig(**SETTINGS | {"strength": 0.7}, trainable=False), core=NO_CORE)
    assert "repulsion" not in jax.jit(Potential(config, bare((1, 6))).init)(0)
    np.testing.assert_array_equal(strengths({}, config, (1, 6)), np.full((2, 2), 0.7))
    assert dimer_repulsion(config, {}, 0.3) == pytest.approx(0.7 * float(zbl(0.3, 6, 8)), rel=1e-12)


def test_empty_slots_do_not_repel(make_potential: Callable) -> None:
    """A masked slot adds nothing even where its atom stands at 0.1 Å."""
    potential, params = make_potential()
    system = make_system([[0, 0, 0], [0, 0, 0.1]], [8, 1], np.zeros((3, 3)), [False] * 3, 3.6, 2, 8)
    alone = system._replace(neighbors=np.full_like(system.neighbors, 2))
    assert float(energy(potential, params, system)) > 300
    assert abs(float(energy(potential, params, alone))) < 30


@pytest.mark.parametrize("symbols", ["OH", "CC", "SiO"])
def test_dimer_without_network_is_the_repulsion(make_potential: Callable, symbols: str) -> None:
    """With sigma = mu = 0 the total energy of a dimer is s U chi, counted once, from contact to past the window."""
    potential, params = make_potential()
    params["scale_shift"]["scale"][:], params["scale_shift"]["shift"][:] = -1e4, 0.0
    z1, z2 = Atoms(symbols).numbers.tolist()
    contact = covalent_radius(z1) + covalent_radius(z2)
    for r in (0.02, 0.3, 0.9 * contact, 1.2 * contact, 1.6 * contact):
        system = make_system([[0, 0, 0], [0, 0, r]], [z1, z2], np.zeros((3, 3)), [False] * 3, 3.6, 2, 8)
        s = oracle.strength(potential.config, potential.reference, params, z1, z2)
        chi = oracle.window(potential.config, potential.reference, r, z1, z2)
        assert float(energy(potential, params, system)) == pytest.approx(s * float(zbl(r, z1, z2)) * chi, rel=1e-12)


def test_full_potential_diverges_at_contact(make_potential: Callable) -> None:
    """With the weakest strength that training can reach, E at 0.02 Å is floor U(r), and the wall is not clipped there.

    The bounded network adds at most a few eV here; the repulsion of O-H at 0.02 Å exceeds 2,000 eV at the floor.
    """
    potential, params = make_potential()
    params["repulsion"]["strength"][:] = -1e6
    at = lambda r: make_system([[0, 0, 0], [0, 0, r]], [8, 1], np.zeros((3, 3)), [False] * 3, 3.6, 2, 8)  # noqa: E731
    close, closer = (float(energy(potential, params, at(r))) for r in (0.02, 0.019))
    floor = 0.5 * oracle.screened_coulomb(0.02, 8, 1)
    assert floor > 2000
    assert close == pytest.approx(floor, rel=0.01)
    slope = (oracle.screened_coulomb(0.019, 8, 1) - oracle.screened_coulomb(0.02, 8, 1)) / 2
    assert closer - close == pytest.approx(slope, rel=0.02)


def test_readout_has_a_floor(make_potential: Callable) -> None:
    """psi >= -0.2785 whatever the layers before send to the output, so that no network can outbid the repulsion."""
    potential, params = make_potential()
    last = params["readout"][f"layer_{len(potential.config.hidden)}"]
    last["kernel"][:] = 0.0
    system = make_system([[0, 0, 0]], [6], np.zeros((3, 3)), [False] * 3, 3.6, 2, 8)
    psi = []
    for bias in np.linspace(-200.0, 200.0, 81):
        last["bias"][:] = bias
        psi.append(float(readout(potential, params, system)[0, 0]))
    assert min(psi) >= -SWISH_FLOOR - 1e-9
    assert min(psi) < -0.27  # reached near a bias of -1.278 / 0.04


def test_swish_constants() -> None:
    """The floor is the minimum of swish; the unit makes its second moment 1 for a unit Gaussian (by quadrature)."""
    x = np.linspace(-12, 12, 200001)
    swish = oracle.swish(x)
    assert swish.min() == pytest.approx(-SWISH_FLOOR, abs=1e-8)
    moment = np.sum(swish**2 * np.exp(-(x**2) / 2)) * (x[1] - x[0]) / np.sqrt(2 * np.pi)
    assert SWISH_UNIT**2 * moment == pytest.approx(1, abs=1e-4)
