"""The zero of energy: moved to other labels exactly, with the same forces; noticed where it differs, and only there."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

import gmnn
from gmnn.commands import evaluate, reference, show
from gmnn.errors import UserError
from gmnn.evaluation import zero
from gmnn.interfaces.calculator import Calculator
from gmnn.model import folder
from gmnn.model.potential import Potential
from tests.support.kinds import content

ELEMENTS = (1, 6, 8, 14)
OFFSET = {1: 3.0, 6: -2.0, 8: 0.5, 14: 100.0}  # eV, what another method gives


@pytest.fixture
def old(make_potential: Callable, tmp_path: Path) -> Potential:
    potential, params = make_potential()
    trained = potential.with_params(jax.tree.map(np.float32, params))
    folder.save(tmp_path / "old", trained, 3, {"training": {"seed": 1}, "finished": True})
    return trained


def labelled(file: Path, potential: Potential, frames: list[Atoms], offset: dict[int, float]) -> str:
    """Energies and forces of the potential in float64 and a constant per element."""
    calculator = Calculator(potential, dtype="float64", path="reference")
    for atoms in frames:
        atoms.calc = calculator
        energy, forces = atoms.get_potential_energy() + sum(offset[int(z)] for z in atoms.numbers), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    write(file, frames)
    return str(file)


def of(molecule: Atoms, symbols: str) -> Atoms:
    """Nine atoms at the same places, so that one shape is compiled for all frames."""
    return Atoms(symbols, molecule.positions)


def test_moved_to_other_labels(
    tmp_path: Path, old: Potential, structures: dict[str, Atoms], capsys: pytest.CaptureFixture[str]
) -> None:
    """The constants are found, forces are equal in every bit, and the old folder is as it was."""
    frames = [of(structures["molecule"], symbols) for symbols in ("C2OH6", "C4O3H2", "Si3C5O", "Si2CO6", "HC7Si")]
    file, new = labelled(tmp_path / "a.extxyz", old, frames, OFFSET), tmp_path / "new"
    before = content(tmp_path / "old")
    assert reference.main([str(tmp_path / "old"), file, "--output", str(new)]) == 0
    printed = capsys.readouterr().out
    assert content(tmp_path / "old") == before
    moved = gmnn.load(new)
    change = np.subtract(moved.reference.E0, old.reference.E0)
    np.testing.assert_allclose(change, [OFFSET[z] for z in ELEMENTS], atol=2e-4)
    assert replace(moved.reference, E0=old.reference.E0) == old.reference
    assert f"{'mean error':<20}" in printed
    after = next(line for line in printed.splitlines() if line.startswith("mean error")).split()[-1]
    assert abs(float(after)) < 1e-3
    assert folder.tree_digest(moved.trained) == folder.tree_digest(old.trained)
    forces = [
        Calculator(str(tmp_path / name), path="fast").get_property("forces", frames[0]) for name in ("old", "new")
    ]
    np.testing.assert_array_equal(*forces)
    assert show.main([str(new)]) == 0
    assert "E0 moved" in capsys.readouterr().out
    assert reference.main([str(tmp_path / "old"), file, "--output", str(new)]) == 2, "nothing is written over"
    assert reference.main([str(tmp_path / "old"), file, "--output", str(tmp_path / "old" / "x")]) == 2
    assert content(tmp_path / "old") == before


def test_notes_and_refusals() -> None:
    """One composition: the smallest change and a sentence. Two that leave a sum open: refused without an atom."""
    symbols, truth = ["H", "C", "O", "Si"], np.array([3.0, -2.0, 0.5, 100.0])
    counts = np.array([[6.0, 2.0, 1.0, 0.0], [5.0, 0.0, 4.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    single = np.array([False, False, True])
    one = zero.fit_change(counts[:1], counts[:1] @ truth, single[:1])
    np.testing.assert_allclose(counts[0] @ one.energies, counts[0] @ truth)
    np.testing.assert_allclose(one.energies, counts[0] * (counts[0] @ truth) / (counts[0] @ counts[0]))
    notes = reference._notes(one, symbols, "a.xyz")
    assert "one composition: the changes of H, C, O are right in its sum alone" in notes[0]
    assert "E0 of Si is as before" in notes[1]
    two = zero.fit_change(counts[:2], counts[:2] @ truth, single[:2])
    with pytest.raises(UserError, match="each isolated atom of H, C, O"):
        reference._notes(two, symbols, "a.xyz")
    three = zero.fit_change(counts, counts @ truth, single)
    np.testing.assert_allclose(three.energies, [3.0, -2.0, 0.5, 0.0], atol=1e-12)
    assert "isolated atoms had a part in the change of H, C, O" in reference._notes(three, symbols, "a.xyz")[0]


def test_frames_come_before_atoms() -> None:
    """An atom of which the potential knows nothing changes only what the frames leave open."""
    rng = np.random.default_rng(0)
    counts = np.array([[2.0, 1.0, 0.0], [4.0, 3.0, 0.0], [1.0, 5.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    truth, single = np.array([1.0, -2.0, 7.0]), np.array([False] * 3 + [True] * 2)
    wrong = counts @ truth + np.array([0.0, 0.0, 0.0, 50.0, 0.0])
    change = zero.fit_change(counts, wrong, single)
    np.testing.assert_allclose(change.energies, truth, atol=1e-10)
    assert change.by_atoms.tolist() == [False, False, True]
    noisy = counts @ truth + rng.normal(size=5)
    fitted = zero.fit_change(counts, noisy, single).energies
    mean = np.mean(((noisy - counts @ fitted) / counts.sum(axis=1))[:3])
    assert mean == pytest.approx(0.0, abs=1e-12), "the mean error per atom of frames is zero"
    only = zero.fit_change(counts[3:], noisy[3:], single[3:])
    np.testing.assert_allclose(only.energies, [noisy[3], 0.0, noisy[4]], atol=1e-12)
    assert only.absent.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("offset", "noise", "seen"),
    [(0.0, 0.01, False), (0.04, 0.001, False), (0.06, 0.001, True), (1.0, 0.05, True), (1.0, 0.5, False)],
)
def test_when_a_zero_differs(offset: float, noise: float, seen: bool) -> None:
    """Above 50 meV/atom and ten times the spread, whatever the sizes; eV/atom here."""
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 9, (40, 3)).astype(float)
    errors = counts.sum(axis=1) * (offset + noise * rng.normal(size=40))
    found = zero.shift(counts, errors)
    assert (found is not None) == seen
    if found:
        assert found[0] == pytest.approx(1e3 * offset, rel=0.1)
        assert found[1] == pytest.approx(1e3 * noise, rel=0.3)
    assert zero.shift(counts[:3], errors[:3]) is None, "as many frames as elements tell nothing"
    assert zero.shift(counts[:0], errors[:0]) is None


def test_opposite_shifts_are_one_zero() -> None:
    """Elements that move in opposite directions leave a small mean, and are seen all the same."""
    counts = np.array([[a, 12.0 - a] for a in (3.0, 5.0, 6.0, 7.0, 9.0)])
    found = zero.shift(counts, counts @ [1.0, -1.0])
    assert found is not None
    assert found[0] == pytest.approx(0.0, abs=1e-9)


def test_eval_says_it(
    tmp_path: Path, old: Potential, structures: dict[str, Atoms], capsys: pytest.CaptureFixture[str]
) -> None:
    """A sentence with the remedy, for labels of another method."""
    frames = [structures["molecule"].copy() for _ in range(4)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.01, seed=k)
    file = labelled(tmp_path / "other.extxyz", old, frames, OFFSET)
    assert evaluate.main([str(tmp_path / "old"), file]) == 0
    assert f"gmnn reference {tmp_path / 'old'} {file} --output NEW moves it" in capsys.readouterr().out
