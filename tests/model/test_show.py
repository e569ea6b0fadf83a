"""`gmnn show`: what it says of a folder is what the folder, the potential and the frames say by another route."""

import json
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.units import GPa

from gmnn import files
from gmnn.commands import show
from gmnn.data import Dataset, read_dataset
from gmnn.model import folder
from tests.support.paths import ROOT

GOLDEN = ROOT / "tests" / "golden"


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_folders_of_every_version(version: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The elements, the number of parameters of 35 features and two layers of 12, the errors that config.json has."""
    path = GOLDEN / f"v{version}" / "model"
    assert show.main([str(path)]) == 0
    printed = capsys.readouterr().out
    stored = json.loads((path / "config.json").read_text(encoding="utf-8"))
    leaves = jax.tree.leaves(folder.load(path).trained)
    assert f"{sum(np.size(leaf) for leaf in leaves)} parameters" in printed
    assert f"{stored['metrics']['valid']['forces_mae_meV_per_A']:.3f} / " in printed
    assert f"single potential for {'H C O'}" in printed
    assert "60 frames of ethanol" in printed
    assert "grades       no" in printed
    assert f"commit {stored['commit'][:10]}" in printed
    if version > 1:
        assert f"{'C-C':<9}{stored['reference']['closest'][3]:>10.3f}" in printed


def test_a_new_folder(tmp_path: Path, make_potential: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    """Ranges, kind and date are there; JSON in a file is what is printed; a setting that a path lacks is named."""
    potential, params = make_potential(ensemble="full", members=2)
    stacked = jax.tree.map(np.float32, params)
    facts = {"data": {"train": {"source": "a.xyz", "indices": 7, "ranges": frames(tmp_path).ranges({29: -1.0})}}}
    folder.save(tmp_path / "m", potential.with_params(stacked), 4, facts)
    assert show.main([str(tmp_path / "m")]) == 0
    printed = capsys.readouterr().out
    for words in ("full ensemble of 2", "7 frames of a.xyz", "|F| up to ", "not fast (XLA): model.ensemble: full",
                  "its training has not ended", "errors       none"):  # fmt: skip
        assert words in printed
    assert show.main([str(tmp_path / "m"), "--json"]) == 0
    behind = json.loads(capsys.readouterr().out)
    assert show.main([str(tmp_path / "m"), "--json", str(tmp_path / "a.json")]) == 0
    assert {**behind, "checksum": None} == {**files.read_sealed(tmp_path / "a.json", ""), "checksum": None}
    assert behind["pairs"][0]["pair"] == "H-H"
    assert behind["written"][:4].isdigit()
    (tmp_path / "b.json").write_text("{}", encoding="utf-8")
    assert show.main([str(tmp_path / "m"), "--json", str(tmp_path / "b.json")]) == 2, "somebody else's file"


def frames(path: Path) -> Dataset:
    crystal = bulk("Cu", cubic=True)
    crystal.rattle(0.1, seed=1)
    crystal.calc = EMT()
    labels = {"energy": crystal.get_potential_energy(), "forces": crystal.get_forces(), "stress": crystal.get_stress()}
    crystal.calc = SinglePointCalculator(crystal, **labels)
    atom = Atoms("Cu")
    atom.calc = SinglePointCalculator(atom, energy=-3.5)
    write(path / "a.traj", [crystal, atom])
    return read_dataset(str(path / "a.traj"))


def test_ranges_of_frames(tmp_path: Path) -> None:
    """By hand: E above the references and per atom, the longest force, minus a third of the trace of the stress."""
    data = frames(tmp_path)
    crystal = data.atoms[0]
    found = data.ranges({29: -1.0})
    above = sorted([(crystal.get_potential_energy() + 4.0) / 4.0, -2.5])
    assert (found["frames"], found["atoms"], found["n_energies"], found["n_forces"]) == (2, [1, 4], 2, 1)
    np.testing.assert_allclose(found["energy_eV_per_atom"], above, rtol=1e-12)
    np.testing.assert_allclose(found["largest_force_eV_per_A"], max(map(np.linalg.norm, crystal.get_forces())))
    np.testing.assert_allclose(found["pressure_GPa"], [-crystal.get_stress()[:3].mean() / GPa] * 2, rtol=1e-9)


def test_what_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder, a file, nothing, and a config.json of something else: one sentence each."""
    (tmp_path / "config.json").write_text('{"a": 1}', encoding="utf-8")
    for place in (tmp_path, ROOT / "docs", ROOT / "README.md", tmp_path / "no"):
        assert show.main([str(place)]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("show: ")
        assert said.err.count("\n") == 1
