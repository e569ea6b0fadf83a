"""The store of labels: exact, whole after any cut, and no structure is ever computed twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from gmnn.data import read_dataset
from gmnn.errors import UserError
from gmnn.teaching import Answer, Failure, Label, LabelStore, Pool, Teacher
from gmnn.teaching.labels import FAILURES, FRAMES, INDEX
from gmnn.teaching.records import key_of, read_records, write_record
from tests.support import odd_teacher, processes
from tests.support.paths import ROOT

ODD = "tests.support.odd_teacher:Odd"


@pytest.fixture(autouse=True)
def _at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where workers find the odd teacher


def structures(n: int, seed: int = 0) -> list[Atoms]:
    """Helium in cells of any shape, periodic in some directions."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(n):
        cell = rng.normal(size=(3, 3)) * 7 if k % 3 else None
        pbc = rng.random(3) < 0.5 if k % 3 == 1 else bool(k % 3)
        frames.append(Atoms(f"He{1 + k % 4}", rng.normal(size=(1 + k % 4, 3)), cell=cell, pbc=pbc))
    return frames


def same(a: Label, b: Label) -> bool:
    """Whether two labels are equal to the last bit."""
    stress = (a.stress is None and b.stress is None) or (
        a.stress is not None and b.stress is not None and a.stress.tobytes() == b.stress.tobytes()
    )
    return a.energy == b.energy and a.forces.tobytes() == b.forces.tobytes() and stress


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=25, max_size=25), st.booleans())
def test_records_are_exact(numbers: list[float], periodic: bool) -> None:
    """Any floats, -0 and the smallest ones included, come back to the last bit, and the key can be made again."""
    x = np.array(numbers)
    atoms = Atoms("OH", x[:6].reshape(2, 3), cell=x[6:15].reshape(3, 3) if periodic else None, pbc=periodic)
    label = Label(float(x[15]), x[16:22].reshape(2, 3), x[19:25] if periodic else None, 0.5)
    key = key_of(atoms, "me")
    origin = {"round": 3, "time_ps": 0.1, "condition": "1000 K, NPT", "replica": 7, "kind": "exploration"}
    text = write_record(key, atoms, label, origin)
    (((again_key, again, read), place),) = read_records(text)
    assert (again_key, place) == (key, len(text))
    assert key_of(again, "me") == key != key_of(atoms, "you")
    assert same(read, label)
    assert again.info == origin


def test_every_cut_and_every_change_of_a_record_shows() -> None:
    """Of two records, cut anywhere, the whole ones are read; with one byte changed, those before it."""
    frames, label = structures(2), Label(-1.25, np.ones((1, 3)), None)
    first = write_record("k1", frames[0], label, {})
    text = first + write_record("k2", frames[0], label, {"round": 1})
    for cut in range(len(text)):
        assert len(list(read_records(text[:cut]))) == (cut >= len(first)), cut
    for place in range(0, len(text), 3):
        changed = text[:place] + ("x" if text[place] != "x" else "y") + text[place + 1 :]
        assert len(list(read_records(changed))) == (place >= len(first)), place


@pytest.mark.parametrize(
    "origin", [{"key": 1}, {"energy": 2.0}, {"two words": 1}, {"x": 'a"b'}, {"x": "a\nb"}, {"x": None}, {"x": "300"}]
)
def test_origins_that_cannot_be_written(origin: dict) -> None:
    with pytest.raises(UserError, match="origin of a structure"):
        write_record("k", structures(1)[0], Label(0.0, np.zeros((1, 3))), origin)


