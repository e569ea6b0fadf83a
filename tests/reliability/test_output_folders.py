"""Kind 1: a folder that is not empty and not ours is never taken for ours, and nothing is written through a link."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import ase.io
import numpy as np
import pytest

from gmnn import files, folders
from gmnn.__main__ import main
from gmnn.data.embedded import ethanol
from gmnn.errors import UserError
from gmnn.model import folder, trees
from gmnn.training import run as training
from tests.support.paths import GOLDEN

MODEL = GOLDEN / "v3" / "model"
TRAIN = """
output: {0}/out
data: {{train: {0}/frames.extxyz, n_train: 8, n_valid: 4}}
model: {{n_radial: 1, n_basis: 3, hidden: [4], r_max: 3.0}}
train: {{epochs: 1, batch_size: 4}}
"""
DYNAMICS = "output: {0}/out\nmodel: {1}\nstructure: {0}/frames.extxyz\nsteps: 10\nevery: 10\npath: reference\n"
COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "train": lambda home: ["train", str(home / "train.yaml")],
    "md": lambda home: ["md", str(home / "md.yaml")],
    "eval": lambda home: ["eval", str(MODEL), str(home / "frames.extxyz"), "--out", str(home / "out")],
    "export": lambda home: ["export", str(MODEL), str(home / "out")],
    "scan": lambda home: ["scan", "--calculator", "ase.calculators.emt:EMT", "--structure", str(home / "frames.extxyz"),
                          "--out", str(home / "out"), "--frames", "4"],
    "import-apax": lambda home: ["import-apax", str(GOLDEN / "apax" / "ethanol"), str(home / "out")],
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with inputs for all commands; `out` is where they are told to write."""
    ase.io.write(tmp_path / "frames.extxyz", ethanol()[:14])
    (tmp_path / "train.yaml").write_text(TRAIN.format(tmp_path), encoding="utf-8")
    (tmp_path / "md.yaml").write_text(DYNAMICS.format(tmp_path, MODEL), encoding="utf-8")
    return tmp_path


