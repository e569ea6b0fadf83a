"""Grades: the Mahalanobis distance written out, the same on every path, 1 for the largest of validation, or absent."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

import gmnn
from gmnn import Calculator
from gmnn.config.model import CoreConfig
from gmnn.data import Dataset
from gmnn.device import on_device
from gmnn.errors import UserError
from gmnn.evaluation import add_grades, with_grades
from gmnn.kernels import choice
from gmnn.model import folder, grade
from gmnn.model.potential import Potential
from gmnn.neighbors.host import make_system, stack

Make = Callable[..., tuple[Any, dict]]
HIDDEN = 8


def frames(count: int, seed: int, structures: dict[str, Atoms]) -> Dataset:
    """Moved copies of a molecule, a crystal and a triclinic cell: H, C, O and Si."""
    rng = np.random.default_rng(seed)
    atoms = [structures[("molecule", "crystal", "triclinic")[k % 3]].copy() for k in range(count)]
    for some in atoms:
        some.positions += rng.normal(0.0, 0.05, some.positions.shape)
    return Dataset(
        atoms, np.zeros(count), [np.zeros((len(a), 3)) for a in atoms], np.full((count, 3, 3), np.nan), np.ones(count),
        "made", "", np.arange(count),
    )  # fmt: skip


@pytest.fixture
def sets(structures: dict[str, Atoms]) -> tuple[Dataset, Dataset]:
    return frames(60, 0, structures), frames(12, 1, structures)


@pytest.fixture
def make_graded(make_potential: Make, sets: tuple[Dataset, Dataset]) -> Callable[..., Potential]:
    def make(**config: Any) -> Potential:
        potential, params = make_potential(**{"core": CoreConfig(), **config})
        return with_grades(potential.with_params(params), *sets)

    return make


def system_of(atoms: Atoms, potential: Potential) -> gmnn.System:
    made = make_system(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, potential.config.r_max)
    return on_device(made, "float64")


features = jax.jit(Potential.features, static_argnums=0)


def activations(potential: Potential, frames: list[Atoms]) -> np.ndarray:
    """The last hidden layer of all atoms by hand, from the features that are tested elsewhere."""
    batch = stack([system_of(atoms, potential) for atoms in frames])
    h = np.asarray(features(potential, potential.trained, batch), float)[batch.numbers > 0]
    for k in range(len(potential.config.hidden)):
        layer = potential.trained["readout"][f"layer_{k}"]
        x = (1.6765 if k else 1.0) * h @ np.asarray(layer["kernel"], float) + np.asarray(layer["bias"], float)
        h = x / (1.0 + np.exp(-x))
    return h


def by_hand(potential: Potential, train: Dataset, valid: Dataset, chosen: list[Atoms]) -> np.ndarray:
    """Mahalanobis distances of all atoms by whole covariance matrices, whose smallest eigenvalues are raised."""
    hidden = activations(potential, train.atoms)
    numbers = np.concatenate([a.numbers for a in train.atoms])
    means = {z: hidden[numbers == z].mean(axis=0) for z in np.unique(numbers)}
    covariances = {z: np.cov(hidden[numbers == z].T, bias=True) for z in means}
    mean_variance = sum((numbers == z).mean() * np.trace(covariances[z]) / hidden.shape[1] for z in means)

    def distances(some: list[Atoms]) -> np.ndarray:
        found = []
        for h, z in zip(activations(potential, some), np.concatenate([a.numbers for a in some]), strict=True):
            variances, vectors = np.linalg.eigh(covariances[z])
            variances = np.maximum(variances, grade.LEAST * mean_variance)
            found.append(np.sqrt((h - means[z]) @ (vectors / variances) @ vectors.T @ (h - means[z])))
        return np.array(found)

    return distances(chosen) / distances(valid.atoms).max()


@pytest.mark.parametrize("path", ["kernel", *(pytest.param(p, marks=pytest.mark.slow) for p in ("reference", "fast"))])
def test_every_path_has_the_distance_written_out(
    make_graded: Callable[..., Potential], sets: tuple[Dataset, Dataset], structures: dict[str, Atoms], path: str
) -> None:
    """One system and a padded batch in float64; everything else is what it is without grades."""
    potential = make_graded()
    params, predict = choice.evaluator(potential, path, "float64", grades=True)
    chosen = [structures[name] for name in ("molecule", "crystal", "triclinic")]
    batch = stack([system_of(atoms, potential) for atoms in chosen])
    found = jax.jit(predict)(params, batch)
    bare_params, bare = choice.evaluator(potential, path, "float64")
    without = jax.jit(bare)(bare_params, batch)
    assert without.grades is None
    for a, b in zip(found[:-1], without[:-1], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)
    real = np.asarray(batch.numbers) > 0
    np.testing.assert_allclose(np.asarray(found.grades)[real], by_hand(potential, *sets, chosen), rtol=2e-3)
    assert not np.any(np.asarray(found.grades)[~real])
    alone = jax.jit(predict)(params, system_of(chosen[2], potential)).grades
    np.testing.assert_allclose(alone, found.grades[2, :3], rtol=1e-10)
    reference = jax.jit(potential.grades)(potential.trained, potential.fitted_grade, batch)
    np.testing.assert_allclose(found.grades, reference, rtol=1e-7)


@pytest.mark.parametrize("rank", [3, 8])
def test_directions_beyond_the_rank_share_a_variance(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two terms are the distance with a covariance that has one variance in all other directions."""
    monkeypatch.setattr(grade, "RANK", rank)
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(400, HIDDEN)) * np.geomspace(3.0, 0.1, HIDDEN) @ rng.normal(size=(HIDDEN, HIDDEN))
    moments = grade.Moments(1, HIDDEN)
    for part in np.split(hidden, 4):
        moments.add(part, np.zeros(100, int))
    variances, vectors = np.linalg.eigh(np.cov(hidden.T, bias=True))
    assert variances.min() < grade.LEAST * variances.mean() < variances[2]
    variances = np.maximum(variances, grade.LEAST * variances.mean())
    if rank < HIDDEN:
        variances[: HIDDEN - rank] = np.mean(variances[: HIDDEN - rank])
    apart = (hidden - hidden.mean(axis=0)) @ vectors
    found = grade.distances(moments.grade(), hidden.T, np.zeros(400, int))
    np.testing.assert_allclose(found, np.sqrt(np.sum(apart**2 / variances, axis=1)), rtol=1e-6)
    assert np.mean(np.asarray(found) ** 2) == pytest.approx(HIDDEN, rel=0.2)


