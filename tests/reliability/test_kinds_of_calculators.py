"""Generated cases of calculators: those of users (8), ours in ordinary uses (11), dummy atoms (12), velocities (13).

And silent physics (16): charges, isolated atoms.
"""

import copy
import pickle
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

import gmnn
from gmnn import md
from gmnn.data import read_dataset
from gmnn.data.embedded import ethanol
from gmnn.errors import UserError
from gmnn.evaluation import compare
from gmnn.md.velocities import repeated
from gmnn.scanning import report
from gmnn.structures import read_structure, read_structures
from gmnn.training import selection
from tests.support.kinds import clear, command, content, generated
from tests.support.paths import GOLDEN

MODEL = GOLDEN / "v3" / "model"
FRAMES = ethanol()[:20]


# calculators of users


class Own(BaseException):
    """An exception of somebody's that is no `Exception`."""


class Sly(Exception):
    """An exception whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Fault(Calculator):
    """Lennard-Jones that does what it is told from its `after`-th structure on."""

    implemented_properties = ["energy", "forces"]

    def __init__(self, how: str, after: int) -> None:
        super().__init__()
        self.how, self.after, self.count = how, after, 0
        self.inner = LennardJones(sigma=0.7, epsilon=0.1, rc=5.0)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.count += 1
        self.inner.calculate(atoms.copy())
        energy, forces = self.inner.results["energy"], self.inner.results["forces"].copy()
        self.results = {"energy": float(energy), "forces": forces}
        if self.count > self.after:
            self.results = RAISES[self.how]() if self.how in RAISES else RETURNS[self.how](float(energy), forces, atoms)


def raising(error: Any) -> Any:
    def act() -> dict:
        raise error() if callable(error) else error

    return act


RAISES: dict[str, Any] = {  # a point that fails, or the end
    "exit 0": raising(SystemExit(0)),
    "exit None": raising(SystemExit),
    "exit text": raising(SystemExit("bye")),
    "generator exit": raising(GeneratorExit),
    "own": raising(Own),
    "value": raising(ValueError("no")),
    "memory": raising(MemoryError),
    "recursion": raising(RecursionError),
    "stop": raising(StopIteration),
    "assertion": raising(AssertionError),
    "os": raising(OSError(28, "No space left on device")),
    "unicode": raising(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")),
    "key": raising(KeyError("energy")),
    "import": raising(ImportError("no library")),
    "long": raising(ValueError("x" * 10**6)),
    "empty": raising(ValueError()),
    "lines": raising(ValueError("a\nb\nc")),
    "warning": raising(UserWarning("w")),
    "not implemented": raising(NotImplementedError),
    "sly": raising(Sly),
    "user": raising(UserError("the structure is not for me, take another one")),
}
ENDS = {"exit 0", "exit None", "exit text", "generator exit", "own"}
RETURNS: dict[str, Any] = {
    "nan energy": lambda e, f, a: {"energy": np.nan, "forces": f},
    "inf": lambda e, f, a: {"energy": np.inf, "forces": f},
    "nan forces": lambda e, f, a: {"energy": e, "forces": f * np.nan},
    "none": lambda e, f, a: {"energy": None, "forces": f},
    "text": lambda e, f, a: {"energy": "low", "forces": f},
    "two": lambda e, f, a: {"energy": np.zeros(2), "forces": f},
    "flat": lambda e, f, a: {"energy": e, "forces": f.ravel()},
    "one row": lambda e, f, a: {"energy": e, "forces": f[0]},
    "transposed": lambda e, f, a: {"energy": e, "forces": np.zeros((3, 5))},
    "absent": lambda e, f, a: {"energy": e},
    "nothing": lambda e, f, a: {},
    "complex": lambda e, f, a: {"energy": e + 1j, "forces": f},
    "list": lambda e, f, a: {"energy": [e], "forces": f.tolist()},
    "ragged": lambda e, f, a: {"energy": e, "forces": [[1], [2, 3]]},
    "float16": lambda e, f, a: {"energy": np.float32(e), "forces": f.astype("f4")},
    "bool": lambda e, f, a: {"energy": True, "forces": f},
    "no forces": lambda e, f, a: {"energy": e, "forces": None},
    "extra": lambda e, f, a: {"energy": e, "forces": f, "x": object()},
    "loud": lambda e, f, a: (
        print("a line of mine") or warnings.warn("mine", stacklevel=1) or {"energy": e, "forces": f}
    ),
    "moves": lambda e, f, a: a.translate([0, 0, 1.0]) or {"energy": e, "forces": f},
}
RIGHT = {"list", "float16", "extra", "loud"}  # the numbers are there


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    ase.io.write("h2.xyz", Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]))
    frames = FRAMES[:6]
    ase.io.write("f.extxyz", frames)
    Path("t.yaml").write_text("output: o\ndata: {train: f.extxyz, n_train: 4, n_valid: 2}\n", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "faulty_calculators", sys.modules[__name__])
    return tmp_path


@pytest.mark.slow
def test_kind_8_calculators_of_a_scan(
    there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit codes 0 and 1 only with a report; what ends the program or cannot be evaluated is one sentence and 2."""
    for name in ("draw_scan", "draw_panels"):
        monkeypatch.setattr(report, name, lambda *_: b"a figure")
    ways = [*RAISES, *RETURNS]
    for case in generated(8, "calculators of a scan", 2.7, seconds=30):
        with case:
            how, after = ways[case.index % len(ways)], int(case.rng.choice([0, 1, 5, 40]))
            case.about = (how, after)
            monkeypatch.setattr(sys.modules[__name__], "factory", partial(Fault, how, after), raising=False)
            out = f"out{case.index}"
            code, _, err = command(
                ["scan", "--calculator", "faulty_calculators:factory", "--structure", "h2.xyz", "--frames", "3",
                 "--reference", "none", "--out", out], capsys,
            )  # fmt: skip
            assert (there / out / "scan.json").exists() == (code in (0, 1)), (code, err)
            if how in ENDS:
                assert code == 2
                assert "tried to end the program" in err
            elif how not in RIGHT and how not in ("bool", "moves") and after == 0:
                assert code == 2, how
            elif how in RIGHT:
                assert code in (0, 1), err


