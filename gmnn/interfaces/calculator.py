"""ASE calculator: energy, free_energy, energies, forces and stress of molecules and periodic systems."""

import copy
import math
import os
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from numbers import Real
from typing import Any

import jax
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator as ASECalculator
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from gmnn.device import enough_memory, forked, on_device, precision, require_not_forked
from gmnn.errors import UserError, require
from gmnn.interfaces.kept_list import KeptList, Shapes, near_pairs, require_apart
from gmnn.interfaces.properties import register_properties
from gmnn.model.folder import load
from gmnn.model.potential import Potential
from gmnn.neighbors.host import SAME_PLACE, capacity, make_system, pad, stack
from gmnn.structures import bare, has_stress, warn_of_charge
from gmnn.system import Prediction, System

register_properties()

BATCH_SLOTS = 40_000  # neighbour slots evaluated at once by batch_eval
SHARED = ("potential", "_params", "_predict", "_place", "_trained", "_member_forces", "_batch_forces",
          "_kept")  # fmt: skip  # never changed in place
MADE = (*SHARED[1:-1], "_lock", "get_spin_polarized")  # made again from the rest


class Calculator(ASECalculator):
    """A trained potential as an ASE calculator.

    Units are eV and Å. Stress is in eV/Å^3 with ASE's sign and Voigt order; it exists for structures with three cell
    vectors that repeat in at least one direction. The neighbour list is kept until an atom has moved by half the skin,
    or cell, periodicity or species change. Slots grow by a quarter at a time, so that dynamics compile only a few
    times. An ensemble also has the properties energy_std (eV) and forces_std ([N, 3] eV/Å; computed on request by one
    more pass for each member): standard deviations over its members, scaled to the errors of the validation frames.

    Copies, also by `copy.deepcopy`, share the compiled program; a pickle holds the parameters. Threads may share a
    calculator and take turns. A process forked after JAX was used cannot compute: start it with "spawn".
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]
    ignored_changes = {"initial_charges", "initial_magmoms"}  # which no result depends on

    def __init__(
        self,
        potential: Potential | str | os.PathLike,
        dtype: str = "float32",
        skin: float = 0.5,
        path: str = "auto",
        grades: bool = False,
        **kwargs: Any,
    ) -> None:
        """`potential`: a model folder or a Potential with parameters; `dtype`: float32 or float64; `skin` in Å.

        `grades`: whether results have the property grades, [N]: how far every atom is from the training frames, where
        1 is the largest of the validation frames (gmnn/model/grade.py). UserError if the potential has none.

        `path`: how energies and forces are computed. `reference` is autodiff; `fast` uses tables and a hand-written
        adjoint and is several times as fast (docs/md.md states its errors); `kernel` is the same in C++ on a CPU.
        `auto` is `kernel` where it compiles, else `fast`, and `reference` for potentials that neither covers.
        """
        number = isinstance(skin, Real) and not isinstance(skin, bool) and math.isfinite(skin) and skin >= 0
        require(number, "skin", skin, "a finite number, zero or positive, Å")
        require_not_forked()
        super().__init__(**kwargs)
        self.potential = potential if isinstance(potential, Potential) else load(potential)
        if self.potential.params is None:
            raise UserError("this Potential has no parameters; give a trained one, gmnn.load(folder)")
        self.dtype, self.skin = dtype, float(skin)
        self._asked_path, self.grades = path, grades
        if grades:
            self.implemented_properties = [*self.implemented_properties, "grades"]
        if self.potential.config.n_members > 1:
            self.implemented_properties = [*self.implemented_properties, "energy_std", "forces_std"]
        self._kept: KeptList | None = None
        self._shapes = Shapes()
        self._lock = threading.RLock()
        self._make()

    def _make(self) -> None:
        """Make what is not pickled: the compiled program with its parameters."""
        from gmnn.device import compiled
        from gmnn.kernels.choice import choose, evaluator  # imports flax

        with precision(self.dtype):
            self.path = choose(self.potential, self._asked_path).path
            self._params, predict = evaluator(self.potential, self._asked_path, self.dtype, grades=self.grades)
            if self.potential.config.n_members > 1:  # on every path, forces of members come from autodiff
                self._trained, _ = evaluator(self.potential, "reference", self.dtype)[0]
        self._member_forces = jax.jit(self.potential.member_forces)
        self._batch_forces = jax.jit(jax.vmap(self.potential.member_forces, (None, 0)))
        self._predict: Any = compiled(predict)
        self._place = jax.tree.leaves(self._params)[0].sharding

    def __copy__(self) -> "Calculator":
        return self._copied(dict)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Calculator":
        return self._copied(lambda state: copy.deepcopy(state, memo), memo)

    def _copied(self, copied: Any, memo: dict[int, Any] | None = None) -> "Calculator":
        """Return a copy that shares what is never changed in place; `copied` copies the rest."""
        other = type(self).__new__(type(self))
        if memo is not None:
            memo[id(self)] = other
        state = {key: value for key, value in vars(self).items() if key not in ("_lock", "get_spin_polarized", *SHARED)}
        vars(other).update({key: vars(self)[key] for key in SHARED if key in vars(self)}, **copied(state))
        other.get_spin_polarized, other._lock = other._deprecated_get_spin_polarized, threading.RLock()
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle holds: settings, results, parameters and the neighbour list, as NumPy arrays."""
        state = {key: value for key, value in vars(self).items() if key not in MADE}
        params, grade = jax.tree.map(np.asarray, (self.potential.trained, self.potential.grade))
        state["potential"] = replace(self.potential, params=params, grade=grade)
        if self._kept is not None:
            state["_kept"] = self._kept._replace(system=jax.tree.map(np.asarray, self._kept.system))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.get_spin_polarized, self._lock = self._deprecated_get_spin_polarized, threading.RLock()

    def _ready(self) -> None:
        """Make the program after unpickling, when it is needed: an error while unpickling would stop a worker."""
        require_not_forked()
        if "_predict" not in vars(self):
            self._make()
            if self._kept is not None:
                with precision(self.dtype):
                    placed = jax.device_put(on_device(self._kept.system, self.dtype), self._place)
                self._kept = self._kept._replace(system=placed)

    def _turn(self) -> AbstractContextManager[Any]:
        """The lock of this calculator; a forked process has one thread, and the lock may be held for ever."""
        return nullcontext() if forked() else self._lock

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """Return a property as ASE does; threads that share the calculator take turns."""
        with self._turn():
            return super().get_property(name, atoms, allow_calculation)

    def calculate(
        self, atoms: Atoms | None = None, properties: Sequence[str] = ("energy",), system_changes: Any = all_changes
    ) -> None:
        with self._turn():
            self._ready()
            if system_changes:
                self.results = {}  # so that none of another structure stays after an error
            super().calculate(atoms, properties, system_changes)
            self._calculate(self.atoms if atoms is None else atoms, properties)

    def _calculate(self, atoms: Atoms | None, properties: Sequence[str]) -> None:
        if not atoms:
            raise UserError("the structure has no atoms")
        if "stress" in properties and not has_stress(atoms):
            raise PropertyNotImplementedError("stress needs three cell vectors and at least one periodic direction")
        with precision(self.dtype), enough_memory(f"{len(atoms):,} atoms"):
            system = self._update(atoms)
            prediction = self._predict(self._params, system)
            results = self._results(atoms, jax.tree.map(np.asarray, prediction))
            if "forces_std" in properties and self.potential.config.n_members > 1:
                results["forces_std"] = self._forces_std(self._member_forces(self._trained, system), len(atoms))
        self.results = results

    def _forces_std(self, forces: Any, n: int) -> np.ndarray:
        """Scaled standard deviation of the members' forces [M, N, 3] on the first n atoms.  [n, 3] eV/Å"""
        scale = self.potential.reference.spread_scale
        return scale[1] * np.asarray(forces, float)[:, :n].std(axis=0, ddof=1)

    def batch_eval(self, frames: Sequence[Atoms], properties: Sequence[str] = ()) -> list[Atoms]:
        """Return copies of the structures, in order, with their results in a SinglePointCalculator.

        Structures of similar size are evaluated together, many at a time; a few shapes are compiled. Results are those
        of `calculate`, energy_std of an ensemble included; forces_std only if `properties` names it.
        """
        unknown = sorted(set(properties) - set(self.implemented_properties))
        if unknown:
            raise PropertyNotImplementedError(f"this potential has no {', '.join(unknown)}")
        spread = "forces_std" in properties
        with self._turn():
            self._ready()
        r_max, systems = self.potential.config.r_max, []
        for atoms in frames:
            if not len(atoms):
                raise UserError("one of the structures has no atoms")
            self._require_covered(atoms)
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
                with precision(self.dtype), enough_memory(f"{size} structures of {n} atoms"):
                    placed = on_device(batch, self.dtype)
                    prediction = jax.tree.map(np.asarray, self._predict(self._params, placed))
                    forces = np.asarray(self._batch_forces(self._trained, placed)) if spread else None
                for row, k in enumerate(chosen):
                    single = jax.tree.map(lambda field, row=row: field[row], prediction)
                    results = self._results(out[k], single)
                    if forces is not None:
                        results["forces_std"] = self._forces_std(forces[row], len(out[k]))
                    out[k].calc = SinglePointCalculator(out[k], **results)
        return out

    def _require_covered(self, atoms: Atoms) -> None:
        """Raise UserError for elements that were not trained; warn of a total charge."""
        self.potential.require_elements(atoms.numbers)
        warn_of_charge(atoms)

    def _update(self, atoms: Atoms) -> System:
        """Return the system on the device: current positions with the kept list, or with a new one if it is too old."""
        kept, slots = self._kept, 0
        if kept is not None and len(kept.built) == len(atoms):
            slots = kept.system.neighbors.shape[1]
            moved = atoms.positions - kept.built.positions  # a NaN compares False and is reported by make_system
            if kept.describes(atoms) and np.max(np.einsum("ia,ia->i", moved, moved)) <= (0.5 * self.skin) ** 2:
                now = kept.home.copy()
                now[: len(atoms)] += moved
                require_apart(now, *kept.near)
                return kept.system._replace(positions=jax.device_put(now.astype(self.dtype), self._place))
        from gmnn.kernels.choice import require_memory  # imports flax

        self._require_covered(atoms)
        cutoff = self.potential.config.r_max + self.skin
        system = make_system(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, cutoff)
        near, needed = near_pairs(system, self.skin + SAME_PLACE), system.neighbors.shape[1]
        rows, slots, new = self._shapes.fit(len(atoms), max(slots, capacity(needed)))
        require_memory(self.potential, self.path, self.dtype, rows, rows * slots)
        if new:
            self._predict.clear_cache()  # type: ignore[attr-defined]  # of a function that JAX compiled
        system = pad(system, rows, slots)
        placed = jax.device_put(on_device(system, self.dtype), self._place)
        self._kept = KeptList(bare(atoms), system.positions, placed, near)
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
        if not (np.isfinite(energy) and np.isfinite(results["forces"]).all()):
            raise UserError(
                "energy or forces of this structure are not finite numbers; are two atoms at the same place, or is the "
                "model damaged?"
            )
        if has_stress(atoms):
            results["stress"] = full_3x3_to_voigt_6_stress(prediction.virial.astype(float) / atoms.get_volume())
        if self.potential.config.n_members > 1:
            scale = self.potential.reference.spread_scale
            results["energy_std"] = scale[0] * float(np.std(prediction.members, ddof=1))
        if prediction.grades is not None:
            results["grades"] = prediction.grades[:n].astype(float)
        return results
