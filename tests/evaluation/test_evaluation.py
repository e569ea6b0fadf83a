"""Evaluation: errors are those of every frame alone, missing labels count nowhere, and the report says all of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.units import GPa
from matplotlib.figure import Figure

from gmnn import files
from gmnn.commands import _printing, evaluate
from gmnn.config.model import ModelConfig
from gmnn.data import Dataset, read_dataset
from gmnn.data.embedded import ethanol
from gmnn.errors import UserError
from gmnn.evaluation import Comparison, compare, figures, predict, with_grades
from gmnn.evaluation.parity import SHOWN, _panel, parity
from gmnn.interfaces.calculator import Calculator
from gmnn.model.potential import Potential
from gmnn.reference import Reference
from tests.support.paths import ROOT
from tests.support.plain import PLAIN

KINDS = {"molecule": "gas", "crystal": "", "slab": "surface", "dimer": "gas"}
Found = tuple[list[float], list[np.ndarray], list[np.ndarray]]


def structures() -> dict[str, Atoms]:
    """9, 8, 4 and 2 atoms: a molecule, a crystal, a slab in a cell with vacuum, another molecule."""
    crystal = bulk("SiC", "zincblende", a=4.36, cubic=True)
    crystal.rattle(0.12, seed=1)
    sheet = [[3.1, 0.0, 0.0], [0.7, 3.4, 0.0], [0.0, 0.0, 14.0]]
    layers = [[0.0, 0.1, 0.0], [1.5, 1.6, 0.9], [0.2, 0.1, 1.9], [0.3, 0.1, 2.9]]
    return {
        "molecule": Atoms(ethanol()[0].numbers, ethanol()[0].positions),
        "crystal": crystal,
        "slab": Atoms("SiCOH", layers, cell=sheet, pbc=[True, True, False]),
        "dimer": Atoms("OH", [[0.1, 0.2, 0.3], [0.6, -0.3, 0.8]]),
    }


@pytest.fixture(scope="module")
def trained() -> Potential:
    """A small random potential."""
    config = ModelConfig(r_max=3.6, n_radial=2, n_basis=4, hidden=(8,), **PLAIN)
    reference = Reference((1, 6, 8, 14), (-1.3, -5.0, -7.0, -4.0), (2.0,) * 4, (0.3, -0.7, 1.1, 0.2))
    potential = Potential(config, reference)
    return potential.with_params(potential.init(3))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The structures with random labels, of stress where there is a cell, read from a file."""
    rng = np.random.default_rng(5)
    frames = []
    for name, atoms in structures().items():
        labels = {"energy": rng.normal(-50.0, 3.0), "forces": rng.normal(0.0, 2.0, (len(atoms), 3))}
        if atoms.cell.rank == 3:
            labels["stress"] = rng.normal(0.0, 0.05, 6)
        atoms.calc = SinglePointCalculator(atoms, **labels)
        if KINDS[name]:
            atoms.info["config_type"] = KINDS[name]
        frames.append(atoms)
    path = tmp_path_factory.mktemp("mixed") / "mixed.extxyz"
    write(path, frames)
    return read_dataset(str(path))


@pytest.fixture(scope="module")
def alone(trained: Potential, mixed: Dataset) -> Found:
    """Errors of each frame in float64 through the ASE calculator, meV, meV/Å and meV/Å^3 (none without a cell)."""
    calculator = Calculator(trained, dtype="float64")
    energies, forces, stresses = [], [], []
    for k, frame in enumerate(mixed.atoms):
        atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc, calculator=calculator)
        energies.append(1e3 * (atoms.get_potential_energy() - mixed.energies[k]))
        forces.append(1e3 * (atoms.get_forces() - mixed.forces[k]))
        has_stress = frame.cell.rank == 3
        stresses.append(1e3 * (atoms.get_stress(voigt=False) - mixed.stresses[k]) if has_stress else np.zeros((0, 3)))
    return energies, forces, stresses


def mae(errors: list) -> float:
    return float(np.mean(np.abs(np.concatenate([np.ravel(e) for e in errors]))))


