"""T1, the barrier: distances that no trajectory of the given atoms can reach with the given energy.

docs/certificate.md, "T1", has the statement and the proof.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms
from jax import Array

from gmnn.certificate import coverage, wall
from gmnn.config.coverage import uncovered
from gmnn.config.model import SWISH_FLOOR, ModelConfig
from gmnn.device import on_device
from gmnn.model.network import Constants, constants, scale_shift
from gmnn.model.potential import Params, Potential
from gmnn.neighbors.host import make_system
from gmnn.reference import Reference
from gmnn.system import System

RELATIVE_MARGIN = 1e-9  # relative to the sum of the absolute values of all terms, for the rounding of float64 sums
SHORTEST = 1e-6  # Å, where the search for a radius begins


class Barrier(NamedTuple):
    """The height of a structure's energy above its floor, and the radii that follow from it."""

    above_floor: float  # A, eV, rounding margin included
    radii: np.ndarray  # [E, E] Å; NaN where nothing is proved


def above_floor(potential: Potential, atoms: Atoms) -> float:
    """A = sum_i sigma_i (psi_i + beta) + sum V in eV: an upper bound of E(atoms) minus the floor of the network.

    UserError for a model for which no floor is derived.
    """
    config, reference, params = potential.config, potential.reference, potential.trained
    coverage.require(config, coverage.FLOOR, "a floor of the energy")
    potential.require_elements(atoms.numbers)
    system = make_system(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, config.r_max)
    with jax.enable_x64(True):
        arrays = constants(config, reference), params
        precise = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), arrays)
        evaluate = _atomic_energies(config, reference.elements, reference.screening)
        energies = np.asarray(evaluate(*precise, on_device(system, "float64")))
    index = potential.element_index[atoms.numbers]
    sigma, mu = (values[index] for values in scale_shift(params))
    terms = np.abs(energies).sum() + np.abs(mu).sum() + SWISH_FLOOR * sigma.sum()
    return float(np.sum(energies - (mu - SWISH_FLOOR * sigma)) + RELATIVE_MARGIN * terms)


@lru_cache(maxsize=4)
def _atomic_energies(config: ModelConfig, elements: tuple[int, ...], screening: tuple) -> Callable[..., Array]:
    """Return the compiled function of atomic energies; models that differ only in numbers share one program.  [N] eV"""
    n = len(elements)
    template = Potential(config, Reference(elements, (0.0,) * n, (1.0,) * n, (0.0,) * n, screening=screening))

    def evaluate(values: Constants, params: Params, system: System) -> Array:
        return replace(template, constants=values).atomic_energies(params, system)

    return jax.jit(evaluate)


def barrier_radii(potential: Potential, atoms: Atoms, energy: float) -> Barrier:
    """Largest r_b of each pair of elements with V(r) > A + energy for every r <= r_b.  energy in eV, >= 0

    Radii are NaN for a model that is not covered and for pairs that the atoms do not contain. All are NaN if the
    repulsion of any pair among the atoms is not certified to fall, because the proof needs V >= 0 for every pair.
    """
    elements = potential.reference.elements
    radii = np.full((len(elements),) * 2, np.nan)
    if uncovered(potential.config, coverage.FLOOR):
        return Barrier(float("nan"), radii)
    above = above_floor(potential, atoms)
    counts = np.array([np.count_nonzero(atoms.numbers == z) for z in elements])
    if wall.all_fall(potential, 2 * counts if atoms.pbc.any() else counts):  # an atom and its image are a pair, too
        for e in range(len(elements)):
            for f in range(e, len(elements)):
                if wall.has_pair(counts, e, f):
                    radii[e, f] = radii[f, e] = inverse(potential, e, f, above + energy)
    return Barrier(above, radii)


def inverse(potential: Potential, e: int, f: int, height: float) -> float:
    """A radius with V > height there and hence at all shorter distances, by bisection; NaN if it is below 1e-6 Å."""
    target = height + RELATIVE_MARGIN * abs(height)
    with jax.enable_x64(True):
        function = wall.energy(potential, e, f)
        low, high = SHORTEST, potential.config.r_max
        if not float(function(jnp.asarray(low))) > target:
            return float("nan")
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if float(function(jnp.asarray(middle))) > target else (low, middle)
    return low
