"""Configurations, structures and data files nobody would write: the right result or one clear sentence.

A small number here, more among the slow tests; `python benchmarks/reliability.py fuzz` runs thousands (GMNN_CASES of
every kind).
"""

import copy
import io
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import gmnn
from gmnn.__main__ import main
from gmnn.config.md import DynamicsConfig
from gmnn.config.reading import Config, read_any
from gmnn.data import read_dataset
from gmnn.errors import UserError
from gmnn.neighbors.host import complete_cell, make_system, neighbor_pairs
from tests.support import processes
from tests.support.counts import record
from tests.support.paths import GOLDEN

CASES = int(os.environ.get("GMNN_CASES", "15"))
MODEL = GOLDEN / "v3" / "model"
CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
WORDS = ("Traceback", "object at 0x", "NoneType", "_DimExpr", "<class")


def cases(share: float = 1.0) -> Any:
    """Settings of a property: a number of examples, the same ones each time unless many are wanted."""
    return settings(
        max_examples=max(3, int(share * CASES)), deadline=None, suppress_health_check=CHECKS, derandomize=CASES < 100,
        database=None,
    )  # fmt: skip


def clear(error: UserError) -> None:
    """One sentence a user can read."""
    text = str(error)
    assert 10 < len(text) < 6000, text
    assert not any(word in text for word in WORDS), text


# configurations

TRAINING = {
    "output": "x", "seed": 1, "data": {"train": "ethanol", "n_train": 10, "units": {"energy": "eV"}},
    "model": {"r_max": 5.0, "hidden": [16, 16], "core": {"clamp": True}, "repulsion": "zbl"},
    "train": {"epochs": 3, "loss": {"forces": {"weight": 2.0}}, "schedule": {"form": "cosine"},
              "rates": {"readout": 1e-3}},
}  # fmt: skip
MOVING = {"model": "m", "structure": "s", "output": "x", "steps": 100, "temperature_K": 300, "ensemble": "bussi"}
odd = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.just(10**400), st.just("1e5"),
    st.sampled_from(["", "none", "eV", "../..", "ethanol", "\u0000", "Å", "identity", "-1", ".inf", "2024-01-01"]),
    st.lists(st.one_of(st.integers(-3, 70), st.floats(), st.text(max_size=3)), max_size=4),
    st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.none(), st.text(max_size=3)), max_size=2),
)  # fmt: skip


def places(values: dict, path: tuple = ()) -> list[tuple]:
    """Every key of nested sections, as a path."""
    found = []
    for key, value in values.items():
        found.append((*path, key))
        found += places(value, (*path, key)) if isinstance(value, dict) else []
    return found


KEYS = {
    Config: [tuple(key.split(".")) for key in (
        "seed", "data.n_train", "data.valid", "data.energy_key", "data.units.length", "data.config_type_weights",
        "data.atomic_energies", "model.n_radial", "model.n_basis", "model.r_min", "model.cutoff", "model.members",
        "model.ensemble", "model.core.gate", "train.batch_size", "train.learning_rate", "train.optimizer",
        "train.patience",
        "train.loss.energy.form", "train.schedule.form", "train.rates", "start.model", "start.reset", "nonsense",
        "data.trian",
    )] + places(TRAINING),
    DynamicsConfig: [(name,) for name in DynamicsConfig.model_fields] + [("nonsense",)],
}  # fmt: skip


@pytest.mark.parametrize("section", [Config, DynamicsConfig])
def test_configurations(section: type) -> None:
    """Some keys with values of any kind: accepted as what they are, or every wrong key named in a sentence."""

    @cases(0.6)
    @given(st.lists(st.tuples(st.sampled_from(KEYS[section]), odd), min_size=1, max_size=3))
    def check(changes: list) -> None:
        values = copy.deepcopy(TRAINING if section is Config else MOVING)
        for path, value in changes:
            place = values
            for part in path[:-1]:
                place = place.setdefault(part, {}) if isinstance(place, dict) else {}
            if isinstance(place, dict):
                place[path[-1]] = value
        with tempfile.TemporaryDirectory() as home:
            file = Path(home) / "c.yaml"
            file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8", errors="replace")
            try:
                read = read_any(section, str(file))
            except UserError as error:
                clear(error)
                assert any(  # noqa: PT017
                    str(path[0]) in str(error) or str(path[-1]) in str(error) for path, _ in changes
                ) or ("YAML" in str(error))
            else:
                assert section.model_validate(read.model_dump(mode="json")) == read
                for path, value in changes[-1:]:  # a number that was taken is the number that was given
                    found: Any = read
                    for part in path:
                        found = getattr(found, part, None) if not isinstance(found, dict) else found.get(part)
                    if isinstance(found, float | int) and isinstance(value, float | int):
                        assert found == type(found)(value)
        record(6)

    check()