def rmse(errors: list) -> float:
    return float(np.sqrt(np.mean(np.concatenate([np.ravel(e) for e in errors]) ** 2)))


def test_errors_are_those_of_every_frame_alone(trained: Potential, mixed: Dataset, alone: Found) -> None:
    """Frames of several sizes: all errors equal those of the calculator, frame by frame in float64."""
    energies, forces, stresses = alone
    sizes = [len(atoms) for atoms in mixed.atoms]
    report = compare(trained, mixed).report()
    expected = {
        "n_frames": 4,
        "n_energies": 4,
        "n_forces": 4,
        "n_stresses": 2,
        "energy_mae_meV": mae(energies),
        "energy_rmse_meV": rmse(energies),
        "energy_mae_meV_per_atom": mae([e / n for e, n in zip(energies, sizes, strict=True)]),
        "energy_rmse_meV_per_atom": rmse([e / n for e, n in zip(energies, sizes, strict=True)]),
        "forces_mae_meV_per_A": mae(forces),
        "forces_rmse_meV_per_A": rmse(forces),
        "forces_max_error_meV_per_A": max(np.abs(f).max() for f in forces),
        "stress_mae_meV_per_A3": mae(stresses),
        "stress_rmse_meV_per_A3": rmse(stresses),
        "stress_mae_GPa": 1e-3 * mae(stresses) / GPa,
        "stress_rmse_GPa": 1e-3 * rmse(stresses) / GPa,
    }
    assert {key: report[key] for key in expected} == pytest.approx(expected, rel=1e-5)

    numbers = np.concatenate([atoms.numbers for atoms in mixed.atoms])
    of_carbon = np.concatenate(forces)[numbers == 6]
    assert list(report["by_element"]) == ["H", "C", "O", "Si"]
    assert report["by_element"]["C"]["n_atoms"] == len(of_carbon)
    assert report["by_element"]["C"]["forces_mae_meV_per_A"] == pytest.approx(mae([of_carbon]), rel=1e-5)
    assert report["by_element"]["C"]["forces_rmse_meV_per_A"] == pytest.approx(rmse([of_carbon]), rel=1e-5)

    norms = np.linalg.norm(np.concatenate(mixed.forces), axis=1)
    row = next(row for row in report["by_force"] if row["from_eV_per_A"] == 3.0)
    strong = (norms >= 3.0) & (norms < 10.0)
    assert row["n_atoms"] == strong.sum()
    assert row["forces_mae_meV_per_A"] == pytest.approx(mae([np.concatenate(forces)[strong]]), rel=1e-5)
    assert sum(row["n_atoms"] for row in report["by_force"]) == len(numbers)

    groups, gas = report["by_config_type"], (0, 3)
    assert {name: row["n_frames"] for name, row in groups.items()} == {"gas": 2, "": 1, "surface": 1}
    assert groups["gas"]["energy_mae_meV"] == pytest.approx(mae([energies[k] for k in gas]), rel=1e-5)
    assert groups["gas"]["forces_rmse_meV_per_A"] == pytest.approx(rmse([forces[k] for k in gas]), rel=1e-5)
    assert groups["gas"]["stress_mae_meV_per_A3"] is None
    assert groups["surface"]["stress_mae_meV_per_A3"] == pytest.approx(mae(stresses[2]), rel=1e-5)

    per_atom = np.abs(energies) / sizes
    found = report["worst"]["energy_meV_per_atom"]
    assert [row["frame"] for row in found] == np.argsort(-per_atom).tolist()
    assert found[0]["error"] == pytest.approx(per_atom.max(), rel=1e-5)
    assert found[0]["config_type"] == list(KINDS.values())[np.argmax(per_atom)]
    assert {row["frame"] for row in report["worst"]["stress_meV_per_A3"]} == {1, 2}
    assert report["worst"]["forces_meV_per_A"][0]["error"] == pytest.approx(
        expected["forces_max_error_meV_per_A"], rel=1e-5
    )


