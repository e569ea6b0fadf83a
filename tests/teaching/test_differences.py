"""Corrections towards a better method: exact at the start frames, turned with the molecule, better than none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from scipy.spatial.transform import Rotation

from gmnn.data.embedded import ethanol
from gmnn.errors import UserError
from gmnn.teaching import Differences, Failure, Label, LabelStore, Teacher, differences
from gmnn.teaching.pool import Pool


def by(calculator: Any, atoms: Atoms) -> Label:
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    bare.calc = calculator
    stress = bare.get_stress() if bare.pbc.all() else None
    return Label(bare.get_potential_energy(), bare.get_forces(), stress)


def given(atoms: Atoms) -> Label:
    return Label(atoms.get_potential_energy(), atoms.get_forces())


def test_exact_at_a_start_frame_wherever_it_lies() -> None:
    """A start frame moved and turned gets the better label, its forces turned along; MP2 and EMT differ by much."""
    frames = ethanol()[:6]
    made = Differences(frames, [given(a) for a in frames], [by(EMT(), a) for a in frames])
    turn = Rotation.from_euler("xyz", [0.3, 1.1, -2.0]).as_matrix()
    for atoms in frames:
        better = given(atoms)
        moved = Atoms(atoms.numbers, atoms.positions @ turn + [1.0, -2.0, 3.0])
        label = made.corrected(moved, by(EMT(), moved))
        assert label.energy == pytest.approx(better.energy, abs=1e-6)
        np.testing.assert_allclose(label.forces, better.forces @ turn, atol=1e-5)


def test_mirror_images_are_not_turned_onto_each_other() -> None:
    """Rotations only: the mirror image of a chiral frame is another structure."""
    atoms = ethanol()[0]
    made = Differences([atoms], [Label(0.0, np.zeros((9, 3)))], [Label(0.0, -np.ones((9, 3)))])
    mirrored = Atoms(atoms.numbers, atoms.positions * [1, 1, -1])
    change = made.corrected(mirrored, Label(0.0, np.zeros((9, 3)))).forces
    np.testing.assert_allclose(np.linalg.norm(change, axis=1), np.sqrt(3), atol=1e-9)  # of one start frame, a rotation


def test_crystals_also_have_a_stress() -> None:
    """Another cell and another periodic image of the atoms; a strained copy is as far as its atoms moved in it."""
    start = bulk("Cu", cubic=True)
    start.rattle(0.05, seed=1)
    lj = LennardJones(sigma=2.3, epsilon=0.3, rc=5.0)
    made = Differences([start, bulk("Cu", cubic=True)], [by(EMT(), start), Label(5.0, np.ones((4, 3)), np.ones(6))],
                       [by(lj, start), Label(0.0, np.zeros((4, 3)), np.zeros(6))])  # fmt: skip
    image = start.copy()
    image.positions[1] += image.cell.array[0]
    label, exact = made.corrected(image, by(lj, image)), by(EMT(), start)
    assert label.energy == pytest.approx(exact.energy, abs=1e-8)
    np.testing.assert_allclose(label.forces, exact.forces, atol=1e-8)
    assert label.stress is not None
    np.testing.assert_allclose(label.stress, exact.stress, atol=1e-8)
    strained = start.copy()
    strained.set_cell(start.cell.array * 1.01, scale_atoms=True)
    change = made.corrected(strained, by(lj, strained)).energy - by(lj, strained).energy
    assert change == pytest.approx(exact.energy - by(lj, start).energy, abs=1e-6)


def test_better_than_a_constant() -> None:
    """Forces of 40 frames of dynamics from a teacher with wrong bond lengths, corrected by 10 start frames."""
    frames = ethanol()[:50]
    rng, size = np.random.default_rng(0), (9, 3)

    def teacher(atoms: Atoms) -> Label:  # MP2 and a smooth error that turns with the molecule
        here = atoms.positions - atoms.positions.mean(0)
        return Label(atoms.get_potential_energy() - 5, atoms.get_forces() - 0.3 * here)

    made = Differences(frames[:10], [given(a) for a in frames[:10]], [teacher(a) for a in frames[:10]])
    before, after = [], []
    for atoms in frames[10:]:
        exact, label = given(atoms), made.corrected(atoms, teacher(atoms))
        assert label.energy == pytest.approx(exact.energy, abs=1e-6)
        before.append(np.abs(teacher(atoms).forces - exact.forces).mean())
        after.append(np.abs(label.forces - exact.forces).mean())
    assert np.mean(after) < 0.25 * np.mean(before)
    assert rng.normal(size=size).shape == exact.forces.shape


class Direct(Pool):
    """A pool without processes."""

    def __init__(self, teacher: Teacher, fails: int) -> None:
        self.teacher, self.fails = teacher, fails

    def label(self, frames):
        """Label all but the first `fails`."""
        for k, atoms in enumerate(frames):
            yield k, Failure("raised", "no", 0.0) if k < self.fails else by(EMT(), atoms)


def test_start_frames_are_labelled_through_the_store(tmp_path: Path) -> None:
    """One at which the teacher fails is left out; if all fail, or atoms differ, a sentence says so."""
    frames, teacher = ethanol()[:3], Teacher("emt")
    with LabelStore(tmp_path / "s", teacher) as store:
        made = differences(store, Direct(teacher, 1), frames, [given(a) for a in frames])
        assert len(made.starts) == 2
        assert store.counters.teacher_calls == 3
        with pytest.raises(UserError, match="no start frame with a label has the atoms of H2"):
            made.corrected(Atoms("H2", [[0, 0, 0], [0, 0, 1]]), Label(0.0, np.zeros((2, 3))))
    with LabelStore(tmp_path / "t", teacher) as store, pytest.raises(UserError, match="none of the 3 start frames"):
        differences(store, Direct(teacher, 3), frames, [given(a) for a in frames])