def test_kind_8_calculators_of_distort(
    there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels are those of the calculator, finite and of the right shape, or a sentence and no file."""
    ways = [*RAISES, *RETURNS]
    for case in generated(8, "calculators of distort", 2.7, seconds=20):
        with case:
            how, after = ways[case.index % len(ways)], int(case.rng.choice([0, 2, 5]))
            case.about = (how, after)
            monkeypatch.setattr(sys.modules[__name__], "factory", partial(Fault, how, after), raising=False)
            out = there / f"d{case.index}.extxyz"
            code, _, err = command(
                ["distort", "t.yaml", "--calculator", "faulty_calculators:factory", "-n", "3", "--out", out], capsys
            )
            assert out.exists() == (code == 0), (code, err)
            if how in ENDS and after == 0:  # later calls may not be reached
                assert code == 2
            if code == 0:
                for atoms in ase.io.read(out, ":"):
                    assert np.isfinite(atoms.get_potential_energy())
                    assert np.isfinite(atoms.get_forces()).all()


# ordinary uses of ours


@pytest.fixture(scope="module")
def calculators() -> dict[str, gmnn.Calculator]:
    return {path: gmnn.Calculator(MODEL, dtype="float64", path=path) for path in ("reference", "fast")}


def act(atoms: Atoms, rng: np.random.Generator) -> tuple[str, Atoms]:
    """One thing that a user does with atoms that carry a calculator."""
    calculator = atoms.calc
    names = ["move", "rattle", "cell", "pbc", "symbols", "copy", "deepcopy", "pickle", "delete", "append", "swap",
             "wrap", "ask", "forces", "reset", "batch", "translate", "scale", "momenta", "constraint",
             "sort", "slice", "read"]  # fmt: skip
    name = names[rng.integers(len(names))]
    if name == "move":
        atoms.positions[rng.integers(len(atoms))] += rng.normal(size=3) * 0.3
    elif name == "rattle":
        atoms.rattle(0.05, seed=int(rng.integers(1000)))
    elif name == "cell":
        atoms.set_cell(np.eye(3) * rng.uniform(9, 14), scale_atoms=bool(rng.integers(2)))
    elif name == "pbc":
        if atoms.cell.rank == 3:
            atoms.pbc = rng.integers(0, 2, 3).astype(bool)
    elif name == "symbols":
        atoms.numbers[rng.integers(len(atoms))] = rng.choice([1, 6, 8])
    elif name in ("copy", "deepcopy", "pickle"):
        done = {
            "copy": lambda a: a.copy(),
            "deepcopy": copy.deepcopy,
            "pickle": lambda a: pickle.loads(pickle.dumps(a)),
        }
        atoms = done[name](atoms)
        atoms.calc = atoms.calc or calculator
    elif name == "delete" and len(atoms) > 2:
        del atoms[int(rng.integers(len(atoms)))]
    elif name == "append":
        atoms.append(ase.Atom("H", rng.uniform(-6, 6, 3)))
    elif name == "swap":
        atoms.positions[:2] = atoms.positions[1::-1].copy()
    elif name == "wrap":
        if atoms.cell.rank == 3:
            atoms.wrap()
    elif name == "ask":
        atoms.get_potential_energy()
    elif name == "forces":
        atoms.get_forces()[:] = np.nan  # what a user writes into is a copy
    elif name == "reset":
        calculator.reset()
    elif name == "batch":
        calculator.batch_eval([atoms.copy(), FRAMES[0].copy()])
    elif name == "translate":
        atoms.translate(rng.normal(size=3) * 20)
    elif name == "scale":
        atoms.positions *= rng.uniform(0.9, 1.1)
    elif name == "momenta":
        atoms.set_momenta(rng.normal(size=(len(atoms), 3)))
    elif name == "constraint":
        atoms.set_constraint(FixAtoms([0]))
    elif name == "sort":
        order = np.argsort(atoms.numbers, kind="stable")
        atoms = atoms[order]
        atoms.calc = calculator
    elif name == "slice":
        atoms = atoms[: max(2, len(atoms) - 1)]
        atoms.calc = calculator
    elif name == "read":
        calculator.get_potential_energy(FRAMES[1])
    return name, atoms


@pytest.mark.slow
def test_kind_11_any_sequence_of_uses(calculators: dict[str, gmnn.Calculator]) -> None:
    """After any of them energy and forces are those of a new calculator, or both refuse."""
    fresh = {path: gmnn.Calculator(MODEL, dtype="float64", path=path, skin=0.0) for path in calculators}
    for case in generated(11, "uses", 3, seconds=60):
        with case:
            path = ("reference", "fast")[case.rng.integers(2)]
            atoms, done = FRAMES[case.rng.integers(20)].copy(), []
            case.about = (path, done)
            atoms.calc = calculators[path]
            for _ in range(6):
                try:
                    name, atoms = act(atoms, case.rng)
                    done.append(name)
                    found = atoms.get_potential_energy(), atoms.get_forces(apply_constraint=False)
                except UserError as error:
                    clear(error)
                    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
                    with pytest.raises(UserError):
                        fresh[path].get_potential_energy(bare)
                    break
                bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
                fresh[path].reset()
                bare.calc = fresh[path]
                assert found[0] == pytest.approx(bare.get_potential_energy(), abs=1e-8)
                scale = max(1.0, float(np.abs(found[1]).max()))
                np.testing.assert_allclose(found[1], bare.get_forces(), atol=1e-8 * scale)


# atoms that are none


def test_kind_12_dummy_atoms_everywhere(tmp_path: Path, calculators: dict[str, gmnn.Calculator]) -> None:
    """A structure with an atom that the model does not know is refused by every use, wherever the atom stands."""
    potential, file = calculators["reference"].potential, tmp_path / "f.extxyz"
    for case in generated(12, "dummy atoms", 4, seconds=30):
        with case:
            frame = FRAMES[case.rng.integers(20)].copy()
            number = int(case.rng.choice([0, 2, 14, 92, 118]))
            atoms = Atoms(frame.numbers, frame.positions)
            where = int(case.rng.integers(len(atoms) + 1))
            extra = Atoms([number], [atoms.positions.mean(0) + case.rng.normal(size=3) * 5])
            atoms = atoms[:where] + extra + atoms[where:]
            if case.rng.integers(2):
                atoms.set_cell(np.eye(3) * 30)
                atoms.pbc = True
            use = case.index % 8
            case.about = (number, where, use)
            if use in (4, 5, 6):
                atoms.info["energy"] = 1.0
                ase.io.write(file, atoms)
            frames = [frame, atoms]
            uses = (
                lambda atoms=atoms: calculators["reference"].get_potential_energy(atoms),
                lambda atoms=atoms: calculators["fast"].get_forces(atoms),
                lambda frames=frames: calculators["fast"].batch_eval(frames),
                lambda atoms=atoms: md.Dynamics(atoms, potential, md.Bath("nve")),
                lambda: compare(potential, read_dataset(str(file))),
                lambda: selection.frame_features(potential, read_structures(file)),
                lambda: calculators["reference"].get_potential_energy(read_structure(file)),
                lambda atoms=atoms: potential.require_elements(atoms.numbers),
            )
            with pytest.raises(UserError) as caught:
                uses[use]()
            clear(caught.value, "X", "He", "Si", "U", "Og", "0 ", "number")


# state that should not be shared


def test_kind_13_copies_of_a_moving_cell() -> None:
    """Copies have the temperature of the frame and velocities of their own; fixed atoms stay; a resting cell rests."""
    for case in generated(13, "copies", 4, seconds=20):
        with case:
            rng = case.rng
            atoms = bulk("Si", cubic=bool(rng.integers(2)))
            repeat = tuple(int(n) for n in rng.integers(1, 4, 3))
            if rng.integers(3):
                MaxwellBoltzmannDistribution(atoms, temperature_K=900.0, rng=np.random.default_rng(case.index))
            if rng.integers(2) and len(atoms) > 2:
                atoms.set_constraint(FixAtoms([0]))
            case.about = (len(atoms), repeat, bool(atoms.constraints))
            n = int(np.prod(repeat))
            copies, temperature = repeated(atoms, repeat, int(rng.integers(1000)))
            fixed = np.isin(np.arange(len(atoms)), [0] if atoms.constraints else [])
            kinetic = 0.5 * np.sum(atoms.get_masses()[~fixed, None] * atoms.get_velocities()[~fixed] ** 2)
            assert len(copies) == n * len(atoms)
            assert copies.get_kinetic_energy() == pytest.approx(n * kinetic, rel=1e-9, abs=1e-12)
            assert temperature == pytest.approx(2 * kinetic / (3 * np.sum(~fixed) * units.kB), abs=1e-9)
            np.testing.assert_allclose(copies.positions[: len(atoms)], atoms.positions, atol=1e-12)
            velocities = copies.get_velocities().reshape(n, len(atoms), 3)
            assert (velocities[:, fixed] == 0).all()
            if kinetic > 0 and n > 1:
                difference = np.abs(velocities[0, ~fixed] - velocities[1, ~fixed]).max()
                assert difference > 1e-3 * np.abs(velocities).max()


# silent physics


def test_kind_16_total_charges(tmp_path: Path) -> None:
    """A total charge that is not 0, under any usual name, is one warning; 0, text and other keys are none."""
    names = ["charge", "total_charge", "Charge", "TOTAL_CHARGE", "totalcharge", "tot_charge", "net_charge", "qtot"]
    others = ["charges", "spin", "charge_model", "energy", "note"]
    for case in generated(16, "charges", 5, seconds=10):
        with case:
            frames, charged = [], 0
            for _ in range(case.rng.integers(1, 4)):
                atoms = FRAMES[case.rng.integers(20)].copy()
                atoms.info = {"energy": 1.0}
                name = str(case.rng.choice(names if case.rng.integers(3) else others))
                value: Any = [0, 1, -1, 0.0, 2.5, -0.5, True, "neutral", 1e-9, 3][case.rng.integers(10)]
                if name != "energy":
                    atoms.info[name] = value
                case.about = (name, value)
                charged += name in names and value not in (0, "neutral")
                frames.append(atoms)
            file = tmp_path / "f.extxyz"
            ase.io.write(file, frames)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found = read_structures(file)
            said = [str(w.message) for w in caught if "total charge" in str(w.message)]
            assert len(found) == len(frames)
            assert len(said) == (charged > 0), said
            if said:
                assert f"{charged} of {len(frames)} frames" in said[0]


def test_kind_16_what_the_energy_does_not_know(calculators: dict[str, gmnn.Calculator]) -> None:
    """Momenta, masses, tags, magnetic moments and names of a structure do not change its energy and forces."""
    for case in generated(16, "other arrays", 2, seconds=20):
        with case:
            atoms = FRAMES[case.rng.integers(20)].copy()
            atoms.calc = calculators["reference"]
            energy, forces = atoms.get_potential_energy(), atoms.get_forces()
            other = Atoms(atoms.numbers, atoms.positions)
            n = len(other)
            for name, values in {
                "momenta": case.rng.normal(size=(n, 3)), "tags": case.rng.integers(0, 5, n),
                "masses": case.rng.uniform(1, 50, n), "initial_magmoms": case.rng.normal(size=n),
                "initial_charges": np.zeros(n), "weights": case.rng.normal(size=n),
            }.items():  # fmt: skip
                if case.rng.integers(2):
                    other.set_array(name, values)
            case.about = sorted(other.arrays)
            other.calc = calculators["reference"]
            assert other.get_potential_energy() == pytest.approx(energy, abs=1e-10)
            np.testing.assert_allclose(other.get_forces(), forces, atol=1e-10)


def test_kind_13_content_is_what_lies_there(tmp_path: Path) -> None:
    """The helper of these tests sees a changed byte, a link and a folder."""
    (tmp_path / "a").write_text("1", encoding="utf-8")
    before = content(tmp_path)
    (tmp_path / "a").write_text("2", encoding="utf-8")
    assert content(tmp_path) != before