@cases(0.5)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))),
       st.lists(st.text(max_size=30), max_size=2))  # fmt: skip
def test_files_that_are_no_configuration(data: bytes, overrides: list[str]) -> None:
    with tempfile.TemporaryDirectory() as home:
        file = Path(home) / "c.yaml"
        file.write_bytes(data)
        with pytest.raises(UserError) as caught:
            read_any(Config, str(file), overrides)
        clear(caught.value)
    record(7)


# data files


@st.composite
def labelled(draw: Any) -> list[Atoms]:
    """A few frames with labels, of any size, periodicity and order of the cell vectors."""
    frames = []
    for _ in range(draw(st.integers(1, 4))):
        n = draw(st.integers(1, 5))
        rng = np.random.default_rng(draw(st.integers(0, 10**6)))
        atoms = Atoms(rng.choice([1, 6, 8, 26, 118], n), rng.normal(size=(n, 3)) * 3)
        if draw(st.booleans()):
            atoms.set_cell(rng.normal(size=(3, 3)) * 4 + 5 * np.eye(3)[draw(st.permutations(range(3)))])
            atoms.pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
        atoms.calc = SinglePointCalculator(atoms, energy=float(rng.normal()), forces=rng.normal(size=(n, 3)))
        atoms.info["config_type"] = draw(st.sampled_from(["bulk", "oberfläche", "水"]))
        frames.append(atoms)
    return frames


SPOILED = (
    "nan",
    "inf",
    "1e400",
    "-",
    "Xx",
    "",
    "3.0.1",
    "\u00c5",
    "9" * 40,
    "T",
    "[[1]]",
    "pbc",
    "Properties=pos:R:3",
    "energy=x",
)


@cases(1.0)
@given(
    labelled(),
    st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(SPOILED), st.sampled_from("swdctl")), max_size=3),
)
def test_data_files(frames: list[Atoms], edits: list) -> None:
    """A file that somebody edited: all its frames with their numbers, or a sentence; nothing is dropped."""
    text = io.StringIO()
    ase.io.write(text, frames, format="extxyz")
    content = text.getvalue()
    for place, word, how in edits:
        tokens = content.split(" ")
        k = place % max(len(tokens), 1)
        lines = content.splitlines()
        if how == "s":
            content = " ".join([*tokens[:k], word, *tokens[k + 1 :]])
        elif how == "w":
            content = " ".join([*tokens[:k], word, *tokens[k:]])
        elif how == "d":
            content = " ".join([*tokens[:k], *tokens[k + 1 :]])
        elif how == "c":
            content = content[: place % (len(content) + 1)]
        elif how == "t" and lines:
            content = "\n".join([*lines[: k % len(lines)], *lines[k % len(lines) + 1 :], ""])
        elif lines:
            content = "\n".join([*lines, lines[k % len(lines)], ""])
    with tempfile.TemporaryDirectory() as home, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = Path(home) / "daten ü.extxyz"
        file.write_text(content, encoding="utf-8")
        try:
            found = read_dataset(str(file))
        except UserError as error:
            clear(error)
            assert file.name in str(error)  # noqa: PT017
        else:
            whole = ase.io.read(file, ":", format="extxyz")
            assert len(found) == len(whole)
            for k, atoms in enumerate(whole):
                assert np.isfinite(found.atoms[k].positions).all()
                assert len(atoms) == len(found.atoms[k])
                given_energy = atoms.calc and atoms.calc.results.get("energy")
                if isinstance(given_energy, float):
                    assert found.energies[k] == given_energy
            if not edits:
                assert len(found) == len(frames)
                for one, two, forces in zip(frames, found.energies, found.forces, strict=True):
                    assert one.get_potential_energy() == pytest.approx(two, abs=1e-7)
                    np.testing.assert_allclose(one.get_forces(), forces, atol=1e-7)
    record(3)


