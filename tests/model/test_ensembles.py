"""Ensembles: the mean of their members in every quantity, spreads of energy and forces, losses that learn a spread."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from gmnn import Calculator
from gmnn.config.model import ModelConfig
from gmnn.config.reading import Config
from gmnn.config.train import EnergyTerm, TrainConfig
from gmnn.data import batches, read_dataset
from gmnn.model.potential import Potential
from gmnn.neighbors.host import make_system
from gmnn.reference import Reference
from gmnn.training import epochs, objective, optimizer
from gmnn.training.state import initial
from tests.support.plain import PLAIN

Model = tuple[Potential, dict[str, Any]]
M = 3
predict = jax.jit(Potential.predict, static_argnums=0)
member_forces = jax.jit(Potential.member_forces, static_argnums=0)


def system_of(atoms: Atoms, potential: Potential) -> Any:
    return make_system(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, potential.config.r_max)


@pytest.fixture(params=["shallow", "full"])
def ensemble(request: pytest.FixtureRequest, make_potential: Callable[..., Model]) -> tuple[Potential, list[Model]]:
    """An ensemble with parameters, and its members as potentials of their own."""
    potential, params = make_potential(ensemble=request.param, members=M)
    single, _ = make_potential()
    if request.param == "full":
        return potential.with_params(params), [
            (single, jax.tree.map(lambda leaf, m=m: leaf[m], params)) for m in range(M)
        ]
    last = f"layer_{len(potential.config.hidden)}"
    members = []
    for m in range(M):
        one = jax.tree.map(np.copy, params)
        one["readout"][last] = {
            "kernel": params["readout"][last]["kernel"][:, m : m + 1],
            "bias": params["readout"][last]["bias"][m : m + 1],
        }
        members.append((single, one))
    return potential.with_params(params), members


@pytest.mark.parametrize("name", ["triclinic", pytest.param("slab", marks=pytest.mark.slow)])
def test_predictions_are_means_of_the_members(
    ensemble: tuple[Potential, list[Model]], structures: dict[str, Atoms], name: str
) -> None:
    """Energy, atomic energies, forces and virial are means; members and their forces are those of each alone."""
    potential, members = ensemble
    system = system_of(structures[name], potential)
    got = predict(potential, potential.trained, system)
    alone = [predict(single, params, system) for single, params in members]
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *alone)
    for field in ("energy", "energies", "forces", "virial"):
        np.testing.assert_allclose(getattr(got, field), getattr(mean, field), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(got.members, [float(one.energy) for one in alone], rtol=1e-10)
    forces = member_forces(potential, potential.trained, system)
    np.testing.assert_allclose(forces, [one.forces for one in alone], rtol=1e-8, atol=1e-10)
    assert np.std(np.asarray(got.members)) > 1e-4, "members differ, or the test says nothing"


def test_members_start_apart(make_potential: Callable[..., Model]) -> None:
    """Parameters of a full ensemble are those of single trainings with consecutive seeds."""
    potential, _ = make_potential(ensemble="full", members=M)
    params = potential.init(5)
    for m in range(M):
        one = potential.member_template.init(5 + m)
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(one), strict=True):
            np.testing.assert_array_equal(a[m], b)


@pytest.mark.parametrize("error", [0.037, -0.004])
def test_scores_of_a_normal_distribution(error: float) -> None:
    """nll and crps against their definitions: the density, and the integral over the squared distance of the CDFs.

    The value is the square; the derivatives are those of the score, times s^2 and 2 s.
    """
    from scipy import integrate, stats

    members = np.array([0.02, -0.01, 0.05, 0.03])

    def likelihood(x: float, members: np.ndarray) -> float:
        return -2 * stats.norm.logpdf(x, scale=members.std(ddof=1))

    def distance(x: float, members: np.ndarray) -> float:
        cdf = partial(stats.norm.cdf, scale=members.std(ddof=1))
        below, _ = integrate.quad(lambda y: cdf(y) ** 2, -0.5, x, epsabs=1e-14)
        above, _ = integrate.quad(lambda y: (1 - cdf(y)) ** 2, x, 0.5, epsabs=1e-14)
        return below + above

    s, h = members.std(ddof=1), 1e-5
    for form, score, factor in (("nll", likelihood, s**2), ("crps", distance, 2 * s)):
        penalty = partial(objective.spread_penalty, EnergyTerm(form=form))
        assert float(penalty(jnp.asarray(error), jnp.asarray(members))) == pytest.approx(error**2, rel=1e-12)
        got = jax.grad(penalty, argnums=(0, 1))(jnp.asarray(error), jnp.asarray(members))
        along = (score(error + h, members) - score(error - h, members)) / (2 * h)
        assert float(got[0]) == pytest.approx(factor * along, rel=1e-5)
        for m, step in enumerate(h * np.eye(len(members))):
            spread = (score(error, members + step) - score(error, members - step)) / (2 * h)
            assert float(got[1][m]) == pytest.approx(factor * spread, rel=1e-5, abs=1e-9)
    nll = partial(objective.spread_penalty, EnergyTerm(form="nll"))
    assert float(jax.grad(nll)(jnp.asarray(error), jnp.asarray(members))) == pytest.approx(2 * error, rel=1e-9), (
        "the mean learns as with the square"
    )


@pytest.mark.parametrize("kind", ["shallow", pytest.param("full", marks=pytest.mark.slow)])
def test_an_epoch_trains_every_member(kind: str) -> None:
    """All members move and the loss falls; those of a full ensemble move as each of them would alone."""
    data = read_dataset("ethanol").take(np.arange(8))
    model = ModelConfig(n_radial=2, n_basis=4, hidden=(6,), **PLAIN, r_max=4.0, ensemble=kind, members=M)
    potential = Potential(model, Reference((1, 6, 8), (-500.0,) * 3, (0.5,) * 3, (0.1,) * 3))
    loss = {"energy": {"form": "nll", "weight": 0.1}} if kind == "shallow" else {}
    train = TrainConfig(epochs=4, batch_size=8, schedule={"warmup_epochs": 0, "form": "constant"}, loss=loss)
    config = Config(output="x", data={"train": "ethanol"}, model=model, train=train)
    buckets = batches.make_buckets(data, potential.reference, potential.config.r_max, "float64")
    feed = epochs.BatchStream(config, potential, buckets, None)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), potential.init(0))
    made = optimizer.make_optimizer(train, params, 1)
    moving = initial(params, made, epochs.members(potential)).moving
    run = jax.jit(partial(epochs.take_steps, train, potential, made, 4, False))
    losses = []
    for epoch in range(4):
        moving, value = epochs.run_epoch(run, feed, epoch, moving, jnp.asarray(1.0))
        losses.append(value)
    assert losses[-1] < losses[0]
    if kind == "full":  # one batch holds all frames, so their order does not matter
        alone = Config(output="x", data={"train": "ethanol"}, train=train)
        one = jax.tree.map(lambda leaf: leaf[1], params)
        single = initial(one, made).moving
        feed = epochs.BatchStream(alone, potential.member_template, buckets, None)
        step = jax.jit(partial(epochs.take_steps, train, potential.member_template, made, 4, False))
        for epoch in range(4):
            single, _ = epochs.run_epoch(step, feed, epoch, single, jnp.asarray(1.0))
        for a, b in zip(jax.tree.leaves(moving.params), jax.tree.leaves(single.params), strict=True):
            np.testing.assert_allclose(a[1], b, rtol=1e-7, atol=1e-9)


def test_a_shallow_ensemble_needs_a_loss_that_learns_its_spread() -> None:
    base = {"output": "x", "data": {"train": "ethanol"}}
    with pytest.raises(ValueError, match="needs crps or nll"):
        Config(**base, model=ModelConfig(ensemble="shallow"))
    with pytest.raises(ValueError, match="only a shallow ensemble"):
        Config(**base, train=TrainConfig(loss={"energy": {"form": "crps"}}))


@pytest.mark.slow
def test_calculator_reports_spreads(ensemble: tuple[Potential, list[Model]], structures: dict[str, Atoms]) -> None:
    """Standard deviations over calculators of the members alone, times the scales; none of it without an ensemble."""
    potential, members = ensemble
    potential = replace(potential, reference=replace(potential.reference, spread_scale=(2.0, 3.0)))
    atoms = structures["triclinic"]
    atoms.calc = Calculator(potential, dtype="float64")
    energies, forces = [], []
    for single, params in members:
        alone = atoms.copy()
        alone.calc = Calculator(single.with_params(params), dtype="float64")
        energies.append(alone.get_potential_energy())
        forces.append(alone.get_forces())
        with pytest.raises(PropertyNotImplementedError):
            alone.calc.get_property("energy_std", alone)
    assert atoms.get_potential_energy() == pytest.approx(np.mean(energies), abs=1e-9)
    assert atoms.calc.results["energy_std"] == pytest.approx(2 * np.std(energies, ddof=1), rel=1e-6)
    assert "forces_std" not in atoms.calc.results
    got = atoms.calc.get_property("forces_std", atoms)
    np.testing.assert_allclose(got, 3 * np.std(forces, axis=0, ddof=1), rtol=1e-6, atol=1e-9)
