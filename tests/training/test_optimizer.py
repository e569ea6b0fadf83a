"""The step of training: optimisers, groups, schedules, averages, and that an epoch shows every frame once."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gmnn.config.model import ModelConfig
from gmnn.config.reading import Config
from gmnn.config.train import AveragingConfig, OptimizerConfig, TrainConfig
from gmnn.data import Dataset, batches, read_dataset
from gmnn.errors import UserError
from gmnn.model.potential import Potential
from gmnn.reference import Reference
from gmnn.training import epochs, loop, optimizer
from gmnn.training.state import initial
from tests.support.autodiff import batch_loss
from tests.support.plain import PLAIN


def test_rates_per_group() -> None:
    """A group with rate 0 stays bit for bit; another with twice the rate moves twice as far in Adam's first step."""
    potential = Potential(
        ModelConfig(n_radial=1, n_basis=2, hidden=(2,), **PLAIN), Reference((1,), (0.0,), (1.0,), (0.0,))
    )
    params = potential.init(0)
    config = TrainConfig(
        schedule={"warmup_epochs": 0}, rates={"radial": 0.0, "readout": 2.0, "scale_shift": 1.0, "repulsion": 1.0}
    )
    optimiser = optimizer.make_optimizer(config, params, 10)
    slope = jax.tree.map(jnp.ones_like, params)
    update, _ = optimiser.update(slope, optimiser.init(params), params)
    assert not np.any(update["radial"]["coefficients"])
    moved = update["readout"]["layer_0"]["bias"] / update["scale_shift"]["shift"]
    np.testing.assert_allclose(moved, 2.0, rtol=1e-5)
    np.testing.assert_allclose(update["scale_shift"]["shift"], -config.learning_rate, rtol=1e-4)


def test_weight_decay_acts_on_the_network_alone() -> None:
    """With a vanishing gradient only the readout's matrices shrink, by rate times decay; nothing else moves."""
    model = ModelConfig(n_radial=1, n_basis=2, hidden=(2,), **PLAIN)
    params = Potential(model, Reference((1,), (0.0,), (1.0,), (0.0,))).init(0)
    config = TrainConfig(epochs=10, learning_rate=0.01, schedule={"warmup_epochs": 0}, weight_decay=0.1)
    optimiser = optimizer.make_optimizer(config, params, 10)
    update, _ = optimiser.update(jax.tree.map(jnp.zeros_like, params), optimiser.init(params), params)
    for group in update:
        for path, moved in jax.tree_util.tree_leaves_with_path(update[group]):
            decays = group == "readout" and path[-1].key == "kernel"
            expected = -0.01 * 0.1 * params[group][path[0].key][path[1].key] if decays else np.zeros(np.shape(moved))
            np.testing.assert_allclose(moved, expected, rtol=1e-6, atol=1e-15)


def test_schedule() -> None:
    """Linear from zero to the peak over the warm-up, then a cosine to zero at the last step."""
    rate = optimizer.learning_rate(
        TrainConfig(epochs=10, learning_rate=0.01, schedule={"warmup_epochs": 2}), steps_per_epoch=5
    )
    assert [float(rate(k)) for k in (0, 5, 10)] == pytest.approx([0.0, 0.005, 0.01])
    assert float(rate(30)) == pytest.approx(0.005)
    assert float(rate(50)) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        ({"form": "constant"}, {50: 1.0, 99: 1.0}),
        ({"form": "cosine", "final": 0.1}, {0: 1.0, 50: 0.55, 100: 0.1}),
        ({"form": "exponential", "final": 0.01}, {0: 1.0, 50: 0.1, 100: 0.01}),
        ({"form": "cyclic", "cycles": 2}, {0: 1.0, 25: 0.5, 50: 1.0, 75: 0.5, 100: 0.0}),
        ({"form": "plateau"}, {0: 1.0, 100: 1.0}),
    ],
)
def test_forms_of_the_schedule(schedule: dict, points: dict[int, float]) -> None:
    """Shares of the peak at given steps of 100."""
    config = TrainConfig(epochs=10, learning_rate=0.01, schedule={"warmup_epochs": 0, **schedule})
    rate = optimizer.learning_rate(config, steps_per_epoch=10)
    for step, share in points.items():
        assert float(rate(step)) == pytest.approx(0.01 * share, abs=1e-9)


