"""Proofs along a path: enclosures hold the derivative that JAX computes, and no false curve is proved."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms

from gmnn.certificate import coverage
from gmnn.certificate.enclosure import Enclosure
from gmnn.certificate.proved import Proof, prove
from gmnn.commands import _proving, scan
from gmnn.config.model import CoreConfig, ZBLConfig
from gmnn.errors import UserError
from gmnn.model.potential import Potential
from gmnn.neighbors.host import make_system
from gmnn.scanning.bonds import find_bonds
from gmnn.scanning.paths import Approach, bond_path
from tests.support.paths import ROOT

Make = Callable[..., tuple[Potential, dict[str, Any]]]
CORE = CoreConfig()
KINDS: dict[str, dict[str, Any]] = {
    "default": {},
    "gaussian": {"basis": "gaussian"},
    "nlh, fixed strength": {"repulsion": "nlh", "zbl": ZBLConfig(trainable=False)},
    "identity, smooth": {"output_activation": "identity", "smoothness": 1.5},
    "deep clamp, three layers": {"core": CoreConfig(depth=1.0), "hidden": (6, 5, 4)},
    "narrow": {"n_radial": 1, "hidden": (3,)},
}


def slope_function(potential: Potential, path: Approach) -> Callable[..., np.ndarray]:
    """Return slope(r [n], shift [N, 3]) -> dE/dr [n] in eV/Å by jax.grad of the potential's energy in float64."""
    atoms = path.at(path.distance)
    lists = make_system(path.positions_at(np.array([0.5 * path.r_start]))[0], path.numbers, atoms.cell.array,
                        atoms.pbc, potential.config.r_max + 2.0)  # fmt: skip
    system = jax.tree.map(jnp.asarray, lists)
    params = jax.tree.map(lambda x: jnp.asarray(x, "float64"), potential.trained)

    def energy(r: jax.Array, shift: jax.Array) -> jax.Array:
        positions = lists.positions + (r - 0.5 * path.r_start) * path.tangent + shift  # brought into the cell
        return potential.energy(params, system._replace(positions=positions, cell=jnp.asarray(atoms.cell.array)))

    compiled = jax.jit(jax.vmap(jax.grad(energy), (0, None)))
    still = np.zeros(path.positions.shape)
    return lambda r, shift=still: np.asarray(compiled(jnp.asarray(r, "float64"), jnp.asarray(shift)))


def first_path(atoms: Atoms, bond: int = 0) -> Approach:
    path = bond_path(atoms, *find_bonds(atoms)[bond])
    return replace(path, r_start=path.distance - 0.03)


def require_inside(potential: Potential, path: Approach, seed: int, radius: float = 0.0) -> None:
    """Slopes at the ends, in the middle and at a random place of many intervals lie within their bounds."""
    rng = np.random.default_rng(seed)
    slope, enclosure = slope_function(potential, path), Enclosure(potential, _proving.motion_of(path, radius))
    shift = np.zeros(path.positions.shape)
    if radius:
        shift = rng.normal(size=shift.shape)
        shift *= radius * (1 - 1e-9) / np.linalg.norm(shift, axis=1, keepdims=True)
        shift[list(path.members)] = 0.0
    for width in (0.05, 0.01, 1e-4):
        low = rng.uniform(0.11, path.r_start - width, 12)
        lower, upper = enclosure.slopes(low, low + width)
        assert np.isfinite([lower, upper]).mean() > 0.5
        at = [slope(low + part * width, shift) for part in (0.0, 0.5, rng.uniform(), 1.0)]
        noise = 1e-10 * (1.0 + np.abs(at[0]))  # of the float64 derivative itself
        for values in at:
            assert (values >= np.nan_to_num(lower, nan=-np.inf) - noise).all()
            assert (values <= np.nan_to_num(upper, nan=np.inf) + noise).all()
        if width < 1e-3 and not radius:  # and the bounds are hardly wider than what they hold
            assert (upper - lower <= 2.0 * np.abs(at[-1] - at[0]) + 1e-3 * np.abs(at[1]) + 1e-3).all()
    low = np.array([0.0, 0.02, 0.05])
    upper = enclosure.slopes(low, low + 0.03, core=True)[1]
    assert (slope(low + 0.029, shift) <= upper).all()
    assert (slope(low + 0.005, shift) <= upper).all()


@pytest.mark.parametrize("kind", ["default", pytest.param("narrow", marks=pytest.mark.slow)])
def test_enclosures_hold_the_derivative(make_potential: Make, structures: dict[str, Atoms], kind: str) -> None:
    potential, params = make_potential(scaled=True, **({"core": CORE} | KINDS[kind]))
    require_inside(potential.with_params(params), first_path(structures["molecule"]), 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["molecule", "crystal", "triclinic", "dimer"])
