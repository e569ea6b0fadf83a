"""Dense neighbour slots and their reverse from the candidates of a grid, inside a compiled program."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gmnn.device import computed_once
from gmnn.errors import UserError
from gmnn.neighbors.runs import MARGIN, Grid, Pbc, columns, find_runs, images_of, lay_out, near_in, turns

CPU_BLOCK, BLOCK = 1 << 18, 1 << 24  # candidates searched together; the slots take the rest of the memory
FARTHEST = 2.0**30  # cells from home, below what shifts can hold
NONE = 2**31 - 1  # key of an empty slot, after all others


class Slots(NamedTuple):
    """Neighbours of every atom as in System, sorted by (neighbour, shift), and whether they are complete."""

    neighbors: Array  # [N, K] int32, N = empty
    shifts: Array  # [N, K, 3] int32, for the positions passed to `build`
    reverse: Array  # [N, K] int32, j K + k' of the slot of atom j that holds i with the opposite shift; N K = empty
    overflow: Array  # [] bool, the list must not be used: grow the grid or plan anew
    most: Array  # [] int32, most neighbours of an atom; counted in full if `fullest` fits the room
    fullest: Array  # [] int32, most atoms of a run


def _take(x: Array, index: Array) -> Array:
    """x[index], never out of bounds."""
    return x.at[index].get(mode="promise_in_bounds")


def _of_row(x: Array, index: Array) -> Array:
    """x[b, index[b, k]], never out of bounds.  [B, T], [B, K] -> [B, K]"""
    return _take(x.ravel(), index + np.arange(0, x.size, x.shape[1], dtype=np.int32)[:, None])


def _select(near: Array, slots: int) -> tuple[Array, Array]:
    """Places of the first `slots` true values of each row, and the number of its true values.  [B, C] -> [B, K], [B]

    Slots without a true value hold the width of the row. Rows are packed in words of 32 bits; a slot searches for its
    word and then for its bit.
    """
    rows, width = near.shape
    words = -(-width // 32)
    whole_words = jnp.pad(near, ((0, 0), (0, 32 * words - width))).reshape(rows, words, 32)
    packed = jnp.sum(
        whole_words.astype(jnp.uint32) << np.arange(32, dtype=np.uint32)[None, None], axis=2, dtype=jnp.uint32
    )
    ones = jax.lax.population_count(packed).astype(jnp.int32)
    upto = jnp.sum(jnp.where(np.tri(words, dtype=bool)[None], ones[:, None], 0), axis=2, dtype=jnp.int32)
    slot = jnp.arange(slots, dtype=jnp.int32)[None]
    at = jnp.sum(upto[:, None, :] <= slot[:, :, None], axis=2, dtype=jnp.int32)
    full = jnp.minimum(at, words - 1)
    left = slot - _of_row(upto - ones, full)
    word, bit = _of_row(packed, full), jnp.zeros_like(at)
    for step in (16, 8, 4, 2, 1):
        low = jax.lax.population_count(word & np.uint32((1 << step) - 1)).astype(jnp.int32)
        up = left >= low
        left, bit = jnp.where(up, left - low, left), jnp.where(up, bit + step, bit)
        word = jnp.where(up, word >> np.uint32(step), word)
    return jnp.where(at < words, 32 * full + bit, width), upto[:, -1]


def _find(keys: Array, row: Array, target: Array) -> Array:
    """Slots k' of rows j [N, K] in which the ascending keys [N, K] first reach `target` [N, K]."""
    slots = keys.shape[1]
    flat, begin, slot = keys.ravel(), row * slots, jnp.zeros_like(row)
    step = 1 << (slots.bit_length() - 1)
    while step:
        probe = slot + (step - 1)
        below = (probe < slots) & (_take(flat, begin + jnp.minimum(probe, slots - 1)) < target)
        slot, step = jnp.where(below, slot + step, slot), step // 2
    return slot


