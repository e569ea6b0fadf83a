"""Kind 11: what people do with a calculator: copies, pickles, threads, processes, caches, results, coincident atoms."""

import copy
import io
import json
import multiprocessing
import os
import pickle
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.mep import NEB
from ase.optimize import FIRE

from gmnn import Calculator
from gmnn.errors import UserError
from gmnn.model.potential import Potential
from tests.support import processes

Make = Callable[..., tuple[Any, dict]]


COPIES = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
    "pickle of a copy": lambda x: pickle.loads(pickle.dumps(copy.deepcopy(x))),
    "copy of a pickle": lambda x: copy.deepcopy(pickle.loads(pickle.dumps(x))),
}


@pytest.mark.parametrize(
    ("how", "path"), [*((how, "kernel") for how in COPIES), ("deepcopy", "reference"), ("pickle", "fast")]
)
def test_kind_11_copies(potential: Potential, structures: dict[str, Atoms], how: str, path: str) -> None:
    """Copies of a calculator, unused and used, have its settings and results and give equal numbers, independently."""
    atoms, copied = structures["crystal"], COPIES[how]
    calculator = Calculator(potential, dtype="float64", path=path, skin=0.3, label="mine")
    unused = copied(calculator)
    expected = calculator.get_potential_energy(atoms), calculator.get_forces(atoms), calculator.get_stress(atoms)
    used = copied(calculator)
    assert used.results.keys() == calculator.results.keys()
    assert used.get_property("energy", atoms, allow_calculation=False) == expected[0]
    for other in (unused, used):
        assert (other.skin, other.dtype, other.path, other.label) == (0.3, "float64", path, "mine")
        got = other.get_potential_energy(atoms), other.get_forces(atoms), other.get_stress(atoms)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    moved = atoms.copy()
    moved.positions[0] += [0.05, 0.02, 0.01]
    assert used.get_potential_energy(moved) == calculator.get_potential_energy(moved) != expected[0]
    assert calculator.get_potential_energy(atoms) == expected[0]
    used.reset()
    assert calculator.results
    assert used.get_potential_energy(moved) == calculator.get_potential_energy(moved)


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_kind_11_copies_of_atoms(potential: Potential, structures: dict[str, Atoms], how: str) -> None:
    atoms = structures["molecule"]
    atoms.calc = Calculator(potential)
    for used in (False, True):
        other = COPIES[how](atoms)
        assert other.calc is not atoms.calc
        assert bool(other.calc.results) is used
        assert other.get_potential_energy() == atoms.get_potential_energy()
    several = COPIES[how]([atoms, atoms])
    assert several[0] is several[1]


def test_kind_11_copies_of_an_ensemble(ensemble: Potential, structures: dict[str, Atoms]) -> None:
    calculator, atoms = Calculator(ensemble, dtype="float64"), structures["crystal"]
    spread = calculator.get_property("forces_std", atoms)
    for how in ("deepcopy", "pickle"):
        other = COPIES[how](calculator)
        assert other.implemented_properties == calculator.implemented_properties
        other.reset()
        np.testing.assert_array_equal(other.get_property("forces_std", atoms), spread)


def test_kind_11_a_copy_compiles_nothing(potential: Potential, structures: dict[str, Atoms]) -> None:
    calculator = Calculator(potential)
    calculator.get_potential_energy(structures["molecule"])
    assert copy.deepcopy(calculator)._predict is calculator._predict


def test_kind_11_pickle_into_another_process(
    potential: Potential, structures: dict[str, Atoms], tmp_path: Path
) -> None:
    """A process that has never seen the model computes the same energy of the same and of moved atoms."""
    atoms = structures["molecule"]
    atoms.calc = Calculator(potential, dtype="float64")
    energies = [atoms.get_potential_energy()]
    (tmp_path / "atoms.pkl").write_bytes(pickle.dumps(atoms))
    atoms.positions[0] += 0.1
    energies.append(atoms.get_potential_energy())
    code = (
        "import pickle, sys; atoms = pickle.load(open(sys.argv[1], 'rb')); a = atoms.get_potential_energy();"
        "atoms.positions[0] += 0.1; print([a, atoms.get_potential_energy()])"
    )
    done = processes.python("-c", code, tmp_path / "atoms.pkl")
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), energies, rtol=0, atol=1e-10)


