"""Frames: what is read, how it is split, what is refused, and the atomic references."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from gmnn.config.reading import Config
from gmnn.data import fit_reference, read_dataset, split
from gmnn.errors import UserError

RNG = np.random.default_rng(3)


def labelled(atoms: Atoms, energy: float = -5.0, **changes: object) -> Atoms:
    forces = RNG.normal(size=(len(atoms), 3))
    atoms.calc = SinglePointCalculator(atoms, **{"energy": energy, "forces": forces, **changes})
    return atoms


def frame(symbols: str = "OH", energy: float = -5.0, **changes: object) -> Atoms:
    n = len(Atoms(symbols))
    places = 1.1 * np.arange(3 * n).reshape(n, 3) + 0.05 * RNG.normal(size=(n, 3))
    return labelled(Atoms(symbols, positions=places), energy, **changes)


def config(train: str | Path, **data: object) -> Config:
    return Config.model_validate({"output": "x", "data": {"train": str(train), **data}})


@pytest.mark.parametrize("suffix", ["extxyz", "traj", "db", "json"])
def test_formats_of_ase(tmp_path: Path, suffix: str) -> None:
    """The same labels come out of every format."""
    frames = [frame(energy=-float(k)) for k in range(3)]
    write(tmp_path / f"a.{suffix}", frames)
    found = read_dataset(str(tmp_path / f"a.{suffix}"))
    assert found.energies == pytest.approx([0.0, -1.0, -2.0])
    for got, atoms in zip(found.forces, frames, strict=True):
        np.testing.assert_allclose(got, atoms.get_forces(), atol=1e-7)  # extxyz writes eight decimals


def test_some_frames_of_a_file(tmp_path: Path) -> None:
    """FILE@SLICE, unless a file has that name; of no frames nothing is made."""
    frames = [frame(energy=-5.0 - k) for k in range(10)]
    path = tmp_path / "ten.xyz"
    write(path, frames)
    energies = read_dataset(str(path)).energies
    for some, expected in (("@2:5", energies[2:5]), ("@-3:", energies[-3:]), ("@::4", energies[::4])):
        np.testing.assert_array_equal(read_dataset(f"{path}{some}").energies, expected)
    (tmp_path / "ten.xyz@2:5").write_bytes(path.read_bytes())
    np.testing.assert_array_equal(read_dataset(f"{path}@2:5").energies, energies)
    for wrong, words in (("@20:", "no frames"), ("@::0", "cannot be read"), ("@first", "does not exist")):
        with pytest.raises(UserError, match=words):
            read_dataset(f"{path}{wrong}")


def test_split_is_seeded_disjoint_and_complete() -> None:
    """Three disjoint parts of the embedded set, the same for the same seed, others for another."""
    base = config("ethanol", n_train=200, n_valid=50)
    one, two = split(base), split(base)
    other = split(base.model_copy(update={"seed": 1}))
    parts = [set(part.indices.tolist()) for part in (one.train, one.valid, one.test)]
    assert [len(part) for part in parts] == [200, 50, 950]
    assert len(set.union(*parts)) == 1200
    assert one.describe() == two.describe()
    assert one.describe() != other.describe()
    assert one.train.energies[0] == one.train.atoms[0].get_potential_energy()


def test_files_for_each_part(tmp_path: Path) -> None:
    """Given validation and test files are taken whole, and n_train draws from the training file alone."""
    for name, n in (("a", 8), ("b", 3), ("c", 2)):
        write(tmp_path / f"{name}.extxyz", [frame(energy=-k) for k in range(n)])
    files = {"valid": str(tmp_path / "b.extxyz"), "test": str(tmp_path / "c.extxyz")}
    parts = split(config(tmp_path / "a.extxyz", n_train=5, **files))
    both = split(config(tmp_path / "a.extxyz", n_train=5, n_valid=3, **files))
    assert both.describe() == parts.describe(), "n_valid of a shipped configuration has no part in it"
    assert [len(parts.train), len(parts.valid), len(parts.test or [])] == [5, 3, 2]
    del files["test"]
    assert split(config(tmp_path / "a.extxyz", **files)).test is None


def test_extra_frames_are_all_trained_on(tmp_path: Path) -> None:
    """Those of data.extra follow the training frames of the split, with their weight, and are no part of the draw."""
    write(tmp_path / "a.extxyz", [frame(energy=-k) for k in range(10)])
    more = [frame(energy=5.0 + k) for k in range(3)]
    for atoms in more:
        atoms.info["config_type"] = "far"
    write(tmp_path / "b.extxyz", more)
    files = {"extra": str(tmp_path / "b.extxyz"), "config_type_weights": {"far": 0.25}}
    parts = split(config(tmp_path / "a.extxyz", **files))
    alone = split(config(tmp_path / "a.extxyz"))
    assert [len(parts.train), len(parts.valid), len(parts.test or [])] == [11, 1, 1]
    np.testing.assert_array_equal(parts.train.energies, [*alone.train.energies, 5.0, 6.0, 7.0])
    np.testing.assert_array_equal(parts.train.weights, [1.0] * 8 + [0.25] * 3)
    assert parts.describe()["train"] == alone.describe()["train"]
    assert parts.describe()["extra"]["indices"] == [0, 1, 2]


def test_ordered_split(tmp_path: Path) -> None:
    """Frames in the order of the file, as of a set with an official split; the seed has no part in it."""
    write(tmp_path / "a.extxyz", [frame(energy=-k) for k in range(8)])
    base = config(tmp_path / "a.extxyz", split="ordered", n_train=3, n_valid=2)
    parts = split(base)
    assert [part.indices.tolist() for part in (parts.train, parts.valid, parts.test)] == [[0, 1, 2], [3, 4], [5, 6, 7]]
    assert parts.train.energies.tolist() == [0.0, -1.0, -2.0]
    assert split(base.model_copy(update={"seed": 5})).describe() == parts.describe()


def test_splits_that_cannot_be(tmp_path: Path) -> None:
    write(tmp_path / "a.extxyz", [frame() for _ in range(4)])
    for data in ({"n_train": 5}, {"n_train": 4, "n_valid": 1}, {"n_valid": 4}):
        with pytest.raises(UserError, match=r"4 frames, not enough.*data.n_train=null"):
            split(config(tmp_path / "a.extxyz", **data))


def test_element_without_training_frames(tmp_path: Path) -> None:
    write(tmp_path / "a.extxyz", [frame() for _ in range(4)])
    write(tmp_path / "b.extxyz", [frame("NH")])
    with pytest.raises(UserError, match="contains N, but no training frame does"):
        split(config(tmp_path / "a.extxyz", valid=str(tmp_path / "b.extxyz")))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (frame(energy=np.nan), "energy that is not finite"),
        (frame(forces=np.full((2, 3), np.nan)), "forces that are not finite"),
        (frame(energy=-3e6), "eV per atom"),
        (frame(forces=np.full((2, 3), 2e5)), "force beyond"),
        (labelled(Atoms("OH", np.zeros((2, 3)))), "closer than"),
        (labelled(Atoms("X", np.zeros((1, 3)))), "atomic number"),
    ],
)
def test_bad_frames_are_named(tmp_path: Path, bad: Atoms, words: str) -> None:
    """One wrong frame among good ones is found, counted from 0, and nothing is silently left out."""
    write(tmp_path / "a.traj", [frame(), frame(), bad, frame()])
    with pytest.raises(UserError, match=rf"1 of 4 frames have .*{words}.* are 2 "):
        read_dataset(str(tmp_path / "a.traj"))


def test_zero_forces_and_strange_units(tmp_path: Path) -> None:
    write(tmp_path / "a.traj", [frame(forces=np.zeros((2, 3)))])
    with pytest.raises(UserError, match="every force is exactly zero"):
        read_dataset(str(tmp_path / "a.traj"))
    write(tmp_path / "b.traj", [frame(forces=1e-4 * RNG.normal(size=(2, 3)))])
    with pytest.warns(UserWarning, match="are data.units right"):
        read_dataset(str(tmp_path / "b.traj"))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_dataset(str(tmp_path / "a.extxyz"))
    (tmp_path / "b.extxyz").write_text("3\n\nH 0 0\n", encoding="utf-8")
    with pytest.raises(UserError, match="but only 2 lines do"):
        read_dataset(str(tmp_path / "b.extxyz"))


def test_references_solve_the_regression(tmp_path: Path) -> None:
    """Energies that are sums over atoms give exactly these sums back, to 1e-9 of 40 keV, in float64."""
    truth = {"H": -13.6, "O": -2041.5, "C": -1030.25}
    energy = {s: sum(truth[a.symbol] for a in Atoms(s)) for s in ("OH", "H2O", "CO", "CH4", "H2")}
    write(tmp_path / "a.traj", [frame(s, energy=e) for s, e in energy.items()])
    data = read_dataset(str(tmp_path / "a.traj"))
    reference = fit_reference(data, config("x"))
    assert reference.elements == (1, 6, 8)
    np.testing.assert_allclose(reference.E0, [truth["H"], truth["C"], truth["O"]], rtol=1e-9)
    assert reference.shift == (0.0, 0.0, 0.0)


def test_one_composition_shares_its_energy() -> None:
    """One molecule alone leaves the regression singular; the mean energy of the frames is still reproduced."""
    data = read_dataset("ethanol")
    reference = fit_reference(data, config("ethanol"))
    numbers = data.atoms[0].numbers
    total = sum(reference.E0[reference.elements.index(z)] for z in numbers)
    assert total == pytest.approx(data.energies.mean(), abs=1e-6)
    depth = 0.278464543 * reference.scale[0]
    assert depth > 4 * np.max(data.energies.mean() - data.energies) / 9, "the floor lies below every frame"


def test_given_atomic_energies(tmp_path: Path) -> None:
    """Isolated-atom energies are E0 as they are; the binding energy becomes the shift."""
    write(tmp_path / "a.traj", [frame("OH", energy=-20.0), frame("H2", energy=-6.0)])
    data = read_dataset(str(tmp_path / "a.traj"))
    given = {"H": -1.0, "O": -10.0}
    reference = fit_reference(data, config("x", atomic_energies=given))
    assert reference.E0 == (-1.0, -10.0)
    np.testing.assert_allclose(reference.shift, [-2.0, -7.0], rtol=1e-8)
    with pytest.raises(UserError, match="missing: O"):
        fit_reference(data, config("x", atomic_energies={"H": -1.0}))
    with pytest.raises(UserError, match="no frame contains He"):
        fit_reference(data, config("x", atomic_energies={**given, "He": 0.0}))


@pytest.mark.parametrize(("line", "number"), [(0, "9" * 40), (0, "9" * 400), (5, "4"), (5, "-1")])
def test_counts_beyond_the_file(tmp_path: Path, line: int, number: str) -> None:
    """A number of atoms that the file does not hold is named with its line, at once; ASE would count to it."""
    file = tmp_path / "a.xyz"
    write(file, [Atoms("OHH", np.eye(3) * k) for k in (1, 2)], format="extxyz")
    lines = file.read_text(encoding="utf-8").splitlines()
    lines[line] = number
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"line {line + 1} of" if number[0] != "-" else "cannot be read"):
        read_dataset(str(file))