@cases(0.3)
@given(
    st.binary(max_size=300),
    st.sampled_from(["a.xyz", "a.extxyz", "b.db", "c.json", "d.traj", "e", "f.cif", "POSCAR", "g.xyz@2:"]),
)
def test_files_that_hold_no_frames(data: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as home, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (Path(home) / name.partition("@")[0]).write_bytes(data)
        with pytest.raises(UserError) as caught:
            read_dataset(str(Path(home) / name))
        clear(caught.value)
    record(3)


# structures

number = st.one_of(
    st.floats(-6, 6), st.floats(-6, 6), st.sampled_from([0.0, 1e4, -3e5, 1e9, 1e30, np.nan, np.inf, 1e-9])
)
length = st.one_of(st.floats(1.2, 9.0), st.floats(1.2, 9.0), st.sampled_from([0.0, 1e-7, 40.0, 1e4]))
CALCULATOR = gmnn.Calculator(MODEL, dtype="float64", skin=0.0)


@st.composite
def structures(draw: Any) -> Atoms:
    """One to three atoms anywhere, coincident ones and strangers too, in any cell or none."""
    n = draw(st.sampled_from([1, 2, 2, 3, 3]))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    numbers, positions = rng.choice([1, 6, 8], n), rng.uniform(-6.0, 6.0, (n, 3))
    if draw(st.integers(0, 9)) > 6:  # what the model may not know
        numbers = draw(st.lists(st.sampled_from([1, 6, 8, 14, 0, 118]), min_size=n, max_size=n))
    if draw(st.integers(0, 9)) > 6:  # anywhere, or nowhere
        positions = np.array(draw(st.lists(st.tuples(number, number, number), min_size=n, max_size=n)), float)
    if n > 1 and draw(st.integers(0, 9)) == 0:
        positions[1] = positions[0]
    cell = np.diag(draw(st.tuples(length, length, length)))
    if draw(st.booleans()):
        cell = cell + np.array(draw(st.lists(st.floats(-2, 2), min_size=9, max_size=9))).reshape(3, 3)
    cell = cell[list(draw(st.permutations(range(3))))]  # left-handed ones among them
    return Atoms(numbers, positions, cell=cell, pbc=draw(st.tuples(st.booleans(), st.booleans(), st.booleans())))


def pairs_by_hand(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> np.ndarray:
    """Sorted distances of all ordered pairs of atoms and images within the cutoff, one by one."""
    volume, faces = abs(np.linalg.det(cell)), np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]])
    reach = np.linalg.norm(positions[:, None] - positions[None], axis=-1).max(initial=0.0) + cutoff
    n = [int(np.ceil(reach * np.linalg.norm(face) / volume)) if p else 0 for face, p in zip(faces, pbc, strict=True)]
    assume(np.prod([2 * m + 1 for m in n]) < 100_000)  # far apart along one vector, near images along another
    grid = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in n), indexing="ij"), -1).reshape(-1, 3) @ cell
    vectors = positions[None, :, None] - positions[:, None, None] + grid[None, None]
    r = np.linalg.norm(vectors, axis=-1).ravel()
    return np.sort(r[(r < cutoff) & (r > 1e-9)])


