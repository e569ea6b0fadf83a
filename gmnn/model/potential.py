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
    """By default those of config and reference; given where models of several data sets are stacked."""
    invariants: Callable[[Array], Array] = descriptor.invariants
    """What contracts the moments; training puts a faster function in this place (kernels/cpp/invariants.py)."""
    perceptron: Perceptron = perceptron
    """The layers of the readout; likewise (kernels/cpp/readout.py)."""

    def __post_init__(self) -> None:
        """UserError where the facts do not fit the configuration."""
        counts = {0, descriptor.n_features(self.config.n_radial)}
        scale = self.reference.feature_scale
        require(len(scale) in counts, "reference.feature_scale", scale, f"empty or {max(counts)} numbers long")

    def with_params(self, params: Params) -> "Potential":
        """The same potential with these parameters."""
        return replace(self, params=params)

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
    def member_template(self) -> "Potential":
        """One member of a full ensemble, without parameters; anything else itself."""
        if self.config.ensemble != "full":
            return self
        return replace(self, config=replace(self.config, ensemble="none"), params=None)

    @property
    def member_potentials(self) -> "list[Potential]":
        """The trained members of a full ensemble as potentials of their own; anything else alone."""
        if self.config.ensemble != "full":
            return [self]
        take = [lambda leaf, m=m: leaf[m] for m in range(self.config.members)]
        return [self.member_template.with_params(jax.tree.map(one, self.trained)) for one in take]

    def init(self, seed: int | Array) -> Params:
        """Random float32 parameters; the same for the same seed. Those of a full ensemble have a leading axis [M]."""
        if self.config.ensemble == "full":
            return dict(jax.vmap(self.member_template.init)(seed + jnp.arange(self.config.members)))
        vectors = jnp.full((1, 1, 3), self.config.r_max, "float32")
        mask, e_i, e_j = jnp.zeros((1, 1), bool), jnp.zeros((1,), int), jnp.zeros((1, 1), int)
        variables = jax.jit(self._network.init)(jax.random.key(seed), vectors, mask, e_i, e_j)
        return dict(variables["params"])

    def member_energies(self, params: Params, system: System) -> Array:
        """Energy of every atom without E0 in the eyes of every member, [M, N] eV; zero for padding.

        Of a batch of systems, all fields with a leading axis [B]: [M, B, N].
        """
        if self.config.ensemble == "full":
            return jax.vmap(lambda one: self.member_template.member_energies(one, system)[0])(params)
        energies = jnp.moveaxis(self._apply(params, system, "__call__"), -1, 0)
        return jnp.where((system.numbers > 0)[None], energies, 0.0)

    def atomic_energies(self, params: Params, system: System) -> Array:
        """Energy of every atom without E0, the mean of all members, [N] eV; zero for padding."""
        return jnp.mean(self.member_energies(params, system), axis=0)

    def features(self, params: Params, system: System) -> Array:
        """What the readout sees of every atom, [N, F]; of no meaning for padding. Not of a full ensemble."""
        return self._apply(params, system, "features")

    def readout(self, params: Params, system: System) -> Array:
        """psi of every atom and member, [N, M]: the dimensionless number in E_i = mu + sigma psi (plus repulsion)."""
        return self._apply(params, system, "readout_output")

    def moment_norms(self, params: Params, system: System) -> Array:
        """Norm of the moments of every atom before they are bounded, [N]; of no meaning for padding."""
        return self._apply(params, system, "moment_norms")

    def _apply(self, params: Params, system: System, method: str) -> Array:
        """A method of the network on every atom, [N, ...]; of a batch [B, N, ...], the atoms of all systems at once."""
        slots = self._slots if system.numbers.ndim == 1 else jax.vmap(self._slots)
        seen = [field.reshape(-1, *field.shape[system.numbers.ndim :]) for field in slots(system)]
        arrays = jax.tree.map(jnp.asarray, params)  # NumPy leaves cannot be indexed by traced values
        found = jnp.asarray(self._network.apply({"params": arrays}, *seen, method=method))
        return found.reshape(*system.numbers.shape, *found.shape[1:])

    def _slots(self, system: System) -> tuple[Array, Array, Array, Array]:
        """What the network is shown: vectors [N, K, 3] Å, mask [N, K], elements of centres [N] and of slots [N, K]."""
        vectors, mask = neighbor_vectors(system, self.config.r_max)
        index = jnp.asarray(self.element_index)[system.numbers]
        return vectors, mask, index, index[jnp.minimum(system.neighbors, system.numbers.shape[0] - 1)]

    def energy(self, params: Params, system: System) -> Array:
        """Total energy without the atomic references, [] eV; of a batch of systems [B]."""
        return jnp.sum(self.atomic_energies(params, system), axis=-1)

    def predict(self, params: Params, system: System) -> Prediction:
        """Energy, forces and virial of one system from one reverse pass in positions and strain.

        Of a batch of systems, all fields with a leading axis [B], a prediction with that axis: one pass for all.
        """

        def strained(positions: Array, strain: Array) -> tuple[Array, Array]:
            members = self.member_energies(params, deformed(system, positions, strain))
            return jnp.sum(jnp.mean(members, axis=0)), members

        at = system.positions, no_strain(system)
        (_, members), (gradient, virial) = jax.value_and_grad(strained, (0, 1), has_aux=True)(*at)
        return as_prediction(members, gradient, virial)

    def member_forces(self, params: Params, system: System) -> Array:
        """Forces of every member, [M, N, 3] eV/Å: one reverse pass each."""

        def energies(positions: Array) -> Array:
            return jnp.sum(self.member_energies(params, system._replace(positions=positions)), axis=1)

        _, pullback = jax.vjp(energies, system.positions)
        return -jax.vmap(lambda one: pullback(one)[0])(jnp.eye(self.config.n_members, dtype=system.positions.dtype))

    @property
    def element_index(self) -> np.ndarray:
        """Index among the trained elements of every atomic number; 0 for padding and strangers.  [119]"""
        return self.reference.element_index

    def offsets(self, numbers: np.ndarray) -> np.ndarray:
        """Atomic references E0 in float64, [N] eV; refuses elements that were not trained."""
        return self.reference.offsets(numbers)

    def require_elements(self, numbers: np.ndarray) -> None:
        """UserError that names the elements this potential was not trained on."""
        self.reference.require_elements(numbers)


