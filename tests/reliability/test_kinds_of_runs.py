"""Runs from begin to end: inputs that change before a resume (2), texts (5), signals and environments (17)."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest

import gmnn
from gmnn.data.embedded import ethanol
from gmnn.model import folder
from tests.support import processes
from tests.support.counts import record
from tests.support.faults import outcome
from tests.support.kinds import changes, clear, command, content
from tests.support.paths import GOLDEN, ROOT

MODEL = GOLDEN / "v3" / "model"
TRAIN = """
output: {0}/out
data: {{train: {0}/frames.extxyz, n_train: 8, n_valid: 4}}
start: {{model: {0}/model}}
train: {{epochs: 3, batch_size: 4, checkpoint_seconds: 0}}
"""
MOVE = """
output: {0}/out
model: {0}/model
structure: {0}/start.extxyz
steps: {1}
every: 10
trajectory_every: 20
path: reference
dtype: float64
"""


def prepared(home: Path, steps: int = 40) -> Path:
    """A folder with frames, a model and configurations."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copytree(MODEL, home / "model")
    ase.io.write(home / "frames.extxyz", ethanol()[:14])
    ase.io.write(home / "start.extxyz", ethanol()[0])
    (home / "train.yaml").write_text(TRAIN.format(home), encoding="utf-8")
    (home / "md.yaml").write_text(MOVE.format(home, steps), encoding="utf-8")
    return home


def other_model(home: Path) -> None:
    potential = gmnn.load(home / "model")
    params = {
        **potential.params,
        "scale_shift": {k: np.asarray(v) + 0.01 for k, v in potential.params["scale_shift"].items()},
    }
    shutil.rmtree(home / "model")
    folder.save(home / "model", potential.with_params(params), 1, {})


def edited(name: str, change: Callable[[list], None]) -> Callable[[Path], None]:
    def act(home: Path) -> None:
        frames = ase.io.read(home / name, ":")
        change(frames)
        ase.io.write(home / name, frames)

    return act


def setting(name: str, old: str, new: str) -> Callable[[Path], None]:
    def act(home: Path) -> None:
        text = (home / name).read_text(encoding="utf-8")
        assert old in text
        (home / name).write_text(text.replace(old, new), encoding="utf-8")

    return act


CHANGED = {  # what is changed between stop and resume, and what the refusal names
    ("train", "the potential to start from"): (other_model, "start.model"),
    ("train", "a label"): (edited("frames.extxyz", lambda f: f[3].calc.results.update(energy=-4000.0)), "data files"),
    ("train", "the order"): (edited("frames.extxyz", lambda f: f.reverse()), "data files"),
    ("train", "a frame less"): (edited("frames.extxyz", lambda f: f.pop()), "data files"),
    ("train", "the rate"): (setting("train.yaml", "epochs: 3", "epochs: 3, learning_rate: 0.001"), "learning_rate"),
    ("md", "the potential"): (other_model, "potential"),
    ("md", "a position"): (edited("start.extxyz", lambda f: f[0].translate(0.1)), "positions"),
    ("md", "a mass"): (edited("start.extxyz", lambda f: f[0].set_masses(f[0].get_masses() * 2)), "masses"),
    ("md", "the step"): (setting("md.yaml", "every: 10", "every: 10\ntimestep_fs: 0.3"), "timestep"),
}


@pytest.fixture(scope="module")
def halves(once_for_all: Callable[..., Path]) -> Callable[[str], Path]:
    """Runs that were killed in their middle, made once for all workers."""

    def of(kind: str) -> Path:
        def build(place: Path) -> None:
            from gmnn.__main__ import main

            whole, half = prepared(place / "whole"), prepared(place / "half")
            code, disk = outcome(lambda: main([kind, str(whole / f"{kind}.yaml")]), whole / "out", "kill", 1 << 30)
            assert code == 0
            code, _ = outcome(
                lambda: main([kind, str(half / f"{kind}.yaml")]), half / "out", "kill", int(0.7 * disk.count)
            )
            assert code is None

        return once_for_all(f"halves-{kind}", build)

    return of