def test_missing_labels_leave_a_frame_out_of_that_quantity(trained: Potential, mixed: Dataset, alone: Found) -> None:
    """Frame 0 has no energy, frame 1 no forces, frame 2 no stress: the errors are those of the others."""
    energies, forces, stresses = alone
    gaps = mixed.energies.copy(), [f.copy() for f in mixed.forces], mixed.stresses.copy()
    gaps[0][0], gaps[1][1][2, 1], gaps[2][2] = np.nan, np.nan, np.nan  # one component missing: no forces
    data = replace(mixed, energies=gaps[0], forces=gaps[1], stresses=gaps[2])
    comparison = compare(trained, data)
    found = comparison.metrics()
    assert [found[key] for key in ("n_frames", "n_energies", "n_forces", "n_stresses")] == [4, 3, 3, 1]
    assert found["energy_mae_meV"] == pytest.approx(mae(energies[1:]), rel=1e-5)
    assert found["forces_mae_meV_per_A"] == pytest.approx(mae([forces[k] for k in (0, 2, 3)]), rel=1e-5)
    assert found["stress_rmse_meV_per_A3"] == pytest.approx(rmse(stresses[1]), rel=1e-5)
    worst = comparison.worst()
    assert 0 not in [row["frame"] for row in worst["energy_meV_per_atom"]]
    assert 1 not in [row["frame"] for row in worst["forces_meV_per_A"]]
    table = _printing.evaluation(comparison.report())
    assert "energy, meV                3" in table
    assert "stress, GPa                1" in table


def test_a_stress_without_a_cell_is_no_label(trained: Potential, mixed: Dataset) -> None:
    """A molecule in a box that does not repeat has no stress, whatever its file says."""
    stresses = np.where(np.isnan(mixed.stresses), 0.1, mixed.stresses)
    assert compare(trained, replace(mixed, stresses=stresses)).metrics()["n_stresses"] == 2


