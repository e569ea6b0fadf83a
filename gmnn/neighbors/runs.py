"""Where the neighbours of an atom can be: atoms sorted into columns and bins, and the runs of them within reach.

The cell is cut into columns along its third vector, and every column into thin bins. Atoms are sorted by column and
bin, so the atoms of one column near an atom form one run of consecutive atoms. A run goes round where the cell repeats,
several times if the cell is smaller than the radius. The functions run on the host, to plan, and inside a compiled
program; xp is numpy or jax.numpy.
"""

from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

MARGIN = 1e-4  # share of the radius by which bins reach beyond it, for the rounding of positions in float32

Pbc = tuple[bool, bool, bool]


class Grid(NamedTuple):
    """Shapes of a neighbour list. It is hashable, so that a program is compiled once for each."""

    bins: tuple[int, int, int]  # bins along the three vectors of the cell
    reach: tuple[int, int, int]  # bins to search on either side
    room: int  # most atoms in a run
    slots: int  # most neighbours of an atom


class Atoms(NamedTuple):
    """Atoms at home in the cell, and a tape that holds them column by column, each column repeated after itself.

    A run that goes round the cell is therefore one piece of tape.
    """

    box: Any  # [3, 3] Å, vectors made up where nothing repeats
    whole: Any  # [N, 3] cells between an atom and its home
    home: Any  # [N, 3] Å, positions in the cell
    bins: Any  # [N, 3] int32, bin of each atom
    before: Any  # [bins + 1] int32, number of atoms in all bins before
    own: Any  # [N] int32, first place of each atom on the tape
    atom: Any  # [tape] int32, atom at each place
    tape: Any  # [3, tape] Å, home of the atom at each place
    turn: Any  # [tape] how often the column went round before each place
    covered: Any  # [] bool, whether the bins within reach cover the radius


class Runs(NamedTuple):
    """Runs of B atoms, one in each of the T columns within reach."""

    first: Any  # [B, T] int32, first place on the tape
    length: Any  # [B, T] int32, number of atoms
    image: Any  # [B, T, 3] int32, cells between the run's first atom and the home of that atom


