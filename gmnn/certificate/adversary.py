"""Search for environments in which an approach that the certificate calls monotone is not: gradient ascent on dE/dr.

A found one would refute the certificate; none found proves nothing. The same search samples the network's force.
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

FIRST_STEP, LAST_STEP = 0.3, 0.01  # Å, displacement of every atom in one step of the ascent
PUSHES = 6  # rounds in which atoms are moved out of the two spheres around the movers


class Search(NamedTuple):
    """What was tried and the worst that was found."""

    environments: int  # random starts that kept all contacts
    evaluations: int  # of dE/dr, all steps of the ascent counted
    violations: int  # environments that met dE/dr >= 0 at some step
    highest: float  # largest dE/dr, eV/Å
    network: float  # largest |dE/dr| of the network alone, eV/Å
    seconds: float  # compilation included; a second search of the same potential and shapes compiles nothing


class Approach(NamedTuple):
    """Batches of pairs on the z axis; fields have a leading axis [B]."""

    numbers: Array  # [B, n + 2], the pair first
    r: Array  # [B] Å
    share: Array  # [B] how much of the approach the first atom makes, 0 ... 1
    contacts: Array  # [B, 2, n] Å, no other atom is closer to the first, to the second


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
    """Ascend dE/dr (`network`: its network part, in absolute value) from random environments of the pair.

    `pair`: atomic numbers; `r`: range of its distance, Å, half of the environments at the upper end; `rho` [E, E] Å;
    `n` >= 1 other atoms, of random trained elements or, with `others` [n], of these atomic numbers; `steps` 0 is random
    sampling; environments are tried `batch` at a time, a multiple of it in all.
    """
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), potential.trained)
        ascend = _ascend(potential, steps, network)
        start, found = time.perf_counter(), []
        for _ in range(-(-environments // batch)):
            made = _random_approaches(potential, pair, r, rho, n, batch, others, rng)
            found.append([np.asarray(x) for x in ascend(params, *made)])
    highest, felt, valid = (np.concatenate(field) for field in zip(*found, strict=True))
    return Search(
        environments=int(np.count_nonzero(valid)),
        evaluations=int(valid.sum()),
        violations=int(np.count_nonzero(highest >= 0.0)),
        highest=float(highest.max(initial=-np.inf)),
        network=float(felt.max(initial=0.0)),
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
    far = contacts.min(axis=1) + rng.random((batch, n)) ** 2 * potential.config.r_max  # most of them near
    positions = far[..., None] * direction
    return jnp.asarray(positions), Approach(*map(jnp.asarray, (numbers, distance, share, contacts)))


@lru_cache(maxsize=16)
def _ascend(potential: Potential, steps: int, network: bool) -> Callable[..., tuple[Array, Array, Array]]:
    """Of a batch of environments: largest dE/dr, largest network part, number of valid evaluations.  [B] each"""
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
        felt = slope(bare, params, others, approach)
        total = felt if network else slope(potential, params, others, approach)
        return jnp.abs(felt) if network else total, (total, felt)

    def one(params: Params, others: Array, approach: Approach) -> tuple[Array, Array, Array]:
        def step(others: Array, size: Array) -> tuple[Array, tuple[Array, Array, Array]]:
            (_, (total, felt)), gradient = jax.value_and_grad(goal, has_aux=True)(others, params, approach)
            valid = jnp.all(_distances(others, approach) >= approach.contacts)
            lengths = jnp.sqrt(jnp.sum(gradient**2, axis=-1, keepdims=True))
            moved = others + size * gradient / jnp.maximum(lengths, 1e-12)
            shown = jnp.where(valid, total, -jnp.inf), jnp.where(valid, jnp.abs(felt), 0.0), valid
            return _push_out(moved, approach), shown

        if steps == 0:  # random sampling: no gradient of the goal is needed
            start = _push_out(others, approach)
            total, felt = goal(start, params, approach)[1]
            valid = jnp.all(_distances(start, approach) >= approach.contacts)
            return jnp.where(valid, total, -jnp.inf), jnp.where(valid, jnp.abs(felt), 0.0), valid
        sizes = jnp.asarray(np.geomspace(FIRST_STEP, LAST_STEP, steps + 1))
        _, (total, felt, valid) = jax.lax.scan(step, _push_out(others, approach), sizes)
        return jnp.max(total), jnp.max(felt), jnp.sum(valid)

    return jax.jit(jax.vmap(one, (None, 0, 0)))


def _pair_positions(approach: Approach, r: Array) -> Array:
    """The two atoms at distance r; r = approach.r leaves the first -share, the second 1 - share times r up the axis."""
    heights = jnp.stack([-approach.share * r, (1.0 - approach.share) * r])
    return heights[:, None] * jnp.asarray([[0.0, 0.0, 1.0]])


def _distances(others: Array, approach: Approach) -> Array:
    """[2, n] Å"""
    vectors = others[None] - _pair_positions(approach, approach.r)[:, None, :]
    return jnp.sqrt(jnp.sum(vectors**2, axis=-1))


def _push_out(others: Array, approach: Approach) -> Array:
    """The same atoms, moved out of the spheres of forbidden contacts around the two movers."""
    centres = _pair_positions(approach, approach.r)
    for k in [0, 1] * PUSHES:
        vectors = others - centres[k][None, :]
        distance = jnp.sqrt(jnp.sum(vectors**2, axis=-1))
        factor = jnp.maximum(1.0, (1.0 + 1e-12) * approach.contacts[k] / jnp.maximum(distance, 1e-9))
        others = centres[k][None, :] + factor[:, None] * vectors
    return others