def moved(source: Path, home: Path) -> Path:
    """A copy of a run at another place; it depends on contents alone, but its configuration names paths."""
    shutil.copytree(source, home)
    return home


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["train", "md"])
def test_kind_2_what_changed_is_named_and_nothing_is_written(
    kind: str, halves: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A resume after an input changed is refused, names it, and leaves the folder as it was."""
    half = halves(kind) / "half"
    backup = moved(half, tmp_path / "backup")
    for (which, what), (change, names) in CHANGED.items():
        if which != kind:
            continue
        change(half)
        before = content(half / "out")
        code, _, err = command([kind, half / f"{kind}.yaml", "--resume"], capsys)
        assert code == 2, what
        clear(err.splitlines()[-1], names)
        assert not changes(before, content(half / "out")), what
        for name in ("model", "frames.extxyz", "start.extxyz", "train.yaml", "md.yaml"):
            shutil.rmtree(half / name) if (half / name).is_dir() else (half / name).unlink()
            done = shutil.copytree if (backup / name).is_dir() else shutil.copy
            done(backup / name, half / name)
        record(2)
    assert command([kind, half / f"{kind}.yaml", "--resume"], capsys)[0] == 0
    whole = halves(kind) / "whole"
    if kind == "md":
        for name in ("log.csv", "trajectory.extxyz"):
            assert (half / "out" / name).read_bytes() == (whole / "out" / name).read_bytes()
    else:
        digests = [folder.tree_digest(gmnn.load(place / "out").params) for place in (half, whole)]
        assert digests[0] == digests[1]
    record(2)


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL]


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: signal.Signals(number).name)
def test_kind_17_signals(number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Dynamics that a signal ends at any time goes on with --resume to the files of a run that was left alone."""
    whole, half = prepared(tmp_path / "whole", 400), prepared(tmp_path / "half", 400)
    assert command(["md", whole / "md.yaml"], capsys)[0] == 0
    child = subprocess.Popen(
        [sys.executable, "-m", "gmnn", "md", str(half / "md.yaml")], cwd=ROOT, env=processes.environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    end = time.monotonic() + processes.TIMEOUT
    while time.monotonic() < end and child.poll() is None and not (half / "out" / "state.npz").exists():
        time.sleep(0.02)
    time.sleep(0.05 * (number % 4))
    child.send_signal(number)
    assert child.stderr is not None
    said = child.communicate(timeout=processes.TIMEOUT)[1].decode()
    assert "Traceback" not in said
    assert command(["md", half / "md.yaml", "--resume"], capsys)[0] == 0
    for name in ("log.csv", "trajectory.extxyz"):
        assert (half / "out" / name).read_bytes() == (whole / "out" / name).read_bytes()
    record(17)


ALL = """
import os, sys, tempfile
from gmnn.__main__ import main
codes = [main(["eval", MODEL, "frames.extxyz", "--out", "e"]), main(["select", MODEL, "frames.extxyz", "-n", "2"]),
         main(["export", MODEL, "x"]), main(["md", "md.yaml"]), main(["schema"]), main(["nonsense"]),
         main(["eval", "a", "b"]),
         main(["scan", "--calculator", "ase.calculators.lj:LennardJones", "--structure", "start.extxyz",
               "--frames", "3", "--reference", "none", "--out", "s"]),
         main(["train", "train.yaml", "output=o2"])]
print("codes", codes)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONWARNDEFAULTENCODING": "1", "PYTHONWARNINGS": "error::EncodingWarning:gmnn"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"HOME": "", "XDG_CACHE_HOME": "relative", "TMPDIR": "/nowhere"},
        {"CXX": "no-such-compiler", "MPLCONFIGDIR": "/dev/null/x", "TERM": "", "COLUMNS": "x"},
        {"LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "3", "OMP_NUM_THREADS": "0"},
    ],
    ids=lambda variables: sorted(variables)[0],
)
def test_kind_5_all_commands_in_other_environments(variables: dict[str, str], tmp_path: Path) -> None:
    """Exit codes and files are those of any environment; no text is read or written in the locale's encoding."""
    home = prepared(tmp_path / "ä" if "LC_ALL" not in variables else tmp_path / "a")
    done = processes.python("-c", f"MODEL = {str(MODEL)!r}\n{ALL}", cwd=home, **variables)
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    assert "codes [0, 0, 0, 0, 0, 2, 2, " in done.stdout, (done.stdout[-500:], done.stderr[-2000:])
    assert done.stdout.rstrip().endswith(", 0]")
    for name in ("e/evaluation.json", "x/export.json", "s/scan.json", "o2/split.json", "out/run.json"):
        if (home / name).exists():
            json.loads((home / name).read_text(encoding="utf-8"))
    assert not (home / "~").exists()
    assert not (home / "relative" / "gmnn").exists()  # matplotlib takes a relative cache, we do not
    record(5)
