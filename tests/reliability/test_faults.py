"""Killed in the middle of every write, full disks, damaged files: the right result in the end, or one clear sentence.

A small sample here; `python benchmarks/reliability.py faults` injects many (GMNN_FAULTS of every kind).
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import ase.io
import jax
import numpy as np
import pytest
from ase import Atoms

import gmnn
from gmnn.__main__ import main
from gmnn.data.embedded import ethanol
from gmnn.errors import UserError
from gmnn.model import folder
from tests.support.counts import record
from tests.support.faults import DAMAGES, damaged, outcome
from tests.support.paths import GOLDEN

SAMPLES = int(os.environ.get("GMNN_FAULTS", "1"))  # of every kind of fault in every kind of job
FEW = SAMPLES == 1
MODEL = GOLDEN / "v3" / "model"
TRAIN = """
output: {0}/out
data: {{train: {0}/frames.extxyz, n_train: 8, n_valid: 4}}
model: {{n_radial: 1, n_basis: 3, hidden: [4], r_max: 3.0}}
train: {{epochs: 3, batch_size: 4, checkpoint_seconds: 0}}
"""
DYNAMICS = """
output: {0}/out
model: {1}
structure: {0}/start.extxyz
steps: 40
every: 10
trajectory_every: 20
timestep_fs: 0.5
ensemble: langevin
temperature_K: 300
path: reference
dtype: float64
"""


def sampled(total: int, seed: int) -> list[int]:
    """Which of `total` faults are injected."""
    return sorted(np.random.default_rng(seed).permutation(total)[:SAMPLES].tolist())


class Job:
    """A command in a folder of its own, what it leaves that is to be the same, and how it goes on after a fault."""

    def __init__(self, kind: str, home: Path) -> None:
        self.kind, self.home, self.out = kind, home, home / "out"
        home.mkdir(parents=True, exist_ok=True)
        frames = ethanol()[:14]
        if kind == "train":
            ase.io.write(home / "frames.extxyz", frames)
            (home / "job.yaml").write_text(TRAIN.format(home), encoding="utf-8")
            self.start = ["train", str(home / "job.yaml")]
            self.again = [*self.start, "--resume"]
        elif kind == "md":
            ase.io.write(home / "start.extxyz", Atoms(frames[0].numbers, frames[0].positions))
            (home / "job.yaml").write_text(DYNAMICS.format(home, MODEL), encoding="utf-8")
            self.start = ["md", str(home / "job.yaml")]
            self.again = [*self.start, "--resume"]
        elif kind == "scan":
            self.start = self.again = ["scan", str(MODEL), "--out", str(self.out), "--frames", "8"]
        elif kind == "eval":
            ase.io.write(home / "frames.extxyz", frames)
            self.start = self.again = ["eval", str(MODEL), str(home / "frames.extxyz"), "--out", str(self.out)]
        elif kind == "select":
            ase.io.write(home / "frames.extxyz", frames)
            command = ["select", str(MODEL), str(home / "frames.extxyz"), "-n", "3"]
            self.start = self.again = [*command, "--out", str(self.out / "some.extxyz")]
        elif kind == "distort":
            ase.io.write(home / "frames.extxyz", frames)
            (home / "job.yaml").write_text(TRAIN.format(home), encoding="utf-8")
            command = ["distort", str(home / "job.yaml"), "--calculator", "ase.calculators.lj:LennardJones", "-n", "3"]
            self.start = self.again = [*command, "--out", str(self.out / "some.extxyz")]
        elif kind == "certify":
            self.start = self.again = ["certify", str(MODEL), "--n", "0", "--json", str(self.out / "certificate.json")]
        elif kind == "import-apax":
            self.start = self.again = ["import-apax", str(GOLDEN / "apax" / "ethanol"), str(self.out)]
        else:
            self.start = self.again = ["export", str(MODEL), str(self.out)]

    def clean(self) -> None:
        """Do what the sentence of a failed command asks for that goes into new files and folders alone."""
        if self.kind in ("select", "distort", "import-apax"):
            shutil.rmtree(self.out, ignore_errors=True)

    def result(self) -> dict[str, object]:
        """What does not depend on clocks, of a finished command."""
        if self.kind == "train":
            about = json.loads((self.out / "config.json").read_text(encoding="utf-8"))
            rows = [
                line.rsplit(",", 1)[0] for line in (self.out / "history.csv").read_text(encoding="utf-8").splitlines()
            ]
            digest = folder.tree_digest(gmnn.load(self.out).params)
            return {"finished": about["finished"], "digest": digest, "history": rows}
        names = {
            "md": ["trajectory.extxyz", "log.csv"], "scan": ["scan.csv"], "select": ["some.extxyz"],
            "distort": ["some.extxyz"],
        }.get(self.kind, [])  # fmt: skip
        found: dict[str, object] = {name: (self.out / name).read_bytes() for name in names}
        if self.kind == "eval":
            found["errors"] = json.loads((self.out / "evaluation.json").read_text(encoding="utf-8"))[
                "forces_mae_meV_per_A"
            ]
        if self.kind == "certify":
            found["radii"] = json.loads((self.out / "certificate.json").read_text(encoding="utf-8"))["monotone_radius"]
        if self.kind == "import-apax":
            found["digest"] = folder.tree_digest(gmnn.load(self.out).params)
        if self.kind == "export":  # the bytes hold names that count up in a process
            program = jax.export.deserialize(bytearray((self.out / "potential.bin").read_bytes()))
            neighbors, shifts = np.array([[1], [0]], "int32"), np.zeros((2, 1, 3), "int32")
            place, cell = np.array([[0, 0, 0], [0, 0, 1.0]], "float32"), np.zeros((3, 3), "float32")
            found["energy"] = float(program.call(place, np.array([8, 1], "int32"), cell, neighbors, shifts)[0])
        return found

    def check_whole(self) -> None:
        """Whatever lies there under its final name is complete."""
        for file in self.out.rglob("*.json"):
            if not any(part.startswith(".") or "orbax" in part for part in file.relative_to(self.out).parts):
                json.loads(file.read_text(encoding="utf-8"))
        if self.kind in ("train", "import-apax") and (self.out / "config.json").exists():
            gmnn.load(self.out)


KINDS = ("train", "md", "scan", "eval", "export", "select", "distort", "certify", "import-apax")
FAULTS = [(fault, kind) for fault in ("kill", "full", "denied") for kind in KINDS]
QUICK = [("kill", "md"), ("full", "md"), ("kill", "select"), ("denied", "distort"), ("full", "export")]
SLOW = [one for one in FAULTS if one not in QUICK]
FAULTS = [pytest.param(*one, marks=pytest.mark.slow) if one in SLOW else one for one in FAULTS]
STATES = [("flipped", "train"), ("cut", "md")] if FEW else [(kind, job) for kind in DAMAGES for job in ("train", "md")]
STATES = [pytest.param(*one, marks=pytest.mark.slow) if one[1] == "train" else one for one in STATES]


@pytest.fixture(scope="module")
def undisturbed(once_for_all: Callable[..., Path]) -> Callable[[str], tuple[dict, int]]:
    """Result and number of changes of files of a job that was left alone, made once for all workers."""

    def of(kind: str) -> tuple[dict, int]:
        def build(place: Path) -> None:
            job = Job(kind, place / "job")
            code, disk = outcome(lambda: main(job.start), job.out, "kill", 1 << 30)
            assert code in (0, 1), kind
            (place / "count").write_text(str(disk.count), encoding="utf-8")

        place = once_for_all(f"undisturbed-{kind}", build)
        return Job(kind, place / "job").result(), int((place / "count").read_text(encoding="utf-8"))

    return cache(of)


@pytest.mark.parametrize(("fault", "kind"), FAULTS)
def test_a_disk_that_fails(
    fault: str, kind: str, tmp_path: Path, undisturbed: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed, or without room, or without permission, at any change of a file: nothing torn, the same in the end."""
    expected, total = undisturbed(kind)
    assert total > 2
    for k in sampled(total, hash_of(fault + kind)):
        job = Job(kind, tmp_path / f"at{k}")
        code, disk = outcome(lambda job=job: main(job.start), job.out, fault, k + 1)
        said = capsys.readouterr().err
        assert disk.struck, (kind, fault, k)
        if fault == "kill":
            assert code is None, (kind, k)
        else:
            assert code == 2 or job.result() == expected, (kind, fault, k)  # all was there, a scrap could not go
            assert "Traceback" not in said
            assert code != 2 or 0 < len(said.strip().splitlines()[-1]) < 500
        job.check_whole()
        if fault != "kill" or (code is None and job.out.exists()):
            job.clean()
        again = main(job.again)
        assert again in (0, 1), (kind, fault, k, capsys.readouterr().err)
        assert job.result() == expected, (kind, fault, k)
        shutil.rmtree(job.home)
        record(17)


