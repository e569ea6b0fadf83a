"""Training: it learns, it can be stopped anywhere, and it ends with the same parameters as if it had not been."""

import csv
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

import gmnn
from gmnn import evaluation, folders
from gmnn.commands import train
from gmnn.config.reading import Config
from gmnn.data import batches, split
from gmnn.model import folder
from gmnn.model.potential import Potential
from gmnn.training import optimizer, state
from tests.support import processes
from tests.support.paths import ROOT

CONFIG = """
output: {output}
seed: 3
data: {{train: ethanol, n_train: 40, n_valid: 10}}
model: {{n_radial: 2, n_basis: 6, hidden: [16], r_max: 4.0}}
train: {{epochs: 40, batch_size: 8, checkpoint_seconds: 0}}
"""


def configured(tmp_path: Path, output: str) -> str:
    """A configuration that trains into the folder `output`."""
    file = tmp_path / f"{output}.yaml"
    file.write_text(CONFIG.format(output=tmp_path / output), encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def finished(once_for_all: Callable[..., Path]) -> Path:
    """A tiny run that was left alone, in a process of its own."""

    def build(path: Path) -> None:
        done = processes.python(ROOT / "train.py", configured(path, "straight"))
        assert done.returncode == 0, done.stderr
        assert "model folder" in done.stdout
        assert "ZBL strengths" in done.stdout

    return once_for_all("trained", build) / "straight"


def final_state(path: Path) -> str:
    return json.loads((path / "state" / "latest.json").read_text(encoding="utf-8"))["sha256"]


def parameters(path: Path) -> str:
    return json.loads((path / "config.json").read_text(encoding="utf-8"))["parameters"]["sha256"]


def test_learns_and_reports(finished: Path) -> None:
    """Errors fall well below those of predicting the mean; metrics.json has the names scripts rely on."""
    metrics = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    data = split(Config.model_validate(_config(finished)))
    spread = 1e3 * np.mean(np.abs(np.concatenate(data.test.forces)))
    test = metrics["test"]
    assert test["forces_mae_meV_per_A"] < 0.5 * spread
    assert test["energy_mae_meV"] == pytest.approx(9 * test["energy_mae_meV_per_atom"])
    assert test["n_frames"] == 1150
    assert metrics["valid"]["grade_largest"] == pytest.approx(1.0, rel=1e-3)
    assert metrics["valid"]["share_above_1"] == 0.0
    assert 0.0 < test["share_above_1"] < 0.2
    assert metrics["wall_time_s"] > 0
    assert metrics["compile_time_s"] > 0
    assert {row["pair"] for row in metrics["repulsion"]} == {"H-H", "H-C", "H-O", "C-C", "C-O", "O-O"}
    assert all(row["strength"] > 0.5 for row in metrics["repulsion"])
    ranges = json.loads((finished / "config.json").read_text(encoding="utf-8"))["data"]["train"]["ranges"]
    forces = [np.linalg.norm(frame, axis=1).max() for frame in data.train.forces]
    assert (ranges["n_forces"], ranges["largest_force_eV_per_A"]) == (40, pytest.approx(max(forces)))
    for file in ("learning_curve.png", "parity_test.png", "history.csv", "split.json"):
        assert (finished / file).stat().st_size > 0
    rows = list(csv.DictReader((finished / "history.csv").open(encoding="utf-8")))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 41))
    assert float(rows[-1]["learning_rate"]) == pytest.approx(0.0, abs=1e-12)


def _config(path: Path) -> dict:
    return json.loads((path / "split.json").read_text(encoding="utf-8"))["config"] | {"output": str(path)}


def test_what_was_validated_is_what_is_saved(finished: Path) -> None:
    """The loaded potential has the validation error of the best epoch in the history: averaged parameters, saved."""
    data = split(Config.model_validate(_config(finished)))
    found = evaluation.compare(gmnn.load(finished), data.valid).metrics()
    rows = list(csv.DictReader((finished / "history.csv").open(encoding="utf-8")))
    best = min(rows, key=lambda row: float(row["valid_loss"]))
    assert best["best_epoch"] == best["epoch"]
    assert found["forces_mae_meV_per_A"] == pytest.approx(float(best["valid_forces_mae_meV_per_A"]), rel=1e-4)
    assert found["energy_mae_meV"] == pytest.approx(float(best["valid_energy_mae_meV"]), rel=1e-3)


