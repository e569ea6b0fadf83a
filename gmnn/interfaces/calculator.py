"""ASE calculator: energy, free_energy, energies, forces and stress of molecules and periodic systems."""

import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator as ASECalculator
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from gmnn.device import on_device, precision
from gmnn.errors import UserError
from gmnn.model.folder import load
from gmnn.model.potential import Potential
from gmnn.neighbors.host import capacity, make_system, pad, stack
from gmnn.system import Prediction, System

BATCH_SLOTS = 40_000  # neighbour slots evaluated at once by batch_eval


class Calculator(ASECalculator):
    """A trained potential as an ASE calculator.

    Units are eV and Å. Stress is in eV/Å^3 with ASE's sign and Voigt order; it exists for structures with three cell
    vectors that repeat in at least one direction. The neighbour list is kept until an atom has moved by half the skin,
    or cell, periodicity or species change. Slots grow by a quarter at a time, so that dynamics compile only a few
    times. An ensemble also has the properties energy_std (eV) and forces_std ([N, 3] eV/Å; computed on request by one
    more pass for each member): standard deviations over its members, scaled to the errors of the validation frames.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]

    def __init__(
        self,
        potential: Potential | str | os.PathLike,
        dtype: str = "float32",
        skin: float = 0.5,
        path: str = "auto",
        **kwargs: Any,
    ) -> None:
        """`potential`: a model folder or a Potential with parameters; `dtype`: float32 or float64; `skin` in Å.

        `path`: how energies and forces are computed. `reference` is autodiff; `fast` uses tables and a hand-written
        adjoint and is several times as fast (docs/md.md states its errors); `kernel` is the same in C++ on a CPU.
        `auto` is `kernel` where it compiles, else `fast`, and `reference` for potentials that neither covers.
        """
        from gmnn.device import compiled
        from gmnn.kernels.choice import choose, evaluator  # imports flax

        super().__init__(**kwargs)
        self.potential = potential if isinstance(potential, Potential) else load(potential)
        if self.potential.params is None:
            raise UserError("this Potential has no parameters; give a trained one, gmnn.load(folder)")
        if not skin >= 0:
            raise UserError(f"skin is {skin!r}, but must be zero or positive, Å")
        self.dtype, self.skin = dtype, skin
        with precision(self.dtype):
            self.path = choose(self.potential, path).path
            self._params, predict = evaluator(self.potential, path, dtype)
            if self.potential.config.n_members > 1:  # on every path, forces of members come from autodiff
                self._trained = evaluator(self.potential, "reference", dtype)[0]
        self._predict, self._place = compiled(predict), jax.tree.leaves(self._params)[0].sharding
        self._member_forces = jax.jit(self.potential.member_forces)
        if self.potential.config.n_members > 1:
            self.implemented_properties = [*self.implemented_properties, "energy_std", "forces_std"]
        self._kept: tuple[Atoms, np.ndarray, System] | None = None  # atoms of the list, positions in it, the system

    def calculate(
        self, atoms: Atoms | None = None, properties: Sequence[str] = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        atoms = atoms or self.atoms
        if not atoms:
            raise UserError("the structure has no atoms")
        if "stress" in properties and not _has_stress(atoms):
            raise PropertyNotImplementedError("stress needs three cell vectors and at least one periodic direction")
        with precision(self.dtype):
            system = self._update(atoms)
            prediction = self._predict(self._params, system)
            self.results = self._results(atoms, jax.tree.map(np.asarray, prediction))
            if self.potential.config.n_members > 1:
                scale = self.potential.reference.spread_scale
                self.results["energy_std"] = scale[0] * float(np.std(prediction.members, ddof=1))
                if "forces_std" in properties:
                    forces = np.asarray(self._member_forces(self._trained, system), float)[:, : len(atoms)]
                    self.results["forces_std"] = scale[1] * forces.std(axis=0, ddof=1)

    def batch_eval(self, frames: Sequence[Atoms]) -> list[Atoms]:
        """Return copies of the structures, in order, with their results in a SinglePointCalculator.

        Structures of similar size are evaluated together, many at a time; a few shapes are compiled.
        """
        r_max, systems = self.potential.config.r_max, []
        for atoms in frames:
            if not len(atoms):
                raise UserError("one of the structures has no atoms")
            self.potential.require_elements(atoms.numbers)
            systems.append(make_system(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, r_max))
        groups: dict[tuple[int, int], list[int]] = {}
        for k, system in enumerate(systems):
            n, slots = system.neighbors.shape
            groups.setdefault((capacity(n, smallest=4), capacity(slots)), []).append(k)
        out = [atoms.copy() for atoms in frames]
        for (n, slots), members in groups.items():
            size = max(1, min(capacity(len(members), smallest=1), BATCH_SLOTS // (n * slots)))
            for start in range(0, len(members), size):
                chosen = members[start : start + size]
                filled = chosen + chosen[-1:] * (size - len(chosen))  # the last one repeated: one shape per group
                batch = stack([pad(systems[k], n, slots) for k in filled])
                with precision(self.dtype):
                    values = self._predict(self._params, on_device(batch, self.dtype))
                prediction = jax.tree.map(np.asarray, values)
                for row, k in enumerate(chosen):
                    single = Prediction(*(field[row] for field in prediction))
                    out[k].calc = SinglePointCalculator(out[k], **self._results(out[k], single))
        return out

    def _update(self, atoms: Atoms) -> System:
        """Return the system on the device: current positions with the kept list, or with a new one if it is too old."""
        slots = 0
        if self._kept is not None:
            built, home, placed = self._kept
            if len(built) == len(atoms):
                slots = placed.neighbors.shape[1]
                unchanged = (
                    np.array_equal(built.numbers, atoms.numbers)
                    and np.array_equal(built.cell.array, atoms.cell.array)
                    and np.array_equal(built.pbc, atoms.pbc)
                )
                moved = atoms.positions - built.positions  # a NaN compares False and is reported by make_system
                if unchanged and np.max(np.einsum("ia,ia->i", moved, moved)) <= (0.5 * self.skin) ** 2:
                    return placed._replace(positions=jax.device_put((home + moved).astype(self.dtype), self._place))
        self.potential.require_elements(atoms.numbers)
        cutoff = self.potential.config.r_max + self.skin
        system = make_system(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, cutoff)
        system = pad(system, len(atoms), max(slots, capacity(system.neighbors.shape[1])))
        placed = jax.device_put(on_device(system, self.dtype), self._place)
        self._kept = (atoms.copy(), system.positions, placed)
        return placed

    def _results(self, atoms: Atoms, prediction: Prediction) -> dict[str, Any]:
        n = len(atoms)
        references = self.potential.offsets(atoms.numbers)
        energy = float(prediction.energy) + float(references.sum())
        results = {
            "energy": energy,
            "free_energy": energy,
            "energies": prediction.energies[:n].astype(float) + references,
            "forces": prediction.forces[:n].astype(float),
        }
        if _has_stress(atoms):
            results["stress"] = full_3x3_to_voigt_6_stress(prediction.virial.astype(float) / atoms.get_volume())
        return results


def _has_stress(atoms: Atoms) -> bool:
    return bool(atoms.pbc.any()) and atoms.cell.rank == 3