def _energy(atoms: Atoms) -> float:
    return float(atoms.get_potential_energy())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kind_11_fork_after_use(potential: Potential, structures: dict[str, Atoms]) -> None:
    """One sentence that names spawn, and no hang; what was computed before is still there."""
    atoms = structures["molecule"]
    atoms.calc = Calculator(potential)
    energy = atoms.get_potential_energy()
    moved = atoms.copy()
    moved.positions[0] += 0.1
    moved.calc = atoms.calc
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply_async(_energy, (atoms,)).get(timeout=60) == energy
            for call in (pool.apply_async(_energy, (moved,)), pool.apply_async(Calculator, (potential,))):
                with pytest.raises(UserError, match="spawn"):
                    call.get(timeout=60)
    assert moved.get_potential_energy() != energy


def test_kind_11_threads(potential: Potential, structures: dict[str, Atoms]) -> None:
    """Threads with one calculator and with their own get the numbers of one thread."""
    rng = np.random.default_rng(0)
    frames = [structures["molecule"].copy() for _ in range(40)]
    for frame in frames:
        frame.positions += 0.05 * rng.normal(size=frame.positions.shape)
    calculator = Calculator(potential, dtype="float64")
    expected = [(calculator.get_potential_energy(frame), calculator.get_forces(frame)) for frame in frames]

    def work(frame: Atoms) -> tuple[float, np.ndarray]:
        return frame.get_potential_energy(), frame.get_forces()

    for shared in (True, False):
        local = threading.local()

        def start(shared: bool = shared, local: Any = local) -> None:
            local.calculator = calculator if shared else copy.deepcopy(calculator)

        def task(frame: Atoms, local: Any = local) -> tuple[float, np.ndarray]:
            frame = frame.copy()
            frame.calc = local.calculator
            return work(frame)

        with ThreadPoolExecutor(4, initializer=start) as pool:
            for (energy, forces), (right, right_forces) in zip(pool.map(task, frames), expected, strict=True):
                assert energy == pytest.approx(right, abs=1e-11)
                np.testing.assert_allclose(forces, right_forces, atol=1e-10)


@pytest.mark.parametrize("members", [1, 3])
def test_kind_11_results_go_into_ases_own_classes(
    potential: Potential, ensemble: Potential, structures: dict[str, Atoms], members: int, tmp_path: Path
) -> None:
    """SinglePointCalculator, Properties, trajectories, databases and extended xyz take all results."""
    calculator, atoms = Calculator(potential if members == 1 else ensemble, dtype="float64"), structures["crystal"]
    atoms.calc = calculator
    names = ["energy", "forces", "stress", *(["energy_std", "forces_std"] if members > 1 else [])]
    values = {name: calculator.get_property(name, atoms) for name in names}
    single = SinglePointCalculator(atoms, **calculator.results)
    again = SinglePointCalculator(atoms, **single.results)
    assert set(calculator.export_properties()) >= set(names)
    for name, value in values.items():
        np.testing.assert_array_equal(single.get_property(name, atoms), value)
        np.testing.assert_array_equal(again.get_property(name, atoms), value)
    for name in ("a.traj", "a.json", "a.extxyz"):
        atoms.write(tmp_path / name)
        read = ase.io.read(tmp_path / name).calc.results
        np.testing.assert_allclose(read["forces"], values["forces"], atol=1e-7)
        if members > 1 and name != "a.json":
            np.testing.assert_allclose(read["energy_std"], values["energy_std"], atol=1e-7)
            np.testing.assert_allclose(read["forces_std"], values["forces_std"], atol=1e-7)
    with connect(tmp_path / "a.db") as database:
        database.write(atoms)
    assert connect(tmp_path / "a.db").get(1).energy == values["energy"]
    frozen = calculator.batch_eval([atoms, structures["molecule"]])
    for frame in frozen:
        assert frame.calc.results.keys() == {*calculator.results} - {"forces_std", "stress"} | {
            name for name in ("stress",) if frame.pbc.any()
        }
    if members > 1:
        assert float(frozen[0].calc.get_property("energy_std", atoms)) == pytest.approx(values["energy_std"], rel=1e-9)