@cases(0.8)
@given(structures())
def test_structures(atoms: Atoms) -> None:
    """Energy and forces: finite, of exactly the pairs there are, unmoved by what does not matter; or a sentence."""
    try:
        system = make_system(
            atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, CALCULATOR.potential.config.r_max
        )
        atoms.calc = CALCULATOR
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    except UserError as error:
        clear(error)
        record(10)
        return
    assert np.isfinite(energy)
    assert np.isfinite(forces).all()
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-8 * max(1.0, np.abs(forces).max()))
    cutoff = CALCULATOR.potential.config.r_max
    cell = complete_cell(np.where(atoms.pbc[:, None], atoms.cell.array, 0.0), atoms.pbc)
    i, j, S = neighbor_pairs(system.positions, atoms.cell.array, atoms.pbc, cutoff)
    r = np.linalg.norm(system.positions[j] + S @ atoms.cell.array - system.positions[i], axis=1)
    by_hand = pairs_by_hand(system.positions, cell, atoms.pbc, cutoff)
    assume(not np.any(np.abs(by_hand - cutoff) < 1e-9))
    np.testing.assert_allclose(np.sort(r), by_hand, atol=1e-9)
    order = np.random.default_rng(0).permutation(len(atoms))
    moved = atoms[order]
    moved.calc = CALCULATOR
    moved.positions += atoms.pbc @ atoms.cell.array + [0.3, -0.2, 0.7]
    assert moved.get_potential_energy() == pytest.approx(energy, rel=1e-9, abs=1e-7)
    scale = max(1.0, np.abs(forces).max())
    np.testing.assert_allclose(moved.get_forces(), forces[order], atol=1e-6 * scale)
    record(16)


@cases(0.3)
@given(structures())
def test_structures_in_single_precision(atoms: Atoms) -> None:
    """The same energy as in double precision to the rounding of what it is made of, or a sentence."""
    single = SINGLE.setdefault("calculator", gmnn.Calculator(MODEL))
    try:
        atoms.calc = single
        found = atoms.get_forces()
    except UserError as error:
        clear(error)
        record(10)
        return
    atoms.calc = CALCULATOR
    forces = atoms.get_forces()
    i, j, S = neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, CALCULATOR.potential.config.r_max)
    r = np.linalg.norm(atoms.positions[j] + S @ atoms.cell.array - atoms.positions[i], axis=1)
    bare = 14.4 * 8 * 8 * np.sum(1 / r**2)  # eV/Å, what pushes of nuclei that cancel each other add up to at most
    np.testing.assert_allclose(found, forces, atol=2e-3 * max(1.0, np.abs(forces).max()) + 1e-7 * bare)
    record(16)


SINGLE: dict[str, gmnn.Calculator] = {}


# command lines


WORD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
COMMANDS = (
    "train", "md", "scan", "certify", "eval", "select", "distort", "export", "import-apax", "schema", "completion",
    "show", "reference",
)  # fmt: skip
ARGUMENTS = (
    "--help", "-n", "3", "--out", "/", "--structure", "nothing.xyz", "--resume", "a=b", "--energy", "nan", "--dtype",
    "float16", "--models", "ä", "--json",
)  # fmt: skip


@cases(0.1)
@given(st.sampled_from(COMMANDS), st.lists(st.one_of(st.sampled_from(ARGUMENTS), WORD), max_size=4))
def test_command_lines(command: str, arguments: list[str]) -> None:
    """Exit code 0 or 2 and something to read, never an exception."""
    with tempfile.TemporaryDirectory() as home:
        before = os.getcwd()
        os.chdir(home)
        try:
            code: Any = main([command, *arguments])
        except SystemExit as end:
            code = end.code
        finally:
            os.chdir(before)
    assert code in (0, 2), (command, arguments)
    record(8)


@pytest.mark.slow
def test_more_of_every_kind() -> None:
    """The same properties on 60 cases of each."""
    done = processes.python("-m", "pytest", "-n", "0", Path(__file__), GMNN_CASES="60")
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.mark.slow
def test_a_hundred_thousand_frames(tmp_path: Path) -> None:
    """All are read, with their labels."""
    rng = np.random.default_rng(0)
    energies = rng.normal(size=100_000)
    with open(tmp_path / "many.extxyz", "w", encoding="utf-8") as file:
        for energy in energies:
            file.write(
                f'1\nProperties=species:S:1:pos:R:3:forces:R:3 energy={energy:.12f} pbc="F F F"\nH 0 0 0 0 0 0.1\n'
            )
    found = read_dataset(str(tmp_path / "many.extxyz"))
    assert len(found) == 100_000
    np.testing.assert_allclose(found.energies, energies, atol=1e-11)
    record(10)
