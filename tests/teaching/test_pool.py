"""Teachers in processes: what they compute is what a direct call gives; what they do wrong costs one structure."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from gmnn.errors import UserError
from gmnn.teaching import Failure, Label, Pool, Teacher
from gmnn.teaching.answers import judged
from tests.support import odd_teacher, processes
from tests.support.paths import ROOT

ODD = "tests.support.odd_teacher:Odd"


@pytest.fixture(autouse=True)
def _at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where workers find the odd teacher


def copper(n: int) -> list[Atoms]:
    """Rattled copper with odd numbers, periodic and not."""
    frames = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True) if k % 3 else bulk("Cu", cubic=True).repeat((2, 1, 1))
        atoms.rattle(0.05, seed=k)
        atoms.pbc = k % 4 != 1
        frames.append(atoms)
    return frames


def odd(way: int, n: int = 3) -> Atoms:
    atoms = Atoms(f"He{n}", np.random.default_rng(way).normal(size=(n, 3)))
    atoms.positions[0, 0] = 100.0 * way
    return atoms


def left_over(mark: str) -> list[int]:
    """Processes that still have this text in their environment."""
    alive = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            dead = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
            if mark.encode() in (entry / "environ").read_bytes() and not dead:
                alive.append(int(entry.name))
        except OSError:
            continue
    return [pid for pid in alive if pid != os.getpid()]


def gone(mark: str) -> bool:
    """Whether no such process is left after a moment."""
    for _ in range(100):
        if not left_over(mark):
            return True
        time.sleep(0.05)
    return False


def test_two_workers_equal_a_direct_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Energy, forces and stress of EMT, in any order; no process and no file but the log is left."""
    mark = f"gmnn-test-{tmp_path}"
    monkeypatch.setenv("GMNN_TEST_MARK", mark)
    frames = copper(12)
    with Pool(Teacher("emt", processes=2), tmp_path / "log") as pool:
        answers = dict(pool.label(frames))
        assert len(left_over(mark)) >= 2
        assert pool.calls == 12
    assert sorted(answers) == list(range(12))
    for atoms, k in zip(frames, range(12), strict=True):
        label = answers[k]
        assert isinstance(label, Label)
        atoms.calc = EMT()
        assert label.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(label.forces, atoms.get_forces(), atol=1e-10)
        assert (label.stress is not None) == bool(atoms.pbc.any())
        if label.stress is not None:
            np.testing.assert_allclose(label.stress, atoms.get_stress(), atol=1e-10)
        assert 0 < label.seconds < 60
    assert gone(mark)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


WAYS = {
    odd_teacher.RAISES: ("raised", "ValueError: the last line"),
    odd_teacher.HANGS: ("hung", "no answer within 3 s"),
    odd_teacher.HOLDS: ("hung", "no answer within 3 s"),
    odd_teacher.NAN: ("nonsense", "energy is not finite"),
    odd_teacher.SHAPE: ("nonsense", "shape (3, 2)"),
    odd_teacher.LEAVES: ("raised", "SystemExit: I leave"),
    odd_teacher.EXITS: ("died", "exit code 3"),
    odd_teacher.INTERRUPTS: ("raised", "KeyboardInterrupt"),
    odd_teacher.KILLED: ("died", "SIGKILL"),
    odd_teacher.CRASHES: ("died", "SIGSEGV"),
    odd_teacher.ABSURD: ("nonsense", "absurd"),
    odd_teacher.TEXT: ("nonsense", "no numbers"),
    odd_teacher.MEMORY: ("raised", "MemoryError"),
}


