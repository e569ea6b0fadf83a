"""Ethanol moved by OpenMM's Langevin integrator with our forces: pip install openmm.

python examples/openmm_ethanol.py [MODEL] [STEPS]        default: examples/ethanol, 1,000 steps of 0.5 fs
"""

import sys
from pathlib import Path

import openmm
from openmm import unit

from gmnn import Calculator
from gmnn.data.embedded import ethanol
from gmnn.interfaces.openmm import NM, system


def main(model: str = str(Path(__file__).with_name("ethanol")), steps: str = "1000") -> None:
    """Print time, potential energy and temperature ten times."""
    atoms = ethanol()[0]
    integrator = openmm.LangevinMiddleIntegrator(300 * unit.kelvin, 10 / unit.picosecond, 0.5 * unit.femtosecond)
    context = openmm.Context(system(atoms, Calculator(model)), integrator)
    context.setPositions(atoms.positions / NM)
    context.setVelocitiesToTemperature(300 * unit.kelvin, 1)
    for _ in range(10):
        integrator.step(int(steps) // 10)
        state = context.getState(getEnergy=True)
        kinetic = state.getKineticEnergy() / (1.5 * len(atoms) * unit.MOLAR_GAS_CONSTANT_R)
        print(f"{state.getTime()}  {state.getPotentialEnergy()}  {kinetic.value_in_unit(unit.kelvin):.0f} K")


if __name__ == "__main__":
    main(*sys.argv[1:])
