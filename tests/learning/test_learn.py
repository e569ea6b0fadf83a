"""Learning from a teacher: the frames it starts from, what counts as held, whole runs, killed ones, bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import read, write
from scipy.spatial.distance import pdist

from gmnn import load
from gmnn.commands import learn as command
from gmnn.config.learn import LearnConfig
from gmnn.config.reading import validated
from gmnn.errors import UserError
from gmnn.learning import report
from gmnn.learning.exploring import Outcome
from gmnn.learning.rounds import Round, diverse
from gmnn.learning.scanned import scan
from gmnn.learning.starts import WIDTH, first_frames, read_starts, widened
from gmnn.md.bonds import Bonds
from tests.support import processes
from tests.support.paths import ROOT


def settings(place: Path, **more: Any) -> dict[str, Any]:
    """A small learning of a copper cluster by EMT."""
    file = place / "cluster.xyz"
    if not file.exists():
        side = 2.4
        write(file, Atoms("Cu4", side / np.sqrt(8) * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])))
    small = {"hidden": [16, 16], "n_radial": 3, "n_basis": 8, "r_max": 4.0}
    return {
        "output": str(place / "out"), "structures": str(file), "teacher": "emt", "temperatures_K": [200, 400],
        "hold_ps": 0.5, "max_labels": 60, "replicas": 2, "model": small, "grade": 3.0, "timestep_fs": 2.0,
        "train": {"epochs": 60, "batch_size": 4}, **more,
    }  # fmt: skip


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of rounds that take a second."""
    monkeypatch.setattr("gmnn.learning.run.STEPS", 120)
    monkeypatch.setattr("gmnn.learning.run.FURTHER", 60)
    monkeypatch.setattr("gmnn.learning.run.FULL", 150)
    monkeypatch.setattr("gmnn.learning.run.VERIFY", 2)


def test_narrow_cells_are_repeated(tmp_path: Path) -> None:
    """Until opposite faces of a skewed cell are 9 Å apart; a molecule and a wide cell stay."""
    wide = widened(bulk("NaCl", "rocksalt", a=5.64))
    heights = wide.get_volume() / [np.linalg.norm(np.cross(*np.delete(wide.cell.array, k, 0))) for k in range(3)]
    assert min(heights) >= WIDTH
    assert len(widened(bulk("Cu", cubic=True).repeat(3))) == 108
    assert len(widened(molecule("CH3CH2OH"))) == 9
    file = tmp_path / "a.xyz"
    write(file, bulk("Cu", cubic=True))
    starts = read_starts([str(file)], (-0.04, 0.0, 0.04))
    volumes = [start.atoms.get_volume() / len(start.atoms) for start in starts]
    np.testing.assert_allclose(volumes, 3.61**3 / 4 * np.array([0.96, 1.0, 1.04]) ** 3)
    scaled = [start.atoms.get_scaled_positions() for start in starts]
    np.testing.assert_allclose(scaled[0], scaled[2], atol=1e-12)