@pytest.mark.parametrize("path", ["kernel", pytest.param("reference", marks=pytest.mark.slow)])
def test_largest_of_the_validation_frames_is_one(
    make_graded: Callable[..., Potential], sets: tuple[Dataset, Dataset], path: str
) -> None:
    """In float32 to its rounding; far outside it is larger."""
    potential = make_graded()
    calculator = Calculator(potential, path=path, grades=True)
    found = [atoms.calc.results["grades"] for atoms in calculator.batch_eval(sets[1].atoms)]
    assert max(map(np.max, found)) == pytest.approx(1.0, rel=1e-3)
    far = sets[1].atoms[0].copy()
    far.positions += np.random.default_rng(0).normal(0.0, 0.3, far.positions.shape)
    far.calc = calculator
    assert calculator.get_property("grades", far).max() > 1.5


def test_invariance(make_graded: Callable[..., Potential], structures: dict[str, Atoms]) -> None:
    """Rotated, mirrored, shifted and in another order an atom keeps its grade."""
    atoms, calculator = structures["molecule"], Calculator(make_graded(), dtype="float64", grades=True)
    wanted, order = calculator.get_property("grades", atoms), np.random.default_rng(0).permutation(len(atoms))
    moved = atoms[order]
    moved.rotate(77.0, (1, 2, 3))
    moved.positions = moved.positions * [1, -1, 1] + [3.0, -2.0, 1.0]
    np.testing.assert_allclose(calculator.get_property("grades", moved), wanted[order], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "shallow"])
def test_ensembles(make_graded: Callable[..., Potential], structures: dict[str, Atoms], kind: str) -> None:
    """Members of a full ensemble have grades of their own, whose mean counts; a shallow one has one last layer."""
    potential, atoms = make_graded(ensemble=kind, members=3), structures["crystal"]
    system = system_of(atoms, potential)
    params, predict = choice.evaluator(potential, "auto", "float64", grades=True)
    found = np.asarray(jax.jit(predict)(params, system).grades)
    members = [potential]
    if kind == "full":
        fitted = [jax.tree.map(lambda leaf, m=m: leaf[m], potential.fitted_grade) for m in range(3)]
        members = [replace(p, grade=g) for p, g in zip(potential.member_potentials, fitted, strict=True)]
    alone = [np.asarray(jax.jit(p.grades)(p.trained, p.fitted_grade, system)) for p in members]
    np.testing.assert_allclose(found, np.mean(alone, axis=0), rtol=1e-6)
    assert np.ptp(found) > 0.01