class Direct(Pool):
    """A pool without processes, for what the store does with its answers."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher, self.asked, self.log_path = teacher, 0, Path("log")

    def label(self, frames):
        """Answer in the opposite order; fail for structures of three atoms."""
        for k, atoms in reversed(list(enumerate(frames))):
            self.asked += 1
            answer: Answer = Failure("raised", "three are too many", 0.1)
            if len(atoms) != 3:
                stress = np.arange(6) / 7 if atoms.pbc.any() else None
                answer = Label(float(np.pi * (atoms.positions**2).sum()), -atoms.positions / 3, stress, 0.25)
            yield k, answer


def test_nothing_is_computed_twice(tmp_path: Path) -> None:
    """Answers of a store that was opened again are bit-identical; a failure is known, too; other teachers are not."""
    teacher = Teacher("emt", {"asap_cutoff": False})
    frames = structures(10)
    with LabelStore(tmp_path / "s", teacher) as store:
        pool = Direct(teacher)
        answers = dict(store.label(pool, [*frames, frames[0]], [{"round": k} for k in range(11)]))
        assert pool.asked == 10
        assert (store.counters.teacher_calls, store.counters.from_store) == (10, 1)
        assert store.counters.teacher_failures == {"raised": 2, "hung": 0, "died": 0, "nonsense": 0}
    with LabelStore(tmp_path / "s", teacher) as store:
        pool = Direct(teacher)
        again = dict(store.label(pool, frames))
        assert pool.asked == 0
        assert (store.counters.teacher_calls, store.counters.from_store) == (10, 11)
        assert sum(store.counters.teacher_failures.values()) == 2
        for k, answer in again.items():
            before = answers[k]
            assert same(answer, before) if isinstance(answer, Label) and isinstance(before, Label) else answer == before
        for key, record in store.records.items():
            assert store.key(record.atoms) == key
            assert record.atoms.info["round"] in range(10)
    with LabelStore(tmp_path / "s", teacher, retry=True) as store:
        pool = Direct(teacher)
        assert len(list(store.label(pool, frames))) == 10
        assert (pool.asked, store.counters.teacher_calls) == (2, 12)
    with LabelStore(tmp_path / "s", Teacher("emt")) as store:  # other kwargs, so another teacher
        pool = Direct(teacher)
        assert len(list(store.label(pool, frames[:4]))) == 4
        assert pool.asked == 4
    known = json.loads((tmp_path / "s" / INDEX).read_text(encoding="utf-8"))
    assert (known["teacher_calls"], known["from_store"], known["teacher_failures"]["raised"]) == (16, 19, 5)


def test_a_teacher_that_labels_nothing(tmp_path: Path) -> None:
    """It is given up after five structures, and asked again once it was corrected; one that labels is believed."""
    teacher = Teacher("emt")
    threes = [atoms for atoms in structures(40) if len(atoms) == 3]
    for _ in range(2):
        pool = Direct(teacher)
        with (
            LabelStore(tmp_path / "s", teacher) as store,
            pytest.raises(UserError, match=r"fails at each of the first 5 structures.*three are too many \(raised\)"),
        ):
            list(store.label(pool, threes))
        assert pool.asked == 5
    with LabelStore(tmp_path / "t", teacher) as store:
        assert len(list(store.label(Direct(teacher), structures(1)))) == 1
        assert len(list(store.label(Direct(teacher), threes))) == len(threes) > 5


def test_structures_may_be_changed_while_they_are_labelled(tmp_path: Path) -> None:
    """What is written is what was asked for."""
    frames = structures(9)
    before = [atoms.positions.copy() for atoms in frames]
    with LabelStore(tmp_path / "s", Teacher("emt")) as store:
        for _ in store.label(Direct(store.teacher), frames, [{"number": k} for k in range(9)]):
            for atoms in frames:
                atoms.positions += 1.0
        for record in store.records.values():
            assert (record.atoms.positions == before[record.atoms.info["number"]]).all()
            assert store.key(record.atoms) == record.key


def test_a_changed_file_of_the_teacher_is_a_warning(tmp_path: Path) -> None:
    """It may be a log of the teacher's own, so labels are kept; it may be a model, so it is said."""
    (tmp_path / "my.model").write_text("1", encoding="utf-8")
    for content, n in (("1", 0), ("2", 1)):
        (tmp_path / "my.model").write_text(content, encoding="utf-8")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with LabelStore(tmp_path / "s", Teacher("emt", {"model": [str(tmp_path / "my.model")]})) as store:
                list(store.label(Direct(store.teacher), structures(2)))
                assert store.counters.teacher_calls == 2
        assert len([one for one in caught if "my.model, which" in str(one.message)]) == n


def test_training_reads_the_store(tmp_path: Path) -> None:
    """The file is data for `gmnn train`, with every label where the teacher gave one."""
    frames = structures(6)
    with LabelStore(tmp_path / "s", Teacher("emt")) as store:
        answers = dict(store.label(Direct(store.teacher), frames))
        labelled = [record.label.on(record.atoms) for record in store.records.values()]
    data = read_dataset(str(tmp_path / "s" / FRAMES))
    assert len(data.atoms) == sum(isinstance(answer, Label) for answer in answers.values()) == len(labelled)
    for k, atoms in enumerate(labelled):
        assert data.energies[k] == atoms.get_potential_energy()
        assert (data.forces[k] == atoms.get_forces()).all()
        assert (data.atoms[k].positions == atoms.positions).all()
    assert len(ase.io.read(tmp_path / "s" / FRAMES, ":")) == len(labelled)


def test_a_store_cut_anywhere_opens_with_what_was_whole(tmp_path: Path) -> None:
    """After a kill within a write the marks lie behind; what lies before them must not have changed."""
    teacher, frames = Teacher("emt"), structures(7)
    with LabelStore(tmp_path / "s", teacher) as store:
        list(store.label(Direct(teacher), frames[:3]))
    old = (tmp_path / "s" / INDEX).read_bytes()
    sizes = {name: (tmp_path / "s" / name).stat().st_size for name in (FRAMES, FAILURES)}
    with LabelStore(tmp_path / "s", teacher) as store:
        list(store.label(Direct(teacher), frames))
    whole = (tmp_path / "s" / FRAMES).read_bytes()
    counts = set()
    for cut in [*range(sizes[FRAMES], len(whole), 97), len(whole)]:
        copy = tmp_path / f"cut{cut}"
        shutil.copytree(tmp_path / "s", copy)
        (copy / INDEX).write_bytes(old)  # which a kill left as it was before
        (copy / FRAMES).write_bytes(whole[:cut])
        with LabelStore(copy, teacher) as store:
            kept, asked = len(store.records), Direct(teacher)
            counts.add(kept)
            assert len(list(store.label(asked, frames))) == 7
            assert asked.asked == 5 - kept  # two of the seven are failures, which are all there
        with LabelStore(copy, teacher) as store:
            assert len(store.records) + len(store.failures) == 7
            asked = Direct(teacher)
            assert len(list(store.label(asked, frames))) == 7
            assert asked.asked == 0
    assert counts >= {2, 3, 4, 5}
    for damage in (b"", whole[: sizes[FRAMES] - 1], b"9" + whole[1:], whole.replace(b"energy=", b"energy=1", 1)):
        (tmp_path / "s" / FRAMES).write_bytes(damage)
        with pytest.raises(UserError, match="is not what was written"), LabelStore(tmp_path / "s", teacher):
            pass


