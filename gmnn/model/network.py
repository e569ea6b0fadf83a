"""The trained parameters: radial coefficients, readout, scale-shift, repulsion strengths (the only flax modules).

Parameters are a plain nested dict: ``radial/coefficients`` [E, E, S, n], ``readout/layer_*/{kernel, bias}``,
``scale_shift/{scale, shift}`` [E], ``repulsion/strength`` [pairs]. Pairs of elements are unordered, e <= e'.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from gmnn.config.model import ModelConfig
from gmnn.errors import UserError
from gmnn.model import descriptor, radial, short_range
from gmnn.model.readout import Perceptron, perceptron
from gmnn.model.repulsion import element_pairs, pair_energy, strength_floors
from gmnn.reference import Reference

OUTPUT_GAIN = 0.04  # of the last layer, for a deep floor (large sigma) and gentle initial forces at the same time


def inverse_softplus(y: np.ndarray | float) -> np.ndarray:
    """Solution p of log(1 + exp(p)) = y > 0."""
    return np.asarray(y + np.log(-np.expm1(-np.asarray(y))))


class RadialFunctions(nn.Module):
    """R_s(r; e_i, e_j) = f_c(r) sum_n W[e_i, e_j, s, n] phi_n(r).  [N, K], [N], [N, K] -> [N, S, K]"""

    config: ModelConfig
    elements: tuple[int, ...]

    @nn.compact
    def __call__(self, r: Array, e_i: Array, e_j: Array) -> Array:
        shape = (len(self.elements),) * 2 + (self.config.n_radial, self.config.n_basis)
        coefficients = self.param("coefficients", nn.initializers.normal(self.config.n_basis**-0.5, "float32"), shape)
        distance = r
        if self.config.distance == "agnesi":
            r_0 = jnp.asarray(short_range.covalent_sums(self.elements) / 2.0, r.dtype)[e_i[:, None], e_j]
            distance = short_range.agnesi(r, r_0, self.config.r_max)
        basis = radial.radial_basis(self.config)(distance) * radial.cutoff_function(self.config)(r)[..., None]
        return jnp.einsum("ikn,iksn->isk", basis, coefficients[e_i[:, None], e_j], precision=descriptor.HIGHEST)


class Layer(nn.Module):
    """Kernel [in, out] and bias [out] of a layer of the readout."""

    fan_in: int
    out: int

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (self.fan_in, self.out), "float32")
        return kernel, self.param("bias", nn.initializers.zeros, (self.out,), "float32")


class Readout(nn.Module):
    """Multilayer perceptron from features to the input of the output activation, [N, F] -> [N, M].

    With `last` it stops at the activations of the last hidden layer, [N, H].
    """

    hidden: tuple[int, ...]
    members: int
    perceptron: Perceptron

    @nn.compact
    def __call__(self, features: Array, last: bool = False) -> Array:
        widths = (features.shape[-1], *self.hidden, self.members)
        layers = [Layer(*pair, name=f"layer_{k}")() for k, pair in enumerate(pairwise(widths))]
        if last:
            return nn.swish(self.perceptron(layers[:-1], features))
        return OUTPUT_GAIN * self.perceptron(layers, features)


class ScaleShift(nn.Module):
    """mu_e + sigma_e psi with sigma_e = softplus(p_e) > 0 by construction, so that a floor stays a floor."""

    reference: Reference

    @nn.compact
    def __call__(self, psi: Array, e_i: Array) -> Array:
        scale = self.param("scale", lambda _: jnp.asarray(inverse_softplus(np.array(self.reference.scale)), "float32"))
        shift = self.param("shift", lambda _: jnp.asarray(self.reference.shift, "float32"))
        return shift[e_i, None] + nn.softplus(scale)[e_i, None] * psi


class Repulsion(nn.Module):
    """Half of sum_k s U(r) chi(r) for each centre, in physical units.  [N, K] ... -> [N]"""

    config: ModelConfig
    reference: Reference

    @nn.compact
    def __call__(self, r: Array, mask: Array, e_i: Array, e_j: Array, r_on: Array, r_off: Array) -> Array:
        zbl, elements = self.config.zbl, self.reference.elements
        table = element_pairs(len(elements))
        if zbl.trainable:
            floors = strength_floors(self.config, elements)
            start = jnp.asarray(inverse_softplus(zbl.strength - floors), "float32")
            strength = jnp.asarray(floors, r.dtype) + nn.softplus(self.param("strength", lambda _: start))
        else:
            strength = jnp.full(table.max() + 1, zbl.strength, r.dtype)
        e_i = e_i[:, None]
        strength = strength[jnp.asarray(table)[e_i, e_j]]
        energy = pair_energy(self.config, self.reference, strength, r, e_i, e_j, r_on, r_off)
        return 0.5 * jnp.sum(jnp.where(mask, energy, 0.0), axis=1)


class Constants(NamedTuple):
    """Arrays that follow from configuration and data. They are arrays so that models of several data sets stack."""

    feature_scale: Any  # [F], or [0] for unscaled features
    moment_bound: Any  # [E], m_0 of short_range.bounded, or [0] if unknown
    radii: Any  # [E, E, 8], the fields of short_range.PairTables, Å


def constants(config: ModelConfig, reference: Reference) -> Constants:
    """Compute the constants in float64; UserError if configuration and data do not fit."""
    radii = np.stack(short_range.pair_tables(config, reference), axis=-1)
    bound = config.core.moment_room * np.asarray(reference.moment_scale)
    return Constants(np.asarray(reference.feature_scale), bound, radii)


class GMNN(nn.Module):
    """Atomic energies from the vectors to the neighbours; the whole trained potential of one system."""

    config: ModelConfig
    reference: Reference
    constants: Constants
    invariants: Callable[[Array], Array] = descriptor.invariants
    perceptron: Perceptron = perceptron

    def setup(self) -> None:
        self.radial = RadialFunctions(self.config, self.reference.elements)
        members = self.config.members if self.config.ensemble == "shallow" else 1
        self.readout = Readout(self.config.hidden, members, self.perceptron)
        self.scale_shift = ScaleShift(self.reference)
        if self.config.repulsion != "none":
            self.repulsion = Repulsion(self.config, self.reference)

    def __call__(self, vectors: Array, mask: Array, e_i: Array, e_j: Array) -> Array:
        """Energies of atoms and members.  [N, K, 3] Å, [N, K] bool, [N], [N, K] -> [N, M] eV

        Empty slots hold a vector of length >= r_max.
        """
        psi = self.readout_output(vectors, mask, e_i, e_j)
        r, radii = _norm(vectors), self._radii(vectors.dtype, e_i, e_j)
        if self.config.core.nearest_switch:
            switch = short_range.gate(r, radii.switch_in, radii.switch_out)
            psi = psi * jnp.prod(jnp.where(mask, switch, 1.0), axis=1)[:, None]
        energies = self.scale_shift(psi, e_i)
        if self.config.repulsion != "none":
            energies = energies + self.repulsion(r, mask, e_i, e_j, radii.r_on, radii.r_off)[:, None]
        return energies

    def readout_output(self, vectors: Array, mask: Array, e_i: Array, e_j: Array) -> Array:
        """Readout psi of each atom and member, >= -0.2785 if bounded.  -> [N, M]"""
        x = self.readout(self.features(vectors, mask, e_i, e_j))
        return nn.swish(x) if self.config.bounded else x

    def activations(self, vectors: Array, mask: Array, e_i: Array, e_j: Array) -> Array:
        """Activations of the last hidden layer of the readout.  -> [N, H]"""
        return self.readout(self.features(vectors, mask, e_i, e_j), last=True)

    def features(self, vectors: Array, mask: Array, e_i: Array, e_j: Array) -> Array:
        """Invariants of the (bounded) moments, divided by their scale over the training data.  -> [N, F]"""
        moment = self.moments(vectors, mask, e_i, e_j)
        if self.config.core.bounded_moments and not self.is_initializing():
            if not len(self.constants.moment_bound):
                raise UserError("model.core.bounded_moments needs the norms of the training data; train on data first")
            moment = short_range.bounded(moment, jnp.asarray(self.constants.moment_bound, moment.dtype)[e_i])
        h = self.invariants(moment)
        if len(self.constants.feature_scale):
            h = h / jnp.asarray(self.constants.feature_scale, h.dtype)[None, :]
        return h

    def moments(self, vectors: Array, mask: Array, e_i: Array, e_j: Array) -> Array:
        """Gaussian moments before any bound.  -> [N, S, 20]"""
        r, radii, settings = _norm(vectors), self._radii(vectors.dtype, e_i, e_j), self.config.core
        clamped = short_range.clamped_distance(r, radii, settings)
        gate = short_range.gate(r, radii.gate_in, radii.gate_out) if settings.gate else None
        unit = vectors / (r + self.config.unit_offset if self.config.unit_offset else r)[..., None]
        return descriptor.moments(self.radial(clamped, e_i, e_j) * mask[:, None], unit, gate)

    def moment_norms(self, vectors: Array, mask: Array, e_i: Array, e_j: Array) -> Array:
        """Norms |M_i| before any bound.  -> [N]"""
        return jnp.sqrt(descriptor.squared_norm(self.moments(vectors, mask, e_i, e_j)))

    def _radii(self, dtype: jnp.dtype, e_i: Array, e_j: Array) -> short_range.PairTables:
        """Radii of every slot.  8 x [N, K] Å"""
        slots = jnp.asarray(self.constants.radii, dtype)[e_i[:, None], e_j]
        return short_range.PairTables(*(slots[..., k] for k in range(len(short_range.PairTables._fields))))


def _norm(vectors: Array) -> Array:
    return jnp.sqrt(jnp.sum(vectors**2, axis=-1))


def scale_shift(params: dict) -> tuple[np.ndarray, np.ndarray]:
    """sigma and mu of every element in float64, eV.  [E], [E]"""
    trained = params["scale_shift"]
    return np.logaddexp(0.0, np.asarray(trained["scale"], float)), np.asarray(trained["shift"], float)