@pytest.mark.parametrize(
    ("path", "dtype"), [("reference", "float32"), ("fast", "float64"), ("kernel", "float32"), ("kernel", "float64")]
)
def test_kind_11_atoms_made_coincident(
    potential: Potential, structures: dict[str, Atoms], path: str, dtype: str
) -> None:
    """On a kept list as on a new one: one sentence, and right numbers again once they are apart."""
    for name, jump in (("dimer", [0, 0, 0]), ("triclinic", structures["triclinic"].cell.array[1])):
        atoms = structures[name]
        apart = atoms.positions[1].copy()
        atoms.positions[1] = atoms.positions[0] + [0, 0, 0.2]
        atoms.calc = Calculator(potential, dtype=dtype, path=path, skin=0.5)
        energy = atoms.get_potential_energy()
        kept = atoms.calc._kept
        atoms.positions[1] = atoms.positions[0]
        with pytest.raises(UserError, match="at the same place"):
            atoms.get_potential_energy()
        assert atoms.calc._kept is kept, "it was the kept list that told"
        atoms.positions[1] = atoms.positions[0] + jump
        with pytest.raises(UserError, match="at the same place"):
            atoms.get_forces()
        atoms.positions[1] = atoms.positions[0] + [0, 0, 0.2]
        assert atoms.get_potential_energy() == pytest.approx(energy, rel=1e-6)
        atoms.positions[1] = apart
        assert np.isfinite(atoms.get_potential_energy())


def test_kind_11_neb(potential: Potential, structures: dict[str, Atoms]) -> None:
    """Images with copies of a calculator move as images that share it."""
    paths = []
    for shared in (True, False):
        first, last = structures["molecule"].copy(), structures["molecule"].copy()
        last.positions[0] += [0.2, 0.1, 0.0]
        images = [first, *(first.copy() for _ in range(2)), last]
        calculator = Calculator(potential, dtype="float64")
        for image in images:
            image.calc = calculator if shared else copy.deepcopy(calculator)
        band = NEB(images, allow_shared_calculator=shared)
        band.interpolate()
        FIRE(band, logfile=None).run(fmax=1e-3, steps=3)
        paths.append(np.array([image.positions for image in images]))
    np.testing.assert_allclose(paths[0], paths[1], atol=1e-9)


def test_kind_11_atoms_stay_as_they_are(
    potential: Potential, ensemble: Potential, structures: dict[str, Atoms]
) -> None:
    """Neither info, arrays, constraints nor the structure change, whatever is asked for."""
    for trained in (potential, ensemble):
        atoms = structures["crystal"]
        atoms.info, before = {"name": "x", "list": [1]}, None
        atoms.set_array("mine", np.arange(len(atoms)))
        atoms.positions += 30.0
        atoms.calc = Calculator(trained)
        before = copy.deepcopy((atoms.info, atoms.arrays, atoms.cell.array, atoms.pbc))
        for name in atoms.calc.implemented_properties:
            atoms.calc.get_property(name, atoms)
        atoms.calc.batch_eval([atoms])
        assert repr((atoms.info, atoms.arrays, atoms.cell.array, atoms.pbc)) == repr(before)


CHANGES: dict[str, Callable[[Atoms], object]] = {
    "positions": lambda a: a.positions.__setitem__(0, a.positions[0] + 1e-6),
    "far positions": lambda a: a.positions.__setitem__(0, a.positions[0] + 2.0),
    "cell": lambda a: a.set_cell(1.001 * a.cell.array),
    "strain": lambda a: a.set_cell(1.001 * a.cell.array, scale_atoms=True),
    "pbc": lambda a: a.set_pbc([True, True, False]),
    "numbers": lambda a: a.numbers.__setitem__(0, 6),
    "number of atoms": lambda a: a.pop(),
    "order": lambda a: a.arrays["positions"].__setitem__([0, 1], a.positions[[1, 0]]),
}
NO_CHANGES: dict[str, Callable[[Atoms], object]] = {
    "nothing": lambda a: None,
    "info": lambda a: a.info.update(x=1),
    "momenta": lambda a: a.set_momenta(np.ones((len(a), 3))),
    "masses": lambda a: a.set_masses([2.0] * len(a)),
    "tags": lambda a: a.set_tags(1),
    "charges": lambda a: a.set_initial_charges([0.1] * len(a)),
    "magmoms": lambda a: a.set_initial_magnetic_moments([1.0] * len(a)),
}