@pytest.mark.slow
def test_an_element_without_training_atoms_is_infinitely_far(
    make_potential: Make, structures: dict[str, Atoms]
) -> None:
    molecules = [structures["molecule"]] * 3
    potential, params = make_potential()
    data = frames(3, 0, {"molecule": molecules[0], "crystal": molecules[0], "triclinic": molecules[0]})
    graded = with_grades(potential.with_params(params), data, data)
    for path in ("reference", "fast", "kernel"):
        found = Calculator(graded, path=path, grades=True).get_property("grades", structures["crystal"])
        silicon = structures["crystal"].numbers == 14
        assert np.isinf(found[silicon]).all()
        assert np.isfinite(found[~silicon]).all()


def test_model_folders(make_graded: Callable[..., Potential], sets: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    """What is written is what is read; a folder without grades loads, says what to do and can be given some."""
    graded, bare, old = make_graded(), tmp_path / "bare", tmp_path / "graded"
    as_float32 = jax.tree.map(np.float32, graded.trained)
    graded = replace(graded, params=as_float32)
    folder.save(old, graded, 3, {"finished": True})
    found = gmnn.load(old)
    for a, b in zip(found.fitted_grade, graded.fitted_grade, strict=True):
        np.testing.assert_array_equal(a, b)
    folder.save(bare, replace(graded, grade=None), 3, {"finished": True})
    assert "grade" not in json.loads((bare / "config.json").read_text(encoding="utf-8"))
    assert folder.potential_digest(gmnn.load(bare)) == folder.potential_digest(found)
    with pytest.raises(UserError, match=r"has no grades.*gmnn.evaluation.add_grades\(folder"):
        choice.evaluator(gmnn.load(bare), "reference", "float32", grades=True)
    for dataset, name in zip(sets, ("train", "valid"), strict=True):
        for atoms in dataset.atoms:
            atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.ones((len(atoms), 3)))
        write(tmp_path / f"{name}.xyz", dataset.atoms, "extxyz")
    for _ in range(2):  # a second time replaces the first
        add_grades(bare, *(str(tmp_path / f"{name}.xyz") for name in ("train", "valid")))
    assert json.loads((bare / "config.json").read_text(encoding="utf-8"))["finished"]
    assert len(list((bare / "grade").iterdir())) == 1
    for a, b in zip(gmnn.load(bare).fitted_grade, graded.fitted_grade, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-3 * np.abs(b).max())
    file = next((old / "grade").rglob("d/*"))
    file.write_bytes(file.read_bytes()[:-40] + bytes(40))
    with pytest.raises(UserError, match="copy the model folder again"):
        gmnn.load(old)


def test_the_calculator_writes_a_column(
    make_graded: Callable[..., Potential], structures: dict[str, Atoms], tmp_path: Path
) -> None:
    """ASE's own calculator and extxyz take the property; without grades, results have the keys that they had."""
    potential, atoms = make_graded(), structures["crystal"]
    assert "grades" not in Calculator(potential).batch_eval([atoms])[0].calc.results
    atoms.calc = Calculator(potential, grades=True)
    atoms.get_forces()
    (single,) = Calculator(potential, grades=True).batch_eval([atoms])
    np.testing.assert_allclose(single.calc.results["grades"], atoms.calc.results["grades"], rtol=1e-4)
    frozen = atoms.copy()
    frozen.calc = SinglePointCalculator(frozen, **atoms.calc.results)
    write(tmp_path / "frame.xyz", frozen, "extxyz")
    assert "grades:R:1" in (tmp_path / "frame.xyz").read_text(encoding="utf-8")
    again = read(tmp_path / "frame.xyz")
    found = again.calc.results.get("grades", again.arrays.get("grades"))
    np.testing.assert_allclose(found, atoms.calc.results["grades"], atol=1e-6)
