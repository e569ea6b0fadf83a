"""A trained potential for i-PI (3.1 or later, `pip install ipi`), all beads in one compiled program.

In the input file, with `python -c "from gmnn.interfaces import ipi; print(ipi.__file__)"` as pes_path:

    <ffdirect name='gmnn'>
      <pes>custom</pes> <pes_path> .../gmnn/interfaces/ipi.py </pes_path> <batch_size> 8 </batch_size>
      <parameters> {model: models/water, template: start.xyz} </parameters>
    </ffdirect>
"""

from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from ipi.pes.dummy import Dummy_driver
from ipi.utils.units import unit_to_internal, unit_to_user

from gmnn.errors import UserError
from gmnn.interfaces.calculator import Calculator
from gmnn.structures import read_structure

__DRIVER_NAME__ = "gmnn"
__DRIVER_CLASS__ = "Driver"
OF_IPI = {"verbosity", "verbose", "comm"}  # parameters that i-PI adds


class Driver(Dummy_driver):
    """Energies, forces and virials in the units of i-PI; elements and pbc are those of the template."""

    def __init__(self, model: str, template: str, dtype: str = "float32", path: str = "auto", **kwargs: Any) -> None:
        """`model`: a model folder; `template`: any file ASE reads, with `@INDEX`; the rest as in `gmnn.Calculator`.

        UserError for other parameters than these and those that i-PI adds itself.
        """
        unknown = sorted(set(kwargs) - OF_IPI)
        if unknown:
            raise UserError(
                f"gmnn has no parameters {', '.join(unknown)}; it takes model, template, dtype and path, correct the "
                "parameters in the input of i-PI"
            )
        self.calculator = Calculator(model, dtype=dtype, path=path)
        self.template: Any = read_structure(template)
        self.calculator.potential.require_elements(self.template.numbers)
        super().__init__(**kwargs)

    def compute(self, cell: Any, pos: Any) -> Any:
        """Energy, forces and virial of one structure, or of each of a list."""
        if not isinstance(cell, list):
            return self.compute([cell], [pos])[0]
        frames = [self._atoms(*frame) for frame in zip(cell, pos, strict=True)]
        if len(frames) == 1:  # the calculator keeps its list from step to step, a batch does not
            frames[0].calc = self.calculator
            return [self._results(frames[0])]
        return [self._results(atoms) for atoms in self.calculator.batch_eval(frames)]

    def _atoms(self, cell: np.ndarray, positions: np.ndarray) -> Atoms:
        atoms, shape = self.template.copy(), np.shape(positions)
        if shape != (len(atoms), 3):
            raise UserError(
                f"i-PI sends positions of the shape {shape}, but the template has {len(atoms)} atoms; give a template "
                "of the same atoms in the same order"
            )
        atoms.positions = unit_to_user("length", "angstrom", positions)
        if atoms.pbc.any():
            if np.shape(cell) != (3, 3) or not np.isfinite(cell).all() or np.linalg.det(cell) == 0:
                raise UserError(
                    f"i-PI sends the cell {np.round(cell, 3).tolist()}, which has no volume, but the template is "
                    "periodic; give a real cell"
                )
            atoms.cell = unit_to_user("length", "angstrom", cell.T)  # i-PI has vectors as columns
        return atoms

    def _results(self, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray, str]:
        virial = np.zeros((3, 3))
        if atoms.pbc.any():
            virial = -voigt_6_to_full_3x3_stress(atoms.get_stress()) * atoms.get_volume()
        energy = unit_to_internal("energy", "electronvolt", atoms.get_potential_energy())
        forces = unit_to_internal("force", "ev/ang", atoms.get_forces())
        return energy, forces, unit_to_internal("energy", "electronvolt", virial), ""
