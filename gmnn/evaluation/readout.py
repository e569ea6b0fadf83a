"""What the trained readout and repulsion look like: room above the floor of the readout, strengths of the pairs."""

from functools import partial
from typing import Any

import jax
import numpy as np

from gmnn.batches import make_batch
from gmnn.core import pair_tables
from gmnn.dataset import Dataset
from gmnn.elements import SYMBOLS
from gmnn.evaluation.predict import in_chunks
from gmnn.model import strengths
from gmnn.model_config import SWISH_FLOOR
from gmnn.potential import Potential

USED_UP = 0.05  # of the depth of the floor; less head-room than this gets a warning


def head_room(potential: Potential, dataset: Dataset) -> dict[str, dict[str, float]]:
    """Of each element: the floor mu - 0.2785 sigma, the lowest atomic network energy in the data, the room between, eV.

    Empty for an unbounded readout. A swish that works close to its minimum has no slope left to learn with.
    """
    if not potential.config.bounded:
        return {}
    systems, _ = make_batch(dataset, potential)
    params = potential.trained
    readout = partial(jax.jit(jax.vmap(potential.readout, (None, 0))), params)
    psi, numbers = in_chunks(readout, systems).astype(float), np.asarray(systems.numbers)
    sigma = np.logaddexp(0.0, np.asarray(params["scale_shift"]["scale"]).astype(float))
    mu = np.asarray(params["scale_shift"]["shift"]).astype(float)
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