def images_of(grid: Grid, pbc: Pbc) -> np.ndarray:
    """Farthest image to search in each direction.  [3] int32"""
    return np.array([-(-r // n) if p else 0 for n, r, p in zip(grid.bins, grid.reach, pbc, strict=True)], np.int32)


def columns(grid: Grid) -> np.ndarray:
    """Steps to the columns within reach, with the atom's own column in the middle.  [T, 2] int32"""
    return np.array(list(product(*(range(-r, r + 1) for r in grid.reach[:2]))), np.int32)


def turns(grid: Grid, pbc: Pbc) -> int:
    """Number of times that a run may pass the end of its column."""
    return 1 + 2 * grid.reach[2] // grid.bins[2] if pbc[2] else 0


def full_cell(xp: Any, cell: Any, pbc: Pbc) -> Any:
    """Cell with made-up unit vectors, at right angles to the others, where nothing repeats.  [3, 3] Å"""
    repeats, rows = [k for k in range(3) if pbc[k]], list(cell)
    free = [k for k in range(3) if not pbc[k]]
    if len(repeats) == 0:
        return xp.eye(3, dtype=cell.dtype)
    if len(repeats) == 1:
        along = rows[repeats[0]]
        rows[free[0]] = xp.cross(along, xp.eye(3, dtype=cell.dtype)[xp.argmin(xp.abs(along))])
    if free:
        rows[free[-1]] = xp.cross(*(rows[k] for k in range(3) if k != free[-1]))
    return xp.stack([row if p else row / xp.sqrt(xp.sum(row**2)) for row, p in zip(rows, pbc, strict=True)])


def inverse_of(xp: Any, box: Any) -> Any:
    """Inverse of a cell; its columns have the length 1 / distance of opposite faces.  [3, 3] Å -> [3, 3] 1/Å"""
    a, b, c = box
    normals = xp.stack([xp.cross(b, c), xp.cross(c, a), xp.cross(a, b)])
    return normals.T / xp.sum(a * normals[0])


def _times(vectors: Any, matrix: Any) -> Any:
    """Multiply row vectors by a matrix, in full precision on any device.  [N, 3], [3, 3] -> [N, 3]"""
    return vectors[:, :1] * matrix[:1] + vectors[:, 1:2] * matrix[1:2] + vectors[:, 2:] * matrix[2:]


def _put(xp: Any, size: int, where: Any, what: Any) -> Any:
    """Array [size] of zeros, with the values `what` at the places `where`."""
    if xp is jnp:
        return jnp.zeros(size, what.dtype).at[where].set(what)
    into = np.zeros(size, what.dtype)
    into[where] = what
    return into


def lay_out(xp: Any, grid: Grid, pbc: Pbc, radius: float, positions: Any, cell: Any) -> Atoms:
    """Sort atoms by column and bin and lay them on the tape; xp is numpy or jax.numpy."""
    dtype, periodic, n = positions.dtype, np.array(pbc), np.array(grid.bins, np.int32)
    box = full_cell(xp, cell.astype(dtype), pbc)
    inverse = inverse_of(xp, box)
    heights = 1 / xp.sqrt(xp.sum(inverse**2, axis=0))
    whole, home = xp.zeros_like(positions), positions
    for _ in range(2):  # far from home the first pass is off by the rounding of the fractions
        whole = whole + xp.where(periodic[None], xp.floor(_times(home, inverse)), 0)
        home = positions - _times(whole, box)
    if xp is jnp:
        home = jax.lax.optimization_barrier(home)  # the same value wherever it is used, see near_in
    fractions = _times(home, inverse)
    width = (radius * (1 + 2 * MARGIN) / np.maximum(grid.reach, 1)).astype(dtype)  # of a bin where nothing repeats
    above = (fractions - xp.min(fractions, axis=0)[None]) * (heights / width)[None]
    at = xp.where(periodic[None], fractions * n.astype(dtype)[None], above)
    at = xp.minimum(xp.where(at > 0, at, 0), (n - 1).astype(dtype)[None]).astype(np.int32)  # beyond the last bin: in it
    flat = (at[:, 0] * n[1] + at[:, 1]) * n[2] + at[:, 2]
    order = xp.argsort(flat, **({} if xp is jnp else {"kind": "stable"})).astype(np.int32)
    before = xp.searchsorted(flat[order], np.arange(n.prod() + 1, dtype=np.int32)).astype(np.int32)
    column = (flat[order] // n[2]) * n[2]
    start, inside = before[column], before[column + n[2]] - before[column]
    rounds = np.arange(turns(grid, pbc) + 1, dtype=np.int32)[:, None]
    place = (start * len(rounds) + np.arange(len(flat), dtype=np.int32) - start)[None] + rounds * inside[None]
    size = len(flat) * len(rounds) + grid.room
    atom = _put(xp, size, place, xp.broadcast_to(order[None], place.shape))
    turn = _put(xp, size, place, xp.broadcast_to(xp.asarray(rounds, dtype=dtype), place.shape))
    reached = heights / n.astype(dtype) * np.array(grid.reach, dtype) >= radius * (1 + MARGIN)
    reached = xp.where(periodic, reached, (n == 1) | (np.array(grid.reach) > 0))
    first, covered = _put(xp, len(flat), order, place[0]), xp.all(reached)
    return Atoms(box, whole, home, at, before, first, atom, home.T[:, atom], turn, covered)


def find_runs(xp: Any, grid: Grid, pbc: Pbc, atoms: Atoms, i: Any) -> Runs:
    """Find the runs of atoms i [B] in all columns within reach."""
    n, at = np.array(grid.bins, np.int32), atoms.bins[i]
    target = at[:, None, :2] + columns(grid)[None]
    image = xp.where(np.array(pbc[:2])[None, None], xp.floor_divide(target, n[None, None, :2]), 0)
    target = target - image * n[None, None, :2]
    inside = xp.clip(target, 0, n[None, None, :2] - 1)
    column = (inside[..., 0] * n[1] + inside[..., 1]) * n[2]
    low, high = at[:, 2] - grid.reach[2], at[:, 2] + grid.reach[2] + 1
    if pbc[2]:
        first_image, last_image = xp.floor_divide(low, n[2]), xp.floor_divide(high, n[2])
        low, high = low - first_image * n[2], high - last_image * n[2]
    else:
        first_image = last_image = xp.zeros_like(low)
        low, high = xp.maximum(low, 0), xp.minimum(high, n[2])
    start = atoms.before[column]
    inside_column = atoms.before[column + n[2]] - start
    skipped = atoms.before[column + low[:, None]] - start
    end = (last_image - first_image)[:, None] * inside_column + atoms.before[column + high[:, None]] - start
    length = xp.where(xp.any(target != inside, axis=2), 0, end - skipped)
    images = xp.concatenate([image, xp.broadcast_to(first_image[:, None, None], (*column.shape, 1))], axis=2)
    return Runs(start * (turns(grid, pbc) + 1) + skipped, length, images)


def near_in(xp: Any, grid: Grid, pbc: Pbc, radius: float, atoms: Atoms, runs: Runs, i: Any) -> Any:
    """Whether the candidates of atoms i [B], `room` in each run, are within the radius.  [B, T room] bool

    To the last bit, the vector from i to j is minus that from j to i, so that every pair is found from both sides.
    """
    places, n, dtype = np.arange(grid.room, dtype=np.int32), np.array(grid.bins, np.int32), atoms.home.dtype

    def cut(tape: Any) -> Any:  # [B, T, room]
        if xp is np:
            return tape[runs.first[:, :, None] + places[None, None]]
        return jax.vmap(jax.vmap(lambda first: jax.lax.dynamic_slice(tape, (first,), (grid.room,))))(runs.first)

    image = runs.image.astype(dtype)
    along_c = cut(atoms.turn) + image[:, :, 2:]
    square = xp.zeros((), dtype)
    for a in range(3):
        across = image[:, :, 0] * atoms.box[0, a] + image[:, :, 1] * atoms.box[1, a]
        difference = cut(atoms.tape[a]) - atoms.home[i, a][:, None, None]
        square = square + (difference + (across[:, :, None] + along_c * atoms.box[2, a])) ** 2
    middle = len(columns(grid)) // 2
    column = (atoms.bins[i, 0] * n[1] + atoms.bins[i, 1]) * n[2]
    inside = atoms.before[column + n[2]] - atoms.before[column]
    itself = atoms.own[i] - runs.image[:, middle, 2] * inside - runs.first[:, middle]
    itself = xp.where((np.arange(len(columns(grid))) == middle)[None], itself[:, None], -1)
    allowed = (places[None, None] < runs.length[:, :, None]) & (places[None, None] != itself[:, :, None])
    return (allowed & (square < radius**2)).reshape(len(i), -1)