@pytest.mark.slow
def test_every_misbehaviour_costs_one_structure(tmp_path: Path) -> None:
    """Between two that misbehave all others are labelled exactly, stdout included; each failure has its kind."""
    frames = []
    for way in WAYS:
        frames += [odd(0), odd(way), odd(odd_teacher.PRINTS)]
    with Pool(Teacher(ODD, processes=2, seconds=3.0), tmp_path / "log") as pool:
        answers = dict(pool.label(frames))
        again = dict(pool.label(frames[:3]))
    assert len(answers) == len(frames)
    for k, atoms in enumerate(frames):
        answer, way = answers[k], round(atoms.positions[0, 0] / 100)
        if way in WAYS:
            kind, words = WAYS[way]
            assert isinstance(answer, Failure), (way, answer)
            assert (answer.kind, words in answer.reason) == (kind, True), (way, answer)
        else:
            assert isinstance(answer, Label), (k, answer)
            assert answer.energy == float((atoms.positions**2).sum())
            assert (answer.forces == -2 * atoms.positions).all()
    assert [type(again[k]) for k in range(3)] == [Label, Failure, Label]
    printed = (tmp_path / "log").read_bytes()
    assert b"to stdout" in printed
    assert b"from a child of the teacher" in printed


@pytest.mark.slow
def test_a_fifth_of_calls_fails(tmp_path: Path) -> None:
    """Of 60 structures those that fail are the ones that a direct look says, and all others have labels."""
    rng = np.random.default_rng(0)
    frames = [Atoms("Ar4", rng.normal(size=(4, 3))) for _ in range(60)]
    with Pool(Teacher("tests.support.odd_teacher:Random", processes=2, seconds=30.0), tmp_path / "log") as pool:
        answers = dict(pool.label(frames))
    fails = [int(abs(atoms.positions).sum() * 1e6) % 50 < 10 for atoms in frames]
    assert 4 <= sum(fails) <= 24
    assert [isinstance(answers[k], Failure) for k in range(60)] == fails


@pytest.mark.parametrize(
    ("name", "kwargs", "words"),
    [
        ("no_such_package:X", {}, r"cannot be imported.*no_such_package.*install it there"),
        ("ase.calculators.emt:Absent", {}, r"cannot be imported.*Absent"),
        (ODD, {"broken": "raise"}, r"cannot be made.*RuntimeError: no licence left"),
        (ODD, {"broken": "exit"}, r"cannot be made.*SystemExit: gone at once"),
        (ODD, {"broken": "crash"}, r"does not start.*exit code 7.*about to crash"),
        (ODD, {"sprng": 1}, r"cannot be made.*sprng"),
    ],
)
@pytest.mark.slow
def test_a_teacher_that_does_not_start_says_why(
    tmp_path: Path, name: str, kwargs: dict[str, object], words: str
) -> None:
    """One sentence with the true reason, after two tries."""
    with Pool(Teacher(name, kwargs, processes=1), tmp_path / "log") as pool, pytest.raises(UserError, match=words):
        list(pool.label([odd(0)]))


@pytest.mark.slow
def test_an_abandoned_request_leaves_nothing_behind(tmp_path: Path) -> None:
    """Whoever stops listening gets the right answers to the next request."""
    with Pool(Teacher(ODD, processes=2), tmp_path / "log") as pool:
        for _ in pool.label([odd(odd_teacher.SLOW) for _ in range(4)]):
            break
        frames = [odd(0, n) for n in (2, 3, 4, 5)]
        answers = dict(pool.label(frames))
    for k, atoms in enumerate(frames):
        answer = answers[k]
        assert isinstance(answer, Label)
        assert (answer.forces == -2 * atoms.positions).all()


PARENT = """
import sys
from pathlib import Path
from ase import Atoms
from gmnn.teaching import Pool, Teacher
folder = Path(sys.argv[1])
with Pool(Teacher("tests.support.odd_teacher:Odd", processes=2), folder / "log") as pool:
    frames = [Atoms("He2", [[float(x), 0, 0], [0, 0, 1]]) for x in sys.argv[2:]]
    for index, answer in pool.label(frames):
        print(index, flush=True)
"""


