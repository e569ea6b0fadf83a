"""Calculators by name, by preset and from a file; finished scans side by side."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from gmnn.commands import _calculators
from gmnn.commands.scan import main
from gmnn.errors import UserError
from gmnn.scanning.comparison import read_scan, row_of
from tests.support.paths import ROOT

STEEP = {"module": "ase.calculators.lj", "class": "LennardJones", "kwargs": {"sigma": 0.6, "rc": 20}}


def models(folder: Path, **declarations: dict) -> str:
    """A file of models in a folder that becomes the working directory, with a molecule of hydrogen."""
    write(folder / "h2.xyz", Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]))
    (folder / "models.json").write_text(json.dumps(declarations), encoding="utf-8")
    return str(folder / "models.json")


def test_several_models_in_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that cannot be made are named, the others scanned and compared; what is compared is what was scanned."""
    monkeypatch.chdir(tmp_path)
    emt, absent = {"preset": "emt"}, {"module": "no_such_package", "class": "X"}
    file = models(tmp_path, steep=STEEP, emt=emt, absent=absent)
    assert main(["--models", file, "--structure", "h2.xyz", "--out", "out"]) == 2
    shown = capsys.readouterr()
    assert "absent is left out" in shown.err
    assert "Traceback" not in shown.err
    rows = {row["model"]: row for row in json.loads(Path("out/comparison.json").read_text(encoding="utf-8"))["scans"]}
    assert list(rows) == ["steep", "emt"]
    assert rows["steep"]["passed"] == rows["steep"]["bonds"] == 1
    for name in rows:
        assert name in Path("out/comparison.md").read_text(encoding="utf-8")
        assert "ase" in rows[name]["versions"]
        scan = read_scan(f"out/{name}")
        (distances, energies) = scan.curves["H0-H1"]
        assert np.all(np.diff(distances) < 0)
        calculator = _calculators.make({"steep": STEEP, "emt": emt}[name], name)
        some = slice(None, None, 40)
        direct = []
        for r in distances[some]:
            atoms = Atoms("H2", [[0, 0, 0], [0, 0, r]])
            atoms.calc = calculator
            direct.append(atoms.get_potential_energy())
        rise = np.array(direct) - direct[0]
        np.testing.assert_allclose(energies[some] - energies[0], rise, rtol=1e-6, atol=1e-6)
    assert Path("out/comparison.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert main(["--compare", "out/steep", "out/emt", "--structure", "h2.xyz", "--out", "again"]) == max(
        0 if row["passed"] == row["bonds"] else 1 for row in rows.values()
    )
    assert Path("again/comparison.md").read_bytes() == Path("out/comparison.md").read_bytes()


def test_declarations_in_yaml_with_parts_and_tuples(tmp_path: Path) -> None:
    """`class_name` as MLIPX has it; an argument that is declared itself; a tuple stands for its members."""
    (tmp_path / "my.yaml").write_text(
        "one: {module: ase.calculators.lj, class_name: LennardJones, kwargs: {sigma: 0.7}}\n",
        encoding="utf-8",
    )
    found = _calculators.declared(str(tmp_path / "my.yaml"))
    assert _calculators.make(found["one"], "one").parameters["sigma"] == 0.7
    pair = {"module": "builtins", "factory": "divmod", "args": [17, 5]}
    assert _calculators.make({"module": "builtins", "factory": "max", "args": [pair]}, "max") == 3
    single = {"module": "ase.calculators.lj", "class": "LennardJones"}
    assert _calculators.make({"module": "builtins", "factory": "type", "args": [single]}, "type").__name__ == (
        "LennardJones"
    )


def test_presets_say_what_they_need() -> None:
    """Every preset is complete; one whose package or weights are missing says where to get them."""
    for name, preset in _calculators.presets().items():
        assert {"module", "install", "weights"} <= set(preset), name
        assert any(key in preset for key in _calculators.NAMES), name
    assert type(_calculators.load_calculator("emt", None)[0]).__name__ == "EMT"
    with pytest.raises(UserError, match=r"needs model_paths.*my\.model"):
        _calculators.load_calculator("mace", None)
    with pytest.raises(UserError, match=r"cannot be imported.*pip install upet.*Hugging Face"):
        _calculators.load_calculator("upet", None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{not json", "not valid JSON"),
        ("[]", "not named objects"),
        ('{"a": 3}', "not named objects"),
        ('{"a": {"modul": "x"}}', "has the keys .'modul'"),
        ('{"../a": {"preset": "emt"}}', "gives its name to a folder"),
    ],
)
def test_files_of_models_that_are_none(tmp_path: Path, content: str, words: str) -> None:
    """One sentence each."""
    (tmp_path / "models.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=words):
        _calculators.declared(str(tmp_path / "models.json"))
    with pytest.raises(UserError, match="cannot be read"):
        _calculators.declared(str(tmp_path / "absent.json"))


def test_scans_that_cannot_be_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another structure or protocol, the same name twice, no scan, a broken one: one sentence, nothing written."""
    monkeypatch.chdir(tmp_path)
    file = models(tmp_path, steep=STEEP)
    write("h2b.xyz", Atoms("H2", [[0, 0, 0], [0, 0, 0.8]]))
    assert main(["--models", file, "--structure", "h2.xyz", "--out", "a"]) == 0
    assert main(["--models", file, "--structure", "h2b.xyz", "--out", "b"]) == 0
    assert main(["--models", file, "--structure", "h2.xyz", "--r-min", "0.2", "--out", "c"]) == 0
    Path("d").mkdir()
    Path("d/scan.json").write_text('{"model": "x"', encoding="utf-8")
    capsys.readouterr()
    for other, words in (("b", "structure"), ("c", "protocol"), ("a", "one name"), ("d", "no scan"), ("e", "no scan")):
        place = other if other in ("d", "e") else f"{other}/steep"
        assert main(["--compare", "a/steep", place, "--structure", "h2.xyz", "--out", "none"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert words in error
    assert not Path("none").exists()


def test_stored_scans_of_peers_are_whole() -> None:
    """What the page of other potentials is made from."""
    folders = sorted((ROOT / "benchmarks" / "peers" / "scans").iterdir())
    rows = {folder.name: row_of(read_scan(folder)) for folder in folders if folder.is_dir()}
    assert {"gmnn", "gfn2-xtb"} <= set(rows)
    assert rows["gmnn"]["passed"] == rows["gmnn"]["bonds"] == 8
    page = (ROOT / "docs" / "peers.md").read_text(encoding="utf-8")
    assert all(row["model"] in page for row in rows.values())