def build(grid: Grid, pbc: Pbc, radius: float, positions: Array, cell: Array) -> Slots:
    """Find all neighbours within `radius` Å at positions [N, 3] in the cell [3, 3]; `pbc` sets which vectors count.

    `grid`, `pbc` and `radius` are static. Rows depend on the grid only in their number of empty slots. Positions so far
    out that they are rounded by 1e-4 of the radius (some 4000 Å in float32) are flagged like a NaN.
    """
    count, slots, images = len(positions), grid.slots, images_of(grid, pbc)
    widths = [int(2 * m).bit_length() for m in images]  # a key holds the bits of the neighbour, then those of the image
    offsets = np.array([widths[1] + widths[2], widths[2], 0], np.int32)
    codes, far = 1 << sum(widths), int(np.sum(2 * images << offsets))  # far - code is the code of the opposite image
    if max(codes * count, (slots + 1) * count, count * (turns(grid, pbc) + 1) + grid.room) > NONE:
        raise UserError(f"{count} atoms with {slots} slots and {codes} images do not fit into indices of 32 bits")
    atoms = lay_out(jnp, grid, pbc, radius, positions, cell)
    once = partial(computed_once, atoms.before[0] == 0)  # which always holds
    tape = atoms.atom * codes + atoms.turn.astype(jnp.int32)

    def keys_of(i: Array) -> tuple[Array, Array, Array]:
        runs = once(partial(find_runs, jnp, grid, pbc), atoms, i)
        near = once(partial(near_in, jnp, grid, pbc, radius), atoms, runs, i)
        candidate, most = once(partial(_select, slots=slots), near)
        code = jnp.sum((runs.image + images[None, None]) << offsets[None, None], axis=2, dtype=jnp.int32)
        begin = runs.first - np.arange(0, near.shape[1], grid.room, dtype=np.int32)[None]

        def looked_up(tape: Array, begin: Array, code: Array, candidate: Array) -> Array:
            last = jnp.minimum(candidate, near.shape[1] - 1)
            column = last // grid.room
            keys = _take(tape, _of_row(begin, column) + last) + _of_row(code, column)
            return jnp.where(candidate < near.shape[1], keys, NONE)

        keys = once(looked_up, tape, begin, code, candidate)
        return jax.lax.sort(keys), most, jnp.max(runs.length, axis=1)

    limit = max(1, (CPU_BLOCK if jax.default_backend() == "cpu" else BLOCK) // (len(columns(grid)) * grid.room))
    blocks = -(-count // limit)
    size = -(-count // blocks)
    centres = jnp.minimum(np.arange(blocks * size, dtype=np.int32), count - 1).reshape(blocks, size)
    by_block = jax.lax.map(keys_of, centres) if blocks > 1 else jax.tree.map(lambda x: x[None], keys_of(centres[0]))
    keys, neighbours, longest = (x.reshape(blocks * size, *x.shape[2:])[:count] for x in by_block)

    filled, atom, code = keys < NONE, keys >> int(sum(widths)), keys & (codes - 1)
    row = jnp.where(filled, atom, 0)
    back = jnp.arange(count, dtype=jnp.int32)[:, None] * codes + (far - code)
    slot = once(_find, keys, row, back)
    reverse = row * slots + jnp.minimum(slot, slots - 1)
    mutual = jnp.all(~filled | (_take(keys.ravel(), reverse) == back))
    shifts = [
        ((code >> offsets[a]) & ((1 << widths[a]) - 1)) - images[a] + whole[:, None] - _take(whole, row)
        for a, whole in enumerate(atoms.whole.astype(jnp.int32).T)
    ]
    rounding = jnp.max(jnp.abs(positions)) * float(jnp.finfo(positions.dtype).eps)  # NaN is not below any bound
    sound = (rounding < MARGIN * radius) & jnp.all(jnp.abs(atoms.whole) < FARTHEST) & atoms.covered
    most, fullest = jnp.max(neighbours), jnp.max(longest)
    return Slots(
        jnp.where(filled, atom, count),
        jnp.where(filled[:, :, None], jnp.stack(shifts, axis=2), 0),
        jnp.where(filled, reverse, count * slots),
        (fullest > grid.room) | (most > slots) | ~sound | ~mutual,
        most,
        fullest,
    )