@pytest.mark.slow
def test_head_room_is_the_distance_to_the_floor(finished: Path) -> None:
    """Reported floor and lowest energy, against the atomic energies of `predict` less the repulsion's share."""
    data = split(Config.model_validate(_config(finished)))
    potential = gmnn.load(finished)
    rooms = evaluation.head_room(potential, data.train)
    silent = jax.tree.map(np.asarray, potential.params)
    silent["repulsion"] = {"strength": np.full(6, -1e9, np.float32)}  # down to the floor of the strength
    frames, _ = batches.make_batch(data.train, potential.reference, potential.config.r_max)
    energies = np.asarray(jax.vmap(potential.predict, (None, 0))(potential.params, frames).energies)
    for symbol, z in (("H", 1), ("C", 6), ("O", 8)):
        room = rooms[symbol]
        assert room["head_room_eV"] == pytest.approx(room["lowest_eV"] - room["floor_eV"], rel=1e-5)
        assert room["fraction_left"] > 0
        lowest = energies[np.asarray(frames.numbers) == z].min()  # the repulsion can only add to it
        assert lowest >= room["lowest_eV"] - 1e-5
        assert lowest < room["lowest_eV"] + 2.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sig", "goals"),
    [
        (signal.SIGINT, (8,)),
        (signal.SIGINT, (0, 8, 21)),
        (signal.SIGKILL, (0, 8, 21)),
    ],
)
def test_stopped_at_random_and_resumed(
    tmp_path: Path, finished: Path, sig: signal.Signals, goals: tuple[int, ...]
) -> None:
    """Killed or interrupted at random moments after these epochs, then resumed: every number of the state is equal."""
    seed = random.Random(int(sig))
    arguments = [str(ROOT / "train.py"), configured(tmp_path, "stopped"), "--resume"]
    history = tmp_path / "stopped" / "history.csv"
    for goal in goals:
        process = subprocess.Popen(
            [sys.executable, *arguments], env=processes.environment(), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(6000):
            if process.poll() is not None or (
                history.exists() and len(history.read_text(encoding="utf-8").splitlines()) > goal
            ):
                break
            time.sleep(0.01)
        time.sleep(seed.uniform(0, 0.2))
        process.send_signal(sig)
        code = process.wait()
        assert code == -sig or (sig == signal.SIGINT and code in (130, 0)), code
    done = processes.python(*arguments)
    assert done.returncode == 0, done.stderr
    assert final_state_but_clocks(tmp_path / "stopped") == final_state_but_clocks(finished)
    assert parameters(tmp_path / "stopped") == parameters(finished)
    rows = list(csv.DictReader(history.open(encoding="utf-8")))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 41)), "no epoch is missing or stands twice"


def final_state_but_clocks(path: Path) -> str:
    """Digest of the final state without its two wall times, which differ between runs."""
    config = Config.model_validate(_config(path))
    record = json.loads((path / "split.json").read_text(encoding="utf-8"))
    potential = Potential(config.model, folder.reference_from_dict(record["reference"]))
    start = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), potential.init(config.seed))
    with jax.enable_x64(False):
        template = state.initial(start, optimizer.make_optimizer(config.train, start, 5))
        template = jax.tree.map(lambda leaf: np.zeros(np.shape(leaf), leaf.dtype), template)
    found = folder.load_state(path, template)
    return folder.tree_digest(found._replace(seconds=0.0, compile_seconds=0.0))


def test_second_run_in_one_folder(tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is overwritten: a finished folder is refused without --resume, and with another configuration."""
    shutil.copytree(finished, tmp_path / "straight")
    config = configured(tmp_path, "straight")
    assert train.main([config]) == 2
    assert "add --resume" in capsys.readouterr().err
    assert train.main([config, "--resume", "train.batch_size=4"]) == 2
    assert "train.batch_size" in capsys.readouterr().err
    with folders.exclusive(tmp_path / "straight"):
        third = processes.python(ROOT / "train.py", config, "--resume")
    assert third.returncode == 2
    assert "another run is writing" in third.stderr
    before = parameters(tmp_path / "straight")
    assert train.main([config, "--resume"]) == 0
    assert parameters(tmp_path / "straight") == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["train.epoch=3"], "did you mean epochs"),
        (["data.train=nowhere.extxyz"], "nowhere.extxyz does not exist"),
        (["data.n_train=2000"], "not enough"),
        pytest.param(
            ["train.learning_rate=1e9", "train.schedule.warmup_epochs=0"], "no longer finite", marks=pytest.mark.slow
        ),
    ],
)
def test_mistakes_exit_with_two_and_one_line(
    tmp_path: Path, more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([configured(tmp_path, "bad"), *more]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("train: ")]
    assert len(lines) == 1
    assert words in lines[0]


def test_a_mistake_ends_the_process_without_a_traceback(tmp_path: Path) -> None:
    done = processes.python(ROOT / "train.py", configured(tmp_path, "bad"), "train.epoch=3")
    assert done.returncode == 2
    assert done.stderr.startswith("train: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.slow
def test_patience_stops_early(tmp_path: Path) -> None:
    """With a learning rate of almost zero nothing improves for long, and the run ends before its epochs do."""
    still = ["train.patience=2", "train.learning_rate=1e-12", "train.averaging.form=none"]
    assert train.main([configured(tmp_path, "patient"), *still]) == 0
    assert json.loads((tmp_path / "patient" / "metrics.json").read_text(encoding="utf-8"))["epochs"] < 40
