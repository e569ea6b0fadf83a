"""Labels as found in files: their keys, units and signs, what is missing, kinds of frames, atomic references."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.io.vasp_parsers.vasp_outcar_parsers import convert_vasp_outcar_stress
from ase.stress import full_3x3_to_voigt_6_stress
from pydantic import ValidationError

from gmnn.commands._printing import describe
from gmnn.config.data import LabelsConfig
from gmnn.config.reading import Config
from gmnn.data import Dataset, fit_reference, read_dataset, regression, split
from gmnn.data.units import ENERGIES, LENGTHS, factors
from gmnn.errors import UserError
from tests.support.paths import SHARED

CELL = 'Lattice="3 0 0 0 3 0 0 0 3" pbc="T T T" '
TENSOR = np.array([[0.1, 0.02, 0.03], [0.02, -0.2, 0.05], [0.03, 0.05, 0.3]])
NINE = " ".join(map(str, TENSOR.ravel()))


def config(train: str | Path, **data: object) -> Config:
    return Config.model_validate({"output": "x", "data": {"train": str(train), **data}})


def text(tmp_path: Path, *frames: str, columns: str = "", values: str = "") -> str:
    """An extxyz file of O-H frames: comment lines, further columns and their values."""
    lines = [
        f"2\n{comment} Properties=species:S:1:pos:R:3{columns}\nO 0 0 0 {values}\nH 0 0 1 {values}\n"
        for comment in frames
    ]
    (tmp_path / "a.extxyz").write_text("".join(lines), encoding="utf-8")
    return str(tmp_path / "a.extxyz")


def crystals(n: int = 3) -> list[Atoms]:
    """Strained, rattled copper-gold with EMT energy, forces and stress in the calculator."""
    rng = np.random.default_rng(0)
    frames = []
    for k in range(n):
        atoms = bulk("Cu", "fcc", a=3.7, cubic=True)
        atoms.numbers[k % 4] = 79
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.rattle(0.1, seed=k)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


def same(one: Dataset, two: Dataset) -> None:
    np.testing.assert_allclose(one.energies, two.energies, rtol=0, atol=1e-10)
    np.testing.assert_allclose(np.concatenate(one.forces), np.concatenate(two.forces), rtol=0, atol=1e-10)
    np.testing.assert_allclose(one.stresses, two.stresses, rtol=0, atol=1e-10)
    for a, b in zip(one.atoms, two.atoms, strict=True):
        np.testing.assert_allclose(a.positions, b.positions, rtol=0, atol=1e-10)
        np.testing.assert_allclose(a.cell.array, b.cell.array, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("comment", "column", "keys"),
    [
        (f'energy=-7 stress="{NINE}"', "forces", ("calculator's energy", "calculator's forces", "calculator's stress")),
        (f'REF_energy=-7 REF_stress="{NINE}"', "REF_forces", ("REF_energy", "REF_forces", "REF_stress")),
        (f'dft_energy=-7 stress_dft="{NINE}"', "dft_force", ("dft_energy", "dft_force", "stress_dft")),
        (f'energy=-7 REF_stress="{NINE}"', "force", ("calculator's energy", "force", "REF_stress")),
        (f'QM_energy=-7 qm_stress="{NINE}"', "qm_forces", ("QM_energy", "qm_forces", "qm_stress")),
    ],
)
def test_usual_names(tmp_path: Path, comment: str, column: str, keys: tuple[str, ...]) -> None:
    """Files of several programs are read without naming a key, and what was taken is kept."""
    found = read_dataset(text(tmp_path, CELL + comment, columns=f":{column}:R:3", values="1 2 3"))
    assert found.energies[0] == -7.0
    assert found.forces[0].tolist() == [[1.0, 2.0, 3.0]] * 2
    np.testing.assert_allclose(found.stresses[0], TENSOR, atol=1e-15)
    assert tuple(found.keys.values()) == keys


@pytest.mark.parametrize("key", ["virial", "virials", "REF_virial", "dft_virials"])
def test_virials_become_stresses(tmp_path: Path, key: str) -> None:
    """A virial is minus the volume times the stress in ASE's sign, in any shape and under any usual name."""
    for numbers in (NINE, " ".join(map(str, full_3x3_to_voigt_6_stress(TENSOR)))):
        if key == "virial" and numbers != NINE:
            continue  # ASE reads nine numbers there or none
        file = text(tmp_path, f'{CELL}energy=-7 {key}="{numbers}"')
        np.testing.assert_allclose(read_dataset(file).stresses[0], -TENSOR / 27.0, atol=1e-15)
        found = read_dataset(file, LabelsConfig(virial_sign=-1, virial_key=key))
        np.testing.assert_allclose(found.stresses[0], TENSOR / 27.0, atol=1e-15)
        assert found.keys["stress"] == key


