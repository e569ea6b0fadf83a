"""Properties of ours, made known to ASE, so that its SinglePointCalculator, trajectories and databases take them."""

import sys

import ase.outputs
from ase.calculators import calculator as ase_calculator


def _register(name: str, shape: tuple[str | int, ...]) -> None:
    """Make a property known to ASE."""
    if name not in ase_calculator.all_properties:
        ase_calculator.all_properties.append(name)
    if name not in ase.outputs.all_outputs:
        ase.outputs._defineprop(name, float, shape)
    if extxyz := sys.modules.get("ase.io.extxyz"):  # which has read the lists if it was imported before
        names = extxyz.per_atom_properties if shape else extxyz.per_config_properties
        names += [name] if name not in names else []


def register_properties() -> None:
    """Make all of them known."""
    _register("energy_std", ())
    _register("forces_std", ("natoms", 3))
    _register("grades", ("natoms",))
