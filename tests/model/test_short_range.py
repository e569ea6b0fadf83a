"""The decoupled core: its functions at their switching points, and what the network no longer sees below them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms

from gmnn.config.model import NO_CORE, CoreConfig, ModelConfig, ZBLConfig, model_config_from_dict, to_dict
from gmnn.config.reading import read_config
from gmnn.data import closest_distances, read_dataset, read_nlh
from gmnn.errors import UserError
from gmnn.model import descriptor, short_range
from gmnn.model.potential import Potential
from gmnn.model.repulsion import pair_potential
from gmnn.neighbors.host import make_system
from gmnn.reference import Reference
from tests.support.plain import WIDE

Model = tuple[Potential, dict[str, Any]]
FULL = CoreConfig(moment_room=1.0)
energy = jax.jit(Potential.energy, static_argnums=0)
features = jax.jit(Potential.features, static_argnums=0)
predict = jax.jit(Potential.predict, static_argnums=0)


def derivatives(f: Callable[[jax.Array], jax.Array], r: float, n: int) -> list[float]:
    """f and its first n derivatives."""
    found = [float(f(jnp.asarray(r)))]
    for _ in range(n):
        f = jax.grad(f)
        found.append(float(f(jnp.asarray(r))))
    return found


@pytest.mark.parametrize(("depth", "steepest", "bend"), [(0.5, 1.0, 1.875), (1.0, 1.6603, 5.0284), (0.8, 1.4, 3.8)])
def test_clamp_is_three_times_smooth(depth: float, steepest: float, bend: float) -> None:
    """Value and three derivatives meet at both ends; slope and second derivative stay below what they are said to be.

    At depth 1/2 and 1 they reach it; between, the sum of both shapes bounds them.
    """
    inner, width = 0.7, 0.2
    clamp = lambda r: short_range.clamped(r, jnp.asarray(inner), jnp.asarray(width), depth)  # noqa: E731
    constant = inner + (1 - depth) * width
    h = 1e-7  # the fourth derivative is below 600 / width^3 = 8e4: the third may differ by 8e4 h
    for place, outside in ((inner, [constant, 0, 0, 0]), (inner + width, [inner + width, 1, 0, 0])):
        for side in (-h, h):
            np.testing.assert_allclose(derivatives(clamp, place + side, 3), outside, rtol=0, atol=0.05)
    r = jnp.linspace(0.0, 1.5, 30001)
    slopes, bends = (np.asarray(jax.vmap(f)(r)) for f in (jax.grad(clamp), jax.grad(jax.grad(clamp))))
    assert slopes.min() >= 0
    assert slopes.max() <= steepest + 1e-4
    assert np.abs(bends).max() <= (bend + 1e-3) / width
    if depth in (0.5, 1.0):
        assert slopes.max() == pytest.approx(steepest, abs=1e-4)
        assert np.abs(bends).max() == pytest.approx(bend / width, rel=1e-4)
    np.testing.assert_allclose(clamp(r)[r <= inner], constant, rtol=1e-15)
    np.testing.assert_array_equal(clamp(r)[r >= inner + width], r[r >= inner + width])


def test_gate_is_twice_smooth() -> None:
    """Value and two derivatives meet at both ends, and the gate never falls."""
    shown = lambda r: short_range.gate(r, jnp.asarray(0.3), jnp.asarray(0.6))  # noqa: E731
    for place, outside in ((0.3, [0, 0, 0]), (0.6, [1, 0, 0])):
        for side in (-1e-8, 1e-8):  # the third derivative is 60 / 0.3^3 = 2e3
            np.testing.assert_allclose(derivatives(shown, place + side, 2), outside, rtol=0, atol=1e-4)
    assert (np.diff(shown(jnp.linspace(0, 1, 5001))) >= 0).all()


def test_agnesi_is_flat_at_contact() -> None:
    """It rises from 0 to r_max, its slope vanishes at contact, and r_max is a fixed point."""
    transform = lambda r: short_range.agnesi(r, jnp.asarray(0.6), 5.0)  # noqa: E731
    r = jnp.linspace(1e-6, 5.0, 2001)
    values = np.asarray(transform(r))
    assert (np.diff(values) > 0).all()
    assert values[-1] == pytest.approx(5.0, rel=1e-12)
    assert float(jax.grad(transform)(jnp.asarray(0.01))) < 1e-4


def test_bounded_moments(structures: dict[str, Atoms]) -> None:
    """The norm stays below the bound, small moments are kept, and no two moments come further apart (Lipschitz 1)."""
    rng = np.random.default_rng(0)
    for size in (1e-4, 1.0, 1e4):
        a, b = (jnp.asarray(size * rng.normal(size=(50, 3, 20))) for _ in range(2))
        m_0 = jnp.full(50, 2.0)
        bound_a, bound_b = short_range.bounded(a, m_0), short_range.bounded(b, m_0)
        assert (descriptor.squared_norm(bound_a) < 4.0).all()
        assert (descriptor.squared_norm(bound_a - bound_b) <= descriptor.squared_norm(a - b)).all()
    np.testing.assert_allclose(short_range.bounded(1e-6 * a / 1e4, m_0), 1e-6 * a / 1e4, rtol=1e-9)


def two(r: float, symbols: str = "CH", extra: bool = True) -> Any:
    """Two atoms, and a third at 1.5 Å from the first one across."""
    atoms = Atoms(symbols, [[0, 0, 0], [0, 0, r]]) + (Atoms("O", [[1.5, 0, 0]]) if extra else Atoms())
    return make_system(atoms.positions, atoms.numbers, np.zeros((3, 3)), [False] * 3, 3.6, 3, 8)


def test_network_sees_nothing_below_the_core(make_potential: Callable[..., Model]) -> None:
    """Below the gate the features of the pair do not change at all; between gate and clamp only the angular ones do."""
    potential, params = make_potential(core=FULL)
    radii = short_range.pair_tables(potential.config, potential.reference)
    e, f = 1, 0  # C-H
    gate_in, clamp_in = float(radii.gate_in[e, f]), float(radii.clamp_in[e, f])
    assert 0 < gate_in < radii.gate_out[e, f] <= clamp_in < 0.95
    alone = lambda r: np.asarray(features(potential, params, two(r, extra=False)))[:2]  # noqa: E731
    np.testing.assert_array_equal(alone(0.02), alone(0.9 * gate_in))
    scalar = slice(0, potential.config.n_radial)  # M0
    assert np.abs(alone(0.5 * (gate_in + clamp_in)) - alone(gate_in)).max() > 1e-6
    bare = replace(potential, config=replace(potential.config, core=replace(FULL, bounded_moments=False)))
    unbounded = lambda r: np.asarray(features(bare, params, two(r, extra=False)))[:2, scalar]  # noqa: E731
    np.testing.assert_array_equal(unbounded(0.02), unbounded(0.999 * clamp_in))
    assert np.abs(unbounded(1.01 * clamp_in) - unbounded(clamp_in)).max() > 0


def test_core_leaves_only_the_repulsion(make_potential: Callable[..., Model]) -> None:
    """For an isolated pair below its gate E(r) = constant + V(r), so the force is the repulsion's alone."""
    potential, params = make_potential(core=FULL)
    V = pair_potential(params, potential.config, potential.reference)
    gate_in = float(short_range.pair_tables(potential.config, potential.reference).gate_in[1, 0])
    for r in (0.05, 0.1, 0.95 * gate_in):
        force = float(predict(potential, params, two(r, extra=False)).forces[1, 2])
        assert force == pytest.approx(-float(jax.grad(lambda x: V(x, 1, 0))(jnp.asarray(r))), rel=1e-9)