def test_named_keys(tmp_path: Path) -> None:
    """A named key is used though usual names are there; one that no frame has is an error that lists those there."""
    file = text(tmp_path, "energy=-1 scf=-7", columns=":forces:R:3:gradient:R:3", values="1 2 3 4 5 6")
    found = read_dataset(file, LabelsConfig(energy_key="scf", forces_key="gradient"))
    assert found.energies[0] == -7.0
    assert found.forces[0].tolist() == [[4.0, 5.0, 6.0]] * 2
    with pytest.raises(
        UserError, match=r"energy_key is 'E0', but no frame has it; the keys there are energy, forces, gr"
    ):
        read_dataset(file, LabelsConfig(energy_key="E0"))
    with pytest.raises(UserError, match=r"no frame has an energy or forces under a usual name; .* scf; .*energy_key"):
        read_dataset(text(tmp_path, "scf=-7"))


def test_free_energy_and_the_embedded_set(tmp_path: Path) -> None:
    """`free_energy` is only read when named; the embedded set has its own keys and units, whatever the files have."""
    file = text(tmp_path, "energy=-7 free_energy=-7.5")
    assert read_dataset(file).energies[0] == -7.0
    assert read_dataset(file, LabelsConfig(energy_key="free_energy")).energies[0] == -7.5
    labels = LabelsConfig.model_validate({"energy_key": "E", "units": {"energy": "Hartree", "length": "Bohr"}})
    assert read_dataset("ethanol", labels).energies[0] == pytest.approx(-4202.349531763908, abs=1e-9)


def test_two_candidates(tmp_path: Path) -> None:
    """Equal values under two names are one label; different ones, or each in some frames, are asked about."""
    twice = text(tmp_path, "energy=-7 REF_energy=-7.0", "energy=-8")
    assert read_dataset(twice).energies.tolist() == [-7.0, -8.0]
    differ = text(tmp_path, "energy=-7 REF_energy=-7", "energy=-8 REF_energy=-9")
    with pytest.raises(UserError, match=r"REF_energy and calculator's energy .*differs .*frame 1; .*data\.energy_key"):
        read_dataset(differ)
    assert read_dataset(differ, LabelsConfig(energy_key="REF_energy")).energies.tolist() == [-7.0, -9.0]
    assert read_dataset(differ, LabelsConfig(energy_key="energy")).energies.tolist() == [-7.0, -8.0]
    with pytest.raises(UserError, match=r"only in one of them in frame 1"):
        read_dataset(text(tmp_path, "energy=-7", "REF_energy=-8"))
    both = text(tmp_path, f'{CELL}energy=-7 stress="{NINE}" virial="{NINE}"')
    with pytest.raises(UserError, match=r"virial .*data\.stress_key or data\.virial_key"):
        read_dataset(both)
    np.testing.assert_allclose(read_dataset(both, LabelsConfig(stress_key="stress")).stresses[0], TENSOR)