@pytest.mark.parametrize("kind", KINDS)
def test_enclosures_hold_the_derivative_of_every_kind(
    make_potential: Make, structures: dict[str, Atoms], kind: str, name: str
) -> None:
    for seed, bond in ((0, 0), (1, -1)):
        potential, params = make_potential(seed=seed, scaled=True, **({"core": CORE} | KINDS[kind]))
        atoms = structures[name]
        bonds = find_bonds(atoms)
        path = first_path(atoms, bond) if bonds else replace(bond_path(atoms, 0, 1), r_start=1.2)
        require_inside(potential.with_params(params), path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("radius", [1e-4, 1e-3])
def test_balls_hold_the_derivative_of_displaced_atoms(
    make_potential: Make, structures: dict[str, Atoms], radius: float
) -> None:
    potential, params = make_potential(scaled=True, core=CORE)
    for bond in (0, 4, -1):
        require_inside(potential.with_params(params), first_path(structures["molecule"], bond), 2, radius)


def gentle(make_potential: Make, **changes: Any) -> Potential:
    """A network that is weak beside the repulsion."""
    potential, params = make_potential(scaled=True, **({"core": CORE} | changes))
    params["scale_shift"]["scale"] = np.full_like(params["scale_shift"]["scale"], -2.5)
    return potential.with_params(params)


def with_bump(potential: Potential, path: Approach, place: float, narrow: float, height: float) -> Potential:
    """The potential with a bump of `height` (eV) at r = place, about `narrow` Å wide.

    Three units of the first layer see the first feature of the first member alone and make a bump of it, which one unit
    of the second layer carries on.
    """
    r = np.array([place - 1e-4, place, place + 1e-4])
    lists = [make_system(x, path.numbers, np.zeros((3, 3)), [False] * 3, potential.config.r_max)
             for x in path.positions_at(r)]  # fmt: skip
    features = jax.jit(potential.features)
    feature = [float(features(potential.trained, jax.tree.map(jnp.asarray, x))[path.members[1], 0]) for x in lists]
    steepness = 2e-4 / (narrow * abs(feature[2] - feature[0]))
    params = jax.tree.map(np.copy, potential.trained)
    first, second, last = (params["readout"][f"layer_{k}"] for k in range(3))
    first["kernel"][:, :3], first["bias"][:3] = 0.0, 0.0
    first["kernel"][0, :3] = steepness
    first["bias"][:3] = -steepness * feature[1] + np.array([-1.0, 0.0, 1.0])
    second["kernel"][:, 0], second["kernel"][:3, 0], second["bias"][0] = 0.0, [1.0, -2.0, 1.0], 0.0
    second["kernel"][:3, 1:] = 0.0
    last["kernel"][0] = 0.0
    at_place = jax.tree.map(jnp.asarray, lists[1])
    energy, weight = jax.jit(potential.energy), 1.0
    flat = float(energy(params, at_place))
    for _ in range(4):  # the height is a smooth function of the last weight
        last["kernel"][0] = weight
        weight *= height / (float(energy(params, at_place)) - flat)
    return potential.with_params(params)


@pytest.mark.slow
def test_a_proved_curve_passes_every_sample_and_a_bump_of_1_meV_is_seen(
    make_potential: Make, structures: dict[str, Atoms]
) -> None:
    """The bump lies between the points of a scan: its slopes at 200 nodes are all negative, but nothing is proved."""
    potential, path = gentle(make_potential), first_path(structures["molecule"])
    proof = prove(potential, _proving.motion_of(path, 0.0), "C0-C1", 0.1)
    assert (proof.verdict, proof.undecided, proof.refuted, proof.share) == ("proved", [], [], 1.0)
    slope = slope_function(potential, path)
    sampled = slope(np.geomspace(1e-3, path.r_start, 3000))
    assert proof.push is not None
    assert 0.0 < proof.push <= np.min(-sampled)

    nodes = np.linspace(path.r_start, 0.1, 201)
    place = 0.5 * (nodes[2] + nodes[3])
    bent = with_bump(potential, path, place, 3e-4, 1e-3)
    bent_slope = slope_function(bent, path)
    assert np.max(bent_slope(np.linspace(place - 2e-3, place + 2e-3, 3000))) > 0.0
    assert np.max(bent_slope(np.resize(nodes, 3000))) < 0.0
    found = prove(bent, _proving.motion_of(path, 0.0), "C0-C1", 0.1)
    assert found.verdict != "proved"
    failed = found.undecided + found.refuted
    assert min(abs(low - place) for low, _ in failed) < 5e-3
    assert 0.99 < found.share < 1.0


def test_a_curve_that_falls_is_refuted_where_it_falls(make_potential: Make, structures: dict[str, Atoms]) -> None:
    """A start beyond the minimum: dE/dr > 0 there, which is proved, and nothing false is claimed elsewhere."""
    potential, path = gentle(make_potential, n_radial=1, hidden=(3,)), first_path(structures["molecule"])
    slope = slope_function(potential, path)
    r = np.linspace(0.02, path.r_start, 4000)
    sampled = slope(r)
    assert sampled.max() > 0.0
    proof = prove(potential, _proving.motion_of(path, 0.0), "C0-C1", 0.1)
    assert proof.verdict == "refuted"
    for low, high in proof.refuted:
        assert (sampled[(r >= low) & (r <= high)] >= 0).all()
    failed = proof.refuted + proof.undecided
    inside = np.any([(r >= low) & (r <= high) for low, high in failed], axis=0)
    assert (sampled[~inside] < 0).all()
    assert sum(high - low for low, high in proof.undecided) < 1e-3
    assert f"{proof.refuted[0][0]:.4f}" in proof.places


def test_a_ball_proves_less_than_the_path(make_potential: Make, structures: dict[str, Atoms]) -> None:
    """A ball's slopes contain those of the path, and a ball that is too large is undecided, never wrong."""
    potential, path = gentle(make_potential), first_path(structures["molecule"])
    bounds = [Enclosure(potential, _proving.motion_of(path, radius)).slopes(np.array([0.8]), np.array([0.81]))
              for radius in (0.0, 1e-4, 1e-3, 0.05)]  # fmt: skip
    for (lower, upper), (below, above) in pairwise(bounds):
        assert not below[0] >= lower[0]  # not a number for the largest, which bounds nothing
        assert not above[0] <= upper[0]
    assert prove(potential, _proving.motion_of(path, 1e-4), "C0-C1", 0.1).verdict == "proved"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"cutoff": "cosine"}, "model.cutoff: cosine"),
        ({"repulsion": "none"}, "model.repulsion: none"),
        ({"core": replace(CORE, gate=False)}, "model.core.gate: false"),
        ({"core": replace(CORE, clamp=False)}, "model.core.clamp: false"),
        ({"zbl": ZBLConfig(window="cosine", r_off=3.0)}, "model.zbl.window: cosine"),
        ({"ensemble": "shallow", "members": 3}, "model.ensemble: shallow"),
    ],
)
def test_what_is_not_covered_is_refused(
    make_potential: Make, structures: dict[str, Atoms], changes: dict[str, Any], named: str
) -> None:
    potential, params = make_potential(**({"core": CORE} | changes))
    motion = _proving.motion_of(first_path(structures["molecule"]), 0.0)
    with pytest.raises(UserError, match=named):
        prove(potential.with_params(params), motion, "C0-C1", 0.1)
    assert set(coverage.PATH) == set(coverage.FORCE)