def test_in_portions_and_chunks(trained: Potential, mixed: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small portions and chunks of one frame: the same predictions of the same frames, in the order of the file."""
    whole = compare(trained, mixed).of(np.array([True, True, False, False]))
    monkeypatch.setattr(predict, "PORTION", 5)
    monkeypatch.setattr(predict, "CHUNK_SLOTS", 1)
    parts = compare(trained, mixed.take(np.array([0, 1])))
    for name in ("energies", "forces", "stresses", "numbers", "indices"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-5, atol=1e-5)


def test_nothing_to_compare_with(trained: Potential, mixed: Dataset) -> None:
    bare = replace(
        mixed,
        energies=np.full(4, np.nan),
        forces=[np.full_like(f, np.nan) for f in mixed.forces],
        stresses=np.full((4, 3, 3), np.nan),
    )
    with pytest.raises(UserError, match="no frame has an energy, forces or a stress"):
        compare(trained, bare)


def test_report_is_strict_json(trained: Potential, mixed: Dataset, tmp_path: Path) -> None:
    """Null where there is nothing: without energies and with a prediction that is not finite."""
    comparison = compare(trained, replace(mixed, energies=np.full(4, np.nan)))
    comparison.forces[0, 0, 1] = np.nan
    files.write_json(tmp_path / "report.json", comparison.report())
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["energy_mae_meV"] is None
    assert report["worst"]["energy_meV_per_atom"] == []
    assert report["forces_mae_meV_per_A"] is None
    assert report["by_config_type"]["surface"]["forces_mae_meV_per_A"] > 0
    assert report["worst"]["forces_meV_per_A"][0] == {"frame": 0, "config_type": "gas", "error": None}
    table = _printing.evaluation(report)
    assert "no frame has a label of energy" in table
    assert "None" not in table
    parity(comparison, tmp_path / "parity.png", "mixed")
    assert (tmp_path / "parity.png").stat().st_size > 0


@pytest.mark.slow
def test_grades_in_report_and_figure(trained: Potential, mixed: Dataset, tmp_path: Path) -> None:
    """Those of the calculator, in the columns of groups of atoms; nothing is printed or drawn without them."""
    without = compare(trained, mixed)
    figures.errors_by_grade(without, tmp_path / "none.png", "mixed")
    assert not (tmp_path / "none.png").exists()
    assert "above 1" not in _printing.evaluation(without.report())
    potential = with_grades(trained, mixed, mixed.take(np.array([0, 2])))
    comparison = compare(potential, mixed)
    found = Calculator(potential, path="kernel", grades=True).batch_eval(mixed.atoms)
    alone = np.concatenate([atoms.calc.results["grades"] for atoms in found])
    np.testing.assert_allclose(comparison.grades, alone, rtol=1e-2)
    report = json.loads(json.dumps(comparison.report()))
    assert report["grade_largest"] == pytest.approx(comparison.grades.max())
    assert report["share_above_1"] == pytest.approx(np.mean(comparison.grades > 1.001))
    silicon = comparison.numbers == 14
    assert report["by_element"]["Si"]["grade_largest"] == pytest.approx(comparison.grades[silicon].max())
    assert "grade, 99 %" in _printing.evaluation(report)
    figures.errors_by_grade(comparison, tmp_path / "grades.png", "mixed")
    assert (tmp_path / "grades.png").stat().st_size > 0


def test_many_points_are_thinned_with_a_note() -> None:
    """Above the limit a panel shows that many points, the farthest among them, and says so."""
    points = np.random.default_rng(0).normal(size=(SHOWN + 10, 1)) + np.array([[0.0, 0.0]])
    points[7, 1] = 9.0
    axis = Figure().add_subplot()
    _panel(axis, points, np.array(["H"]), {"H": "#0072b2"}, "force", [])
    drawn = np.asarray(axis.collections[0].get_offsets())
    assert len(np.unique(drawn, axis=0)) == SHOWN
    assert (drawn[:, 1] == 9.0).any()
    assert "50,000 of 50,010 points" in axis.texts[0].get_text()


def test_table_of_a_training_has_stress_where_there_is_any(trained: Potential, mixed: Dataset) -> None:
    comparison = compare(trained, mixed)
    without = comparison.of(comparison.config_types == "gas").metrics()
    assert "S, GPa" in _printing.parts({"train": comparison.metrics(), "valid": without})
    assert "S, GPa" not in _printing.parts({"train": without})


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`gmnn eval` of the shipped model on six frames: table, strict JSON and figure; its mistakes are one sentence."""
    model = str(ROOT / "examples" / "ethanol")
    frames = read_dataset("ethanol").atoms[:6]
    write(tmp_path / "six.extxyz", frames)
    assert evaluate.main([model, str(tmp_path / "six.extxyz"), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert report["n_frames"] == 6
    assert 0 < report["forces_mae_meV_per_A"] < 50
    assert f"{report['forces_mae_meV_per_A']:.3f}" in printed
    assert report["stress_mae_GPa"] is None
    assert "stress" not in printed
    assert (tmp_path / "out" / "parity.png").stat().st_size > 0

    strange = frames[0].copy()
    strange.numbers[0] = 14
    strange.calc = SinglePointCalculator(strange, energy=-1.0, forces=np.ones((9, 3)))
    write(tmp_path / "strange.extxyz", [frames[1], strange])
    (tmp_path / "empty.extxyz").write_text("", encoding="utf-8")
    for name, words in (("strange", "was not trained on Si"), ("empty", "Empty file")):
        assert evaluate.main([model, str(tmp_path / f"{name}.extxyz"), "--out", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert len(error.strip().splitlines()) == 1


def test_part_of_a_comparison() -> None:
    """A mask of frames takes their atoms with them."""
    comparison = Comparison(
        np.arange(6.0).reshape(3, 2), np.arange(36.0).reshape(6, 3, 2), np.zeros((3, 3, 3, 2)), np.zeros(3),
        np.array([1, 2, 3]), np.array([1, 6, 6, 8, 8, 8]), np.arange(3), np.array(["", "a", ""]),
        np.arange(6.0),
    )  # fmt: skip
    middle = comparison.of(np.array([False, True, False]))
    assert middle.numbers.tolist() == [6, 6]
    assert middle.forces[0, 0, 0] == 6.0
    assert middle.sizes.tolist() == [2]
    assert middle.grades.tolist() == [1.0, 2.0]