def test_transverse_force_stays_finite(make_potential: Callable[..., Model]) -> None:
    """Turning the pair about its centre costs nothing below the gate; without a gate the force grows like 1/r."""
    _, params = make_potential(core=FULL)

    def sideways(core_config: CoreConfig, r: float) -> float:
        potential, _ = make_potential(core=core_config)
        return abs(float(predict(potential, params, two(r)).forces[1, 0]))

    open_gate = replace(FULL, gate=False)
    assert sideways(open_gate, 0.002) > 5 * sideways(open_gate, 0.02) > 0
    assert sideways(FULL, 0.002) < 2 * max(sideways(FULL, 0.02), 1e-3)


def test_core_leaves_the_data_alone(make_potential: Callable[..., Model], structures: dict[str, Atoms]) -> None:
    """Where every distance is larger than the smallest of the data, clamp and gate change nothing."""
    atoms = structures["molecule"]
    system = make_system(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, 3.6, 9, 8)
    with_clamp, params = make_potential(core=CoreConfig(bounded_moments=False))
    plain, _ = make_potential()
    got, expected = (np.asarray(features(p, params, system)) for p in (with_clamp, plain))
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=0)


def test_absent_pair_is_not_seen_but_repelled(make_potential: Callable[..., Model]) -> None:
    """O-O, which the data does not have: no feature depends on it, and the window reaches to 1.5 covalent sums."""
    potential, params = make_potential(core=FULL)
    far, near = (features(potential, params, two(r, "OO", extra=False))[:2] for r in (3.4, 0.3))
    np.testing.assert_array_equal(far, near)
    V = pair_potential(params, potential.config, potential.reference)
    assert float(V(jnp.asarray(1.3 * 1.32), 2, 2)) > 0
    assert float(V(jnp.asarray(1.51 * 1.32), 2, 2)) == 0


