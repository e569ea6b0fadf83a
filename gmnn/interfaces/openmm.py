"""A trained potential as a force of OpenMM. PythonForce requires `pip install openmm`, 8.4 or later."""

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator

from gmnn.errors import UserError
from gmnn.model.potential import Potential
from gmnn.structures import warn_of_charge

try:
    import openmm
    from openmm.unit import nanometer
except ImportError:
    raise UserError("OpenMM is not installed here; pip install openmm") from None

KJ_PER_MOL = units.kJ / units.mol  # eV
NM = 10.0  # Å


class _Compute:
    """The function of a PythonForce: energy in kJ/mol and forces [N, 3] in kJ/mol/nm of a state; it can be pickled."""

    def __init__(self, structure: Atoms) -> None:
        self.structure = structure

    def __call__(self, state: openmm.State) -> tuple[float, np.ndarray]:
        structure = self.structure
        positions = state.getPositions(asNumpy=True).value_in_unit(nanometer) * NM
        if positions.shape != structure.positions.shape:
            raise UserError(
                f"the system of OpenMM has {len(positions)} particles, but the structure has {len(structure)} atoms; "
                "every particle must be one of its atoms, so take away virtual sites and other particles without one"
            )
        structure.positions = positions
        if structure.pbc.any():
            structure.cell = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(nanometer) * NM
        forces = structure.get_forces() / (KJ_PER_MOL / NM)
        return structure.get_potential_energy() / KJ_PER_MOL, forces


def python_force(atoms: Atoms, calculator: Calculator) -> openmm.PythonForce:
    """The force on all particles of an OpenMM system, which are the atoms of `atoms` in their order.

    `calculator` is usually a `gmnn.Calculator`. The force is periodic if `atoms` is, in all three directions or none;
    then the cell is that of the context at every step. UserError for elements that a potential does not know.
    """
    if not len(atoms):
        raise UserError("the structure has no atoms")
    if atoms.pbc.any() and not atoms.pbc.all():
        raise UserError(f"OpenMM repeats a system along three directions or none, but pbc is {atoms.pbc.tolist()}")
    potential = getattr(calculator, "potential", None)
    if isinstance(potential, Potential):
        potential.require_elements(atoms.numbers)
    warn_of_charge(atoms)
    structure = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, calculator=calculator)
    force = openmm.PythonForce(_Compute(structure), {})
    force.setUsesPeriodicBoundaryConditions(bool(structure.pbc.all()))
    return force


def system(atoms: Atoms, calculator: Calculator) -> openmm.System:
    """An OpenMM system of the atoms with their masses, their cell and only this force; fixed atoms get mass zero.

    A periodic cell must be lower triangular and reduced, as OpenMM requires: `atoms.cell.standard_form()` rotates one.
    """
    from ase.constraints import FixAtoms

    made, masses = openmm.System(), atoms.get_masses()
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            name = type(constraint).__name__
            raise UserError(f"the structure has the constraint {name}, but only FixAtoms is known here; remove it")
        masses[constraint.index] = 0.0
    for mass in masses:
        made.addParticle(mass)
    if atoms.pbc.all():
        try:
            made.setDefaultPeriodicBoxVectors(*(atoms.cell.array / NM))
        except openmm.OpenMMException as error:
            raise UserError(f"OpenMM refuses the cell {atoms.cell.array.round(3).tolist()}: {error}") from None
    made.addForce(python_force(atoms, calculator))
    return made