@pytest.mark.parametrize("energy", ["meV", "kcal/mol", "kJ/mol", "Hartree", "Ry"])
@pytest.mark.parametrize("length", ["angstrom", "Bohr", "nm"])
def test_units(tmp_path: Path, energy: str, length: str) -> None:
    """The same frames in other units, with a stress of the other sign or a virial of either, give the same labels."""
    write(tmp_path / "a.traj", crystals())
    expected = read_dataset(str(tmp_path / "a.traj"))
    factor = {"meV": 1e-3, "kcal/mol": 0.0433641, "kJ/mol": 0.01036427, "Hartree": 27.211386, "Ry": 13.605693}[energy]
    assert ENERGIES[energy] == pytest.approx(factor, rel=1e-6)
    assert LENGTHS[length] == pytest.approx({"angstrom": 1.0, "Bohr": 0.52917721, "nm": 10.0}[length], rel=1e-7)
    e, x = ENERGIES[energy], LENGTHS[length]
    frames = []
    for atoms in expected.atoms:
        other = Atoms(atoms.numbers, atoms.positions / x, cell=atoms.cell.array / x, pbc=True)
        stress = atoms.get_stress(voigt=False)
        other.info |= {"E": atoms.get_potential_energy() / e, "S": -stress / (e / x**3)}
        other.info |= {"W": -atoms.get_volume() * stress / e, "V": atoms.get_volume() * stress.ravel() / e}
        other.calc = SinglePointCalculator(other, forces=atoms.get_forces() / (e / x))
        frames.append(other)
    write(tmp_path / "b.traj", frames)
    keys = {"energy_key": "E", "units": {"energy": energy, "length": length}}
    for more in ({"stress_key": "S", "stress_sign": -1}, {"virial_key": "W"}, {"virial_key": "V", "virial_sign": -1}):
        found = read_dataset(str(tmp_path / "b.traj"), LabelsConfig.model_validate(keys | more))
        same(found, expected)
        assert length == "angstrom" or found.atoms[0].calc is None, "its results would be in other units"


@pytest.mark.parametrize(
    ("declared", "forces", "stress"),
    [
        ({"forces": "meV/Å", "stress": "GPa"}, 1e-3, 1 / 160.21766),
        ({"energy": "kcal/mol", "forces": "Hartree/Bohr", "stress": "kbar"}, 51.422067, 1 / 1602.1766),
        ({"length": "Bohr", "stress": "eV/Å^3"}, 1 / 0.52917721, 1.0),
        ({"forces": "eV/A\u030a", "stress": "kJ/mol/nm^3"}, 1.0, 0.01036427e-3),
    ],
)
def test_units_of_forces_and_stress(declared: dict[str, str], forces: float, stress: float) -> None:
    """Units of their own for forces and stress, Å in any way of typing it; against numbers from tables."""
    found = factors(LabelsConfig.model_validate({"units": declared}).units)
    assert found.forces == pytest.approx(forces, rel=1e-6)
    assert found.stress == pytest.approx(stress, rel=1e-6)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"units": {"energy": "hartree"}}, "'Ry'"),
        ({"units": {"forces": "N"}}, "data.units.forces is 'N', but it should be one of eV, .* over one of Å, .*kcal"),
        ({"units": {"stress": "eV/Å"}}, "data.units.stress is 'eV/Å', but it should be GPa, .* Å\\^3"),
        ({"stress_sign": 0}, "1 or -1"),
    ],
)
def test_units_that_are_none(labels: dict, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LabelsConfig.model_validate(labels)


def test_stress_is_the_slope_of_the_energy(tmp_path: Path) -> None:
    """What is read is dE/dstrain over the volume, by finite differences, also from kbar in VASP's sign."""
    atoms = crystals(1)[0]
    pressures = -atoms.get_stress() / (1e3 * units.bar)
    other = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, info={"energy": 0.0, "stress": pressures})
    write(tmp_path / "a.traj", [other])
    found = read_dataset(
        str(tmp_path / "a.traj"), LabelsConfig.model_validate({"units": {"stress": "kbar"}, "stress_sign": -1})
    )

    def energy(i: int, j: int, h: float) -> float:
        strain = np.zeros((3, 3))
        strain[i, j] += 0.5 * h
        strain[j, i] += 0.5 * h
        moved = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, calculator=EMT())
        moved.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        return moved.get_potential_energy()

    h = 1e-4
    for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        slope = (energy(i, j, h) - energy(i, j, -h)) / (2 * h * atoms.get_volume())
        assert abs(slope) > 1e-3
        assert found.stresses[0, i, j] == pytest.approx(slope, abs=1e-6)
        assert found.stresses[0, j, i] == found.stresses[0, i, j]


