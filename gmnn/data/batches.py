"""Labelled frames as arrays: systems with their neighbours, labels without the atomic references.

The arrays are made on the host; the caller sends all or some of them to the device.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from gmnn.neighbors.host import make_system, stack
from gmnn.reference import Reference
from gmnn.system import Labels, System

if TYPE_CHECKING:  # reading frames needs packages that evaluating them does not
    from collections.abc import Sequence

    from ase import Atoms

    from gmnn.data import Dataset

MAX_SHAPES = 3  # shapes of frames in one run; every shape is compiled
WORTH_A_SHAPE = 0.8  # one more shape must bring the padded slots below this share


@dataclass(frozen=True)
class Bucket:
    """Frames padded to one shape; every field has a leading axis and lies on the host."""

    systems: System
    labels: Labels
    frames: np.ndarray  # [n] their places in the data set


def make_batch(dataset: "Dataset", reference: Reference, r_max: float, dtype: str = "float32") -> tuple[System, Labels]:
    """Pad all frames to one shape, [n, ...] on every field. E0 is subtracted in float64 before the cast."""
    systems = _systems(dataset.atoms, r_max)
    return _cast(stack(systems), dataset, reference, dtype)


def make_buckets(dataset: "Dataset", reference: Reference, r_max: float, dtype: str = "float32") -> list[Bucket]:
    """Group the frames by size into up to MAX_SHAPES buckets, each padded to the shape of its largest frame.

    The groups waste the fewest neighbour slots. One more group must save a fifth of all slots.
    """
    buckets = []
    for systems, members in in_groups(dataset.atoms, r_max):
        buckets.append(Bucket(*_cast(systems, dataset.take(members), reference, dtype), members))
    return buckets


def in_groups(frames: "Sequence[Atoms]", r_max: float) -> list[tuple[System, np.ndarray]]:
    """Structures in up to MAX_SHAPES batches of one shape each, on the host, with their places among the frames."""
    systems = _systems(frames, r_max)
    shapes = np.array([system.neighbors.shape for system in systems])
    return [(stack([systems[k] for k in members]), members) for members in group(shapes)]


def group(shapes: np.ndarray) -> list[np.ndarray]:
    """Members of each group in which frames of these shapes, [n, 2] (atoms, slots), are padded; small frames first."""
    order = np.lexsort((shapes[:, 1], shapes[:, 0]))
    kinds, counts = np.unique(shapes[order], axis=0, return_counts=True)
    if len(kinds) > 64:  # many sizes: cuts only at every 64th part of the frames
        ends = np.unique(np.searchsorted(np.cumsum(counts), np.linspace(0, len(order), 65)[1:]))
    else:
        ends = np.arange(len(kinds))
    before = np.concatenate([[0], np.cumsum(counts)])

    def cost(first: int, last: int) -> float:  # slots of kinds first ... last in one group
        return float((before[last + 1] - before[first]) * np.prod(kinds[first : last + 1].max(axis=0)))

    # table[k][end]: the cheapest (cost, kinds where the groups end) with k + 1 groups for the kinds up to `end`
    table: list[dict[int, tuple[float, tuple[int, ...]]]] = [{int(e): (cost(0, int(e)), (int(e),)) for e in ends}]
    for _ in range(1, MAX_SHAPES):
        row = {}
        for end in ends[1:]:
            shorter = ((cut, *cheapest) for cut, cheapest in table[-1].items() if cut < end)
            options = [(sofar + cost(cut + 1, int(end)), (*cuts, int(end))) for cut, sofar, cuts in shorter]
            if options:
                row[int(end)] = min(options)
        table.append(row)
    last = int(ends[-1])
    best = table[0][last]
    for row in table[1:]:
        if last in row and row[last][0] < WORTH_A_SHAPE * best[0]:
            best = row[last]
    edges = [0, *(int(before[cut + 1]) for cut in best[1])]
    return [np.sort(order[a:b]) for a, b in pairwise(edges)]


def wasted(buckets: list[Bucket]) -> float:
    """Share of all neighbour slots that hold no neighbour."""
    filled = sum(int(np.sum(np.asarray(b.systems.neighbors) < b.systems.numbers.shape[1])) for b in buckets)
    return 1.0 - filled / sum(b.systems.neighbors.size for b in buckets)


def without_stress(energies: jax.Array, forces: jax.Array) -> Labels:
    """Labels of frames that all have energy and forces but no stress.  [...], [..., N, 3]"""
    weights = jnp.broadcast_to(jnp.array([1.0, 1.0, 0.0], energies.dtype), (*energies.shape, 3))
    return Labels(energies, forces, jnp.zeros((*energies.shape, 3, 3), energies.dtype), weights)


def select(tree: tuple, chosen: jax.Array) -> tuple:
    """Members `chosen` of a batch. Its fields may lie on the host, and `chosen` may be traced."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[chosen], tree)


def rows_of(order: jax.Array, n: int, size: int) -> tuple[jax.Array, jax.Array]:
    """Cut `order` [n] into rows, fill up the last with repetitions, and mark all other entries.  2 x [rows, size]"""
    count = -(-n // size)
    filled = jnp.concatenate([order, jnp.broadcast_to(order[-1:], (count * size - n,))])
    return filled.reshape(count, size), jnp.arange(count * size).reshape(count, size) < n


def _systems(frames: "Sequence[Atoms]", r_max: float) -> list[System]:
    return [make_system(a.positions, a.numbers, a.cell.array, a.pbc, r_max) for a in frames]


def _cast(systems: System, dataset: "Dataset", reference: Reference, dtype: str) -> tuple[System, Labels]:
    energies = dataset.energies - np.array([reference.offsets(a.numbers).sum() for a in dataset.atoms])
    forces = np.zeros_like(systems.positions)
    for k, frame in enumerate(dataset.forces):
        forces[k, : len(frame)] = np.nan_to_num(frame)
    labels = Labels(np.nan_to_num(energies), forces, np.nan_to_num(dataset.stresses), dataset.label_weights)
    real = [field.astype(dtype) if np.issubdtype(field.dtype, np.floating) else field for field in systems]
    return System(*real), Labels(*(np.asarray(field, dtype) for field in labels))
