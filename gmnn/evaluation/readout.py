"""Diagnostics of the trained readout and repulsion: room above the floor of the readout, strengths of the pairs."""

from functools import partial
from typing import Any

import jax
import numpy as np

from gmnn.config.model import SWISH_FLOOR
from gmnn.data import Dataset
from gmnn.data.batches import make_buckets
from gmnn.elements import SYMBOLS
from gmnn.evaluation.predict import in_chunks
from gmnn.model.network import scale_shift
from gmnn.model.potential import Potential
from gmnn.model.repulsion import strengths
from gmnn.model.short_range import pair_tables

USED_UP = 0.05  # share of the depth of the floor; less head-room than this gets a warning


def head_room(potential: Potential, dataset: Dataset) -> dict[str, dict[str, float]]:
    """Floor mu - 0.2785 sigma of each element, lowest atomic network energy in the data and the room between, eV.

    In an ensemble the member with the least room counts. The result is empty for an unbounded readout. A swish close to
    its minimum has no slope left to learn with.
    """
    if not potential.config.bounded:
        return {}
    rooms: dict[str, dict[str, float]] = {}
    systems = [bucket.systems for bucket in make_buckets(dataset, potential.reference, potential.config.r_max)]
    numbers = np.concatenate([np.asarray(batch.numbers).ravel() for batch in systems])
    for member in potential.member_potentials:
        readout = partial(jax.jit(member.readout), member.trained)
        psi = np.concatenate([in_chunks(readout, batch).astype(float).min(axis=-1).ravel() for batch in systems])
        sigma, mu = scale_shift(member.trained)
        for e, z in enumerate(potential.reference.elements):
            lowest = psi[numbers == z].min(initial=np.inf)
            room = float(sigma[e] * (lowest + SWISH_FLOOR))
            symbol = SYMBOLS[z]
            if np.isfinite(lowest) and room < rooms.get(symbol, {}).get("head_room_eV", np.inf):
                rooms[symbol] = {
                    "floor_eV": float(mu[e] - SWISH_FLOOR * sigma[e]),
                    "lowest_eV": float(mu[e] + sigma[e] * lowest),
                    "head_room_eV": room,
                    "fraction_left": float((lowest + SWISH_FLOOR) / SWISH_FLOOR),
                }
    return rooms


def used_up(rooms: dict[str, dict[str, float]]) -> list[str]:
    """Elements whose lowest atomic energies lie on the floor."""
    return [symbol for symbol, room in rooms.items() if room["fraction_left"] < USED_UP]


def repulsion_table(potential: Potential) -> list[dict[str, Any]]:
    """Strength (multiples of the physical one) and window [Å] of every pair of elements; empty without repulsion.

    The strength is the mean over the members of an ensemble.
    """
    if potential.config.repulsion == "none":
        return []
    elements = potential.reference.elements
    strength = np.mean(
        [strengths(member.trained, member.config, elements) for member in potential.member_potentials], axis=0
    )
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