@pytest.mark.parametrize("full", [False, True])
def test_stress_as_vasp_prints_it(tmp_path: Path, full: bool) -> None:
    """ASE's reader of OUTCAR and the numbers of its line `in kB` give one stress, also as a matrix of vasprun.xml."""
    atoms = crystals(1)[0]
    in_kB = np.array([-12.3, 4.5, 60.7, 8.9, -1.1, 2.2])  # xx yy zz xy yz zx
    xx, yy, zz, xy, yz, zx = in_kB
    matrix = np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]])
    values = {"energy": 0.0, "stress": matrix if full else in_kB}
    other = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, info=values)
    write(tmp_path / "a.traj", [other])
    vasp = LabelsConfig.model_validate({"stress_convention": "vasp"})
    found = read_dataset(str(tmp_path / "a.traj"), vasp).stresses[0]
    np.testing.assert_allclose(found, -matrix * 1e-1 * units.GPa, rtol=1e-12)
    np.testing.assert_allclose(full_3x3_to_voigt_6_stress(found), convert_vasp_outcar_stress(in_kB), rtol=1e-12)
    for twice in ({"stress_sign": -1}, {"units": {"stress": "kbar"}}):
        with pytest.raises(ValueError, match="its own unit and sign"):
            LabelsConfig.model_validate({"stress_convention": "vasp", **twice})


def test_stress_that_is_none(tmp_path: Path) -> None:
    """Asymmetric tensors and other shapes are errors; frames without a periodic cell have no stress, with a warning."""
    skewed = TENSOR.copy()
    skewed[0, 1] += 0.01
    for key in ("REF_stress", "virials"):
        file = text(tmp_path, f'{CELL}energy=-7 {key}="{" ".join(map(str, 27 * skewed.ravel()))}"')
        with pytest.raises(UserError, match=rf"stress of frame 0 under {key} is not symmetric .* xx yy zz yz xz xy"):
            read_dataset(file)
    with pytest.raises(UserError, match=r"frame 0 has numbers of shape \[3\] under REF_stress, but 3x3, 9 or 6"):
        read_dataset(text(tmp_path, f'{CELL}energy=-7 REF_stress="1 2 3"'))
    with pytest.warns(UserWarning, match="stress of 1 frames is left out"):
        found = read_dataset(text(tmp_path, f'{CELL}energy=-7 virials="{NINE}"', f'energy=-7 virials="{NINE}"'))
    assert found.present.tolist() == [[True, False, True], [True, False, False]]
    with pytest.warns(UserWarning, match=r"0\.1.* eV/Å\^3|are data\.units right"):
        read_dataset(text(tmp_path, f'{CELL}energy=-7 REF_stress="90 20 10 0 0 0"'))


def test_missing_labels_are_masked(tmp_path: Path) -> None:
    """A frame without a label weighs nothing there; the labels and the references of the others stay as they are."""
    frames = crystals(6)
    write(tmp_path / "all.traj", frames)
    every = read_dataset(str(tmp_path / "all.traj"))
    for k, label in ((1, "energy"), (2, "forces"), (3, "stress")):
        frames[k].calc.results.pop(label)
    write(tmp_path / "some.traj", frames)
    some = read_dataset(str(tmp_path / "some.traj"))
    expected = np.ones((6, 3))
    expected[[1, 2, 3], [0, 1, 2]] = 0.0
    assert some.label_weights.tolist() == expected.tolist()
    others = np.array([0, 4, 5])
    same(some.take(others), every.take(others))
    assert np.isnan(some.energies[1])
    assert np.isnan(some.forces[2]).all()
    assert np.isnan(some.stresses[3]).all()
    assert some.summary() == (
        "energy (calculator's energy) 5 of 6 frames, forces (calculator's forces) 5, stress (calculator's stress) 5"
    )
    with_energy = np.array([0, 2, 3, 4, 5])
    one, two = (fit_reference(d, config("x")) for d in (some, every.take(with_energy)))
    np.testing.assert_allclose(one.E0, two.E0, rtol=1e-12)


def test_labels_that_are_not_finite(tmp_path: Path) -> None:
    """A NaN in the file is no missing label, but an error; so is a frame without any label."""
    with pytest.raises(UserError, match=r"1 of 2 frames have an energy that is not finite, the first are 1 "):
        read_dataset(text(tmp_path, "energy=-7", "energy=nan"))
    write(tmp_path / "a.extxyz", _with_forces([1.0, np.nan]))
    with pytest.raises(UserError, match=r"1 of 2 frames have forces that are not finite"):
        read_dataset(str(tmp_path / "a.extxyz"))
    with pytest.raises(UserError, match=r"a stress that is not finite, the first are 0 "):
        read_dataset(text(tmp_path, f'{CELL}energy=-7 REF_stress="nan 0 0 0 0 0"'))
    with pytest.raises(UserError, match=r"1 of 3 frames have no energy, forces or stress, the first are 2 "):
        read_dataset(text(tmp_path, "energy=-7", "energy=-7", "other=3"))
    with pytest.raises(UserError, match=r"frame 1 has 'none' under REF_energy, but one number is expected"):
        read_dataset(text(tmp_path, "REF_energy=-7", "REF_energy=none"))
    with pytest.raises(UserError, match=r"1 of 1 frames have a periodic direction without a cell vector"):
        read_dataset(text(tmp_path, 'pbc="T F F" energy=-7'))


