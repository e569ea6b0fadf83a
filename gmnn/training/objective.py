"""What training minimises, and the errors it reports: functions of parameters and a batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gmnn.config import TrainConfig
from gmnn.potential import Params, Potential
from gmnn.system import Labels, Prediction, System


class Errors(NamedTuple):
    """Errors over a set of frames, every atom and component of equal weight, padding left out."""

    loss: Array
    energy_mae: Array  # eV
    energy_mae_per_atom: Array  # eV
    forces_mae: Array  # eV/Å
    forces_rmse: Array  # eV/Å


def loss(config: TrainConfig, prediction: Prediction, labels: Labels, numbers: Array) -> Array:
    """w_E dE^2 / N + w_F mean |dF|^2 over the components of one frame; the loss of a batch is the mean over frames."""
    real = numbers > 0
    n = jnp.sum(real)
    energy = (prediction.energy - labels.energy) ** 2 / n
    forces = jnp.sum(jnp.where(real[:, None], (prediction.forces - labels.forces) ** 2, 0.0)) / (3 * n)
    return config.energy_weight * energy + config.forces_weight * forces


def batch_loss(potential: Potential, config: TrainConfig, params: Params, systems: System, labels: Labels) -> Array:
    """Mean loss over a batch, []."""

    def one(system: System, label: Labels) -> Array:
        return loss(config, potential.predict(params, system), label, system.numbers)

    return jnp.mean(jax.vmap(one)(systems, labels))


def errors(
    potential: Potential, config: TrainConfig, params: Params, systems: System, labels: Labels, chunk: int
) -> Errors:
    """Errors over all frames of a set, evaluated in chunks of frames."""

    def one(frame: tuple[System, Labels]) -> tuple[Array, ...]:
        system, label = frame
        prediction = potential.predict(params, system)
        real = system.numbers > 0
        n = jnp.sum(real)
        difference = jnp.where(real[:, None], prediction.forces - label.forces, 0.0)
        energy = jnp.abs(prediction.energy - label.energy)
        value = loss(config, prediction, label, system.numbers)
        return value, energy, energy / n, jnp.sum(jnp.abs(difference)), jnp.sum(difference**2), 3 * n

    value, energy, per_atom, absolute, square, components = jax.lax.map(one, (systems, labels), batch_size=chunk)
    total = jnp.sum(components)
    rmse = jnp.sqrt(jnp.sum(square) / total)
    return Errors(jnp.mean(value), jnp.mean(energy), jnp.mean(per_atom), jnp.sum(absolute) / total, rmse)
