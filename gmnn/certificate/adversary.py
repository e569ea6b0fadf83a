"""Search by gradient ascent on dE/dr for environments in which an approach that is certified monotone is not.

Finding one would refute the certificate; finding none proves nothing. The same search samples the network's force.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gmnn.model.potential import Params, Potential
from gmnn.system import System

FIRST_STEP, LAST_STEP = 0.3, 0.01  # Å, displacement of every atom in the first and last step of the ascent
PUSHES = 6  # rounds in which atoms are moved out of the two spheres around the movers


class Search(NamedTuple):
    """The extent of a search and the worst values that it met."""

    environments: int  # random starts that kept all contacts in some evaluation
    evaluations: int  # of dE/dr with all contacts kept, over all steps of the ascent
    violations: int  # environments with dE/dr >= 0 at some step
    highest: float  # largest dE/dr, eV/Å
    network: float  # largest |dE/dr| of the network alone, eV/Å
    seconds: float  # compilation included; a second search of the same potential and shapes compiles nothing


class Approach(NamedTuple):
    """A batch of pairs on the z axis; all fields have a leading axis [B]."""

    numbers: Array  # [B, n + 2], the pair first
    r: Array  # [B] Å
    share: Array  # [B] part of the approach that the first atom makes, 0 ... 1
    contacts: Array  # [B, 2, n] Å, least distances of the other atoms to the first and to the second


def search(
    potential: Potential,
    pair: tuple[int, int],
    r: tuple[float, float],
    rho: np.ndarray,
    n: int,
    environments: int = 256,
    steps: int = 20,
    batch: int = 256,
    seed: int = 0,
    others: np.ndarray | None = None,
    network: bool = False,
) -> Search:
    """Ascend dE/dr (with `network`, the absolute value of its network part) from random environments of the pair.

    `pair`: atomic numbers. `r`: range of the pair's distance, Å; half of the environments are at the upper end. `rho`
    [E, E] Å: no other atom is closer to either. `n` >= 1: number of other atoms, of random trained elements or of the
    atomic numbers `others` [n]. `steps`: 0 is random sampling. Environments are tried `batch` at a time, and their
    number is rounded up to a multiple of it.
    """
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), potential.trained)
        ascend = _ascend(potential, steps, network)
        start, results = time.perf_counter(), []
        for _ in range(-(-environments // batch)):
            trial = _random_approaches(potential, pair, r, rho, n, batch, others, rng)
            results.append([np.asarray(x) for x in ascend(params, *trial)])
    highest, network_slopes, valid = (np.concatenate(field) for field in zip(*results, strict=True))
    return Search(
        environments=int(np.count_nonzero(valid)),
        evaluations=int(valid.sum()),
        violations=int(np.count_nonzero(highest >= 0.0)),
        highest=float(highest.max(initial=-np.inf)),
        network=float(network_slopes.max(initial=0.0)),
        seconds=time.perf_counter() - start,
    )


def _random_approaches(
    potential: Potential,
    pair: tuple[int, int],
    r: tuple[float, float],
    rho: np.ndarray,
    n: int,
    batch: int,
    others: np.ndarray | None,
    rng: np.random.Generator,
) -> tuple[Array, Approach]:
    elements = np.array(potential.reference.elements)
    crowd = rng.choice(elements, (batch, n)) if others is None else np.tile(np.asarray(others), (batch, 1))
    numbers = np.concatenate([np.tile(pair, (batch, 1)), crowd], axis=1)
    index = potential.element_index
    distance = np.where(rng.random(batch) < 0.5, r[1], rng.uniform(*r, batch))
    share = rng.choice([0.0, 0.5, 1.0], batch)
    contacts = np.stack([rho[index[z], index[crowd]] for z in pair], axis=1)
    direction = rng.normal(size=(batch, n, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    far = contacts.min(axis=1) + rng.random((batch, n)) ** 2 * potential.config.r_max  # most atoms are near
    positions = far[..., None] * direction
    return jnp.asarray(positions), Approach(*map(jnp.asarray, (numbers, distance, share, contacts)))


@lru_cache(maxsize=16)
def _ascend(potential: Potential, steps: int, network: bool) -> Callable[..., tuple[Array, Array, Array]]:
    """Return the compiled ascent: largest dE/dr, largest network part, number of valid evaluations.  [B] each"""
    bare = Potential(replace(potential.config, repulsion="none"), potential.reference)

    def slope(model: Potential, params: Params, others: Array, approach: Approach) -> Array:
        n = len(approach.numbers)
        slots = jnp.asarray([[j for j in range(n) if j != i] for i in range(n)])

        def energy(r: Array) -> Array:
            pair = _pair_positions(approach, r)
            shifts = jnp.zeros((*slots.shape, 3), int)
            system = System(jnp.concatenate([pair, others]), approach.numbers, jnp.zeros((3, 3)), slots, shifts)
            return model.energy(params, system)

        return jax.jvp(energy, (approach.r,), (jnp.ones_like(approach.r),))[1]

    def goal(others: Array, params: Params, approach: Approach) -> tuple[Array, tuple[Array, Array]]:
        network_slope = slope(bare, params, others, approach)
        total = network_slope if network else slope(potential, params, others, approach)
        return jnp.abs(network_slope) if network else total, (total, network_slope)

    def one(params: Params, others: Array, approach: Approach) -> tuple[Array, Array, Array]:
        def step(others: Array, size: Array) -> tuple[Array, tuple[Array, Array, Array]]:
            (_, (total, network_slope)), gradient = jax.value_and_grad(goal, has_aux=True)(others, params, approach)
            valid = jnp.all(_distances(others, approach) >= approach.contacts)
            lengths = jnp.sqrt(jnp.sum(gradient**2, axis=-1, keepdims=True))
            moved = others + size * gradient / jnp.maximum(lengths, 1e-12)
            record = jnp.where(valid, total, -jnp.inf), jnp.where(valid, jnp.abs(network_slope), 0.0), valid
            return _push_out(moved, approach), record

        if steps == 0:  # random sampling: no gradient of the goal is needed
            start = _push_out(others, approach)
            total, network_slope = goal(start, params, approach)[1]
            valid = jnp.all(_distances(start, approach) >= approach.contacts)
            return jnp.where(valid, total, -jnp.inf), jnp.where(valid, jnp.abs(network_slope), 0.0), valid
        sizes = jnp.asarray(np.geomspace(FIRST_STEP, LAST_STEP, steps + 1))
        _, (total, network_slope, valid) = jax.lax.scan(step, _push_out(others, approach), sizes)
        return jnp.max(total), jnp.max(network_slope), jnp.sum(valid)

    return jax.jit(jax.vmap(one, (None, 0, 0)))


def _pair_positions(approach: Approach, r: Array) -> Array:
    """Positions of the pair at distance r on the z axis, at -share * r and (1 - share) * r.  [2, 3] Å"""
    heights = jnp.stack([-approach.share * r, (1.0 - approach.share) * r])
    return heights[:, None] * jnp.asarray([[0.0, 0.0, 1.0]])


def _distances(others: Array, approach: Approach) -> Array:
    """Distances of the other atoms from the pair.  [2, n] Å"""
    vectors = others[None] - _pair_positions(approach, approach.r)[:, None, :]
    return jnp.sqrt(jnp.sum(vectors**2, axis=-1))


def _push_out(others: Array, approach: Approach) -> Array:
    """Positions of the other atoms, moved out of the spheres of forbidden contacts around the two movers."""
    centres = _pair_positions(approach, approach.r)
    for k in [0, 1] * PUSHES:
        vectors = others - centres[k][None, :]
        distance = jnp.sqrt(jnp.sum(vectors**2, axis=-1))
        factor = jnp.maximum(1.0, (1.0 + 1e-12) * approach.contacts[k] / jnp.maximum(distance, 1e-9))
        others = centres[k][None, :] + factor[:, None] * vectors
    return others