@pytest.mark.parametrize("ending", ["SIGKILL", "SIGTERM", "SIGINT"])
@pytest.mark.slow
def test_no_orphan_however_the_parent_ends(tmp_path: Path, ending: str) -> None:
    """Teachers deep in a call, one of which holds the interpreter, end with their parent; Ctrl-C reaches it alone."""
    mark = f"gmnn-test-{tmp_path}"
    command = [
        sys.executable,
        "-c",
        PARENT,
        str(tmp_path),
        "1",
        *(str(100 * way) for way in (odd_teacher.HANGS, odd_teacher.HOLDS)),
    ]
    parent = subprocess.Popen(
        command, cwd=ROOT, env=processes.environment(GMNN_TEST_MARK=mark), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    assert parent.stdout is not None
    assert parent.stdout.readline() == "0\n"
    time.sleep(0.5)
    assert len(left_over(mark)) >= 3
    os.kill(parent.pid, getattr(signal, ending))
    _, errors = parent.communicate(timeout=60)
    assert parent.returncode in (-getattr(signal, ending), 130, 1)
    assert gone(mark), errors


def without_gmnn(folder: Path) -> Path:
    """An environment in which ASE is and gmnn is not."""
    import site

    done = processes.python("-m", "venv", "--without-pip", "--symlinks", folder)
    assert done.returncode == 0, done.stderr
    (packages,) = (folder / "lib").glob("python*/site-packages")
    for place in map(Path, site.getsitepackages()):
        for name in ("ase", "numpy", "numpy.libs", "scipy", "scipy.libs"):
            if (place / name).exists() and not (packages / name).exists():
                (packages / name).symlink_to(place / name)
        for about in place.glob("ase-*.dist-info"):
            (packages / about.name).symlink_to(about)
    return folder


@pytest.mark.slow
def test_another_interpreter_without_gmnn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ASE and the teacher are enough there; a teacher that only lies here, and a Python that is none, are refused."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    there = without_gmnn(tmp_path / "env")
    frames = copper(3)
    teacher = Teacher("emt", python=str(there), processes=1)
    assert set(teacher.identity["versions"]) == {"ase"}
    with Pool(teacher, tmp_path / "log") as pool:
        answers = dict(pool.label(frames))
    for k, atoms in enumerate(frames):
        atoms.calc, label = EMT(), answers[k]
        assert isinstance(label, Label)
        np.testing.assert_allclose(label.forces, atoms.get_forces(), atol=1e-10)
    for name, words in (("gmnn:Calculator", "No module named 'gmnn'"), ("pyscf", "pip install pyscf")):
        with (
            Pool(Teacher(name, python=str(there), processes=1), tmp_path / "log") as pool,
            pytest.raises(UserError, match=f"cannot be imported.*{words}"),
        ):
            list(pool.label(frames))
    absent = Teacher("emt", python=str(tmp_path / "no" / "python"))
    with pytest.raises(UserError, match=r"does not work \(No such file.*teacher.python must be"):
        print(absent.identity)
    with Pool(absent, tmp_path / "log") as pool, pytest.raises(UserError, match=r"cannot be started"):
        list(pool.label(frames))


def test_what_no_label_can_be() -> None:
    """Shapes, infinities and numbers beyond all chemistry; energies of heavy atoms with all electrons pass."""
    good = {"energy": -7e5 * 2, "forces": [[0, 0, 1], [0, 0, -1]], "stress": None}
    assert isinstance(judged(good, 2, 0.0), Label)
    for wrong in (
        {"energy": [1.0, 2.0]}, {"energy": None}, {"energy": "low"}, {"forces": [[0, 0, 1]]}, {"forces": None},
        {"forces": [[0, 0, float("inf")], [0, 0, 0]]}, {"stress": [1, 2, 3]}, {"energy": 1e12},
        {"forces": [[0, 0, 1e9], [0, 0, 0]]}, {"stress": [float("nan")] * 6},
    ):  # fmt: skip
        answer = judged({**good, **wrong}, 2, 0.0)
        assert isinstance(answer, Failure), wrong
        assert answer.kind == "nonsense"
    assert judged({"raised": "E"}, 2, 0.0) == Failure("raised", "E")


def test_molecules_have_no_stress(tmp_path: Path) -> None:
    """Neither has a cell without three vectors."""
    wire = Atoms("Cu", cell=[0, 0, 2.5], pbc=[False, False, True])
    with Pool(Teacher("emt", processes=1), tmp_path / "log") as pool:
        answers = dict(pool.label([molecule("CH4"), wire]))
    assert isinstance(answers[0], Label)
    assert answers[0].stress is None
    assert getattr(answers[1], "stress", None) is None