def no_strain(system: System) -> Array:
    """The strain of a system, or of each of a batch, that changes nothing.  [..., 3, 3]"""
    return jnp.zeros((*system.numbers.shape[:-1], 3, 3), system.positions.dtype)


def deformed(system: System, positions: Array, strain: Array) -> System:
    """The system, or a batch, with other positions, these and the cell under the symmetric part of a strain."""
    unit = jnp.broadcast_to(jnp.eye(3, dtype=positions.dtype), strain.shape)
    deform = unit + 0.5 * (strain + jnp.swapaxes(strain, -1, -2))
    return system._replace(
        positions=jnp.matmul(positions, deform, precision="highest"),
        cell=jnp.matmul(system.cell, deform, precision="highest"),
    )


def as_prediction(members: Array, gradient: Array, virial: Array) -> Prediction:
    """The prediction of energies of atoms [M, ..., N], and the derivatives of their mean by positions and strain."""
    atomic, of_members = jnp.mean(members, axis=0), jnp.moveaxis(jnp.sum(members, axis=-1), 0, -1)
    return Prediction(jnp.sum(atomic, axis=-1), atomic, -gradient, virial, of_members)


def neighbor_vectors(system: System, r_max: float) -> tuple[Array, Array]:
    """Vectors from each centre to the atoms in its slots and which slots are filled.  -> [N, K, 3] Å, [N, K]

    An empty slot gets a constant vector beyond the cutoff *before* any norm, so that no derivative is ever NaN.
    """
    n = system.positions.shape[0]
    mask = (system.neighbors < n) & (system.numbers > 0)[:, None]
    j = jnp.minimum(system.neighbors, n - 1)
    images = jnp.einsum("ika,ab->ikb", system.shifts.astype(system.cell.dtype), system.cell, precision="highest")
    vectors = system.positions[j] + images - system.positions[:, None, :]
    dummy = jnp.array([2.0 * r_max, 0.0, 0.0], vectors.dtype)
    return jnp.where(mask[..., None], vectors, dummy[None, None, :]), mask