def content(path: Path) -> dict[str, bytes | str]:
    """All that lies in a folder: links, folders and the bytes of files."""
    return {
        str(entry.relative_to(path)): os.readlink(entry) if entry.is_symlink() else "" if entry.is_dir()
        else entry.read_bytes() for entry in sorted(path.rglob("*"))
    }  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "names",
    [
        ["notes.txt"],
        ["params/force_field/notes", "state/backup/data", "history.csv"],
        ["trajectory.extxyz", "log.csv"],
        ["scan.json", "parity.png", ".hidden"],
    ],
)
def test_kind_1_a_folder_of_somebody_else_is_refused(
    command: str, names: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence and exit code 2; not a byte is written, not even a lock."""
    for name in names:
        (home / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "out" / name).write_text("precious", encoding="utf-8")
    before = content(home)
    assert main(COMMANDS[command](home)) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert str(home / "out") in said
    assert content(home) == before


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ["folder", "lock", "nowhere"])
def test_kind_1_nothing_is_written_through_a_link(
    command: str, kind: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output or its lock is a link, to something or to nothing."""
    (home / "mine").mkdir()
    (home / "mine" / "precious").write_text("precious", encoding="utf-8")
    if kind == "lock":
        (home / "out").mkdir()
        (home / "out" / ".lock").symlink_to(home / "mine" / "precious")
    else:
        (home / "out").symlink_to(home / ("mine" if kind == "folder" else "nowhere"))
    before = content(home)
    assert main(COMMANDS[command](home)) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert content(home) == before


@pytest.mark.parametrize(
    ("kind", "names"), [("model", training.FILES), ("md", folders.MD_FILES), ("scan", ("scan.csv",))]
)
@pytest.mark.parametrize("link", [True, False])
def test_kind_1_names_in_our_own_folder(kind: str, names: tuple[str, ...], link: bool, tmp_path: Path) -> None:
    """In a folder with our marker a link is refused, and what is not in the marker's list; strangers stay."""
    out = tmp_path / "out"
    with folders.output_folder(out, kind, names):
        pass
    (out / "notes").write_text("mine", encoding="utf-8")
    with folders.output_folder(out, kind, names):
        pass
    target = out / (names[-1] if link else "another.csv")
    if link:
        target.symlink_to(tmp_path / "elsewhere")
    else:
        target.write_text("mine", encoding="utf-8")
    with (
        pytest.raises(UserError, match="is a link" if link else "another.csv"),
        folders.output_folder(out, kind, [*names, "another.csv"]),
    ):
        pass
    assert not (tmp_path / "elsewhere").exists()
    assert (out / "notes").read_text(encoding="utf-8") == "mine"


def test_kind_1_other_kinds_and_damaged_markers(tmp_path: Path) -> None:
    """A scan does not go into a run of dynamics; a marker that was edited proves nothing."""
    with folders.output_folder(tmp_path / "a", "md", ["log.csv"]):
        pass
    with pytest.raises(UserError, match="holds a run of dynamics of gmnn, but a scan"):
        folders.require_ours(tmp_path / "a", "scan", ["scan.csv"])
    marker = tmp_path / "a" / folders.MARKER
    marker.write_text(marker.read_text(encoding="utf-8").replace('"md"', '"scan"'), encoding="utf-8")
    with pytest.raises(UserError, match="holds what no scan run of gmnn wrote"):
        folders.require_ours(tmp_path / "a", "scan", ["scan.csv"])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file, but a folder is needed"):
        folders.require_ours(tmp_path / "file", "scan", [])


def test_kind_1_a_killed_begin_does_not_block(tmp_path: Path) -> None:
    """What is left of a process that was killed before its marker was complete is no stranger."""
    (tmp_path / ".lock").touch()
    (tmp_path / "..gmnn.0123abcd.part").write_bytes(b'{"kin')
    with folders.output_folder(tmp_path, "scan", ["scan.csv"]):
        assert files.is_sealed(tmp_path / ".gmnn")


@pytest.mark.parametrize(("kind", "record"), [("model", "split.json"), ("model", "config.json"), ("md", "run.json")])
def test_kind_1_folders_of_version_0_1_are_ours(kind: str, record: str, tmp_path: Path) -> None:
    """They have no marker, but a record with its checksum; an edited one proves nothing."""
    files.write_json(tmp_path / record, files.sealed({"a": 1}))
    (tmp_path / "history.csv").touch()
    folders.require_ours(tmp_path, kind, ["history.csv"])
    (tmp_path / record).write_text(json.dumps({"a": 1}), encoding="utf-8")
    with pytest.raises(UserError, match="must not be lost"):
        folders.require_ours(tmp_path, kind, ["history.csv"])


@pytest.mark.parametrize("version", [3, 4])
def test_kind_1_golden_models_are_ours(version: int, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / f"v{version}" / "model", tmp_path / "m")
    assert folders.require_ours(tmp_path / "m", "model", training.FILES) == set(training.FILES)


def test_kind_1_locks_that_are_no_plain_files(tmp_path: Path) -> None:
    """A fifo does not hang, a link does not empty its target, a lock with content keeps it."""
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(UserError, match="no plain file"), folders.exclusive(tmp_path):
        pass
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").write_text("mine", encoding="utf-8")
    with folders.exclusive(tmp_path), pytest.raises(UserError, match="another run"), folders.exclusive(tmp_path):
        pass
    assert (tmp_path / ".lock").read_text(encoding="utf-8") == "mine"


def test_kind_1_only_our_own_epochs_are_deleted(tmp_path: Path) -> None:
    """Beside new parameters, folders of another name or content, files and links stay."""
    tree = {"a": np.zeros(2)}
    for name in ("000001", "000002", "000002b"):
        trees.write_tree(tmp_path / "params" / name, tree)
    kept = ["backup", "000003", "12", "000004"]
    for name in kept[:3]:
        (tmp_path / "params" / name).mkdir()
        (tmp_path / "params" / name / "notes").write_text("mine", encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "params" / "000004").symlink_to(tmp_path / "elsewhere")
    trees.remove_siblings(tmp_path / "params" / "000002b")
    assert sorted(entry.name for entry in (tmp_path / "params").iterdir()) == sorted([*kept, "000002b"])
    with pytest.raises(UserError, match="was not written by gmnn"):
        trees.write_tree(tmp_path / "params" / "000003", tree)
    assert (tmp_path / "params" / "000003" / "notes").exists()


def test_kind_1_a_saved_model_replaces_no_foreign_one(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="was not written by gmnn"):
        folder.save(tmp_path, SimpleNamespace(), 1, {})  # type: ignore[arg-type]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "params").symlink_to(tmp_path)
    with pytest.raises(UserError, match="is a link"):
        folder.save(tmp_path / "b", SimpleNamespace(), 1, {})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["link", "hard link"])
def test_kind_1_files_that_grow_have_one_name(kind: str, tmp_path: Path) -> None:
    """A log that is a link, or that has another name, is neither continued nor cut."""
    mine = tmp_path / "mine"
    mine.write_text("precious", encoding="utf-8")
    (os.link if kind == "hard link" else os.symlink)(mine, tmp_path / "log.csv")
    log = files.AppendOnlyFile(tmp_path / "log.csv")
    for write in (lambda: log.append("more"), lambda: log.cut(0, 0)):
        with pytest.raises(UserError, match=kind):
            write()
    assert mine.read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize("write", [files.write_text, files.append_line])
def test_kind_1_no_text_through_a_link(write: Callable[[Path, str], None], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(UserError, match="is a link"):
        write(tmp_path / "link", "text")
    assert not (tmp_path / "target").exists()


def test_kind_1_single_files(tmp_path: Path) -> None:
    """A file that exists is refused, a link to nothing too; a certificate replaces only a certificate."""
    out = tmp_path / "out.extxyz"
    out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="exists"):
        files.write_whole(out, ethanol()[:1])
    (tmp_path / ".new.extxyz").write_text("mine", encoding="utf-8")
    files.write_whole(tmp_path / "new.extxyz", ethanol()[:1])
    assert (tmp_path / ".new.extxyz").read_text(encoding="utf-8") == "mine"
    ours, theirs = tmp_path / "c.json", tmp_path / "d.json"
    files.write_json(ours, files.sealed({"a": 1}))
    files.require_sealed(ours)
    theirs.write_text('{"a": 1}', encoding="utf-8")
    with pytest.raises(UserError, match="was not written by gmnn"):
        files.require_sealed(theirs)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        ".new.extxyz", "c.json", "d.json", "new.extxyz", "out.extxyz"
    ]  # fmt: skip
