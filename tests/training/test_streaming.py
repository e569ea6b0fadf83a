"""Frames that do not fit on the device: sent in portions, they train the same potential. Compilations are counted."""

import csv
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest

from gmnn import training
from gmnn.commands import train as command
from gmnn.config.model import ModelConfig
from gmnn.config.reading import Config
from gmnn.data import Dataset, batches, read_dataset
from gmnn.model.potential import Potential
from gmnn.reference import Reference
from gmnn.training import epochs, optimizer, progress
from gmnn.training.state import initial
from tests.support.plain import PLAIN

ASKED = "/jax/compilation_cache/compile_requests_use_cache"
MODEL = {"n_radial": 2, "n_basis": 4, "hidden": (4,), **PLAIN, "r_max": 4.0}


def mixed(n: int) -> Dataset:
    """Frames of ethanol, whole and in pieces, so that there are two shapes."""
    data = read_dataset("ethanol").take(np.arange(n))
    for k in range(n):
        keep = np.arange((9, 4)[k % 2])
        data.atoms[k], data.forces[k] = data.atoms[k][keep], data.forces[k][keep]
    return data


def start(config: Config, data: Dataset) -> tuple[Potential, list[batches.Bucket]]:
    """An untrained potential and the frames in its shapes."""
    elements = tuple(sorted(data.elements))
    n = len(elements)
    potential = Potential(config.model, Reference(elements, (-1000.0,) * n, (0.5,) * n, (0.1,) * n))
    return potential, batches.make_buckets(data, potential.reference, potential.config.r_max, "float64")


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", ["none", "full"])
def test_portions_train_the_same_potential(ensemble: str) -> None:
    """Three epochs with all frames on the device and with portions of a few steps, the last of them filled up: equal
    losses and parameters to rounding, although a portion is another program than an epoch."""
    model = ModelConfig(**MODEL, ensemble=ensemble, members=2)
    train = {"epochs": 3, "batch_size": 1, "schedule": {"warmup_epochs": 0}}
    config = Config(output="x", data={"train": "ethanol"}, model=model, train=train)
    potential, buckets = start(config, mixed(37))
    assert len(buckets) > 1
    ends = []
    for budget in (None, 25_000.0):
        feed = epochs.BatchStream(config, potential, buckets, budget)
        assert feed.streamed == (budget is not None)
        assert not feed.streamed or 1 < feed.length < feed.n_steps
        assert feed.filled_up == feed.streamed
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), potential.init(0))
        made = optimizer.make_optimizer(config.train, params, feed.n_steps)
        moving = initial(params, made, epochs.members(potential)).moving
        take = jax.jit(partial(epochs.take_steps, config.train, potential, made, 3 * feed.n_steps, feed.filled_up))
        losses = []
        for epoch in range(3):
            moving, loss = epochs.run_epoch(take, feed, epoch, moving, jnp.asarray(1.0))
            losses.append(loss)
        ends.append((moving, losses))
    assert np.max(ends[0][0].step) == 3 * feed.n_steps, "steps that fill a portion up are none"
    for a, b in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_a_portion_holds_the_frames_of_its_steps() -> None:
    """The labels that every step finds in its portion are those of the frames that the order names."""
    config = Config(output="x", data={"train": "ethanol"}, model=ModelConfig(**MODEL), train={"batch_size": 3})
    potential, buckets = start(config, mixed(20))
    kept, sent = (epochs.BatchStream(config, potential, buckets, budget) for budget in (None, 15_000.0))

    def shown(feed: epochs.BatchStream) -> list[tuple[int, list[float], list[bool]]]:
        found = []
        for steps, sets in feed(4):
            for k, frames, real in zip(*map(np.asarray, steps), strict=True):
                if k >= 0:
                    found.append((int(k), np.asarray(sets[k][1].energy)[frames].tolist(), real.tolist()))
        return found

    assert sent.length < sent.n_steps
    assert shown(sent) == shown(kept)


@pytest.mark.slow
def test_a_run_says_that_frames_were_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command with little device memory: the same table of errors; no room for validation is one sentence."""
    file = tmp_path / "run.yaml"
    file.write_text(
        f"output: {tmp_path / 'kept'}\ndata: {{train: ethanol, n_train: 30, n_valid: 5}}\n"
        "model: {n_radial: 2, n_basis: 4, hidden: [4], r_max: 4.0}\ntrain: {epochs: 2}\n",
        encoding="utf-8",
    )
    with jax.enable_x64(False):
        assert command.main([str(file)]) == 0
        kept = capsys.readouterr().out
        assert "held on the device" in kept
        assert command.main([str(file), f"output={tmp_path / 'sent'}", "train.device_memory_MB=0.03"]) == 0
        sent = capsys.readouterr().out
        assert "sent to the device in portions" in sent
        errors = [re.findall(r"^(?:train|valid|test) .*", text, re.M) for text in (kept, sent)]
        assert len(errors[0]) >= 3
        assert errors[0] == errors[1]
        assert command.main([str(file), f"output={tmp_path / 'none'}", "train.device_memory_MB=0.001"]) == 2
    assert re.search(r"validation frames need 0\.00\d+ MB of device memory.*raise the limit", capsys.readouterr().err)


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [0.05, None])
def test_three_programs_and_none_in_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, megabytes: float | None
) -> None:
    """Of frames in several shapes: order, steps and validation are compiled before the first epoch, nothing later."""
    config = Config(
        output=str(tmp_path), data={"train": "ethanol"}, model=ModelConfig(**MODEL),
        train={"epochs": 5, "batch_size": 4, "device_memory_MB": megabytes, "checkpoint_seconds": 1e9},
    )  # fmt: skip
    data = mixed(37)
    potential, buckets = start(config, data)
    asked: list[str] = []
    jax.monitoring.register_event_listener(lambda event, **_: asked.append(event) if event == ASKED else None)
    seen: list[int] = []
    append: Callable[..., Any] = progress.History.append

    def counted(*arguments: Any) -> None:
        seen.append(len(asked))
        append(*arguments)

    monkeypatch.setattr(progress.History, "append", counted)
    outcome = training.optimise(config, potential, buckets, buckets, tmp_path, {})
    assert outcome.streamed == (megabytes is not None)
    assert outcome.programs == 3
    assert seen[0] > 0, "programs are counted at all"
    assert seen[1] == seen[-1], "nothing is compiled from the second epoch on"
    assert len(list(csv.DictReader((tmp_path / "history.csv").open(encoding="utf-8")))) == 5