@pytest.mark.parametrize("zbl", [ZBLConfig(), WIDE])
@pytest.mark.parametrize("pair", [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)])
def test_no_gap(make_potential: Callable[..., Model], pair: tuple[int, int], zbl: ZBLConfig) -> None:
    """V' < 0 wherever the network sees a constant distance, H-H and pairs absent from the data included."""
    potential, params = make_potential(core=FULL, zbl=zbl)
    tables = short_range.pair_tables(potential.config, potential.reference)
    V = pair_potential(params, potential.config, potential.reference)
    edge = min(tables.clamp_in[pair], tables.r_off[pair])
    if tables.clamp_in[pair] < potential.config.r_max:
        assert tables.r_off[pair] > tables.clamp_in[pair]
    r = jnp.linspace(0.02, edge * 0.999, 400)
    assert (np.asarray(jax.vmap(jax.grad(lambda x: V(x, *pair)))(r)) < 0).all()


def reference(closest: tuple = (1.4, 0.9, 1.3)) -> Reference:
    return Reference((1, 6), (0.0, 0.0), (1.0, 1.0), (0.0, 0.0), closest=closest, moment_scale=(1.0, 1.0))


def test_radii_come_from_data_or_user() -> None:
    """The clamp begins at the smallest distance less the margin, or at the radius given under either name.

    The repulsion's window follows the smallest distances, or covalent sums that the clamp may exceed.
    """
    given = CoreConfig(margin=0.1, width=0.2, radii={"H-C": 0.8})
    tables = short_range.pair_tables(ModelConfig(core=given), reference())
    np.testing.assert_allclose(tables.clamp_in + tables.clamp_width, [[1.26, 0.8], [0.8, 1.17]], rtol=1e-14)
    np.testing.assert_allclose(tables.clamp_in, 0.8 * np.array([[1.26, 0.8], [0.8, 1.17]]), rtol=1e-14)
    np.testing.assert_allclose(tables.r_off, [[1.4, 0.8], [0.8, 1.3]], rtol=1e-14)
    np.testing.assert_allclose(tables.r_on, 0.5 * tables.r_off, rtol=1e-14)
    tables = short_range.pair_tables(ModelConfig(core=given, zbl=WIDE), reference())
    np.testing.assert_allclose(tables.r_off, [[1.26, 1.284], [1.284, 1.824]], rtol=1e-14)


