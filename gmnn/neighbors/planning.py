"""Shapes of a neighbour list, planned on the host for a structure and grown where they were too small."""

from typing import Any

import numpy as np

from gmnn.neighbors.host import complete_cell, require_searchable
from gmnn.neighbors.runs import MARGIN, Grid, Pbc, columns, find_runs, full_cell, inverse_of, lay_out, near_in
from gmnn.neighbors.slots import CPU_BLOCK

SHRINK = 1.02  # the cell may shrink by this before its bins are too narrow
SPLITS = ((1, 1, 4), (2, 2, 4))  # bins per radius along each vector; the plan takes the better of the two
SAMPLE = 4096  # atoms whose neighbours are counted to plan the slots


def plan(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, radius: float, slack: float = 1.1) -> Grid:
    """Plan bins for this cell, and room and slots for `slack` times the present sizes of runs and rows, on the host."""
    repeats: Pbc = tuple(map(bool, pbc))  # type: ignore[assignment]
    positions, cell = np.asarray(positions, float), complete_cell(cell, pbc)
    require_searchable(positions, cell, np.asarray(pbc), radius)
    grids = [_plan_runs(positions, cell, repeats, radius, slack, split) for split in SPLITS]
    grid = min(grids, key=lambda grid: len(columns(grid)) * (grid.room + 8))
    atoms = lay_out(np, grid, repeats, radius, positions, cell)
    sample = np.unique(np.linspace(0, len(positions) - 1, SAMPLE).astype(int))
    most = 1
    for i in np.array_split(sample, -(-len(sample) * len(columns(grid)) * grid.room // CPU_BLOCK)):
        runs = find_runs(np, grid, repeats, atoms, i)
        most = max(most, int(near_in(np, grid, repeats, radius, atoms, runs, i).sum(axis=1).max()))
    return grid._replace(slots=_enough(slack * most))


def _plan_runs(
    positions: np.ndarray, cell: np.ndarray, pbc: Pbc, radius: float, slack: float, split: tuple[int, int, int]
) -> Grid:
    """Grid with about `split` bins per radius, at most 64 + 8 N bins in all, and room for its runs."""
    periodic = np.array(pbc)
    inverse = inverse_of(np, full_cell(np, cell, pbc))
    heights = 1 / np.linalg.norm(inverse, axis=0)
    extent = np.where(periodic, heights, np.ptp(positions @ inverse, axis=0) * heights)
    widths = np.where(periodic, radius * SHRINK, radius * (1 + 2 * MARGIN)) / split
    bins = np.maximum(np.where(periodic, extent // widths, np.ceil(extent / widths)), 1).astype(int)
    while bins.prod() > 64 + 8 * len(positions):
        bins[np.argmax(bins)] = (bins.max() + 1) // 2
    bins = np.where(periodic | (bins > split), bins, 1)
    reach = np.where(periodic, np.ceil(radius * SHRINK * bins / heights * (1 - 1e-9)), np.where(bins > split, split, 0))
    (a, b, c), (d, e, f) = bins.tolist(), reach.astype(int).tolist()
    grid = Grid((a, b, c), (d, e, f), 1, 1)
    atoms = lay_out(np, grid, pbc, radius, positions, cell)
    fullest = find_runs(np, grid, pbc, atoms, np.arange(len(positions))).length.max()
    return grid._replace(room=_enough(slack * fullest))


def _enough(needed: float) -> int:
    """Next multiple of four, for few shapes and little waste."""
    return 4 * int(np.ceil(needed / 4))


def grow(grid: Grid, most: Any, fullest: Any) -> Grid:
    """Return a grid with slots and room for the counts of `Slots`.

    It is the same grid if neither was short: then plan anew. If the counts are those of several lists, the largest are
    taken. A second call may be needed, because slots are counted in full only once there is room.
    """
    most, fullest = int(np.max(most)), int(np.max(fullest))
    room = grid.room if fullest <= grid.room else _enough(1.1 * fullest)
    slots = grid.slots if most <= grid.slots else _enough(1.1 * most)
    return grid._replace(room=room, slots=slots)