def _with_forces(values: list[float]) -> list[Atoms]:
    frames = [Atoms("OH", [[0, 0, 0], [0, 0, 1.0]]) for _ in values]
    for atoms, value in zip(frames, values, strict=True):
        atoms.calc = SinglePointCalculator(atoms, forces=np.full((2, 3), value))
    return frames


def test_training_without_energies_or_forces(tmp_path: Path) -> None:
    """One of them is enough, with a warning: E0 is 0 or as given; with neither there is nothing to train on."""
    write(tmp_path / "f.traj", _with_forces([1.0, -2.0, 0.5]))
    data = split(config(tmp_path / "f.traj")).train
    with pytest.warns(UserWarning, match="no training frame has an energy; the atomic references are 0"):
        reference = fit_reference(data, config("x"))
    assert reference.E0 == reference.shift == (0.0, 0.0)
    with pytest.warns(UserWarning, match="references are those of data"):
        given = fit_reference(data, config("x", atomic_energies={"H": -13.0, "O": -2000.0}))
    assert given.E0 == (-13.0, -2000.0)
    assert given.shift == (0.0, 0.0)
    energies = split(config(text(tmp_path, "energy=-7", "energy=-8", "energy=-9"), n_train=2)).train
    with pytest.warns(UserWarning, match="no training frame has forces"):
        reference = fit_reference(energies, config("x"))
    assert sum(reference.E0) == pytest.approx(energies.energies.mean(), abs=1e-10)
    assert np.isfinite(reference.scale).all()
    with pytest.raises(UserError, match="no training frame has an energy or forces"):
        split(config(text(tmp_path, *2 * [f'{CELL}REF_stress="{NINE}"'])))


def test_weights_of_config_types(tmp_path: Path) -> None:
    """Weights follow the frames through the split; what has no weight of its own has that of `default`, or 1."""
    file = text(tmp_path, *[f"energy=-{k} config_type={'surface' if k % 2 else 'bulk'}" for k in range(6)], "energy=-6")
    for weights, expected in (
        ({"surface": 5.0}, [1, 5, 1, 5, 1, 5, 1]),
        ({"surface": 5.0, "default": 0.5}, [0.5, 5, 0.5, 5, 0.5, 5, 0.5]),
        ({"bulk": 0.0, "surface": 2.0}, [0, 2, 0, 2, 0, 2, 1]),
    ):
        parts = split(config(file, config_type_weights=weights, n_train=4, n_valid=2))
        for part in (parts.train, parts.valid, parts.test):
            assert part.weights.tolist() == [expected[k] for k in part.indices]
            assert part.label_weights[:, 0].tolist() == part.weights.tolist()
            assert part.config_types == [("surface" if k % 2 else "bulk") if k < 6 else "" for k in part.indices]
    with pytest.raises(UserError, match=r"names surfaces, but those of the frames are bulk, surface; did you mean sur"):
        split(config(file, config_type_weights={"surfaces": 2.0}))
    with pytest.raises(UserError, match="every training frame the weight 0"):
        split(config(file, config_type_weights={"default": 0.0}))


def _bare(formula: str, energy: float, box: float | None = None) -> Atoms:
    n = len(Atoms(formula))
    atoms = Atoms(formula, positions=1.1 * np.arange(3 * n).reshape(n, 3), cell=box and [box] * 3, pbc=box is not None)
    atoms.calc = SinglePointCalculator(atoms, energy=energy)
    return atoms