def test_repulsion_is_not_on_the_data(make_potential: Callable[..., Model]) -> None:
    """With the default window V, V' and V'' are zero from the smallest distance of every pair on, and not below."""
    potential, params = make_potential(core=FULL, zbl=ZBLConfig())
    V = pair_potential(params, potential.config, potential.reference)
    for e, f, closest in ((0, 0, 0.7), (0, 1, 0.95), (1, 2, 1.3), (3, 3, 2.2)):
        assert derivatives(lambda r, e=e, f=f: V(r, e, f), closest, 2) == [0, 0, 0]
        energy, slope, _ = derivatives(lambda r, e=e, f=f: V(r, e, f), 0.9 * closest, 2)
        assert energy > 0.01
        assert slope < -0.1


@pytest.mark.parametrize(
    ("config", "data", "words"),
    [
        (ModelConfig(), (), "smallest distances"),
        (ModelConfig(core=CoreConfig(radii={"O-H": 1.0})), (1.4, 0.9, 1.3), "H-O"),
        (ModelConfig(zbl=ZBLConfig(window="cosine", r_off=0.6)), (1.4, 0.9, 1.3), "raise model.zbl.r_off"),
        (ModelConfig(zbl=ZBLConfig(outer=0.8)), (1.4, 0.9, 1.3), "nothing depends on the distance.*model.zbl.outer"),
        (ModelConfig(zbl=ZBLConfig(inner=3.8, outer=4.0)), (1.4, 0.9, 1.3), "r_max"),
        (ModelConfig(core=NO_CORE), (), "model.zbl.window=closest"),
    ],
)
def test_wrong_cores_are_refused(config: ModelConfig, data: tuple, words: str) -> None:
    """No distances, a pair that is not there, a gap between window and clamp, a window beyond the neighbour list."""
    with pytest.raises(UserError, match=words):
        short_range.pair_tables(config, reference(data))


def test_wrong_settings_are_refused() -> None:
    """Names that are no pair, floors above the strength, a gate that is upside down."""
    with pytest.raises(UserError, match="no pair of elements"):
        CoreConfig(radii={"CH": 1.0})
    with pytest.raises(UserError, match=r"model\.zbl\.floors\.H-H"):
        ZBLConfig(floors={"H-H": 1.5})
    with pytest.raises(UserError, match="gate_inner"):
        CoreConfig(gate_inner=0.95)


def test_floors_of_pairs(make_potential: Callable[..., Model]) -> None:
    """A pair with a floor of its own keeps it whatever is trained; the others keep the common one."""
    potential, params = make_potential(zbl=ZBLConfig(floors={"H-H": 0.9}))
    params["repulsion"]["strength"][:] = -1e6
    bare, _ = make_potential(zbl=ZBLConfig(strength=1.0, trainable=False))
    V, U = (pair_potential(params, p.config, p.reference) for p in (potential, bare))
    r = jnp.asarray(0.1)
    assert float(V(r, 0, 0) / U(r, 0, 0)) == pytest.approx(0.9, rel=1e-12)
    assert float(V(r, 0, 1) / U(r, 0, 1)) == pytest.approx(0.5, rel=1e-12)


def test_closest_distances_of_the_data() -> None:
    """Equal to the minimum over all frames by ASE's distances; O-O is absent from one ethanol."""
    data = read_dataset("ethanol").take(np.arange(40))
    got = closest_distances(data, 5.0)
    numbers = data.atoms[0].numbers
    for (z1, z2), value in zip([(1, 1), (1, 6), (1, 8), (6, 6), (6, 8), (8, 8)], got, strict=True):
        where = [(i, j) for i in range(9) for j in range(9) if i < j and {numbers[i], numbers[j]} == {z1, z2}]
        where = [pair for pair in where if sorted(numbers[list(pair)]) == [z1, z2]]
        expected = min((a.get_distance(*pair) for a in data.atoms for pair in where), default=None)
        assert (value is None and expected is None) or value == pytest.approx(expected, rel=1e-12)


