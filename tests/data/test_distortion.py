"""`gmnn distort`: labels are those of the data plus a difference, whatever the cheap method gets wrong in common."""

import sys
import types
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from gmnn.commands.distort import main
from gmnn.config.data import LabelsConfig
from gmnn.data import Dataset, distortion, read_dataset

OFFSET = -1000.0  # eV, of another method's zero


def evaluated(atoms: Atoms) -> tuple[float, np.ndarray]:
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    bare.calc = EMT()
    return bare.get_potential_energy(), bare.get_forces()


@pytest.fixture
def copper(tmp_path: Path) -> Path:
    """Rattled copper of two sizes with the labels of EMT, energies from another zero."""
    frames = []
    for k in range(4):
        atoms = bulk("Cu", cubic=True).repeat((2, 1, 1) if k % 2 else 1)
        atoms.rattle(0.05, seed=k)
        energy, forces = evaluated(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=energy + OFFSET, forces=forces)
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = energy + OFFSET, forces
        frames.append(atoms)
    ase.io.write(tmp_path / "cu.xyz", frames, format="extxyz")
    return tmp_path / "cu.xyz"


def made(data: Dataset, n: int, seed: int) -> list[Atoms | None]:
    return list(distortion.labelled(data, np.arange(n) % len(data.atoms), EMT(), np.random.default_rng(seed)))


def test_labels_are_exact_where_the_cheap_method_is(copper: Path) -> None:
    """Data of EMT from another zero, corrected by EMT: every distorted frame has EMT's energy and forces."""
    frames = [one for one in made(read_dataset(str(copper)), 12, 0) if one is not None]
    assert len(frames) >= 4
    for atoms in frames:
        energy, forces = evaluated(atoms)
        assert atoms.get_potential_energy() == pytest.approx(energy + OFFSET, abs=1e-7)
        np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-7)
        assert atoms.info[distortion.RISE] < distortion.HIGHEST * len(atoms)


def test_what_the_cheap_method_lacks_is_kept() -> None:
    """Labels of MP2 corrected by EMT differ from EMT's by what the frame's own label differs, for every atom."""
    data = read_dataset("ethanol").take(np.arange(3))
    energy, forces = evaluated(data.atoms[0])
    (one,) = [x for x in made(data.take(np.arange(1)), 20, 1) if x is not None][:1]
    there = evaluated(one)
    assert one.get_potential_energy() - there[0] == pytest.approx(data.energies[0] - energy, abs=1e-9)
    np.testing.assert_allclose(one.get_forces() - there[1], data.forces[0] - forces, atol=1e-9)


def test_distortions_reach_beyond_bonds_and_never_touch() -> None:
    """Among 100 some have an O-H bond beyond 1.5 Å; no pair is closer than 0.6 covalent sums; seeds differ."""
    atoms, rng = read_dataset("ethanol").atoms[0], np.random.default_rng(0)
    frames = [one for one in (distortion.distorted(atoms, rng) for _ in range(100)) if one is not None]
    contact = np.array([0.31 if z == 1 else 0.76 if z == 6 else 0.66 for z in atoms.numbers])
    upper = np.triu_indices(len(atoms), 1)
    for one in frames:
        assert (one.get_all_distances() / (contact[:, None] + contact))[upper].min() >= distortion.CONTACT
    assert max(one.get_distance(6, 8) for one in frames) > 1.5
    one, same, other = (distortion.distorted(atoms, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert (one.positions == same.positions).all()
    assert np.abs(one.positions - other.positions).max() > 0


def test_command(copper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same file for the same seed, as training reads it; what is wrong is one sentence and nothing is written."""
    out = tmp_path / "far.xyz"
    config = tmp_path / "config.yaml"
    config.write_text(
        f"output: m\ndata: {{train: {copper}, split: ordered, n_train: 2, n_valid: 1}}\n", encoding="utf-8"
    )
    command = [str(config), "--calculator", "ase.calculators.emt:EMT", "-n", "5"]
    assert main([*command, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("5 of ")
    assert f"data.extra={out} 'data.config_type_weights={{distorted: " in text
    data = read_dataset(str(out))
    assert len(data.atoms) == 5
    assert data.present[:, :2].all()
    assert main([*command, "--out", str(tmp_path / "again.xyz")]) == 0
    assert (tmp_path / "again.xyz").read_bytes() == out.read_bytes()
    named = ("data.energy_key=REF_energy", "data.forces_key=REF_forces")
    assert main([*command, *named, "--out", str(tmp_path / "named.xyz")]) == 0
    again = read_dataset(str(tmp_path / "named.xyz"), LabelsConfig(energy_key="REF_energy", forces_key="REF_forces"))
    np.testing.assert_allclose(again.energies, data.energies, atol=1e-6)
    for wrong, words in (
        (("--out", str(tmp_path / "no.xyz"), "data.units.energy=Hartree"), "convert the frames first"),
        (("--out", str(out)), "exists; choose another --out"),
        (("--out", str(tmp_path / "no.xyz"), "--calculator", "nothing"), "is no preset, got 'nothing'"),
        (("--out", str(tmp_path / "no.xyz"), "-n", "0"), "-n is 0, but must be in 1 ... 1000000"),
    ):
        assert main([*command, *wrong]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "no.xyz").exists()


@pytest.mark.parametrize("after", [0, 1])
def test_kind_8_a_teacher_that_leaves_python(
    copper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], after: int
) -> None:
    """At the frame itself and at a distorted one: exit code 2, one sentence, no file."""

    class Own(BaseException):
        """An exception of somebody's that is no `Exception`."""

    class Teacher(EMT):
        count = 0

        def calculate(self, *arguments: Any, **more: Any) -> None:
            self.count += 1
            if self.count > after:
                raise Own("away")
            super().calculate(*arguments, **more)

    module = types.ModuleType("teachers")
    module.Teacher = Teacher  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "teachers", module)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"output: m\ndata: {{train: {copper}, split: ordered, n_train: 2, n_valid: 1}}\n", encoding="utf-8"
    )
    command = [str(config), "--calculator", "teachers:Teacher", "-n", "5", "--out", str(tmp_path / "far.xyz")]
    assert main(command) == 2
    said = capsys.readouterr().err.splitlines()
    assert "tried to end the program, got Own(away)" in said[-1]
    assert "Traceback" not in "".join(said)
    assert not (tmp_path / "far.xyz").exists()