@pytest.mark.parametrize(
    ("formulas", "rank", "undetermined"),
    [
        (["OH", "H2O", "H2O2"], 2, ()),
        (["H2O", "H4O2", "H6O3"], 1, (1, 8)),  # always two to one
        (["C2H6O"], 1, (1, 6, 8)),
        (["H2O", "CH4", "CH6O"], 2, (1, 6, 8)),  # the third is the sum of the others
        (["H2", "CO", "C2O2"], 2, (6, 8)),  # hydrogen is known, carbon and oxygen only together
        (["H2", "H3"], 1, ()),
    ],
)
@pytest.mark.filterwarnings("ignore:.*no training frame has forces")
def test_what_the_regression_determines(
    tmp_path: Path, formulas: list[str], rank: int, undetermined: tuple[int, ...]
) -> None:
    """Rank and elements known only in sums; every sum that the frames have is reproduced all the same."""
    truth = {"H": -13.6, "C": -1030.25, "O": -2041.5}
    energies = [sum(truth[s] for s in Atoms(f).get_chemical_symbols()) for f in formulas for _ in range(3)]
    frames = [_bare(f, e) for f, e in zip(np.repeat(formulas, 3), energies, strict=True)]
    write(tmp_path / "a.traj", frames)
    data = read_dataset(str(tmp_path / "a.traj"))
    found = regression(data)
    assert (found.rank, found.undetermined) == (rank, undetermined)
    reference = fit_reference(data, config("x"))
    table = dict(zip(reference.elements, reference.E0, strict=True))
    sums = np.array([sum(table[z] for z in a.numbers) for a in data.atoms])
    np.testing.assert_allclose(sums, energies, rtol=1e-12)
    for z in set(table) - set(undetermined):
        assert table[z] == pytest.approx(truth[Atoms([z]).get_chemical_symbols()[0]], rel=1e-10)


def test_isolated_atoms(tmp_path: Path) -> None:
    """E0 from frames with one atom, which every draw trains on; a primitive cell is no isolated atom."""
    atoms = [_bare("H", -13.6), _bare("O", -2041.5, box=15.0)]  # plane-wave codes have a box
    molecules = [_bare("OH", -2060.0 - 0.1 * k) for k in range(10)]
    write(tmp_path / "a.traj", molecules + atoms)
    for seed in range(3):
        run = config(tmp_path / "a.traj", atomic_energies="isolated", n_train=4, n_valid=2)
        run = run.model_copy(update={"seed": seed})
        parts = split(run)
        assert {10, 11} < set(parts.train.indices.tolist())
        with pytest.warns(UserWarning, match="forces"):
            assert fit_reference(parts.train, run).E0 == (-13.6, -2041.5)
    run = config(tmp_path / "b.traj", atomic_energies="isolated")
    for frames, words in (
        (
            [*molecules, atoms[0], _bare("O", -2041.5, box=3.0)],
            r"no training frame is a single O atom .*r_max = 5\.0 Å",
        ),
        ([*molecules, *atoms, _bare("H", -12.0)], r"single H atoms with -13\.6000 and -12\.0000 eV"),
    ):
        write(tmp_path / "b.traj", frames)
        with pytest.raises(UserError, match=words):
            fit_reference(read_dataset(str(tmp_path / "b.traj")), run)
    assert config("x", atomic_energies={"H": -10}).data.atomic_energies == {"H": -10.0}
    for wrong in ("alone", 3, {"H": "much"}, {"H": "-1e1"}, {"H": float("nan")}, {"H": True}):
        with pytest.raises(ValidationError, match=r"atomic_energies is .*, but .* or `isolated`"):
            config("x", atomic_energies=wrong)


