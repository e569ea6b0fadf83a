"""Selection of frames: features are derivatives, greedy choices equal those by definition, known frames come last."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import jax
import numpy as np
import pytest
from ase import Atoms

import gmnn
from gmnn.commands import select
from gmnn.data.embedded import ethanol
from gmnn.errors import UserError
from gmnn.interfaces.calculator import Calculator
from gmnn.model.grade import Grade
from gmnn.model.potential import Potential
from gmnn.training import selection
from tests.support.paths import ROOT

energy = jax.jit(Potential.energy, static_argnums=0)
Model = tuple[Potential, dict[str, Any]]


def test_features_are_derivatives_of_the_energy(
    make_potential: Callable[..., Model], structures: dict[str, Atoms]
) -> None:
    """Moving the last layer's weights by w changes the energy of a frame by N w . features, to first order."""
    potential, params = make_potential()
    potential = potential.with_params(jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params))
    frames = [structures[name] for name in ("triclinic", "molecule", "atom")]
    features = selection.frame_features(potential, frames)
    assert features.shape == (3, 8)
    from gmnn.neighbors.host import make_system

    rng = np.random.default_rng(0)
    way = rng.normal(size=(8, 1))
    h = 1e-6
    for atoms, row in zip(frames, features, strict=True):
        system = make_system(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, potential.config.r_max)
        ends = []
        for sign in (1, -1):
            moved = jax.tree.map(lambda leaf: np.asarray(leaf, float), potential.trained)
            moved["readout"]["layer_2"]["kernel"] += sign * h * way
            ends.append(float(energy(potential, moved, system)))
        assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(len(atoms) * float(row @ way[:, 0]), rel=1e-3, abs=1e-4)


@pytest.fixture
def features() -> tuple[np.ndarray, np.ndarray]:
    """25 frames in 6 dimensions, some of them twice, and 4 known ones."""
    rng = np.random.default_rng(2)
    points = rng.normal(size=(20, 6)) * [3, 2, 1, 1, 0.5, 0.1]
    return np.concatenate([points, points[:5]]), rng.normal(size=(4, 6))


@pytest.mark.parametrize("with_known", [False, True])
def test_largest_determinant(features: tuple[np.ndarray, np.ndarray], with_known: bool) -> None:
    """Every step against the determinants of all candidates, computed one by one."""
    points, known = features
    known = known if with_known else known[:0]
    chosen, variances = selection.by_determinant(points, 8, known)
    noise = selection.NOISE * np.mean(np.sum(points**2, axis=1))
    taken: list[int] = []
    before = 0.0 if not len(known) else np.linalg.slogdet(known @ known.T + noise * np.eye(4))[1]
    for k, variance in zip(chosen, variances, strict=True):
        values = np.full(len(points), -np.inf)
        for c in set(range(len(points))) - set(taken):
            rows = np.concatenate([known, points[[*taken, c]]])
            values[c] = np.linalg.slogdet(rows @ rows.T + noise * np.eye(len(rows)))[1]
        assert values[k] == pytest.approx(values.max(), abs=1e-6)
        assert np.log(variance) == pytest.approx(values[k] - before, abs=1e-6)
        taken.append(int(k))
        before = values[k]


@pytest.mark.parametrize("with_known", [False, True])
def test_largest_distance(features: tuple[np.ndarray, np.ndarray], with_known: bool) -> None:
    """Every step against all distances; a frame that stands twice is taken once as long as others are left."""
    points, known = features
    known = known if with_known else known[:0]
    chosen, distances = selection.by_distance(points, 20, known)
    assert len(set(chosen)) == 20
    assert len({tuple(points[k]) for k in chosen}) == 20
    taken = list(known)
    for k, distance in zip(chosen, distances, strict=True):
        if taken:
            nearest = np.min(np.linalg.norm(points[:, None] - np.array(taken)[None], axis=2), axis=1)
            assert distance == pytest.approx(nearest.max(), rel=1e-9)
            assert nearest[k] == pytest.approx(nearest.max(), rel=1e-9)
        taken.append(points[k])