@pytest.mark.parametrize("name", ["adam", "adamax", "lamb", "lion", "nadam", "radam", "sgd", "yogi"])
def test_optimisers_of_optax_by_name(name: str) -> None:
    """Each of them lowers a quadratic, as `optax.NAME(learning_rate)` alone does: the same first step."""
    import optax

    params = {"readout": {"kernel": jnp.array([[1.0, -2.0], [0.5, 3.0]])}}
    config = TrainConfig(
        epochs=100, learning_rate=0.01, schedule={"warmup_epochs": 0, "form": "constant"}, optimizer={"name": name},
        clip_norm=None,
    )  # fmt: skip
    ours, theirs = optimizer.make_optimizer(config, params, 10), getattr(optax, name)(learning_rate=0.01)
    slope = jax.grad(lambda p: jnp.sum(p["readout"]["kernel"] ** 2))(params)
    update, _ = ours.update(slope, ours.init(params), params)
    expected, _ = theirs.update(slope, theirs.init(params), params)
    np.testing.assert_allclose(update["readout"]["kernel"], expected["readout"]["kernel"], rtol=1e-6)
    assert float(jnp.sum(update["readout"]["kernel"] * slope["readout"]["kernel"])) < 0


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("adamm", {}, "not an optimiser of optax"),
        ("chain", {}, "not an optimiser of optax"),
        ("polyak_sgd", {}, "not an optimiser of optax"),
        ("lbfgs", {}, "needs more than gradients"),
        ("adam", {"beta": 0.9}, "takes b1, b2"),
        ("adam", {"learning_rate": 0.9}, "takes b1, b2"),
        ("adam", {"b2": False}, "b2 is False, but optax.adam takes a number"),
    ],
)
def test_mistakes_in_the_optimiser(name: str, arguments: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        optimizer.direction(OptimizerConfig(name=name, arguments=arguments))


def test_arguments_reach_the_optimiser() -> None:
    """Momentum of sgd: with a constant slope the second step is 1 + momentum times the first."""
    made = optimizer.direction(OptimizerConfig(name="sgd", arguments={"momentum": 0.5}))
    slope = {"a": jnp.ones(2)}
    state = made.init(slope)
    first, state = made.update(slope, state)
    second, _ = made.update(slope, state)
    np.testing.assert_allclose(second["a"], 1.5 * first["a"], rtol=1e-6)


def test_clipping_by_norm() -> None:
    """A gradient of norm 50 moves plain descent by rate times the limit, along the gradient."""
    params = {"readout": {"kernel": jnp.zeros((1, 2))}}
    config = TrainConfig(
        epochs=1, learning_rate=0.1, clip_norm=5.0, optimizer={"name": "sgd"},
        schedule={"warmup_epochs": 0, "form": "constant"},
    )  # fmt: skip
    ours = optimizer.make_optimizer(config, params, 1)
    update, _ = ours.update({"readout": {"kernel": jnp.array([[30.0, 40.0]])}}, ours.init(params), params)
    np.testing.assert_allclose(update["readout"]["kernel"], [[-0.3, -0.4]], rtol=1e-6)


def test_a_spike_is_clipped() -> None:
    """Gradients of norm 0.1, one of 10, then of 0.1: it moves plain descent thrice as far as the others, not a hundred
    times; gradients that stay ten times as long are followed after 300 steps; the first above zero is taken whole."""
    params = {"readout": {"kernel": jnp.zeros((1, 2))}}
    config = TrainConfig(
        epochs=1, learning_rate=1.0, clip_norm=None, optimizer={"name": "sgd"},
        schedule={"warmup_epochs": 0, "form": "constant"},
    )  # fmt: skip
    ours = optimizer.make_optimizer(config, params, 1000)
    state, norms = ours.init(params), [0.0] + [0.1] * 5 + [10.0] + [0.1] * 3 + [1.0] * 300
    moved = []
    for norm in norms:
        update, state = ours.update({"readout": {"kernel": jnp.array([[0.6, 0.8]]) * norm}}, state, params)
        step = update["readout"]["kernel"]
        np.testing.assert_allclose(step[0, 1], 4 / 3 * step[0, 0], rtol=1e-5)
        moved.append(float(jnp.linalg.norm(step)))
    np.testing.assert_allclose(moved[:10], [0.0] + [0.1] * 5 + [0.3] + [0.1] * 3, rtol=1e-5)
    assert moved[10] < 0.35
    np.testing.assert_allclose(moved[-1], 1.0, rtol=1e-5)
    assert all(later >= sooner - 1e-6 for sooner, later in itertools.pairwise(moved[10:]))


def walk(averaging: AveragingConfig, steps: int) -> tuple[list[float], list[float]]:
    """Values and averages of one number under steps of plain descent on a slope of -1."""
    config = TrainConfig(
        epochs=1, learning_rate=1.0, optimizer={"name": "sgd"}, schedule={"warmup_epochs": 0, "form": "constant"}
    )
    params = {"readout": {"bias": jnp.zeros(())}}
    made = optimizer.make_optimizer(config, params, steps)
    moving = initial(params, made).moving
    values, averages = [], []
    for _ in range(steps):
        slope = {"readout": {"bias": -jnp.ones(())}}
        moving = optimizer.advance(made, averaging, steps, moving, slope)
        values.append(float(moving.params["readout"]["bias"]))
        averages.append(float(moving.average["readout"]["bias"]))
    return values, averages


def test_averages_of_the_parameters() -> None:
    """swa is the plain mean of the last quarter, none the parameters, ema a mean of weights 1 - decay."""
    values, swa = walk(AveragingConfig(form="swa", start=0.75), 8)
    assert values == list(range(1, 9))
    assert swa[:6] == values[:6]
    assert swa[6:] == pytest.approx([7.0, 7.5])
    assert walk(AveragingConfig(form="none"), 4)[1] == [1, 2, 3, 4]
    _, ema = walk(AveragingConfig(form="ema", decay=0.5), 4)
    weights = [0.1, 2 / 11, 3 / 12, 4 / 13]  # (1 + t) / (10 + t) is below the decay in the first steps
    average = 0.0
    for value, weight, got in zip(values, weights, ema, strict=False):
        average += (1 - weight) * (value - average)
        assert got == pytest.approx(average, rel=1e-6)


@pytest.fixture(scope="module")
def frames() -> tuple[Dataset, Potential]:
    """11 frames of 9, 5 and 2 atoms and a tiny potential for them."""
    data = read_dataset("ethanol").take(np.arange(11))
    for k in range(11):
        keep = np.arange(9 if k < 5 else 5 if k < 8 else 2)
        data.atoms[k], data.forces[k] = data.atoms[k][keep], data.forces[k][keep]
    model = ModelConfig(n_radial=2, n_basis=4, hidden=(4,), **PLAIN, r_max=4.0)
    elements = sorted(data.elements)
    n = len(elements)
    return data, Potential(model, Reference(tuple(elements), (-1000.0,) * n, (0.5,) * n, (0.1,) * n))


@pytest.mark.slow
def test_an_epoch_shows_every_frame_once(frames: tuple[Dataset, Potential]) -> None:
    """At a vanishing rate an epoch of plain descent moves by the rate times the gradients of all frames over the batch
    size: frames in several shapes, in batches of 4 that no shape can fill, are each counted once."""
    data, potential = frames
    buckets = batches.make_buckets(data, potential.reference, potential.config.r_max, "float64")
    assert len(buckets) > 1
    params = jax.tree.map(lambda leaf: np.asarray(leaf, float), potential.init(0))
    rate = 1e-9
    train = TrainConfig(
        epochs=1, batch_size=4, learning_rate=rate, optimizer={"name": "sgd"}, rates={"repulsion": 1.0},
        schedule={"warmup_epochs": 0, "form": "constant"}, clip_norm=None, clip_spikes=None,
    )  # fmt: skip
    config = Config(output="x", data={"train": "ethanol"}, train=train)
    feed = epochs.BatchStream(config, potential, buckets, None)
    assert feed.n_steps == sum(-(-len(b.frames) // 4) for b in buckets)
    made = optimizer.make_optimizer(train, params, feed.n_steps)
    run = jax.jit(partial(epochs.take_steps, train, potential, made, feed.n_steps, False))
    start = jax.tree.map(jnp.asarray, initial(params, made).moving)
    moved, total = epochs.run_epoch(run, feed, 0, start, jnp.asarray(1.0))
    whole = batches.make_batch(data, potential.reference, potential.config.r_max, "float64")
    value, slope = jax.jit(jax.value_and_grad(partial(batch_loss, potential, train.loss)))(params, whole)
    assert 4 * total == pytest.approx(11 * float(value), rel=1e-6)
    for new, old, g in zip(*map(jax.tree.leaves, (moved.params, params, slope)), strict=True):
        np.testing.assert_allclose(np.asarray(new - old) / -rate, 11 / 4 * np.asarray(g), rtol=2e-4, atol=2e-5)


def test_a_plateau_lowers_the_rate() -> None:
    """After `patience` epochs without a better loss the factor falls, and again only after as many more."""
    config = TrainConfig(schedule={"form": "plateau", "patience": 2, "factor": 0.5})
    params = {"readout": {"bias": jnp.zeros(())}}
    state = initial(params, optimizer.make_optimizer(config, params, 1))
    factors = []
    for epoch, loss in enumerate([1.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.4, 0.5], start=1):
        state = state._replace(epoch=np.asarray(epoch))
        state = loop._judge(config, state, loss, 1.0)
        factors.append(float(state.rate_factor))
    assert factors == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]
