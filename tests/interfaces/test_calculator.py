"""The ASE calculator against ASE's own finite differences, itself without its shortcuts, and ASE's habits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from gmnn import Calculator
from gmnn.errors import UserError

Make = Callable[..., tuple[Any, dict]]


_made: list[Calculator] = []


@pytest.fixture
def calculator(make_potential: Make) -> Calculator:
    """One for all tests of a worker, so that it compiles a shape of structure once."""
    if not _made:
        potential, params = make_potential()
        _made.append(Calculator(potential.with_params(params), dtype="float64"))
    return _made[0]


def test_forces_and_stress_are_ases(calculator: Calculator, atoms: Atoms) -> None:
    """ASE's oracles with a step of 1e-4 Å, to 1e-6 of the largest component."""
    atoms.calc = calculator
    forces = atoms.get_forces()
    scale = max(np.abs(forces).max(), 1e-2)
    np.testing.assert_allclose(forces, calculate_numerical_forces(atoms, eps=1e-4), atol=1e-6 * scale)
    if atoms.pbc.any() and atoms.cell.rank == 3:
        stress = atoms.get_stress()
        numerical = calculate_numerical_stress(atoms, eps=1e-5, voigt=True)
        np.testing.assert_allclose(stress, numerical, atol=2e-6 * np.abs(stress).max())


def test_energies_sum_and_include_the_references(calculator: Calculator, atoms: Atoms) -> None:
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    assert atoms.get_potential_energies().sum() == pytest.approx(energy, rel=1e-13)
    assert calculator.get_property("free_energy", atoms) == energy
    references = calculator.potential.offsets(atoms.numbers).sum()
    assert abs(energy - references) < 50 * len(atoms), "E0 is added once, in float64"


def test_stress_only_where_it_means_something(calculator: Calculator, structures: dict[str, Atoms]) -> None:
    molecule = structures["molecule"]
    molecule.calc = calculator
    molecule.get_potential_energy()
    assert "stress" not in calculator.results
    with pytest.raises(PropertyNotImplementedError, match="cell vectors"):
        molecule.get_stress()


def test_skin_changes_nothing(make_potential: Make, structures: dict[str, Atoms]) -> None:
    """Small and large moves, changes of cell, species and periodicity: always the energy of a new list."""
    potential, params = make_potential()
    kept, fresh = (Calculator(potential.with_params(params), dtype="float64", skin=skin) for skin in (0.6, 0.0))
    rng = np.random.default_rng(0)
    atoms = structures["crystal"]
    for step in range(12):
        atoms.positions += rng.normal(size=atoms.positions.shape) * (0.3 if step % 4 == 3 else 0.04)
        if step == 5:
            atoms.set_cell(atoms.cell * 1.02, scale_atoms=True)
        if step == 7:
            atoms.numbers[0] = 8
        if step == 9:
            atoms.pbc = [True, True, False]
        if step == 10:
            atoms.positions[3] += 2 * atoms.cell[0]
        atoms.calc = kept
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = fresh
        assert energy == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
        np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-10)


def test_batch_equals_one_by_one(calculator: Calculator, structures: dict[str, Atoms]) -> None:
    """Molecules, crystals, slabs and lone atoms in one call, in order, on copies."""
    frames = list(structures.values())
    found = calculator.batch_eval(frames)
    for frame, result in zip(frames, found, strict=True):
        assert frame.calc is None
        assert result is not frame
        frame.calc = calculator
        assert result.get_potential_energy() == pytest.approx(frame.get_potential_energy(), rel=1e-12)
        np.testing.assert_allclose(result.get_forces(), frame.get_forces(), atol=1e-10)
        if frame.pbc.any() and frame.cell.rank == 3:
            np.testing.assert_allclose(result.get_stress(), frame.get_stress(), atol=1e-12)
    assert calculator.batch_eval([]) == []


def test_few_compilations(make_potential: Make) -> None:
    """A crystal compressed to three quarters of its volume has ever more neighbours and compiles up to three times."""
    potential, params = make_potential()
    calculator = Calculator(potential.with_params(params))
    for factor in np.linspace(1.0, 0.9, 12):
        atoms = bulk("Si", cubic=True, a=5.43 * factor)
        atoms.calc = calculator
        atoms.get_potential_energy()
    assert calculator._predict._cache_size() <= 3


def test_single_precision_is_close(make_potential: Make, structures: dict[str, Atoms]) -> None:
    """float32 rounds at 1e-7 of energies of some 10 eV and forces of some 10 eV/Å (E0 stays in float64)."""
    potential, params = make_potential()
    for atoms in structures.values():
        single, double = (Calculator(potential.with_params(params), dtype=d) for d in ("float32", "float64"))
        energy = [calc.get_potential_energy(atoms) for calc in (single, double)]
        forces = [calc.get_forces(atoms) for calc in (single, double)]
        assert energy[0] == pytest.approx(energy[1], abs=2e-5 * len(atoms))
        assert np.abs(forces[0] - forces[1]).max() < 1e-5 * max(1.0, np.abs(forces[1]).max())


def test_dynamics_conserve_energy(calculator: Calculator, structures: dict[str, Atoms]) -> None:
    """200 steps of 0.2 fs: the total energy stays within 1 % of the kinetic energy, through several list rebuilds."""
    atoms = structures["molecule"]
    atoms.calc = calculator
    BFGS(atoms, logfile=None).run(fmax=0.05, steps=60)
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(1))
    dynamics = VelocityVerlet(atoms, timestep=0.2 * units.fs)
    energies = []
    for _ in range(200):
        dynamics.run(1)
        energies.append(atoms.get_total_energy())
    assert np.ptp(energies) < 0.01 * 1.5 * len(atoms) * units.kB * 300


def test_unknown_elements_and_bad_structures(calculator: Calculator) -> None:
    with pytest.raises(UserError, match=r"not trained on N, Au; it knows H, C, O, Si"):
        calculator.get_potential_energy(Atoms("HNAu", [[0, 0, 0], [0, 0, 2], [0, 0, 4]]))
    with pytest.raises(UserError, match="not trained on N"):
        calculator.batch_eval([Atoms("N")])
    with pytest.raises(UserError, match="finite"):
        calculator.get_potential_energy(Atoms("HH", [[0, 0, 0], [0, 0, np.nan]]))
    with pytest.raises(UserError, match="atoms 0 and 1 are at the same place"):
        calculator.get_potential_energy(Atoms("HH", [[0, 0, 1], [0, 0, 1]]))
    with pytest.raises(UserError, match="no atoms"):
        calculator.get_potential_energy(Atoms())


def test_options_are_checked(make_potential: Make, tmp_path: Any) -> None:
    potential, params = make_potential()
    with pytest.raises(UserError, match="no parameters"):
        Calculator(potential)
    with pytest.raises(UserError, match="float32"):
        Calculator(potential.with_params(params), dtype="float16")
    with pytest.raises(UserError, match="skin"):
        Calculator(potential.with_params(params), skin=-1.0)
    with pytest.raises(UserError, match="not a model folder"):
        Calculator(tmp_path / "nothing")
