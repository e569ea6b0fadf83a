"""What is minimised: terms by hand, missing labels, mixed sizes, gradients against finite differences."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms

from gmnn.config.model import ModelConfig
from gmnn.config.train import EnergyTerm, LossConfig
from gmnn.data import Dataset, batches, read_dataset
from gmnn.model.potential import Potential
from gmnn.reference import Reference
from gmnn.system import Labels, Prediction, System
from gmnn.training import objective
from gmnn.training.gradient import value_and_gradient
from tests.support.autodiff import batch_loss
from tests.support.frames import NAMES, labelled
from tests.support.plain import PLAIN

Model = tuple[Potential, dict[str, Any]]


def test_loss_by_hand() -> None:
    """w_E dE^2 / N + w_F mean |dF|^2 over three real atoms, with a padded fourth that must not count."""
    config = LossConfig(energy={"weight": 2.0}, forces={"weight": 3.0})
    forces = np.arange(12.0).reshape(4, 3)
    label = batches.without_stress(jnp.asarray(1.0), jnp.zeros((4, 3)))
    prediction = Prediction(jnp.asarray(1.6), jnp.zeros(4), jnp.asarray(forces), jnp.zeros((3, 3)), jnp.zeros(1))
    system = System(forces, jnp.asarray([8, 1, 1, 0]), jnp.zeros((3, 3)), None, None)
    value = objective.loss(config, prediction, label, system)
    assert float(value) == pytest.approx(2.0 * 0.36 / 3 + 3.0 * np.mean(forces[:3] ** 2))


def test_errors_over_mixed_sizes_ignore_padding() -> None:
    """Frames of 9, 2 and 1 atoms in one batch: errors equal those of every frame evaluated alone, atom by atom."""
    frames = read_dataset("ethanol").take(np.arange(3))
    for k, keep in ((1, [0, 2]), (2, [6])):
        frames.atoms[k], frames.forces[k] = frames.atoms[k][keep], frames.forces[k][keep]
    potential = Potential(
        ModelConfig(n_radial=2, n_basis=4, hidden=(4,), **PLAIN),
        Reference((1, 6, 8), (-1.0,) * 3, (0.5,) * 3, (0.1,) * 3),
    )
    params = jax.tree.map(lambda leaf: np.asarray(leaf, float), potential.init(0))
    trained = potential.with_params(params)
    systems, labels = batches.make_batch(frames, trained.reference, trained.config.r_max, "float64")
    together = jax.jit(partial(objective.errors, trained, LossConfig()))(params, ((systems, labels),))
    predict = jax.jit(trained.predict)
    differences, energies = [], []
    for k in range(3):
        system, label = batches.make_batch(
            frames.take(np.array([k])), trained.reference, trained.config.r_max, "float64"
        )
        one = predict(params, jax.tree.map(lambda leaf: leaf[0], system))
        differences.append(np.asarray(one.forces - label.forces[0]).ravel())
        energies.append(abs(float(one.energy - label.energy[0])))
    errors = np.concatenate(differences)
    assert float(together.forces_mae) == pytest.approx(np.abs(errors).mean(), rel=1e-10)
    assert float(together.forces_rmse) == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-10)
    assert float(together.energy_mae) == pytest.approx(np.mean(energies), rel=1e-10)


@pytest.mark.parametrize("ensemble", ["none", "shallow", pytest.param("full", marks=pytest.mark.slow)])
def test_a_batch_is_predicted_as_its_systems_are(
    make_potential: Callable[..., Model], structures: dict[str, Atoms], ensemble: str
) -> None:
    """One pass over frames of different size and periodicity: every field is that of each system alone."""
    potential, params = make_potential(ensemble=ensemble, members=3)
    systems, _ = batches.make_batch(labelled(structures), potential.reference, potential.config.r_max, "float64")
    predict = jax.jit(potential.predict)
    got = predict(params, systems)
    np.testing.assert_allclose(jax.jit(potential.energy)(params, systems), got.energy, rtol=1e-9, atol=1e-10)
    for k in range(len(NAMES)):
        alone = predict(params, jax.tree.map(lambda leaf, k=k: leaf[k], systems))
        for field, one in zip(*map(jax.tree.leaves, (got, alone)), strict=True):
            np.testing.assert_allclose(field[k], one, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("form", ["huber", *(pytest.param(form, marks=pytest.mark.slow) for form in ("mse", "mae"))])
def test_gradient_of_the_loss(make_potential: Callable[..., Model], structures: dict[str, Atoms], form: str) -> None:
    """Along a random direction of all parameters: the gradient against central differences, all three terms."""
    potential, params = make_potential()
    terms = {name: {"form": form, "delta": 0.3} for name in ("energy", "forces", "stress")}
    config = LossConfig(**terms)
    batch = batches.make_batch(labelled(structures), potential.reference, potential.config.r_max, "float64")
    value = jax.jit(partial(batch_loss, potential, config))
    rng = np.random.default_rng(0)
    way = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape) / np.sqrt(leaf.size), params)
    found, gradient = jax.jit(partial(value_and_gradient, potential, config))(params, batch)
    assert float(found) == pytest.approx(float(value(params, batch)), rel=1e-12)
    slope = sum(np.sum(g * w) for g, w in zip(*map(jax.tree.leaves, (gradient, way)), strict=True))
    h = 1e-5
    ahead, behind = (jax.tree.map(lambda p, w, s=s: p + s * h * w, params, way) for s in (1, -1))
    numeric = (value(ahead, batch) - value(behind, batch)) / (2 * h)
    assert float(slope) == pytest.approx(float(numeric), rel=1e-5)


@pytest.mark.slow
def test_missing_labels_leave_the_gradient_of_what_there_is(
    make_potential: Callable[..., Model], structures: dict[str, Atoms]
) -> None:
    """Frames without energy, forces or stress: the gradient is the sum of those of the complete parts, term by term."""
    potential, params = make_potential()
    full = labelled(structures, NAMES[:3])
    energies, stresses, forces = full.energies.copy(), full.stresses.copy(), list(full.forces)
    energies[0], stresses[1], forces[2] = np.nan, np.nan, np.full_like(forces[2], np.nan)
    some = replace(full, energies=energies, stresses=stresses, forces=forces)

    def gradient(config: LossConfig, data: Dataset) -> dict[str, Any]:
        batch = batches.make_batch(data, potential.reference, potential.config.r_max, "float64")
        return jax.jit(partial(value_and_gradient, potential, config))(params, batch)[1]

    got = gradient(LossConfig(), some)
    kept = {0: ("forces", "stress"), 1: ("energy", "forces"), 2: ("energy",)}  # frame 2 is a molecule
    total = jax.tree.map(jnp.zeros_like, params)
    for k, names in kept.items():
        off = {name: {"weight": 0.0} for name in ("energy", "forces", "stress") if name not in names}
        part = gradient(LossConfig(**off), full.take(np.array([k])))
        total = jax.tree.map(lambda a, b: a + b / 3, total, part)
    for a, b in zip(*map(jax.tree.leaves, (got, total)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_weights_of_frames(make_potential: Callable[..., Model], structures: dict[str, Atoms]) -> None:
    """A frame of weight two counts as if it stood twice."""
    potential, params = make_potential()
    once = labelled(structures, NAMES[:2])
    value = jax.jit(partial(batch_loss, potential, LossConfig()))
    heavy = batches.make_batch(
        replace(once, weights=np.array([2.0, 1.0])), potential.reference, potential.config.r_max, "float64"
    )
    twice = batches.make_batch(once.take(np.array([0, 0, 1])), potential.reference, potential.config.r_max, "float64")
    assert 2 * float(value(params, heavy)) == pytest.approx(3 * float(value(params, twice)), rel=1e-12)


def test_stress_term_is_the_stress_of_ase() -> None:
    """A label that is the virial over the volume costs nothing, whichever the cell; one of other sign does."""
    cell = jnp.array([[4.0, 0.1, 0.0], [-0.3, 3.0, 0.2], [0.5, 0.0, -5.0]])  # left-handed
    size = abs(float(np.linalg.det(cell)))
    virial = jnp.array([[1.0, 0.2, 0.1], [0.2, -0.5, 0.3], [0.1, 0.3, 2.0]])
    numbers = jnp.array([14, 14])
    system = System(jnp.zeros((2, 3)), numbers, cell, None, None)
    prediction = Prediction(jnp.asarray(0.0), jnp.zeros(2), jnp.zeros((2, 3)), virial, jnp.zeros(1))
    labels = Labels(jnp.asarray(0.0), jnp.zeros((2, 3)), virial / size, jnp.ones(3))
    config = LossConfig(stress={"weight": 0.7})
    assert float(objective.loss(config, prediction, labels, system)) == pytest.approx(0.0, abs=1e-25)
    opposite = labels._replace(stress=-labels.stress)
    by_hand = 0.7 * 2 * np.mean((2 * np.asarray(virial) / 2) ** 2)
    assert float(objective.loss(config, prediction, opposite, system)) == pytest.approx(by_hand, rel=1e-12)


def test_huber_joins_square_and_slope() -> None:
    """The square below delta; value and slope meet there; twice delta is the slope beyond."""
    term = EnergyTerm(form="huber", delta=0.2)
    f = lambda x: objective.penalty(term, x)  # noqa: E731
    assert float(f(jnp.asarray(0.1))) == pytest.approx(0.01)
    for at in (-0.2, 0.2):
        inside, outside = (jax.value_and_grad(f)(jnp.asarray(at * (1 + s))) for s in (-1e-9, 1e-9))
        np.testing.assert_allclose(inside, outside, rtol=1e-7)
    assert float(jax.grad(f)(jnp.asarray(5.0))) == pytest.approx(0.4)


def test_weights_switch_once() -> None:
    """Force-first training: the weights change at the given share of the steps and not before."""
    config = LossConfig(energy={"weight": 0.1, "final_weight": 9.0}, switch_at=0.6)
    assert objective.weights(config, 0.599).tolist() == pytest.approx([0.1, 1.0, 1.0])
    assert objective.weights(config, 0.6).tolist() == pytest.approx([9.0, 1.0, 1.0])


@pytest.mark.slow
def test_errors_over_buckets(make_potential: Callable[..., Model], structures: dict[str, Atoms]) -> None:
    """Frames in several shapes have the errors of the same frames in one; missing labels do not dilute them."""
    potential, params = make_potential()
    data = labelled(structures, (*NAMES, "dimer", "atom", "tiny_cell"))
    data.energies[1] = np.nan
    buckets = batches.make_buckets(data, potential.reference, potential.config.r_max, "float64")
    assert len(buckets) > 1
    errors = jax.jit(partial(objective.errors, potential, LossConfig()))
    many = errors(params, tuple((b.systems, b.labels) for b in buckets))
    one = errors(params, (batches.make_batch(data, potential.reference, potential.config.r_max, "float64"),))
    np.testing.assert_allclose(many, one, rtol=1e-10)
    present = ~np.isnan(data.energies)
    energy = jax.jit(potential.energy)
    predicted = [
        float(energy(params, jax.tree.map(lambda leaf, k=k: leaf[k], bucket.systems)))
        + potential.offsets(data.atoms[frame].numbers).sum() - data.energies[frame]
        for bucket in buckets for k, frame in enumerate(bucket.frames) if present[frame]
    ]  # fmt: skip
    assert float(many.energy_mae) == pytest.approx(np.mean(np.abs(predicted)), rel=1e-9)


def test_groups_of_shapes_waste_least() -> None:
    """Every frame is in one group, three at most; no cut into three, tried one by one, wastes less."""
    rng = np.random.default_rng(1)
    sizes = np.sort(rng.choice([2, 5, 9, 12, 30, 64, 192], size=60))
    shapes = np.stack([sizes, 10 + sizes // 4], axis=1)
    groups = batches.group(shapes)
    assert sorted(np.concatenate(groups)) == list(range(60))

    def cost(parts: list[np.ndarray]) -> int:
        return sum(len(p) * np.prod(shapes[p].max(axis=0)) for p in parts if len(p))

    every = [np.split(np.arange(60), [a, b]) for a in range(61) for b in range(a, 61)]
    assert len(groups) == 3
    assert cost(groups) == min(map(cost, every))
    assert len(batches.group(np.array([[9, 8]] * 50 + [[9, 7]] * 10))) == 1, "a shape that saves little is not compiled"