@pytest.mark.parametrize("name", [*CHANGES, *NO_CHANGES])
def test_kind_11_caching(potential: Potential, structures: dict[str, Atoms], name: str) -> None:
    """Results are computed again when, and only when, something changed that they depend on."""
    calculator, atoms = Calculator(potential, dtype="float64"), structures["crystal"]
    atoms.calc, counts = calculator, []
    original = calculator._predict
    calculator._predict = lambda *arguments: counts.append(1) or original(*arguments)  # type: ignore[assignment]
    for get in (atoms.get_potential_energy, atoms.get_forces, atoms.get_stress, atoms.get_potential_energies):
        get()
    assert len(counts) == 1
    assert calculator.check_state(atoms) == []
    assert not calculator.calculation_required(atoms, ["energy", "forces", "stress"])
    energy = atoms.get_potential_energy()
    (CHANGES | NO_CHANGES)[name](atoms)
    changed = name in CHANGES
    assert bool(calculator.check_state(atoms)) is changed
    assert calculator.calculation_required(atoms, ["energy"]) is changed
    assert (atoms.calc.get_property("energy", atoms, allow_calculation=False) is None) is changed
    assert len(counts) == 1
    new = atoms.get_potential_energy()
    assert len(counts) == 1 + changed
    fresh = Calculator(potential, dtype="float64")
    assert new == pytest.approx(fresh.get_potential_energy(atoms), abs=1e-9)
    assert (new != energy) or not changed or name == "pbc"


def test_kind_11_reset_and_todict(potential: Potential, structures: dict[str, Atoms]) -> None:
    calculator, atoms = Calculator(potential), structures["molecule"]
    energy = calculator.get_potential_energy(atoms)
    calculator.reset()
    assert calculator.results == {}
    assert calculator.atoms is None
    assert calculator.get_property("energy", atoms, allow_calculation=False) is None
    assert calculator.get_potential_energy(atoms) == energy
    assert json.loads(json.dumps(calculator.todict())) == {}
    assert calculator.name == "calculator"
    with pytest.raises(PropertyNotImplementedError):
        calculator.get_property("dipole", atoms)


def test_kind_11_no_result_of_another_structure_stays_after_an_error(
    potential: Potential, structures: dict[str, Atoms]
) -> None:
    calculator, atoms = Calculator(potential), structures["molecule"]
    calculator.get_potential_energy(atoms)
    wrong = atoms.copy()
    wrong.numbers[0] = 92
    for _ in range(2):
        with pytest.raises(UserError, match="not trained on U"):
            calculator.calculate(wrong)
        assert calculator.get_property("energy", wrong, allow_calculation=False) is None
        with pytest.raises(UserError, match="not trained on U"):
            calculator.get_potential_energy(wrong)


def test_kind_11_numbers_that_are_not_finite(potential: Potential, structures: dict[str, Atoms]) -> None:
    import jax

    damaged = potential.with_params(jax.tree.map(lambda leaf: leaf * np.nan, potential.trained))
    calculator = Calculator(damaged, path="reference")
    for use in (calculator.get_potential_energy, lambda a: calculator.batch_eval([a])):
        with pytest.raises(UserError, match="not finite"):
            use(structures["molecule"])


def test_kind_16_a_total_charge_is_one_warning(potential: Potential, structures: dict[str, Atoms]) -> None:
    calculator, atoms = Calculator(potential), structures["molecule"]
    atoms.info["charge"] = 1
    atoms.calc = calculator
    with pytest.warns(UserWarning, match="total charge that is not 0") as record:
        atoms.get_potential_energy()
    assert sum("total charge" in str(warning.message) for warning in record) == 1  # a library may warn of its own
    atoms.positions[0] += 0.01
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.get_potential_energy()
    with pytest.warns(UserWarning, match="total charge"):
        calculator.batch_eval([atoms])
    text = io.StringIO()
    ase.io.write(text, atoms, format="extxyz")
    assert "charge=1" in text.getvalue()
