"""The trained parameters: radial coefficients, readout, scale-shift, repulsion strengths (the only flax modules).

Parameters are a plain nested dict: ``radial/coefficients`` [E, E, S, n], ``readout/layer_*/{kernel, bias}``,
``scale_shift/{scale, shift}`` [E], ``repulsion/strength`` [pairs]. Pairs of elements are unordered, e <= e'.
"""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from gmnn import descriptor, radial, repulsion
from gmnn.elements import covalent_radius
from gmnn.errors import UserError
from gmnn.model_config import ModelConfig, Reference

SWISH_UNIT = 1.6765  # swish times this has unit second moment for a unit Gaussian input
OUTPUT_GAIN = 0.04  # of the last layer: a deep floor (large sigma) and gentle first forces at the same time


def inverse_softplus(y: np.ndarray | float) -> np.ndarray:
    """p with log(1 + exp(p)) = y > 0."""
    return np.asarray(y + np.log(-np.expm1(-np.asarray(y))))


def element_pairs(n_elements: int) -> np.ndarray:
    """Index of the unordered pair of elements, [E, E] -> 0 ... E (E + 1) / 2 - 1."""
    table = np.zeros((n_elements, n_elements), int)
    upper = np.triu_indices(n_elements)
    table[upper] = np.arange(len(upper[0]))
    return np.maximum(table, table.T)


class RadialFunctions(nn.Module):
    """R_s(r; e_i, e_j) = f_c(r) sum_n W[e_i, e_j, s, n] phi_n(r).  [N, K], [N], [N, K] -> [N, K, S]"""

    config: ModelConfig
    n_elements: int

    @nn.compact
    def __call__(self, r: Array, e_i: Array, e_j: Array) -> Array:
        shape = (self.n_elements, self.n_elements, self.config.n_radial, self.config.n_basis)
        coefficients = self.param("coefficients", nn.initializers.normal(self.config.n_basis**-0.5, "float32"), shape)
        basis = radial.radial_basis(self.config)(r) * radial.cutoff_function(self.config)(r)[..., None]
        return jnp.einsum("ikn,iksn->iks", basis, coefficients[e_i[:, None], e_j], precision=descriptor.HIGHEST)


class Readout(nn.Module):
    """Multilayer perceptron from features to the number before the output activation.  [N, F] -> [N]"""

    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, features: Array) -> Array:
        h = features
        for index, width in enumerate(self.hidden):
            h = SWISH_UNIT * nn.swish(nn.Dense(width, name=f"layer_{index}", precision=descriptor.HIGHEST)(h))
        return OUTPUT_GAIN * nn.Dense(1, name=f"layer_{len(self.hidden)}", precision=descriptor.HIGHEST)(h)[:, 0]


class ScaleShift(nn.Module):
    """mu_e + sigma_e psi with sigma_e = softplus(p_e) > 0 by construction, so that a floor stays a floor."""

    reference: Reference

    @nn.compact
    def __call__(self, psi: Array, e_i: Array) -> Array:
        scale = self.param("scale", lambda _: jnp.asarray(inverse_softplus(np.array(self.reference.scale)), "float32"))
        shift = self.param("shift", lambda _: jnp.asarray(self.reference.shift, "float32"))
        return shift[e_i] + nn.softplus(scale)[e_i] * psi


class Repulsion(nn.Module):
    """Half of sum_k s U(r) chi(r) for each centre, ZBL in physical units.  [N, K] ... -> [N]"""

    config: ModelConfig
    elements: tuple[int, ...]

    @nn.compact
    def __call__(self, r: Array, mask: Array, e_i: Array, e_j: Array) -> Array:
        zbl, pairs = self.config.zbl, element_pairs(len(self.elements))
        if zbl.trainable:
            start = jnp.full(pairs.max() + 1, inverse_softplus(zbl.strength - zbl.floor), "float32")
            strength = zbl.floor + nn.softplus(self.param("strength", lambda _: start))
        else:
            strength = jnp.full(pairs.max() + 1, zbl.strength, r.dtype)
        numbers = jnp.asarray(self.elements, r.dtype)
        tables = window_tables(self.config, self.elements)
        r_on, r_off = (jnp.asarray(table, r.dtype)[e_i[:, None], e_j] for table in tables)
        energy = strength[jnp.asarray(pairs)[e_i[:, None], e_j]] * repulsion.zbl(r, numbers[e_i][:, None], numbers[e_j])
        return 0.5 * jnp.sum(jnp.where(mask, energy * repulsion.window(zbl, r, r_on, r_off), 0.0), axis=1)


def window_tables(config: ModelConfig, elements: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """r_on and r_off of every pair of elements, Å, [E, E] each."""
    if config.zbl.window == "cosine":
        covalent_sum = np.zeros((len(elements), len(elements)))
    else:
        radii = np.array([covalent_radius(number) for number in elements])
        covalent_sum = radii[:, None] + radii
    r_on, r_off = repulsion.window_radii(config.zbl, covalent_sum)
    if r_off.max() > config.r_max:
        raise UserError(
            f"the repulsion's window closes at {r_off.max():.2f} Å, beyond the cutoff model.r_max = {config.r_max} Å; "
            "raise model.r_max or lower model.zbl.outer"
        )
    return r_on, r_off


class GMNN(nn.Module):
    """Atomic energies from the vectors to the neighbours; the whole trained potential of one system."""

    config: ModelConfig
    reference: Reference

    def setup(self) -> None:
        n_elements = len(self.reference.elements)
        self.radial = RadialFunctions(self.config, n_elements)
        self.readout = Readout(self.config.hidden)
        self.scale_shift = ScaleShift(self.reference)
        if self.config.repulsion == "zbl":
            self.repulsion = Repulsion(self.config, self.reference.elements)

    def __call__(self, vectors: Array, mask: Array, e_i: Array, e_j: Array) -> Array:
        """[N, K, 3] Å, [N, K] bool, [N], [N, K] -> [N] eV. Empty slots hold a vector of length >= r_max."""
        energies = self.scale_shift(self.readout_output(vectors, mask, e_i, e_j), e_i)
        if self.config.repulsion == "zbl":
            energies = energies + self.repulsion(_norm(vectors), mask, e_i, e_j)
        return energies

    def readout_output(self, vectors: Array, mask: Array, e_i: Array, e_j: Array) -> Array:
        """psi of each atom; >= -0.2785 if bounded.  -> [N]"""
        x = self.readout(self.features(vectors, mask, e_i, e_j))
        return nn.swish(x) if self.config.bounded else x

    def features(self, vectors: Array, mask: Array, e_i: Array, e_j: Array) -> Array:
        """Invariants of the moments, divided by their scale over the training data.  -> [N, F]"""
        r = _norm(vectors)
        values = self.radial(r, e_i, e_j) * mask[..., None]
        h = descriptor.invariants(descriptor.moments(values, vectors / r[..., None]))
        if self.reference.feature_scale:
            h = h / jnp.asarray(self.reference.feature_scale, h.dtype)[None, :]
        return h


def _norm(vectors: Array) -> Array:
    return jnp.sqrt(jnp.sum(vectors**2, axis=-1))


def strengths(params: dict, config: ModelConfig, elements: tuple[int, ...]) -> np.ndarray:
    """Strength s of the repulsion of every pair of elements, in units of physical ZBL.  [E, E]"""
    if not config.zbl.trainable:
        return np.full((len(elements), len(elements)), config.zbl.strength)
    trained = np.asarray(params["repulsion"]["strength"], float)
    return (config.zbl.floor + np.logaddexp(0.0, trained))[element_pairs(len(elements))]
