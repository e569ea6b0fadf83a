"""The potential: energy and its derivatives for one system, and the object that carries config and parameters.

``energy`` is the only place where an energy is computed; training, calculator, dynamics, scan and exports call it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gmnn.config.model import ModelConfig
from gmnn.errors import UserError, require
from gmnn.model import descriptor
from gmnn.model.grade import Grade, distances
from gmnn.model.readout import Perceptron, perceptron
from gmnn.reference import Reference
from gmnn.system import Prediction, System

if TYPE_CHECKING:
    from gmnn.model.network import GMNN, Constants

Params = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Potential:
    """Model configuration, facts learnt from the data and, once trained or loaded, parameters.

    ``energy`` and ``predict`` take the parameters explicitly: training differentiates them, an ensemble stacks them.
    """

    config: ModelConfig
    reference: Reference
    params: Params | None = None
    constants: "Constants | None" = None
    """Default: computed from config and reference. Set only where models of several data sets are stacked."""
    invariants: Callable[[Array], Array] = descriptor.invariants
    """Function that contracts the moments; training replaces it by a faster one (kernels/cpp/invariants.py)."""
    perceptron: Perceptron = perceptron
    """Function that evaluates the layers of the readout; training replaces it too (kernels/cpp/readout.py)."""
    grade: Grade | None = None
    """What grades are computed from; it belongs to these parameters."""

    def __post_init__(self) -> None:
        """Raise UserError if the facts do not fit the configuration."""
        counts = {0, descriptor.n_features(self.config.n_radial)}
        scale = self.reference.feature_scale
        require(len(scale) in counts, "reference.feature_scale", scale, f"empty or {max(counts)} numbers long")

    def with_params(self, params: Params) -> "Potential":
        """Return the same potential with these parameters, and without the grade that belongs to others."""
        return replace(self, params=params, grade=None)

    @property
    def _network(self) -> "GMNN":
        from gmnn.model.network import GMNN, constants  # flax is imported only when a potential is evaluated

        facts = self.constants or constants(self.config, self.reference)
        return GMNN(self.config, self.reference, facts, self.invariants, self.perceptron)

    @property
    def trained(self) -> Params:
        """The parameters; UserError if there are none yet."""
        if self.params is None:
            raise UserError("this Potential has no parameters yet; load a trained one with gmnn.load(folder)")
        return self.params

    @property
    def fitted_grade(self) -> Grade:
        """What grades are computed from; UserError if the potential has none."""
        if self.grade is None:
            raise UserError(
                "this potential has no grades, as its folder is of an earlier version or of a training that has not "
                "ended; add them with gmnn.evaluation.add_grades(folder, training_file, validation_file)"
            )
        return self.grade

    @property
    def member_template(self) -> "Potential":
        """One member of a full ensemble, without parameters; any other potential itself."""
        if self.config.ensemble != "full":
            return self
        return replace(self, config=replace(self.config, ensemble="none"), params=None, grade=None)

    @property
    def member_potentials(self) -> "list[Potential]":
        """Trained members of a full ensemble as separate potentials; any other potential is its only member."""
        if self.config.ensemble != "full":
            return [self]
        take = [lambda leaf, m=m: leaf[m] for m in range(self.config.members)]
        return [self.member_template.with_params(jax.tree.map(member, self.trained)) for member in take]

    def init(self, seed: int | Array) -> Params:
        """Random float32 parameters, determined by the seed. A full ensemble has a leading axis [M]."""
        if self.config.ensemble == "full":
            return dict(jax.vmap(self.member_template.init)(seed + jnp.arange(self.config.members)))
        vectors = jnp.full((1, 1, 3), self.config.r_max, "float32")
        mask, e_i, e_j = jnp.zeros((1, 1), bool), jnp.zeros((1,), int), jnp.zeros((1, 1), int)
        variables = jax.jit(self._network.init)(jax.random.key(seed), vectors, mask, e_i, e_j)
        return dict(variables["params"])

    def member_energies(self, params: Params, system: System) -> Array:
        """Energy of every atom without E0 by every member, [M, N] eV; zero for padding.

        A batch of systems, all fields with a leading axis [B], gives [M, B, N].
        """
        if self.config.ensemble == "full":
            return jax.vmap(lambda member: self.member_template.member_energies(member, system)[0])(params)
        energies = jnp.moveaxis(self._apply(params, system, "__call__"), -1, 0)
        return jnp.where((system.numbers > 0)[None], energies, 0.0)

    def atomic_energies(self, params: Params, system: System) -> Array:
        """Energy of every atom without E0, the mean of all members, [N] eV; zero for padding."""
        return jnp.mean(self.member_energies(params, system), axis=0)

    def features(self, params: Params, system: System) -> Array:
        """Input of the readout for every atom, [N, F]; meaningless for padding. Not for a full ensemble."""
        return self._apply(params, system, "features")

    def readout(self, params: Params, system: System) -> Array:
        """Dimensionless psi of every atom and member in E_i = mu + sigma psi (plus repulsion).  [N, M]"""
        return self._apply(params, system, "readout_output")

    def activations(self, params: Params, system: System) -> Array:
        """Activations of the last hidden layer, [N, H]; meaningless for padding. Not for a full ensemble."""
        return self._apply(params, system, "activations")

    def grades(self, params: Params, grade: Grade, system: System) -> Array:
        """Grade of every atom, [N], 0 for padding; [B, N] for a batch. Of a full ensemble the mean of its members."""
        if self.config.ensemble == "full":
            of_member = jax.vmap(lambda params, grade: self.member_template.grades(params, grade, system))
            return jnp.mean(of_member(params, grade), axis=0)
        activations = self.activations(params, system)
        e_i = jnp.asarray(self.element_index)[system.numbers]
        arrays = Grade(*(jnp.asarray(x, activations.dtype) for x in grade))
        flat = distances(arrays, activations.reshape(-1, activations.shape[-1]).T, e_i.ravel())
        return jnp.where(system.numbers > 0, flat.reshape(system.numbers.shape), 0.0)

    def moment_norms(self, params: Params, system: System) -> Array:
        """Norm of the moments of every atom before they are bounded, [N]; meaningless for padding."""
        return self._apply(params, system, "moment_norms")

    def _apply(self, params: Params, system: System, method: str) -> Array:
        """Apply a method of the network to every atom, [N, ...]; to all atoms of a batch at once, [B, N, ...]."""
        slots = self._slots if system.numbers.ndim == 1 else jax.vmap(self._slots)
        inputs = [field.reshape(-1, *field.shape[system.numbers.ndim :]) for field in slots(system)]
        arrays = jax.tree.map(jnp.asarray, params)  # NumPy leaves cannot be indexed by traced values
        values = jnp.asarray(self._network.apply({"params": arrays}, *inputs, method=method))
        return values.reshape(*system.numbers.shape, *values.shape[1:])

    def _slots(self, system: System) -> tuple[Array, Array, Array, Array]:
        """Input of the network: vectors [N, K, 3] Å, mask [N, K], elements of centres [N] and of slots [N, K]."""
        vectors, mask = neighbor_vectors(system, self.config.r_max)
        index = jnp.asarray(self.element_index)[system.numbers]
        return vectors, mask, index, index[jnp.minimum(system.neighbors, system.numbers.shape[0] - 1)]

    def energy(self, params: Params, system: System) -> Array:
        """Total energy without the atomic references, [] eV; [B] for a batch of systems."""
        return jnp.sum(self.atomic_energies(params, system), axis=-1)

    def predict(self, params: Params, system: System, grade: Grade | None = None) -> Prediction:
        """Energy, forces and virial of one system from one reverse pass in positions and strain; grades if asked for.

        A batch of systems, all fields with a leading axis [B], gives a prediction with that axis from one pass for all.
        """

        def strained(positions: Array, strain: Array) -> tuple[Array, tuple[Array, Array | None]]:
            moved = deformed(system, positions, strain)
            members = self.member_energies(params, moved)
            # XLA computes what both have in common once
            grades = None if grade is None else self.grades(params, grade, moved)
            return jnp.sum(jnp.mean(members, axis=0)), (members, grades)

        at = system.positions, no_strain(system)
        (_, (members, grades)), (gradient, virial) = jax.value_and_grad(strained, (0, 1), has_aux=True)(*at)
        return as_prediction(members, gradient, virial)._replace(grades=grades)

    def member_forces(self, params: Params, system: System) -> Array:
        """Forces of every member, [M, N, 3] eV/Å, from one reverse pass each."""

        def energies(positions: Array) -> Array:
            return jnp.sum(self.member_energies(params, system._replace(positions=positions)), axis=1)

        _, pullback = jax.vjp(energies, system.positions)
        return -jax.vmap(lambda unit: pullback(unit)[0])(jnp.eye(self.config.n_members, dtype=system.positions.dtype))

    @property
    def element_index(self) -> np.ndarray:
        """Index among the trained elements of every atomic number; 0 for padding and untrained elements.  [119]"""
        return self.reference.element_index

    def offsets(self, numbers: np.ndarray) -> np.ndarray:
        """Atomic references E0 in float64, [N] eV; UserError for elements that were not trained."""
        return self.reference.offsets(numbers)

    def require_elements(self, numbers: np.ndarray) -> None:
        """Raise a UserError that names the elements on which this potential was not trained, if there are any."""
        self.reference.require_elements(numbers)


def no_strain(system: System) -> Array:
    """Zero strain of a system, or of each system of a batch.  [..., 3, 3]"""
    return jnp.zeros((*system.numbers.shape[:-1], 3, 3), system.positions.dtype)


def deformed(system: System, positions: Array, strain: Array) -> System:
    """Return a system or batch with `positions`, these and the cell deformed by the symmetric part of `strain`."""
    unit = jnp.broadcast_to(jnp.eye(3, dtype=positions.dtype), strain.shape)
    deform = unit + 0.5 * (strain + jnp.swapaxes(strain, -1, -2))
    return system._replace(
        positions=jnp.matmul(positions, deform, precision="highest"),
        cell=jnp.matmul(system.cell, deform, precision="highest"),
    )


def as_prediction(members: Array, gradient: Array, virial: Array) -> Prediction:
    """Prediction from energies of atoms [M, ..., N] and derivatives of the members' mean by positions and strain."""
    atomic, totals = jnp.mean(members, axis=0), jnp.moveaxis(jnp.sum(members, axis=-1), 0, -1)
    return Prediction(jnp.sum(atomic, axis=-1), atomic, -gradient, virial, totals)


def neighbor_vectors(system: System, r_max: float) -> tuple[Array, Array]:
    """Vectors from each centre to the atoms in its slots, and whether each slot is filled.  -> [N, K, 3] Å, [N, K]

    An empty slot gets a constant vector beyond the cutoff *before* any norm, so that no derivative is ever NaN.
    """
    n = system.positions.shape[0]
    mask = (system.neighbors < n) & (system.numbers > 0)[:, None]
    j = jnp.minimum(system.neighbors, n - 1)
    images = jnp.einsum("ika,ab->ikb", system.shifts.astype(system.cell.dtype), system.cell, precision="highest")
    vectors = system.positions[j] + images - system.positions[:, None, :]
    dummy = jnp.array([2.0 * r_max, 0.0, 0.0], vectors.dtype)
    return jnp.where(mask[..., None], vectors, dummy[None, None, :]), mask