def test_known_frames_are_worth_nothing(features: tuple[np.ndarray, np.ndarray]) -> None:
    """Frames that are known have no distance and no variance: none is chosen while there are other directions."""
    points, _ = features
    chosen, distances = selection.by_distance(points[:20], 20, points[:3])
    assert set(chosen[-3:]) == {0, 1, 2}
    np.testing.assert_allclose(distances[-3:], 0.0, atol=1e-6)
    chosen, variances = selection.by_determinant(points[:20], 4, points[:3])  # three of six directions are open
    assert not {0, 1, 2} & set(chosen[:3])
    taught = np.concatenate([points[:3], points[chosen[:3]]])  # six frames: no direction is open any more
    noise = selection.NOISE * np.mean(np.sum(points[:20] ** 2, axis=1))
    leverage = points[chosen[3]] @ np.linalg.solve(taught.T @ taught, points[chosen[3]])
    assert variances[3] == pytest.approx(noise * (1 + leverage), rel=1e-2)
    assert variances[3] < 1e-2 * variances[2]


@pytest.mark.slow
def test_extremes_are_those_of_the_calculator(make_potential: Callable[..., Model]) -> None:
    """Energy above E0, longest force and largest grade of frames of two sizes, one at a time in float64."""
    potential, params = make_potential()
    rest = np.array([1.0, 2.0, 0.5, 1.0])
    grade = Grade(np.full((4, 8), 0.1), np.full((4, 1, 8), 0.2), rest)
    potential = replace(potential.with_params(jax.tree.map(np.float32, params)), grade=grade)
    frames = [Atoms(a.numbers, a.positions) for a in ethanol()[:3]]
    frames[1] = frames[1][:8]
    calculator = Calculator(potential, dtype="float64", path="fast", grades=True)
    for atoms, row in zip(frames, selection.extremes(potential, frames, grades=True), strict=True):
        atoms.calc = calculator
        above = (atoms.get_potential_energy() - potential.offsets(atoms.numbers).sum()) / len(atoms)
        longest = np.linalg.norm(atoms.get_forces(), axis=1).max()
        np.testing.assert_allclose(row, [above, longest, calculator.results["grades"].max()], rtol=1e-4)
    with pytest.raises(UserError, match="has no grades"):
        selection.extremes(replace(potential, grade=None), frames, grades=True)


def test_bounds_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bound keeps out a frame that is torn apart; indices are those of the file; too narrow bounds are named."""
    frames = [Atoms(a.numbers, a.positions) for a in ethanol()[:6]]
    frames[0].positions[-1] += [0.5, 0.0, 0.0]
    ase.io.write(tmp_path / "pool.extxyz", frames)
    longest = selection.extremes(gmnn.load(ROOT / "examples" / "ethanol"), frames)[:, 1]
    out, limit = tmp_path / "out.extxyz", float(np.sort(longest)[-2])
    command = [str(ROOT / "examples" / "ethanol"), str(tmp_path / "pool.extxyz"), "--out", str(out), "-n", "5"]
    assert select.main([*command, "--forces", "0", str(limit + 1e-3)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "5 of 6 frames are within the bounds"
    order = [int(line.split()[0]) for line in lines[2:7]]
    assert sorted(order) == sorted(set(range(6)) - {int(longest.argmax())})
    for k, atoms in zip(order, ase.io.read(out, ":"), strict=True):
        np.testing.assert_allclose(atoms.positions, frames[k].positions, atol=1e-7)
    out.unlink()
    assert select.main([*command, "--energy", "-9", "-8"]) == 2
    assert "0 frames are within the bounds; widen them (--energy of the frames is " in capsys.readouterr().err


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Frames are written in the order of the choice; mistakes are named."""
    ase.io.write(tmp_path / "pool.extxyz", [Atoms(a.numbers, a.positions) for a in ethanol()[:12]])
    out = tmp_path / "out.extxyz"
    command = [str(ROOT / "examples" / "ethanol"), str(tmp_path / "pool.extxyz"), "--out", str(out)]
    assert select.main([*command, "-n", "13"]) == 2
    assert "give 1 to 12" in capsys.readouterr().err
    assert select.main([*command, "-n", "3", "--by", "distance"]) == 0
    order = [int(line.split()[0]) for line in capsys.readouterr().out.splitlines()[1:4]]
    for k, atoms in zip(order, ase.io.read(out, ":"), strict=True):
        np.testing.assert_allclose(atoms.positions, ethanol()[k].positions, atol=1e-7)
    assert select.main([*command, "-n", "3"]) == 2
    assert "exists" in capsys.readouterr().err
