"""The fast inertial relaxation engine: Bitzek, Koskinen, Gähler, Moseler, Gumbsch, Phys. Rev. Lett. 97, 170201 (2006).

All masses are 1 amu, so that light atoms do not limit the time step. It begins at the given one and grows at most
tenfold. Steps follow the semi-implicit Euler method, as Guénolé et al., Comput. Mater. Sci. 175, 109584 (2020), advise:
with it a step that is too long shows as a force against the velocity.
"""

import jax.numpy as jnp
from jax import Array

PATIENCE, GROWTH, SHRINK, MIXING, FADING, TENFOLD = 5, 1.1, 0.5, 0.1, 0.99, 10.0  # as in the paper
FARTHEST = 0.2  # Å, largest move of an atom in a step


def steered(v: Array, forces: Array, pace: Array, first: float) -> tuple[Array, Array]:
    """Velocities turned towards the forces or stopped, and the pace of the next step.

    forces [N, 3], zero for fixed atoms; pace [3]: time step, mixing, steps downhill so far; first: the first time step.
    """
    time, mixing, good = pace
    downhill = jnp.sum(forces * v) >= 0
    tiny = jnp.finfo(v.dtype).tiny
    along = forces * (jnp.sqrt(jnp.sum(v**2)) / jnp.maximum(jnp.sqrt(jnp.sum(forces**2)), tiny))
    good = jnp.where(downhill, good + 1, 0.0)
    faster = good > PATIENCE
    turned = jnp.where(downhill, (1 - mixing) * v + mixing * along, 0.0)
    time = jnp.where(downhill, jnp.where(faster, jnp.minimum(GROWTH * time, TENFOLD * first), time), SHRINK * time)
    mixing = jnp.where(downhill, jnp.where(faster, FADING * mixing, mixing), MIXING)
    return turned, jnp.stack([time, mixing, good])


def limited(v: Array, time: Array) -> Array:
    """Velocities scaled down so that no atom moves farther than FARTHEST in a step."""
    fastest = jnp.sqrt(jnp.max(jnp.sum(v**2, axis=1)))
    return v * jnp.minimum(1.0, FARTHEST / jnp.maximum(fastest * time, jnp.finfo(v.dtype).tiny))


def largest(forces: Array) -> Array:
    """The largest force on an atom, eV/Å."""
    return jnp.sqrt(jnp.max(jnp.sum(forces**2, axis=1)))
