"""A straight approach of two atoms, and the vectors between atoms along it as Taylor models."""

from dataclasses import dataclass

import numpy as np

from gmnn.certificate.taylor import ORDER, UNIT, Array, Taylor
from gmnn.neighbors.host import neighbor_pairs


@dataclass(frozen=True, eq=False)
class Motion:
    """Atoms x(r) = x(0) + r tangent; the members i and j meet at r = 0, where r is their distance.

    numbers [N], at_contact [N, 3] Å, tangent [N, 3], cell [3, 3], pbc [3]; r_start: largest r, Å. radius: each
    other atom lies within this of its place, Å; images move with their atom.
    """

    numbers: np.ndarray
    at_contact: Array
    tangent: Array
    members: tuple[int, int]
    cell: Array
    pbc: np.ndarray
    r_start: float
    radius: float = 0.0


class Edges:
    """Neighbours of the centres that see a moving atom, padded to K slots: C centres, [C, K] each.

    offset and speed [C, K, 3]: the vector to the neighbour is offset + r speed. spread [C, K, 3]: error of offset.
    own: True for the pair itself. filled: False for empty slots, which lie beyond the cutoff.
    """

    def __init__(self, motion: Motion, r_max: float) -> None:
        half = 0.5 * motion.r_start
        middle = motion.at_contact + half * motion.tangent
        i, j, shift = neighbor_pairs(middle, motion.cell, motion.pbc, r_max + 2.1 * half + 4.0 * motion.radius)
        images = shift @ motion.cell
        offset = motion.at_contact[j] - motion.at_contact[i] + images
        spread = np.abs(motion.at_contact[j]) + np.abs(motion.at_contact[i]) + np.abs(shift) @ np.abs(motion.cell)
        speed = motion.tangent[j] - motion.tangent[i]
        first, second = motion.members
        own = ((i == first) & (j == second)) | ((i == second) & (j == first))
        own &= np.linalg.norm(offset, axis=1) < 1e-6
        square = np.maximum(np.sum(speed**2, axis=1), 1e-30)
        nearest = np.clip(-np.sum(offset * speed, axis=1) / square, 0.0, motion.r_start)
        close = np.linalg.norm(offset + nearest[:, None] * speed, axis=1) - 4.0 * motion.radius < r_max + 1e-6
        moves = (np.abs(speed).max(axis=1, initial=0.0) > 0) & close
        self.centres = np.unique(i[moves])
        chosen = np.flatnonzero(close & np.isin(i, self.centres))
        i, j, own = i[chosen], j[chosen], own[chosen]
        row = np.searchsorted(self.centres, i)
        slot = np.arange(len(i)) - np.searchsorted(i, i)
        shape = (len(self.centres), int(slot.max(initial=0)) + 1)
        self.neighbors, self.filled, self.own = np.zeros(shape, int), np.zeros(shape, bool), np.zeros(shape, bool)
        self.offset, self.speed, self.spread = (np.zeros((*shape, 3)) for _ in range(3))
        self.offset[..., 0] = 2.0 * r_max
        self.neighbors[row, slot], self.filled[row, slot], self.own[row, slot] = j, True, own
        self.offset[row, slot], self.speed[row, slot] = offset[chosen], speed[chosen]
        self.spread[row, slot] = 16 * UNIT * spread[chosen]
        self.linear = None
        if motion.radius:
            others = [k for k in range(len(motion.numbers)) if k not in motion.members]
            linear = np.zeros((len(others), 3, *shape, 3))
            for place, k in enumerate(others):
                sign = (self.neighbors == k) * self.filled - 1.0 * (self.centres[:, None] == k) * self.filled
                for axis in range(3):
                    linear[place, axis, ..., axis] = motion.radius * sign
            self.linear = linear.reshape(-1, *shape, 3)

    def vectors(self, r: Array, half: Array) -> Taylor:
        """Vectors to the neighbours on intervals r +- half, [B] each; the pair's own far away.  [B, C, K, 3]"""
        c = np.zeros((ORDER + 1, len(r), *self.offset.shape))
        c[0] = self.offset + r[:, None, None, None] * self.speed
        c[1] = half[:, None, None, None] * self.speed
        error = self.spread + 2 * UNIT * np.abs(r)[:, None, None, None] * np.abs(self.speed)
        c[:, :, self.own] = 0.0
        c[0][:, self.own, 0] = 1.0
        linear = None
        if self.linear is not None:
            linear = np.zeros((2, len(self.linear), *c.shape[1:]))
            linear[0] = self.linear[:, None]
            linear[:, :, :, self.own] = 0.0
        return Taylor(c, error, 2 * UNIT * np.abs(c[1]), linear)


def with_own(values: Taylor, edges: Edges, own: Taylor) -> Taylor:
    """The values [B, C, K, ...] with those of the pair itself, [B, edges of the pair, ...], in their place."""
    arrays = [values.c.copy(), values.r0.copy(), values.r1.copy()]
    for array, entry in zip(arrays, (own.c, own.r0, own.r1), strict=True):
        if array is arrays[0]:
            array[:, :, edges.own] = entry
        else:
            array[:, edges.own] = entry
    linear = values.linear
    if linear is not None:
        linear = linear.copy()
        linear[:, :, :, edges.own] = 0.0
    return Taylor(arrays[0], arrays[1], arrays[2], linear)
