"""Errors of a trained potential on labelled frames, and how much room its bounded readout has left."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np

from gmnn.batches import make_batch
from gmnn.core import pair_tables
from gmnn.dataset import Dataset
from gmnn.elements import SYMBOLS
from gmnn.model import scale_shift, strengths
from gmnn.model_config import SWISH_FLOOR
from gmnn.potential import Params, Potential
from gmnn.system import System

CHUNK = 32  # frames evaluated at once
USED_UP = 0.05  # of the depth of the floor; less head-room than this gets a warning


@dataclass(frozen=True)
class Comparison:
    """Reference and prediction of every frame of a set; only real atoms."""

    energies: np.ndarray  # [n, 2] eV, reference and predicted, atomic references included
    forces: np.ndarray  # [atoms, 3, 2] eV/Å
    sizes: np.ndarray  # [n] atoms per frame

    def metrics(self) -> dict[str, float | int]:
        """Mean absolute and root-mean-square errors; forces over atoms and Cartesian components."""
        energy = 1e3 * (self.energies[:, 1] - self.energies[:, 0])
        forces = 1e3 * (self.forces[..., 1] - self.forces[..., 0])
        return {
            "n_frames": len(energy),
            "energy_mae_meV": float(np.mean(np.abs(energy))),
            "energy_rmse_meV": float(np.sqrt(np.mean(energy**2))),
            "energy_mae_meV_per_atom": float(np.mean(np.abs(energy) / self.sizes)),
            "forces_mae_meV_per_A": float(np.mean(np.abs(forces))),
            "forces_rmse_meV_per_A": float(np.sqrt(np.mean(forces**2))),
            "forces_max_error_meV_per_A": float(np.max(np.abs(forces))),
        }


def compare(potential: Potential, dataset: Dataset) -> Comparison:
    """Energies and forces of every frame beside their labels; UserError for elements that were not trained."""
    for atoms in dataset.atoms:
        potential.require_elements(atoms.numbers)
    systems, _ = make_batch(dataset, potential)
    energies, forces = in_chunks(_predict(potential), systems)
    offsets = np.array([potential.offsets(a.numbers).sum() for a in dataset.atoms])
    real = np.asarray(systems.numbers) > 0
    return Comparison(
        energies=np.stack([dataset.energies, energies.astype(float) + offsets], axis=-1),
        forces=np.stack([np.concatenate(dataset.forces), forces.astype(float)[real]], axis=-1),
        sizes=real.sum(axis=1),
    )


@lru_cache(maxsize=4)
def _predict(potential: Potential) -> Callable[[System], tuple[jax.Array, jax.Array]]:
    """Energies and forces of a batch; compiled once for a potential and a shape."""

    def one(params: Params, system: System) -> tuple[jax.Array, jax.Array]:
        prediction = potential.predict(params, system)
        return prediction.energy, prediction.forces

    return partial(jax.jit(jax.vmap(one, (None, 0))), potential.trained)


def in_chunks(evaluate: Callable[[System], Any], systems: System) -> Any:
    """What `evaluate` says of a batch, CHUNK systems at a time (the last one filled up): one shape to compile."""
    n = len(systems.numbers)
    parts = []
    for start in range(0, n, CHUNK):
        chosen = np.minimum(np.arange(start, start + CHUNK), n - 1)
        parts.append(jax.tree.map(np.asarray, evaluate(jax.tree.map(lambda leaf: leaf[chosen], systems))))  # noqa: B023
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:n], *parts)


def head_room(potential: Potential, dataset: Dataset) -> dict[str, dict[str, float]]:
    """Of each element: the floor mu - 0.2785 sigma, the lowest atomic network energy in the data, the room between, eV.

    Empty for an unbounded readout. A swish that works close to its minimum has no slope left to learn with.
    """
    if not potential.config.bounded:
        return {}
    systems, _ = make_batch(dataset, potential)
    readout = partial(jax.jit(jax.vmap(potential.readout, (None, 0))), potential.trained)
    psi, numbers = in_chunks(readout, systems).astype(float), np.asarray(systems.numbers)
    sigma, mu = scale_shift(potential.trained)
    rooms = {}
    for e, z in enumerate(potential.reference.elements):
        lowest = psi[numbers == z].min(initial=np.inf)
        if np.isfinite(lowest):
            rooms[SYMBOLS[z]] = {
                "floor_eV": float(mu[e] - SWISH_FLOOR * sigma[e]),
                "lowest_eV": float(mu[e] + sigma[e] * lowest),
                "head_room_eV": float(sigma[e] * (lowest + SWISH_FLOOR)),
                "fraction_left": float((lowest + SWISH_FLOOR) / SWISH_FLOOR),
            }
    return rooms


def used_up(rooms: dict[str, dict[str, float]]) -> list[str]:
    """Elements whose lowest atomic energies sit on the floor."""
    return [symbol for symbol, room in rooms.items() if room["fraction_left"] < USED_UP]


def repulsion_table(potential: Potential) -> list[dict[str, Any]]:
    """Strength (multiples of the physical one) and window [Å] of every pair of elements; empty without repulsion."""
    if potential.config.repulsion == "none":
        return []
    elements = potential.reference.elements
    strength = strengths(potential.trained, potential.config, elements)
    tables = pair_tables(potential.config, potential.reference)
    return [
        {
            "pair": f"{SYMBOLS[elements[e]]}-{SYMBOLS[elements[f]]}",
            "strength": float(strength[e, f]),
            "r_on": float(tables.r_on[e, f]),
            "r_off": float(tables.r_off[e, f]),
        }
        for e in range(len(elements))
        for f in range(e, len(elements))
    ]
