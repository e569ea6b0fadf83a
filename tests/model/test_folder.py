"""Model folders: what is written is what is read, what is damaged is refused, what is old stays readable."""

import contextlib
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from ase.io import read

import gmnn
from gmnn import files
from gmnn.config.model import ModelConfig
from gmnn.errors import UserError
from gmnn.model import folder
from gmnn.model.potential import Potential
from gmnn.reference import Reference
from tests.support import processes
from tests.support.paths import GOLDEN, ROOT


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Potential]:
    reference = Reference(
        (1, 8), (-1.5, -20.0), (0.5, 0.6), (0.1, 0.2), (1.0,) * 8, (0.7, 0.9, None), (1.5, 2.5), ((0.5, 1.0) * 3,) * 3
    )
    potential = Potential(ModelConfig(n_radial=1, n_basis=3, hidden=(4,)), reference)
    potential = potential.with_params(jax.tree.map(np.asarray, potential.init(5)))
    folder.save(tmp_path / "m", potential, 3, {"finished": True})
    return tmp_path / "m", potential


def test_round_trip(saved: tuple[Path, Potential]) -> None:
    """Config, reference and every bit of the parameters come back."""
    path, potential = saved
    found = gmnn.load(path)
    assert found.config == potential.config
    assert found.reference == potential.reference
    assert folder.tree_digest(found.params) == folder.tree_digest(potential.params)
    description = json.loads((path / "config.json").read_text(encoding="utf-8"))
    assert description["units"]["forces"] == "eV/Å"
    assert description["versions"]["jax"] == jax.__version__


def test_saving_again_replaces(saved: tuple[Path, Potential]) -> None:
    """A later epoch takes the place of the earlier one; nothing is left behind."""
    path, potential = saved
    later = potential.with_params(jax.tree.map(lambda leaf: leaf + 1, potential.params))
    folder.save(path, later, 8, {})
    assert folder.tree_digest(gmnn.load(path).params) == folder.tree_digest(later.params)
    assert [p.name for p in (path / "params").iterdir()] == ["000008"]


def test_the_same_epoch_again_is_written_beside(saved: tuple[Path, Potential], monkeypatch: pytest.MonkeyPatch) -> None:
    """What config.json names is whole until it names another: other numbers get a place of their own."""
    path, potential = saved

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    later = potential.with_params(jax.tree.map(lambda leaf: leaf + 1, potential.params))
    for turn in range(3):
        before = folder.tree_digest(gmnn.load(path).params)
        with monkeypatch.context() as patch:
            patch.setattr(folder, "write_json", full)
            with pytest.raises(OSError, match="No space"):
                folder.save(path, (later, potential)[turn % 2], 3, {})
        assert folder.tree_digest(gmnn.load(path).params) == before
        folder.save(path, (later, potential)[turn % 2], 3, {"turn": turn})
        assert folder.tree_digest(gmnn.load(path).params) != before
        assert len(list((path / "params").iterdir())) == 1


def test_half_written_parameters_do_not_count(saved: tuple[Path, Potential]) -> None:
    """Killed while writing the next epoch: the folder still loads the one config.json names."""
    path, potential = saved
    shutil.copytree(path / "params" / "000003", path / "params" / "000009")
    for file in sorted((path / "params" / "000009").rglob("*"))[:3]:
        if file.is_file():
            file.unlink()
    assert folder.tree_digest(gmnn.load(path).params) == folder.tree_digest(potential.params)


def test_flipped_bits_are_noticed(saved: tuple[Path, Potential]) -> None:
    """One byte changed in any data file of the parameters ends in a sentence, never in other energies."""
    path, potential = saved
    files = [f for f in (path / "params").rglob("*") if f.is_file() and f.parent.name == "d"]
    assert files
    refused = 0
    for file in files:
        good = file.read_bytes()
        for place in (0, len(good) // 2, len(good) - 1):
            bad = bytearray(good)
            bad[place] ^= 0x55
            file.write_bytes(bad)
            with contextlib.suppress(UserError):  # an unread byte may be harmless, a read one must be noticed
                loaded = folder.tree_digest(gmnn.load(path).params)
                assert loaded == folder.tree_digest(potential.params)
                refused -= 1
            refused += 1
        file.write_bytes(good)
    assert refused > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(format_version=99), "format version 99"),
        (lambda d: d.pop("parameters"), "damaged"),
        (lambda d: d["model"].update(n_bassis=3), "does not fit: model.n_bassis is not a key"),
        (lambda d: d["parameters"].update(folder="../../etc"), "outside the folder"),
        (lambda d: d["model"].update(hidden=[5]), "cannot be read"),
        (lambda d: d["model"].update(r_max=4.5), "damaged or edited"),
        (lambda d: d["reference"]["E0"].__setitem__(0, 0.0), "damaged or edited"),
    ],
)
def test_damaged_descriptions(saved: tuple[Path, Potential], change: object, words: str) -> None:
    path, _ = saved
    description = json.loads((path / "config.json").read_text(encoding="utf-8"))
    change(description)
    if "edited" not in words:
        description = files.sealed({key: value for key, value in description.items() if key != files.SEAL})
    (path / "config.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(UserError, match=words):
        gmnn.load(path)


def test_not_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a model folder"):
        gmnn.load(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="damaged"):
        gmnn.load(tmp_path)


def test_text_is_replaced_in_one_step(tmp_path: Path) -> None:
    """A failed write leaves the old text and no scraps."""
    file = tmp_path / "a.json"
    files.write_json(file, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(file, {"a": float("nan")})
    assert json.loads(file.read_text(encoding="utf-8")) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("version", range(1, folder.FORMAT_VERSION + 1))
def test_golden_folder_gives_its_energies_for_ever(version: int) -> None:
    """A folder of each format version gives the energies and forces it had when it was written (float64)."""
    golden = GOLDEN / f"v{version}"
    frames = read(golden / "expected.extxyz", ":")
    calculator = gmnn.Calculator(golden / "model", dtype="float64", path="reference")
    assert json.loads((golden / "model" / "config.json").read_text(encoding="utf-8"))["format_version"] == version
    assert len(frames) >= 2
    for frame, found in zip(frames, calculator.batch_eval(frames), strict=True):
        assert found.get_potential_energy() == pytest.approx(frame.get_potential_energy(), abs=1e-7)
        np.testing.assert_allclose(found.get_forces(), frame.get_forces(), atol=1e-7)


def test_no_path_of_the_machine_is_stored(saved: tuple[Path, Potential]) -> None:
    """A folder can be passed on: no file in it names where it was written."""
    path, _ = saved
    for file in path.rglob("*"):
        if file.is_file():
            assert str(path).encode() not in file.read_bytes(), file


def test_provenance_names_the_commit() -> None:
    """A model folder written from a checkout says which commit wrote it."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    head = processes.run("git", "rev-parse", "HEAD").stdout.strip()
    written = folder.provenance()
    assert written["commit"] == head
    assert isinstance(written["dirty"], bool)
    assert written["versions"]["numpy"] == np.__version__
