"""The gradient of the loss with respect to the parameters: one forward derivative of a reverse pass.

For a loss L of energies E and forces F = -dE/dx, with e = dL/dE and f = dL/dF,
dL/dtheta = sum e dE/dtheta - f d2E/dx dtheta. Both terms together are the derivative, at epsilon = 0, of
d[sum (1 + epsilon e) E(x - epsilon f)]/dtheta: the reverse pass that gives the forces, differentiated along (e, -f).
Strain and virial are one more pair like x and F.
"""

import sys
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gmnn.config.train import LossConfig
from gmnn.errors import UserError
from gmnn.kernels.cpp import invariants as cpp_invariants
from gmnn.kernels.cpp import readout as cpp_readout
from gmnn.model.potential import Params, Potential, as_prediction, deformed, no_strain
from gmnn.training.objective import Batch, batch_loss


def with_fast_functions(potential: Potential) -> Potential:
    """Give the potential its functions in C++ on a CPU. If they do not compile, print why and return it as is."""
    if jax.default_backend() != "cpu":
        return potential
    try:
        cpp_invariants.registered()
        cpp_readout.registered()
    except UserError as error:
        print(f"gmnn: training is faster with functions in C++, but {error}", file=sys.stderr, flush=True)
        return potential
    return replace(potential, invariants=cpp_invariants.invariants, perceptron=cpp_readout.perceptron)


def value_and_gradient(
    potential: Potential, config: LossConfig, params: Params, batch: Batch, progress: Any = 1.0
) -> tuple[Array, Params]:
    """Loss of a batch, [], and its gradient with respect to the parameters."""
    systems, labels = batch

    def pulled(positions: Array, strain: Array, seeds: Array) -> tuple[Array, tuple[Params, Array, Array]]:
        def energies(params: Params, positions: Array, strain: Array) -> Array:
            return potential.member_energies(params, deformed(systems, positions, strain))

        members, pullback = jax.vjp(energies, params, positions, strain)
        return members, pullback(seeds)

    def value(members: Array, gradient: Array, virial: Array) -> Array:
        return batch_loss(config, as_prediction(members, gradient, virial), labels, systems, progress)

    n_members = potential.config.n_members
    mean = jnp.full((n_members, *systems.numbers.shape), 1.0 / n_members, systems.positions.dtype)
    primals, tangents_along = jax.linearize(pulled, systems.positions, no_strain(systems), mean)
    members, (_, gradient, virial) = primals
    loss, (by_members, by_gradient, by_virial) = jax.value_and_grad(value, (0, 1, 2))(members, gradient, virial)
    return loss, tangents_along(by_gradient, by_virial, by_members)[1][0]