def test_a_store_is_held_by_one_process_and_only_ours(tmp_path: Path) -> None:
    teacher = Teacher("emt")
    with LabelStore(tmp_path / "s", teacher), pytest.raises(UserError, match="another run"):
        LabelStore(tmp_path / "s", teacher).__enter__()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / FRAMES).write_text("precious", encoding="utf-8")
    with pytest.raises(UserError, match="no labels run of gmnn wrote"):
        LabelStore(tmp_path / "other", teacher).__enter__()
    with LabelStore(tmp_path / "s", teacher) as store, pytest.raises(UserError, match="not finite"):
        list(store.label(Direct(teacher), [Atoms("H", [[0, 0, float("nan")]])]))


LABELLING = """
import sys
from pathlib import Path
import numpy as np
from ase import Atoms
from gmnn.teaching import LabelStore, Pool, Teacher
folder, calls, n = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
teacher = Teacher("tests.support.odd_teacher:Odd", {"calls": calls, "seconds": 0.03}, processes=2)
frames = [Atoms("He3", np.random.default_rng(k).normal(size=(3, 3))) for k in range(n)]
with LabelStore(folder / "s", teacher) as store, Pool(teacher, folder / "log") as pool:
    for index, answer in store.label(pool, frames, [{"number": k} for k in range(n)]):
        print(index, flush=True)
"""


@pytest.mark.slow
def test_killed_again_and_again(tmp_path: Path) -> None:
    """kill -9 while labelling, three times: all labels that were printed are kept, only what was under way is lost.

    The teacher counts its own calls: each kill costs at most two under way and two that were not written.
    """
    calls, n, mark = tmp_path / "calls", 60, f"gmnn-test-{tmp_path}"
    command = [sys.executable, "-c", LABELLING, str(tmp_path), str(calls), str(n)]
    printed: set[int] = set()
    for stop in (8, 10, 12):
        parent = subprocess.Popen(
            command, cwd=ROOT, env=processes.environment(GMNN_TEST_MARK=mark), stdout=subprocess.PIPE,
            encoding="utf-8",
        )  # fmt: skip
        assert parent.stdout is not None
        before = len(printed)
        for line in parent.stdout:
            printed.add(int(line))
            if len(printed) - before >= stop:
                break
        os.kill(parent.pid, signal.SIGKILL)
        printed |= {int(line) for line in parent.stdout.read().splitlines(keepends=True) if line.endswith("\n")}
        parent.wait()
        time.sleep(0.3)
    done = processes.python("-c", LABELLING, tmp_path, calls, str(n))
    assert done.returncode == 0, done.stderr
    assert sorted(map(int, done.stdout.split())) == list(range(n))
    assert n <= calls.stat().st_size <= n + 3 * 4
    teacher = Teacher(ODD, {"calls": str(calls), "seconds": 0.03}, processes=2)
    with warnings.catch_warnings(record=True), LabelStore(tmp_path / "s", teacher) as store:  # the calls were counted
        assert len(store.records) == store.counters.teacher_calls == n
        assert store.counters.from_store >= 30
        for record in store.records.values():
            x = np.random.default_rng(record.atoms.info["number"]).normal(size=(3, 3))
            assert (record.atoms.positions == x).all()
            assert record.label.energy == float((x**2).sum())
            assert (record.label.forces == -2 * x).all()


@pytest.mark.slow
def test_failures_of_a_real_pool_are_kept(tmp_path: Path) -> None:
    """By kind, on the disk, and not asked for again."""
    ways = (odd_teacher.RAISES, odd_teacher.NAN, odd_teacher.EXITS, odd_teacher.HANGS, 0)
    frames = [Atoms("He2", [[100.0 * way, 0, 0], [0, 0, 1]]) for way in ways]
    teacher = Teacher(ODD, {"calls": str(tmp_path / "calls")}, processes=2, seconds=2.0)
    (tmp_path / "calls").touch()
    for _ in range(2):
        with LabelStore(tmp_path / "s", teacher) as store, Pool(teacher, tmp_path / "log") as pool:
            answers = dict(store.label(pool, frames))
            assert store.counters.teacher_failures == {"raised": 1, "nonsense": 1, "died": 1, "hung": 1}
        assert [getattr(answers[k], "kind", "") for k in range(5)] == ["raised", "nonsense", "died", "hung", ""]
        assert (tmp_path / "calls").stat().st_size == 5