def hash_of(text: str) -> int:
    """The same in every process."""
    return sum(map(ord, text))


@pytest.mark.parametrize("kind", [DAMAGES[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in DAMAGES[1:])])
def test_damaged_model_folders(kind: str, tmp_path: Path) -> None:
    """Every file of a model folder, cut, changed or gone: a sentence, or exactly the energies it had."""
    atoms = ethanol()[3]
    atoms.calc = gmnn.Calculator(MODEL)
    expected = atoms.get_potential_energy()
    files = sorted(file.relative_to(MODEL) for file in MODEL.rglob("*") if file.is_file())
    repeats = 1 if kind in ("empty", "gone") or FEW else 3
    files, noticed = files[:: 3 if FEW else 1], 0
    for name in [name for name in files for _ in range(repeats)]:
        rng = np.random.default_rng(hash_of(f"{kind}{name}{noticed}"))
        copy = tmp_path / "model"
        shutil.copytree(MODEL, copy)
        _damage(copy / name, kind, rng)
        try:
            atoms.calc = gmnn.Calculator(copy)
            assert atoms.get_potential_energy() == expected, (kind, name)
        except UserError:
            noticed += 1
        shutil.rmtree(copy)
        record(17)
    assert noticed >= 1


@pytest.mark.parametrize(("kind", "job_kind"), STATES)
def test_damaged_states(
    kind: str, job_kind: str, tmp_path: Path, undisturbed: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an interrupted run is resumed from, damaged: refused in a sentence, or the same result in the end."""
    expected, total = undisturbed(job_kind)
    half = Job(job_kind, tmp_path / "half")
    code, _ = outcome(lambda: main(half.start), half.out, "kill", int(0.7 * total))
    assert code is None
    reports = {"history.csv", "metrics.json", ".lock"}  # history: a line that is gone is told; the rest is not read
    files = sorted(f.relative_to(half.home) for f in half.out.rglob("*") if f.is_file() and f.name not in reports)
    for k in sampled(len(files), hash_of(kind + job_kind)):
        job = Job(job_kind, tmp_path / "copy")
        shutil.rmtree(job.out, ignore_errors=True)
        shutil.copytree(half.out, job.out)
        _damage(job.home / files[k], kind, np.random.default_rng(k))
        capsys.readouterr()
        code = main(job.again)
        said = capsys.readouterr().err
        assert code in (0, 2), (kind, files[k])
        assert "Traceback" not in said
        if code == 0:
            assert job.result() == expected, (kind, files[k])
        else:
            assert said.strip(), (kind, files[k])
        record(17)


def _damage(file: Path, kind: str, rng: np.random.Generator) -> None:
    left = damaged(file.read_bytes(), kind, rng)
    if left is None:
        file.unlink()
    else:
        file.write_bytes(left)


@pytest.mark.slow
def test_a_history_with_a_hole_is_told(
    tmp_path: Path, undisturbed: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines of history.csv that are gone do not stop a resumed run, but are named."""
    _, total = undisturbed("train")
    job = Job("train", tmp_path / "job")
    outcome(lambda: main(job.start), job.out, "kill", int(0.8 * total))
    lines = (job.out / "history.csv").read_text(encoding="utf-8").splitlines()
    (job.out / "history.csv").write_text("\n".join([lines[0], *lines[2:]]) + "\n", encoding="utf-8")
    with pytest.warns(UserWarning, match=r"history.csv .* epochs? 1"):
        assert main(job.again) == 0


def test_clocks_that_go_backwards(tmp_path: Path, undisturbed: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same result, and no negative times, when every look at the clock is a minute before the last one."""
    kinds = ("md",) if FEW else ("train", "md")
    expected = {kind: undisturbed(kind)[0] for kind in kinds}  # by clocks that go forwards
    clock = iter(range(10**9, 0, -60))
    for name in ("time", "perf_counter", "monotonic"):
        monkeypatch.setattr(time, name, lambda: float(next(clock)))
    for kind in kinds:
        job = Job(kind, tmp_path / kind)
        assert main(job.start) == 0
        assert job.result() == expected[kind]
        record(17)


def test_a_folder_from_a_stranger_runs_nothing(tmp_path: Path) -> None:
    """Pickles, archives and links beside, instead of and inside the files of a model are not executed or followed."""
    import pickle
    import sys

    mark = tmp_path / "executed"

    class Bomb:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(mark),))

    bomb = pickle.dumps(Bomb())
    found: list[str] = []
    armed = True

    def watch(event: str, _: tuple) -> None:
        if armed and event in ("pickle.find_class", "os.system", "subprocess.Popen", "marshal.loads"):
            found.append(event)

    atoms = ethanol()[0]
    names = [f.relative_to(MODEL) for f in sorted(MODEL.rglob("*")) if f.is_file()]
    atoms.calc = gmnn.Calculator(MODEL)  # all imports are done
    expected = atoms.get_potential_energy()
    sys.addaudithook(watch)
    for name in [Path("params.pkl"), Path("config.pickle"), *names][:: 4 if FEW else 1]:
        copy = tmp_path / "hostile"
        shutil.copytree(MODEL, copy)
        (copy / name).write_bytes(bomb)
        try:
            atoms.calc = gmnn.Calculator(copy)
            assert atoms.get_potential_energy() == expected
        except UserError:
            pass
        shutil.rmtree(copy)
        record(4)
    shutil.copytree(MODEL, copy)
    shutil.move(copy / "params", tmp_path / "elsewhere")
    (copy / "params").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="outside the folder"):
        gmnn.load(copy)
    armed = False
    assert found == []
    assert not mark.exists()