def test_nlh_coefficients(tmp_path: Path) -> None:
    """Six numbers per pair from lines of the published form; a file without a pair, or none at all, is refused."""
    file = tmp_path / "nlh.dat"
    file.write_text(
        "# Z1 Z2 a1 ...\n 1 1 -8.9 9.5 9.9 8.8 0 0 1% 3%\n 1 6 0.1 52 0.9 4 0 0 1% 3%\n 6 6 1 2 0 0 0 0\n",
        encoding="utf-8",
    )
    assert read_nlh(str(file), [1, 6]) == ((-8.9, 9.5, 9.9, 8.8, 0, 0), (0.1, 52, 0.9, 4, 0, 0), (1, 2, 0, 0, 0, 0))
    with pytest.raises(UserError, match="H-O"):
        read_nlh(str(file), [1, 6, 8])
    with pytest.raises(UserError, match=r"data\.nlh_coefficients"):
        read_nlh(None, [1])
    file.write_text("hello\n", encoding="utf-8")
    with pytest.raises(UserError, match="cannot read"):
        read_nlh(str(file), [1])


def test_configuration_round_trip(tmp_path: Path) -> None:
    """YAML to model configuration to JSON types and back; a file of format version 1 has no core."""
    path = tmp_path / "c.yaml"
    path.write_text(
        "output: x\ndata: {train: ethanol}\nmodel: {core: {width: 0.2, radii: {H-C: 0.9}}}\n", encoding="utf-8"
    )
    config = read_config(str(path)).model
    assert config.core.radii == {"C-H": 0.9}
    assert model_config_from_dict(to_dict(config)) == config
    old = {key: value for key, value in to_dict(config).items() if key not in ("core", "distance")}
    assert not model_config_from_dict(old).core.uses_distances
    assert not model_config_from_dict(old).core.bounded_moments


@pytest.mark.parametrize("core_config", [replace(FULL, nearest_switch=True), replace(NO_CORE, nearest_switch=True)])
def test_nearest_switch(make_potential: Callable[..., Model], core_config: CoreConfig) -> None:
    """Where its nearest neighbour is closer than any of the data an atom's network energy is its shift alone.

    It does not need the clamp, it leaves pairs at the distances of the data as they are, and those absent from it.
    """
    potential, params = make_potential(core=core_config, repulsion="none")
    shift = params["scale_shift"]["shift"][[1, 0]]
    energies = jax.jit(potential.atomic_energies)
    tables = short_range.pair_tables(potential.config, potential.reference)
    inner, outer = tables.switch_in[1, 0], tables.switch_out[1, 0]
    assert 0.3 < inner < outer
    np.testing.assert_allclose(energies(params, two(0.3, extra=False))[:2], shift, rtol=1e-6)
    np.testing.assert_allclose(energies(params, two(inner - 1e-3, extra=False))[:2], shift, rtol=1e-6)
    between, beyond = (energies(params, two(r, extra=False))[:2] for r in (0.5 * (inner + outer), outer + 1e-3))
    assert np.abs(between - shift).min() > 1e-4
    free, _ = make_potential(core=replace(core_config, nearest_switch=False), repulsion="none")
    np.testing.assert_array_equal(beyond, jax.jit(free.atomic_energies)(params, two(outer + 1e-3, extra=False))[:2])


def test_windows_of_large_atoms_close_at_the_cutoff() -> None:
    """Caesium: 1.2 covalent sums are 5.9 Å, and 1.5 for pairs absent from the data; both end with the list."""
    wide = ModelConfig(zbl=WIDE)
    for config, closest in ((wide, (3.5,)), (wide, (None,)), (ModelConfig(), (None,))):
        data = Reference((55,), (0.0,), (1.0,), (0.0,), closest=closest, moment_scale=(1.0,))
        tables = short_range.pair_tables(config, data)
        assert tables.r_off[0, 0] == 5.0
        assert 0 < tables.r_on[0, 0] < 5.0
        V = pair_potential({"repulsion": {"strength": np.zeros(1)}}, config, data)
        assert derivatives(lambda r, V=V: V(r, 0, 0), 5.0 - 1e-7, 2) == pytest.approx([0, 0, 0], abs=1e-5)
    with pytest.raises(UserError, match="starts to close"):
        short_range.pair_tables(ModelConfig(zbl=replace(WIDE, inner=1.1)), data)
