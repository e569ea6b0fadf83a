"""An exported potential as an ASE calculator, without gmnn: needs jax, numpy and ase.

gmnn export examples/ethanol exported
python examples/exported.py exported my.xyz
"""

import hashlib
import json
import sys
from pathlib import Path

import ase.io
import jax
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import atomic_numbers
from ase.neighborlist import neighbor_list
from ase.stress import full_3x3_to_voigt_6_stress


class Exported(Calculator):
    """What `gmnn export` wrote into a folder; eV and Å."""

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]

    def __init__(self, folder: str) -> None:
        super().__init__()
        about = json.loads((Path(folder) / "export.json").read_text(encoding="utf-8"))
        data = (Path(folder) / about["program"]).read_bytes()
        if hashlib.sha256(data).hexdigest() != about["sha256"]:
            raise SystemExit(f"{folder}/{about['program']} does not match its checksum; export again")
        self.r_max, self.dtype = about["r_max"], about["dtype"]
        self.references = {atomic_numbers[symbol]: value for symbol, value in about["atomic_references"].items()}
        with jax.enable_x64(self.dtype == "float64"):
            self.program = jax.jit(jax.export.deserialize(bytearray(data)).call)

    def calculate(self, atoms: Atoms | None = None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        if unknown := set(atoms.symbols[[z not in self.references for z in atoms.numbers]]):
            raise SystemExit(f"the potential was not trained on {', '.join(sorted(unknown))}")
        n, (i, j, shift) = len(atoms), neighbor_list("ijS", atoms, self.r_max)
        count = np.bincount(i, minlength=n)
        slot = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)  # i comes sorted
        k = -8 * (-max(int(count.max()), 1) // 8)  # another shape is another compilation
        neighbors, shifts = np.full((n, k), n, "int32"), np.zeros((n, k, 3), "int32")
        neighbors[i, slot], shifts[i, slot] = j, shift
        positions, cell = atoms.positions.astype(self.dtype), atoms.cell.array.astype(self.dtype)
        with jax.enable_x64(self.dtype == "float64"):
            found = self.program(positions, atoms.numbers.astype("int32"), cell, neighbors, shifts)
        energy, energies, forces, virial = (np.asarray(value, float) for value in found)
        references = np.array([self.references[z] for z in atoms.numbers])
        total = float(energy) + references.sum()
        self.results = {"energy": total, "free_energy": total, "energies": energies + references, "forces": forces}
        if atoms.pbc.any() and atoms.cell.rank == 3:
            self.results["stress"] = full_3x3_to_voigt_6_stress(virial / atoms.get_volume())


if __name__ == "__main__":
    structure = ase.io.read(sys.argv[2])
    structure.calc = Exported(sys.argv[1])
    print(f"{structure.get_potential_energy():.9f} eV\n{structure.get_forces()}")
