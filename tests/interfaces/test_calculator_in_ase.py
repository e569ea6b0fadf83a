"""Kinds 10, 11 and 16: what ASE expects of a calculator, and structures of many sizes in turn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.mixing import LinearCombinationCalculator
from ase.filters import FrechetCellFilter, StrainFilter, UnitCellFilter
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.vibrations import Vibrations

from gmnn import Calculator, md
from gmnn.errors import UserError
from gmnn.interfaces import kept_list
from gmnn.interfaces.kept_list import Shapes
from gmnn.kernels import choice
from gmnn.model.potential import Potential
from gmnn.neighbors import host, memory

Make = Callable[..., tuple[Any, dict]]


def crowd(n: int, seed: int) -> Atoms:
    """A periodic structure of n atoms on a loose grid in a cell of its own."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(n ** (1 / 3)))
    sites = np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3)[:n]
    spacing = rng.uniform(1.6, 2.4)
    cell = spacing * side * np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3))
    return Atoms(rng.choice([1, 6, 8], n), spacing * sites + rng.uniform(-0.2, 0.2, (n, 3)), cell=cell, pbc=True)


@pytest.mark.parametrize("sizes", [pytest.param(range(9, 90), marks=pytest.mark.slow)])
def test_kind_10_structures_of_many_sizes(potential: Potential, ensemble: Potential, sizes: range) -> None:
    """Sizes and cells that change from call to call share programs, and spare rows change no result."""
    calculator, single = Calculator(potential, dtype="float64", path="kernel"), {}
    for n in sizes:
        atoms = crowd(n, n)
        assert calculator.get_potential_energies(atoms).shape == (n,)
        single[n] = atoms, calculator.get_potential_energy(atoms), calculator.get_forces(atoms), calculator.results
    assert calculator._predict._cache_size() < 0.8 * len(sizes)
    for atoms, energy, forces, results in list(single.values())[:: len(sizes) // 5]:
        exact = Calculator(potential, dtype="float64", path="kernel")
        assert exact.get_potential_energy(atoms) == pytest.approx(energy, abs=1e-9)
        np.testing.assert_allclose(exact.get_forces(atoms), forces, atol=1e-9)
        np.testing.assert_allclose(exact.get_stress(atoms), results["stress"], atol=1e-10)
        moved = atoms.copy()
        moved.positions[0] += 0.05  # on the kept list, padded or not
        calculator.get_potential_energy(atoms)
        kept = calculator._kept
        assert calculator.get_potential_energy(moved) == pytest.approx(exact.get_potential_energy(moved), abs=1e-9)
        assert calculator._kept is kept
    spreads = [Calculator(ensemble, dtype="float64", path="reference") for _ in range(2)]
    spreads[0]._shapes._sizes |= {1, 2, 3, 4}  # seven atoms then have spare rows
    atoms = crowd(7, 0)
    wide, exact = (one.get_property("forces_std", atoms) for one in spreads)
    assert len(spreads[0]._kept.home) > len(spreads[1]._kept.home) == 7
    np.testing.assert_allclose(wide, exact, atol=1e-10)


def test_kind_10_programs_are_forgotten(potential: Potential, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many shapes there are, few programs are kept in memory."""
    monkeypatch.setattr(kept_list, "MOST_SHAPES", 3)
    calculator = Calculator(potential, path="kernel")
    for n in (4, 6, 9, 14, 21):
        calculator.get_potential_energy(crowd(n, n))
        assert calculator._predict._cache_size() <= 3


def test_kind_10_shapes_of_any_size() -> None:
    """All sizes from 9 to 500 with all numbers of slots up to 100 have fewer than a tenth as many shapes."""
    shapes = Shapes()
    found = {shapes.fit(n, host.capacity(8 + n % 92))[:2] for n in range(9, 501)}
    assert len(found) < 200
    assert all(rows >= 9 for rows, _ in found)
    first = Shapes()
    assert [first.fit(n, 8)[0] for n in (500, 9, 500, 77, 78, 79, 500, 9)] == [500, 9, 500, 77, 78, 97, 500, 9]


def test_kind_10_a_structure_for_which_memory_would_not_do(
    potential: Potential, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused before it is evaluated, with the path that needs less; that one evaluates it."""
    atoms = crowd(1000, 0)
    few = Calculator(potential, path="fast")
    monkeypatch.setattr(memory, "machine_memory", lambda: 2.0**23)
    with pytest.raises(UserError, match=r"path reference would need about .* 1,000 atoms .*take fewer atoms, or path"):
        Calculator(potential, path="reference").get_potential_energy(atoms)
    assert np.isfinite(few.get_potential_energy(atoms))


def test_kind_8_memory_that_ran_out_is_a_sentence(
    potential: Potential, structures: dict[str, Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    import jax

    calculator, atoms = Calculator(potential), structures["molecule"]
    for error, words in (
        (MemoryError(), "not enough memory for 9 atoms"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), "not enough memory"),
    ):
        monkeypatch.setattr(calculator, "_predict", lambda *_, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(UserError, match=words):
            calculator.get_potential_energy(atoms)
    wrong = jax.errors.JaxRuntimeError("INTERNAL: something else")
    monkeypatch.setattr(calculator, "_predict", lambda *_: (_ for _ in ()).throw(wrong))
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        calculator.get_potential_energy(atoms)


@pytest.mark.parametrize("name", ["crystal", "triclinic", "slab", "molecule"])
def test_kind_11_ases_own_finite_differences(potential: Potential, structures: dict[str, Atoms], name: str) -> None:
    """Forces and stress are the slopes of the energy that ASE finds, on kept lists and on new ones."""
    atoms = structures[name]
    atoms.calc = Calculator(potential, dtype="float64", path="kernel", skin=2e-4)
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, 1e-4), atol=2e-5)
    if atoms.cell.rank == 3:
        slopes = calculate_numerical_stress(atoms, 1e-5, force_consistent=True)
        np.testing.assert_allclose(atoms.get_stress(), slopes, atol=2e-5)


def test_kind_11_what_a_calculator_gives_and_what_not(
    potential: Potential, ensemble: Potential, structures: dict[str, Atoms]
) -> None:
    """Every implemented property is delivered; others are ASE's own error, and nothing is computed for them."""
    for trained in (potential, ensemble):
        calculator, crystal = Calculator(trained), structures["crystal"]
        shapes = {"energy": (), "free_energy": (), "energies": (8,), "forces": (8, 3), "stress": (6,),
                  "energy_std": (), "forces_std": (8, 3)}  # fmt: skip
        for name in calculator.implemented_properties:
            assert np.shape(calculator.get_property(name, crystal)) == shapes[name]
        for name in ("dipole", "charges", "magmom", "stresses", *(["forces_std"] if trained is potential else [])):
            with pytest.raises(PropertyNotImplementedError):
                calculator.get_property(name, crystal)
        crystal.calc = calculator
        for get in (crystal.get_dipole_moment, crystal.get_charges, crystal.get_magnetic_moments, crystal.get_stresses):
            with pytest.raises(PropertyNotImplementedError):
                get()
        assert crystal.get_potential_energy(force_consistent=True) == crystal.get_potential_energy()
    for name in ("molecule", "atom", "slab"):
        lone = structures[name]
        lone.calc = Calculator(potential)
        with pytest.raises(PropertyNotImplementedError):
            lone.get_stress()
        assert np.isfinite(lone.get_potential_energy())


def test_kind_11_results_are_nobody_elses(potential: Potential, structures: dict[str, Atoms]) -> None:
    """Arrays that a user changes do not change what is cached, and results stay when the next structure comes."""
    calculator, atoms = Calculator(potential, dtype="float64"), structures["crystal"]
    atoms.calc = calculator
    for get in (atoms.get_forces, atoms.get_stress, atoms.get_potential_energies):
        before = get().copy()
        get()[:] = 7.0
        np.testing.assert_array_equal(get(), before)
    first, copied = calculator.results, {name: np.copy(value) for name, value in calculator.results.items()}
    calculator.get_forces(structures["molecule"])
    for name, value in copied.items():
        np.testing.assert_array_equal(first[name], value)
    assert atoms.copy().calc is None


def test_kind_11_calculate_is_called_as_ase_does(potential: Potential, structures: dict[str, Atoms]) -> None:
    """With all changes, with none, without a structure of its own, and by two structures in turn."""
    calculator, atoms, other = Calculator(potential, dtype="float64"), structures["crystal"], structures["molecule"]
    calculator.calculate(atoms, properties=["forces"], system_changes=all_changes)
    energy = calculator.results["energy"]
    calculator.calculate(properties=["stress"], system_changes=[])
    assert calculator.results["energy"] == energy
    assert "stress" in calculator.results
    assert calculator.get_property("energy", other, allow_calculation=False) is None
    atoms.calc = other.calc = calculator
    found = [(atoms.get_potential_energy(), other.get_potential_energy(), len(other.get_forces())) for _ in range(3)]
    assert found[0] == found[1] == found[2]
    assert found[0][0] == energy
    mixed = LinearCombinationCalculator([calculator, Calculator(potential, dtype="float64")], [0.25, 0.75])
    assert mixed.get_potential_energy(atoms) == pytest.approx(energy, abs=1e-9)


@pytest.mark.parametrize("kind", [FrechetCellFilter, UnitCellFilter, StrainFilter])
def test_kind_11_cells_relax(potential: Potential, structures: dict[str, Atoms], kind: Any) -> None:
    """A filter's forces are slopes of the energy, and a few steps lower it."""
    atoms = structures["crystal"]
    atoms.calc = Calculator(potential, dtype="float64", path="kernel")
    start = atoms.get_potential_energy()
    BFGS(kind(atoms), logfile=None, maxstep=0.02).run(fmax=1e-3, steps=4)
    assert atoms.get_potential_energy() < start - 1e-3


def test_kind_11_vibrations_and_dynamics(
    potential: Potential, structures: dict[str, Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a relaxed dimer: one frequency, from the curvature of the energy; and its total energy is kept."""
    monkeypatch.chdir(tmp_path)
    atoms = structures["dimer"]
    atoms.calc = Calculator(potential, dtype="float64", path="kernel")
    BFGS(atoms, logfile=None).run(fmax=1e-5, steps=200)
    vibrations = Vibrations(atoms, name="modes")
    vibrations.run()
    highest = vibrations.get_energies()[-1].real  # eV
    r, h = atoms.get_distance(0, 1), 1e-3
    energies = []
    for step in (-h, 0.0, h):
        atoms.set_distance(0, 1, r + step)
        energies.append(atoms.get_potential_energy())
    atoms.set_distance(0, 1, r)
    curvature = (energies[0] - 2 * energies[1] + energies[2]) / h**2
    reduced = np.prod(atoms.get_masses()) / atoms.get_masses().sum()
    expected = units._hbar * 1e10 / np.sqrt(units._e * units._amu) * np.sqrt(curvature / reduced)
    assert highest == pytest.approx(expected, rel=5e-3)
    atoms.set_distance(0, 1, r + 0.05)
    total = atoms.get_total_energy()
    VelocityVerlet(atoms, 0.5 * units.fs).run(50)
    assert atoms.get_kinetic_energy() > 1e-6
    assert atoms.get_total_energy() == pytest.approx(total, abs=1e-4)


def test_kind_11_spreads_in_a_batch(ensemble: Potential, structures: dict[str, Atoms]) -> None:
    """energy_std and, on request, forces_std are those of single structures; unknown properties are refused."""
    calculator = Calculator(ensemble, dtype="float64", path="kernel")
    frames = [structures["dimer"], structures["dimer"]]
    frames[1].positions[0] += 0.2
    for plain, full, atoms in zip(
        calculator.batch_eval(frames), calculator.batch_eval(frames, ["forces_std"]), frames, strict=True
    ):
        assert "forces_std" not in plain.calc.results
        for name in ("energy_std", "forces_std", "forces"):
            single = calculator.get_property(name, atoms)
            np.testing.assert_allclose(full.calc.results[name], single, rtol=1e-8, atol=1e-10)
        assert full.calc.results["forces_std"].max() > 0
    with pytest.raises(PropertyNotImplementedError, match="dipole"):
        calculator.batch_eval(frames, ["dipole"])


def test_kind_16_dynamics_from_python_warn_of_a_charge(potential: Potential, structures: dict[str, Atoms]) -> None:
    atoms = structures["molecule"]
    atoms.info["charge"] = -1
    with pytest.warns(UserWarning, match="a total charge that is not 0") as record:
        md.Dynamics(atoms, potential, md.Bath("nve"), path="reference")
    assert len(record) == 1


def test_kind_10_the_estimate_of_memory_is_near_the_truth(make_potential: Make) -> None:
    """What autodiff needs is within a factor of two of what XLA counts, for small and for large descriptors."""
    import jax

    for more in ({}, {"n_radial": 5, "n_basis": 8}):
        potential, params = make_potential(**more)
        calculator = Calculator(potential.with_params(params), path="reference")
        atoms = crowd(200, 1)
        with jax.enable_x64(False):
            system = calculator._update(atoms)
            counted = calculator._predict.lower(calculator._params, system).compile().memory_analysis()
        slots = system.neighbors.size
        needed = choice.needed_memory(calculator.potential, "reference", "float32", len(system.numbers), slots)
        assert 0.5 < needed / counted.temp_size_in_bytes < 2.0