def test_every_structure_is_scanned_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its least strained cell, also of files whose names begin alike up to a space."""
    for name, a in (("a cell.xyz", 3.6), ("a wide cell.xyz", 3.7)):
        write(tmp_path / name, bulk("Cu", cubic=True, a=a))
    files = [str(tmp_path / name) for name in ("a cell.xyz", "a wide cell.xyz")]
    scanned: list[float] = []

    def pretend(atoms: Atoms, calculator: Any) -> Any:
        scanned.append(atoms.cell.lengths()[0] / 3)
        return SimpleNamespace(curves=[SimpleNamespace(passed=True)])

    monkeypatch.setattr("gmnn.learning.scanned.Calculator", lambda *_, **__: None)
    monkeypatch.setattr("gmnn.learning.scanned.scan_bonds", pretend)
    assert scan(tmp_path, read_starts(files, (-0.04, 0.0, 0.04)))["curves"] == 2
    np.testing.assert_allclose(sorted(scanned), [3.6, 3.7])


def test_first_frames_are_those_of_the_seed(tmp_path: Path) -> None:
    file = tmp_path / "a.xyz"
    write(file, molecule("CH3CH2OH"))
    starts = read_starts([str(file)], (0.0,))
    one, same, other = (first_frames(starts, seed) for seed in (1, 1, 2))
    for (_, a), (_, b), (_, c) in zip(one, same, other, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        assert np.abs(a.positions - c.positions).max() > 1e-3
        assert pdist(a.positions).min() > 0.5


def test_a_lost_bond_and_fused_atoms_are_seen() -> None:
    """Ethanol has eight bonds; one that is 0.6 Å longer is lost, 0.4 Å is not; half a covalent sum is fused."""
    atoms = molecule("CH3CH2OH")
    known = Bonds(atoms)
    assert len(known.i) == 8
    for stretch, lost in ((0.4, 0), (0.6, 1)):
        moved = atoms.copy()
        oh = next((int(i), int(j)) for i, j in zip(known.i, known.j, strict=True)
                  if {moved.numbers[i], moved.numbers[j]} == {1, 8})  # fmt: skip
        heavy, light = sorted(oh, key=lambda k: -moved.numbers[k])
        moved.set_distance(heavy, light, moved.get_distance(heavy, light) + stretch, fix=0)
        assert known.lost(moved.positions) == lost
        assert not known.fused(moved.positions, moved.cell.array)
    close = atoms.copy()
    close.set_distance(heavy, light, 0.4, fix=0)
    assert known.fused(close.positions, close.cell.array)
    crystal = bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat(2)
    assert len(Bonds(crystal).i) == 0


def test_frames_that_repeat_others_are_not_labelled() -> None:
    """Of ten copies of two directions, two frames are chosen; none of a direction that is known."""
    rows = np.repeat(np.eye(6)[:2], 5, axis=0)
    assert {k // 5 for k in diverse(rows, np.zeros((0, 6)), 8, 0.02)} == {0, 1}
    assert len(diverse(rows, np.zeros((0, 6)), 8, 0.02)) == 2
    assert {k // 5 for k in diverse(rows, np.eye(6)[:1], 1, 0.02)} == {1}
    assert diverse(rows[:0], rows, 5, 0.1) == []


def test_a_round_gives_back_what_was_saved(tmp_path: Path) -> None:
    frames = [molecule("H2O"), bulk("Cu")]
    frames[0].positions += np.pi / 7
    place = Round(tmp_path / "r")
    assert place.read() is None
    place.save({"a": 1}, frames)
    record, again = place.read() or ({}, [])
    assert record == {"a": 1}
    for a, b in zip(frames, again, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(a.cell.array, b.cell.array)
        assert (a.pbc == b.pbc).all()
    place.found.write_text(place.found.read_text(encoding="utf-8").replace('"a": 1', '"a": 2'), encoding="utf-8")
    with pytest.raises(UserError, match="damaged or edited"):
        place.read()


def test_the_sentence_says_what_holds() -> None:
    ends = [Outcome(0, 300.0, 0, "held", 20.0, 0.9), Outcome(0, 1000.0, 0, "lost", 3.0, 2.0)]
    rows = report.conditions([outcome.record() for outcome in ends], ["a.xyz"])
    assert [(row["held"], row["bonds_lost"]) for row in rows] == [(1, 0), (0, 1)]
    summary = {"held": True, "labels": 96, "conditions": rows, "reason": ""}
    assert report.sentence(summary, 20) == "holds 20 ps at up to 1000 K after 96 labels"
    assert "NOT" in report.sentence(summary | {"held": False, "reason": "the budget of labels is spent"}, 20)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"temperatures_K": []}, "temperatures_K"),
        ({"temperatures_K": [300, -5]}, "temperatures_K"),
        ({"strains": [0.5]}, "between -0.3 and 0.3"),
        ({"strains": [0.02]}, "has no periodic cell"),
        ({"teacher": "gfn2-xbt"}, "must be a preset"),
        ({"teacher": "no.such.module:Thing"}, "cannot be imported"),
        ({"structures": "absent.xyz"}, "does not exist"),
        ({"start": "absent.xyz"}, "does not exist"),
        ({"hold_ns": 1}, "did you mean hold_ps"),
        ({"model": {"ensemble": "shallow"}}, "shallow"),
        ({"grade": 0}, "grade"),
        ({"teacher_python": "absent/python"}, "interpreter"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, more: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, no traceback, and no folder that looks like a run."""
    config = tmp_path / "learn.yaml"
    config.write_text(json.dumps(settings(tmp_path, **more)), encoding="utf-8")
    assert command.main([str(config)]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message
    assert not (tmp_path / "out" / "model").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_a_cluster_is_learnt_from_emt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Labels are EMT's, the report and the folder agree, the model loads, and a second run is refused."""
    config = tmp_path / "learn.yaml"
    config.write_text(json.dumps(settings(tmp_path)), encoding="utf-8")
    code = command.main([str(config)])
    text, out = capsys.readouterr().out, tmp_path / "out"
    summary = json.loads((out / "learn.json").read_text(encoding="utf-8"))
    assert code == (0 if summary["held"] else 1)
    assert ("holds 0.5 ps" in text) == summary["held"]
    frames = read(out / "frames.extxyz", ":")
    assert summary["teacher_calls"] == len(frames) + summary["teacher_failures"]
    assert summary["labels"] <= min(60, len(frames))
    for atoms in frames[:5]:
        bare = Atoms(atoms.numbers, atoms.positions)
        bare.calc = EMT()
        np.testing.assert_allclose(atoms.get_forces(), bare.get_forces(), atol=1e-6)
    assert {condition["temperature_K"] for condition in summary["conditions"]} == {200.0, 400.0}
    lines = (out / "learn.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == summary["rounds"] + 1
    assert (out / "learn.png").read_bytes()[:4] == b"\x89PNG"
    assert load(out / "model").grade is not None
    assert summary["scan"]["curves"] == 6
    assert command.main([str(config)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert command.main([str(config), "--resume"]) == code
    again = json.loads((out / "learn.json").read_text(encoding="utf-8"))
    assert again["teacher_calls"] == summary["teacher_calls"]
    assert command.main([str(config), "seed=1", "--resume"]) == 2
    assert "seed" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_the_budget_of_labels_ends_it(tmp_path: Path) -> None:
    """A cluster that flies apart cannot hold: exit code 1, a model and a report all the same."""
    config = tmp_path / "learn.yaml"
    config.write_text(
        json.dumps(settings(tmp_path, max_labels=14, grade=1.01, temperatures_K=[6000])), encoding="utf-8"
    )
    assert command.main([str(config)]) == 1
    summary = json.loads((tmp_path / "out" / "learn.json").read_text(encoding="utf-8"))
    assert summary["labels"] <= 14
    assert not summary["held"]
    assert "labels" in summary["reason"]
    load(tmp_path / "out" / "model")


SCRIPT = """
import sys
from gmnn.learning import run
run.STEPS, run.FURTHER, run.VERIFY, run.FULL = 120, 60, 2, 150
from gmnn.commands.learn import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_killed_learning_goes_on_and_asks_for_no_label_twice(tmp_path: Path) -> None:
    """SIGKILL again and again; the calls of the teacher are counted by the teacher itself."""
    (tmp_path / "counted.py").write_text(
        "from ase.calculators.emt import EMT\n"
        "class Counted(EMT):\n"
        "    def calculate(self, *a, **k):\n"
        f"        open({str(tmp_path / 'calls')!r}, 'a').write('x\\n')\n"
        "        super().calculate(*a, **k)\n",
        encoding="utf-8",
    )
    config = tmp_path / "learn.yaml"
    config.write_text(json.dumps(settings(tmp_path, teacher="counted:Counted")), encoding="utf-8")
    variables = processes.environment() | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    command_line = [sys.executable, "-c", SCRIPT, str(config), "--resume"]
    for seconds in (6, 9, 13, 18):
        with subprocess.Popen(command_line, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
            time.sleep(seconds)
            run.send_signal(signal.SIGKILL)
            assert b"Traceback" not in (run.communicate()[1] or b"")
    done = subprocess.run(command_line, env=variables, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode in (0, 1), done.stderr
    summary = json.loads((tmp_path / "out" / "learn.json").read_text(encoding="utf-8"))
    calls = len((tmp_path / "calls").read_text(encoding="utf-8").splitlines())
    assert summary["teacher_calls"] <= calls <= summary["teacher_calls"] + 4 * 2  # one in flight for each process


def test_plain_values_make_a_configuration(tmp_path: Path) -> None:
    config = validated(LearnConfig, settings(tmp_path, temperatures_K=300, strains=0))
    assert config.temperatures_K == (300.0,)
    assert config.strains == (0.0,)