def test_a_wall_that_is_not_certified_to_fall_is_refused(make_potential: Make, structures: dict[str, Atoms]) -> None:
    potential, params = make_potential(core=CORE, repulsion="nlh")
    turning = (2.0, 5.0, -1.0, 1.0, 0.0, 0.0)  # a screening that becomes negative
    potential = replace(potential, reference=replace(potential.reference, screening=(turning,) * 10))
    with pytest.raises(UserError, match="certified to fall"):
        prove(potential.with_params(params), _proving.motion_of(first_path(structures["molecule"]), 0.0), "x", 0.1)


def test_the_report_says_what_was_proved(
    make_potential: Make, structures: dict[str, Atoms], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table and the files agree with the proof; a curve that is not proved makes the whole not proved."""
    potential, path = gentle(make_potential), first_path(structures["molecule"])
    result = SimpleNamespace(curves=[SimpleNamespace(path=path)])
    names = {"model": "m", "structure": "s"}
    assert _proving.prove_scan(SimpleNamespace(potential=potential), result, tmp_path, 0.0, names)  # type: ignore[arg-type]
    content = json.loads((tmp_path / "proof.json").read_text(encoding="utf-8"))
    (curve,) = content["curves"]
    assert (content["proved"], content["n_proved"], curve["verdict"], curve["undecided"]) == (True, 1, "proved", [])
    assert curve["r_start"] == path.r_start
    lines = (tmp_path / "proof.csv").read_text(encoding="utf-8").splitlines()
    assert lines[1].startswith("C0-C1,proved,0.0,")
    assert "1 of 1 curves are proved" in capsys.readouterr().out
    half = Proof("C0-C1", 1.0, 0.0, [(0.61, 0.62)], [], 0.1, 0.99, 7, 0.5)
    assert (half.verdict, half.places) == ("undecided", "at 0.6100-0.6200 Å")
    assert replace(half, refuted=[(0.5, 0.51)]).places == "at 0.5000-0.5100 Å"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--prove", "--calculator", "ase.calculators.emt:EMT"],
        ["m", "--prove", "--suites", "all"],
        ["m", "--prove", "-1"],
        ["m", "--prove", "nan"],
    ],
)
def test_misuse_is_explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert scan.main(arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.slow
def test_all_bonds_of_the_shipped_ethanol_are_proved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The trained example: 8 of 8 curves, by the command itself."""
    assert scan.main([str(ROOT / "examples" / "ethanol"), "--prove", "--out", str(tmp_path / "scan")]) == 0
    assert "8 of 8 curves are proved" in capsys.readouterr().out
    content = json.loads((tmp_path / "scan" / "proof.json").read_text(encoding="utf-8"))
    strict = json.loads((tmp_path / "scan" / "scan.json").read_text(encoding="utf-8"))
    for proof, curve in zip(content["curves"], strict["curves"], strict=True):
        assert (proof["bond"], proof["r_start"]) == (curve["bond"], curve["r_start"])
