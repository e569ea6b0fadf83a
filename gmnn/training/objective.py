"""The loss that training minimises and the errors that it reports, as functions of parameters and a batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gmnn.config.train import EnergyTerm, ForcesTerm, LossConfig, StressTerm
from gmnn.data.batches import rows_of, select
from gmnn.model.potential import Params, Potential
from gmnn.system import Labels, Prediction, System
from gmnn.training.distributed.devices import own_columns, sum_over_devices

Batch = tuple[System, Labels]
CHUNK = 32  # frames of a set that are evaluated at once
SMALLEST_SPREAD = 1e-5  # eV per atom, added in quadrature: keeps the derivatives of a score finite at equal members


class Errors(NamedTuple):
    """Errors over a set of frames, over all labels of a kind; NaN if no frame has such a label."""

    loss: Array
    energy_mae: Array  # eV
    energy_mae_per_atom: Array  # eV
    forces_mae: Array  # eV/Å, equal weight for every atom and component, without padding
    forces_rmse: Array  # eV/Å
    stress_mae: Array  # eV/Å^3, over the nine components


def penalty(term: EnergyTerm | ForcesTerm | StressTerm, error: Array) -> Array:
    """x^2, |x|, or twice Huber's function: x^2 up to delta, delta (2 |x| - delta) beyond."""
    size = jnp.abs(error)
    forms = {
        "mse": lambda: error**2,
        "mae": lambda: size,
        "huber": lambda: jnp.where(size < term.delta, error**2, term.delta * (2.0 * size - term.delta)),
    }
    return forms[term.form]()


def spread_penalty(term: EnergyTerm, error: Array, members: Array) -> Array:
    """x^2 of the mean x of the members' errors, with the derivatives of a score of x and their standard deviation s.

    The score is that of the normal distribution, times a factor that gives it the unit of x^2 and is held fixed in
    derivatives. nll: s^2 (x^2 / s^2 + log s^2), whose derivative along x is that of the square (Seitzer et al., ICLR
    2022, beta = 1). crps: 2 s times the score of Gneiting and Raftery, JASA 102, 359 (2007), eq. 21, whose slope far
    out is 2 s, like Huber's with delta = s. Energies are thus learnt as fast as without an ensemble, whatever the
    spread.
    """
    fixed = jax.lax.stop_gradient
    s = jnp.sqrt(jnp.var(members, ddof=1) + SMALLEST_SPREAD**2)
    z = error / s
    if term.form == "nll":
        score = fixed(s) ** 2 * (z**2 + 2.0 * jnp.log(s))
    else:
        size = z * jax.scipy.special.erf(z / jnp.sqrt(2.0)) + 2.0 * jax.scipy.stats.norm.pdf(z)
        score = 2.0 * fixed(s) * s * (size - 1.0 / jnp.sqrt(jnp.pi))
    return score + fixed(error**2 - score)


def weights(config: LossConfig, progress: Array | float) -> Array:
    """Weights of energy, forces and stress after the share `progress` of all steps.  [3]"""
    parts = (config.energy, config.forces, config.stress)
    first = jnp.array([part.weight for part in parts])
    last = jnp.array([part.weight if part.final_weight is None else part.final_weight for part in parts])
    return jnp.where(jnp.asarray(progress) < config.switch_at, first, last)


def terms(config: LossConfig, prediction: Prediction, labels: Labels, system: System) -> Array:
    """Energy, forces and stress terms of one frame, each 0 where the frame has no such label.  [3]

    They are N l(dE / N), the mean of l(dF) over the components, and the mean of N l(V dS / N) over the nine components.
    Errors of extensive quantities are taken per atom and counted for every atom. l is the `form` of the term.
    """
    real = system.numbers > 0
    n = jnp.sum(real)
    error = (prediction.energy - labels.energy) / n
    if config.energy.form in ("nll", "crps"):
        energy = n * spread_penalty(config.energy, error, prediction.members / n)
    else:
        energy = n * penalty(config.energy, error)
    components = jnp.where(real[:, None], penalty(config.forces, prediction.forces - labels.forces), 0.0)
    virial = prediction.virial - volume(system) * labels.stress
    stress = n * jnp.mean(penalty(config.stress, virial / n))
    return labels.weights * jnp.stack([energy, jnp.sum(components) / (3 * n), stress])


def volume(system: System) -> Array:
    """Volume of the cell, [] Å^3; 0 where a vector is missing. Written out to keep LAPACK out of the loss."""
    a, b, c = system.cell
    return jnp.abs(jnp.dot(a, jnp.cross(b, c), precision="highest"))


def loss(
    config: LossConfig, prediction: Prediction, labels: Labels, system: System, progress: Array | float = 1.0
) -> Array:
    """Weighted sum of the terms of one frame, []."""
    return jnp.dot(weights(config, progress).astype(labels.weights.dtype), terms(config, prediction, labels, system))


def batch_loss(
    config: LossConfig, predictions: Prediction, labels: Labels, systems: System, progress: Array | float = 1.0
) -> Array:
    """Mean loss over the frames of a batch, []."""

    def one(prediction: Prediction, labels: Labels, system: System) -> Array:
        return loss(config, prediction, labels, system, progress)

    return jnp.mean(jax.vmap(one)(predictions, labels, systems))


def errors(
    potential: Potential, config: LossConfig, params: Params, buckets: tuple[Batch, ...], n_devices: int = 1
) -> Errors:
    """Errors over all frames of all buckets, CHUNK frames at a time. The loss has the weights of the end of a run.

    With several devices, each evaluates its share of a chunk.
    """

    def one(prediction: Prediction, labels: Labels, system: System) -> tuple[Array, ...]:
        real = system.numbers > 0
        n = jnp.sum(real)
        has_energy, has_forces, has_stress = (labels.weights > 0).astype(labels.energy.dtype)
        energy = has_energy * jnp.abs(prediction.energy - labels.energy)
        forces = has_forces * jnp.where(real[:, None], prediction.forces - labels.forces, 0.0)
        size = volume(system)
        stress = has_stress * jnp.abs(prediction.virial / jnp.where(size > 0, size, 1.0) - labels.stress)
        return (
            loss(config, prediction, labels, system), jnp.ones_like(energy), energy, energy / n, has_energy,
            jnp.sum(jnp.abs(forces)), jnp.sum(forces**2), has_forces * 3 * n, jnp.sum(stress), 9 * has_stress,
        )  # fmt: skip

    def over(bucket: Batch) -> list[Array]:
        n = len(bucket[1].energy)
        size = -(-min(CHUNK, n) // n_devices) * n_devices
        rows, real = rows_of(jnp.arange(n), n, size)
        if n_devices > 1:
            rows, real = own_columns(rows, n_devices), own_columns(real, n_devices)

        def chunk(chosen: Array) -> tuple[Array, ...]:
            systems, labels = select(bucket, chosen)
            return jax.vmap(one)(potential.predict(params, systems), labels, systems)

        fields = jax.lax.map(chunk, rows)
        sums = [jnp.sum(jnp.where(real, field, 0.0)) for field in fields]
        return sums if n_devices == 1 else sum_over_devices(sums)

    value, frames, energy, per_atom, with_energy, absolute, square, components, stress, stresses = (
        sum(parts) for parts in zip(*map(over, buckets), strict=True)
    )
    return Errors(
        value / frames, energy / with_energy, per_atom / with_energy, absolute / components,
        jnp.sqrt(square / components), stress / stresses,
    )  # fmt: skip