def test_molecules_slabs_and_crystals_in_one_set(tmp_path: Path) -> None:
    """Nothing needs one size or one periodicity; each frame has the labels that make sense for it."""
    slab = fcc111("Cu", (2, 2, 3), vacuum=6.0)
    slab.rattle(0.1, seed=1)
    sheet = slab.copy()
    sheet.cell[2] = 0.0  # no third vector
    wire = Atoms("Cu2", [[0, 0, 0], [1.2, 0.4, 0.1]], cell=[2.6, 0, 0], pbc=[True, False, False])
    frames = [*crystals(2), slab, sheet, wire, molecule("H2O"), molecule("N2"), Atoms("Cu")]
    for atoms in frames[2:]:
        atoms.calc = EMT()
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
    frames[2].calc.results["stress"] = np.arange(6) / 100.0
    write(tmp_path / "a.traj", frames)
    run = config(tmp_path / "a.traj", split="ordered", n_train=7, n_valid=1)
    parts = split(run)
    assert parts.train.present[:, 2].tolist() == [True] * 3 + [False] * 4
    reference = fit_reference(parts.train, run)
    assert reference.elements == (1, 7, 8, 29, 79)
    assert regression(parts.train).undetermined == (1, 8)
    pairs = {pair: k for k, pair in enumerate(zip(*np.triu_indices(5), strict=True))}
    assert reference.closest[pairs[(0, 2)]] == pytest.approx(0.9686, abs=1e-3)  # O-H
    assert reference.closest[pairs[(1, 1)]] == pytest.approx(1.12998)  # N-N
    assert reference.closest[pairs[(0, 3)]] is None  # H-Cu


def test_what_train_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Keys, counts and what the references cannot tell apart stand above the training."""
    file = text(tmp_path, *["REF_energy=-7"] * 8, "other=1", "other=1", columns=":force:R:3", values="1 2 3")
    run = config(file, split="ordered", n_train=7, n_valid=2)
    parts = split(run)
    describe(run, parts, fit_reference(parts.train, run))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("7 training, 2 validation and 1 test frames, elements H O")
    assert lines[1] == "labels, train: energy (REF_energy) 7 of 7 frames, forces (force) 7, stress 0"
    assert lines[2] == "labels, valid: energy (REF_energy) 1 of 2 frames, forces (force) 2, stress 0"
    assert lines[3] == "labels, test: energy (REF_energy) 0 of 1 frames, forces (force) 1, stress 0"
    assert lines[4] == "atomic references, eV: H -3.500, O -3.500"
    assert lines[5].startswith("energies of H, O are not determined one by one, only in sums as in the frames: ")
    assert lines[5].endswith("the compositions have rank 1 of 2")


@pytest.mark.skipif(not SHARED.is_dir(), reason="public data are not here")
def test_public_files() -> None:
    """rMD17 with its official split, energies alone of dimers, stresses of MoTa alloys, as published."""
    parts = split(config(SHARED / "ethanol" / "rmd17_ethanol1.xyz", split="ordered", n_train=950, n_valid=50))
    for part, n, kind in ((parts.train, 950, "train"), (parts.valid, 50, "train"), (parts.test, 1000, "test")):
        assert {atoms.info["split"] for atoms in part.atoms} == {kind}
        assert len(part) == n
    dimers = read_dataset(str(SHARED / "short_range" / "botnet_dimers_HCO.xyz"))
    assert dimers.present.sum(axis=0).tolist() == [429, 0, 0]
    alloys = read_dataset(str(SHARED / "periodic" / "snap_MoTa_SS.xyz"))
    assert alloys.present.all()
    assert regression(alloys).undetermined == ()


@pytest.mark.skipif(not SHARED.is_dir(), reason="public data are not here")
def test_public_stresses_are_slopes() -> None:
    """Between strained frames of the VASP set of germanium the energy rises by the work that stress and forces say."""
    data = read_dataset(str(SHARED / "periodic" / "mlearn_Ge.xyz"))
    elastic = [k for k, kind in enumerate(data.config_types) if kind.endswith("Elastic")]
    rises, works = [], []
    for a, b in combinations(elastic, 2):
        one, two = data.atoms[a], data.atoms[b]
        moved = two.get_scaled_positions(wrap=False) - one.get_scaled_positions(wrap=False)
        moved -= np.round(moved)
        strain = np.linalg.solve(one.cell.array, two.cell.array) - np.eye(3)
        strain = 0.5 * (strain + strain.T)
        if np.abs(moved).max() < 2e-3 and 1e-4 < np.abs(strain).max() < 0.06:
            pressed = sum(data.atoms[k].get_volume() * np.sum(data.stresses[k] * strain) for k in (a, b))
            pushed = np.sum((data.forces[a] + data.forces[b]) * (moved @ one.cell.array))
            rises.append(data.energies[b] - data.energies[a])
            works.append(0.5 * (pressed - pushed))
    assert len(rises) > 100
    assert np.corrcoef(rises, works)[0, 1] > 0.999
    assert np.polyfit(works, rises, 1)[0] == pytest.approx(1.0, abs=0.03)
