"""Neighbour slots on the host: every pair within a cutoff, periodic images included, for any cell.

Pairs come from vesin. Dense slots (`System.neighbors`, `System.shifts`) and padding are made here and nowhere else.
"""

import numpy as np

from gmnn.errors import UserError
from gmnn.neighbors import memory
from gmnn.system import System

FARTHEST = 1e6  # Å, largest coordinate or cell vector: 0.1 mm
AWAY = 100.0  # Å from the origin, beyond which a molecule is moved to it
MOST_IMAGES = 100_000  # images of the cell within reach of an atom; about those of a 0.3 Å cube at a radius of 6.5 Å
SAME_PLACE = 1e-6  # Å; nearer atoms are at the same place, as wrapping leaves errors of some 1e-16 Å
LARGEST_RADIUS = 100.0  # Å, of a search
MANY_PAIRS = 1e6  # from which it matters how many there are: a tenth of a second, 100 MB
DENSEST_CRYSTAL = 5.0  # atoms in a cubic Å of a cell; silicon in nm has 50
DENSEST = 1.0  # atoms in a cubic Å, on average over all spheres of the cutoff
PAIR_BYTES, SLOT_BYTES = 150, 32  # memory for a pair while it is searched, and for a slot, padding included
MOST_BINS = 1_000_000  # along a vector, so that their numbers fit into 64 bits
SHORTEST_VECTOR = 1e-9  # Å, of a cell
SPARSE = 1000  # bins as wide as the cutoff, plus 8 an atom; beyond, a tree of points is searched


def capacity(needed: int, smallest: int = 8) -> int:
    """Smallest rung >= needed of a ladder that grows by a quarter, so that a run compiles few shapes."""
    rung = smallest
    while rung < needed:
        rung = rung + max(1, rung // 4)
    return rung


def complete_cell(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Complete a cell to three independent rows; vectors missing where nothing repeats are made up.  [3, 3] Å"""
    cell, pbc = np.array(cell, float), np.asarray(pbc, bool)
    missing: np.ndarray = ~np.any(cell, axis=1)
    if (missing & pbc).any():
        axes = ", ".join("abc"[k] for k in np.flatnonzero(missing & pbc))
        raise UserError(
            f"the structure is periodic along {axes} but that cell vector is zero; give one or set pbc to False"
        )
    if missing.any():
        _, _, directions = np.linalg.svd(np.where(missing[:, None], 0.0, cell))
        cell[missing] = directions[3 - missing.sum() :]
    lengths = np.linalg.norm(cell, axis=1)
    if pbc.any() and (lengths.min() < SHORTEST_VECTOR or abs(np.linalg.det(cell)) < 1e-6 * np.prod(lengths)):
        raise UserError(f"the cell vectors {cell.round(3).tolist()} span no volume; give a real cell")
    return cell


def _repeating_cell(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Replace rows where nothing repeats, whatever they hold, by unit vectors across the others.  [3, 3] Å"""
    return complete_cell(np.where(np.asarray(pbc, bool)[:, None], cell, 0.0), pbc)


def require_searchable(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> None:
    """Raise UserError if coordinates, cell or cutoff have no usable unit, or the pairs are too many to be searched."""
    largest = max(np.abs(positions).max(initial=0.0), np.abs(cell).max(initial=0.0))
    if not largest <= FARTHEST:
        raise UserError(
            f"positions and cell vectors must be within {FARTHEST:.0e} Å, but one is {largest:.3g} Å; check the unit"
        )
    if not 0 < cutoff <= LARGEST_RADIUS:
        raise UserError(
            f"neighbours within {cutoff:g} Å are asked for, but at most {LARGEST_RADIUS:g} Å are allowed; take a "
            "smaller cutoff or skin, in Å"
        )
    images = float(np.prod(np.where(pbc, 2 * np.ceil(cutoff / _heights(_repeating_cell(cell, pbc))) + 1, 1)))
    if images > MOST_IMAGES:
        raise UserError(
            f"the cell is so small that {images:.0e} of its images lie within {cutoff:g} Å, allowed are "
            f"{MOST_IMAGES:,}; give a real cell, in Å"
        )
    if np.all(pbc) and (density := len(positions) / abs(np.linalg.det(cell))) > DENSEST_CRYSTAL:
        raise UserError(
            f"the cell holds {density:.3g} atoms in a cubic Å, where diamond has 0.18 and {DENSEST_CRYSTAL:g} is "
            "allowed; are the positions in nm? give them and the cell in Å"
        )
    if len(positions):
        require_workable(positions, cell, pbc, cutoff, images)


def require_workable(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float, images: float) -> None:
    """Raise UserError if the pairs within `cutoff` Å are too many, by an estimate that is much quicker than a search.

    `images` bounds the images of the cell within reach.
    """
    n = len(positions)
    if n * n * images <= MANY_PAIRS:
        return
    pairs, most = estimated_pairs(positions, cell, pbc, cutoff)
    density = pairs / n / (4 / 3 * np.pi * cutoff**3)
    if pairs > MANY_PAIRS and density > DENSEST:
        raise UserError(
            f"the structure is so dense that each of its {n:,} atoms has about {pairs / n:,.0f} others within "
            f"{cutoff:g} Å, {density:.3g} in a cubic Å, where diamond has 0.18 and {DENSEST:g} is allowed; are the "
            "positions in nm? give them in Å"
        )
    needed = pairs * PAIR_BYTES + n * most * SLOT_BYTES
    if needed > memory.MEMORY_SHARE * (limit := memory.machine_memory()):
        raise UserError(
            f"the list of neighbours of {n:,} atoms within {cutoff:g} Å would need about {needed / 2**30:.3g} GB for "
            f"{pairs:.2g} pairs and up to {most:,} an atom, but this machine has {limit / 2**30:.3g} GB; take fewer "
            "atoms or a smaller radius or skin, and check that the positions are in Å"
        )


def estimated_pairs(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> tuple[float, int]:
    """Estimate the ordered pairs within `cutoff` Å, and the most neighbours of an atom, by counting atoms in bins.

    Bins are half as wide as the cutoff; two bins are near if their places are within it.
    """
    pbc, box = np.asarray(pbc, bool), _repeating_cell(cell, pbc)
    heights = _heights(box)
    fractions = np.asarray(positions, float) @ np.linalg.inv(box)
    low = np.where(pbc, 0.0, fractions.min(axis=0))
    extent = np.where(pbc, 1.0, np.ptp(fractions, axis=0) + 1e-9)
    widths = np.maximum(np.maximum(0.5 * cutoff / heights, extent / MOST_BINS), 1e-12)  # of a bin, in fractions
    bins = np.maximum(np.where(pbc, extent // widths, np.ceil(extent / widths)), 1).astype(np.int64)
    steps = np.where(pbc, 1.0 / bins, widths)
    place = np.floor((np.where(pbc, fractions - np.floor(fractions), fractions) - low) / steps).astype(np.int64)
    place = np.minimum(place, bins - 1)
    keys, counts = np.unique((place[:, 0] * bins[1] + place[:, 1]) * bins[2] + place[:, 2], return_counts=True)
    reach = np.ceil(cutoff / (steps * heights)).astype(int)
    reach = np.where(pbc, reach, np.minimum(reach, bins - 1))
    offsets = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    offsets = offsets[np.linalg.norm((offsets * steps) @ box, axis=1) <= cutoff * (1 + 1e-9)]
    offsets, copies = np.unique(np.where(pbc, offsets % bins, offsets), axis=0, return_counts=True)
    home = np.stack([keys // (bins[1] * bins[2]), keys // bins[2] % bins[1], keys % bins[2]], axis=1)
    near = np.zeros(len(keys))
    for offset, times in zip(offsets, copies, strict=True):
        beside = home + offset
        inside = (pbc | ((beside >= 0) & (beside < bins))).all(axis=1)
        beside = np.where(pbc, beside % bins, beside)
        wanted = (beside[:, 0] * bins[1] + beside[:, 1]) * bins[2] + beside[:, 2]
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        near += times * np.where(inside & (keys[at] == wanted), counts[at], 0)
    return float((counts * near).sum()), int(near.max())


def _heights(cell: np.ndarray) -> np.ndarray:
    """Distances between opposite faces of a cell.  [3] Å"""
    return 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)


def wrap_shifts(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Whole cells to subtract from each atom to bring it into the cell along periodic directions.  [N, 3] int

    Rows of the cell in directions that do not repeat have no effect.
    """
    fractions = np.linalg.solve(_repeating_cell(cell, pbc).T, np.asarray(positions, float).T).T
    return np.where(np.asarray(pbc, bool), np.floor(fractions), 0.0).astype(np.int64)


def neighbor_pairs(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All ordered pairs with |x_j + S cell - x_i| < cutoff, sorted by i, j, S.  -> [P], [P], [P, 3] int

    An atom is its own neighbour through images (cells smaller than the cutoff). `pbc` sets which directions repeat.
    Coordinates in no usable unit raise UserError.
    """
    if len(positions):
        require_searchable(positions, cell, pbc, cutoff)
    return _search(positions, cell, pbc, cutoff)


def _search(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of a structure that has passed `require_searchable`."""
    positions = np.ascontiguousarray(positions, float)
    if len(positions) == 0:
        return np.zeros(0, int), np.zeros(0, int), np.zeros((0, 3), int)
    box = _repeating_cell(cell, pbc)
    hand = np.array([1 if np.linalg.det(box) > 0 else -1, 1, 1])  # vesin 0.6.2 can divide by zero in a left-handed cell
    box = hand[:, None] * box
    lengths = _heights(box) * np.maximum(np.ptp(positions @ np.linalg.inv(box), axis=0), 1.0)
    if np.any(pbc):  # vesin may give a direction that does not repeat the length of the whole structure
        lengths = np.where(pbc, lengths, np.maximum(lengths, np.linalg.norm(np.ptp(positions, axis=0))))
    bins = np.prod(np.maximum(lengths / cutoff, 1.0))
    if bins > SPARSE + 8 * len(positions):  # vesin can divide by zero in a sparse cell, too
        i, j, S = _sparse_pairs(positions, box, np.asarray(pbc, bool), cutoff)
    else:
        from vesin import NeighborList  # a compiled library, not needed where slots are given

        pairs = NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
        i, j, S = pairs.compute(positions, box, np.asarray(pbc, bool), quantities="ijS")
    i, j, S = i.astype(np.int64), j.astype(np.int64), hand * S.astype(np.int64)
    order = np.lexsort((S[:, 2], S[:, 1], S[:, 0], j, i))
    return i[order], j[order], S[order]


def _sparse_pairs(
    positions: np.ndarray, box: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ordered pairs by a tree over the atoms and those of their images that lie within reach of the cell."""
    from scipy.spatial import KDTree

    margins = cutoff / _heights(box) + 1e-9
    fractions = positions @ np.linalg.inv(box)
    whole = np.where(pbc, np.floor(fractions), 0.0)
    fractions = fractions - whole
    reach = np.where(pbc, np.ceil(margins), 0).astype(int)
    shifts = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    low, high = np.where(pbc, -margins, -np.inf), np.where(pbc, 1 + margins, np.inf)
    near = [np.flatnonzero(((fractions + S >= low) & (fractions + S <= high)).all(axis=1)) for S in shifts]
    atoms, images = np.concatenate(near), np.repeat(shifts, [len(k) for k in near], axis=0)
    wrapped = positions - whole @ box
    found = KDTree(wrapped).sparse_distance_matrix(KDTree(wrapped[atoms] + images @ box), cutoff, output_type="ndarray")
    i, j, S = found["i"], atoms[found["j"]], images[found["j"]]
    others = (found["v"] < cutoff) & ((i != j) | S.any(axis=1))
    i, j, S = i[others], j[others], S[others]
    return i, j, S + (whole[i] - whole[j]).astype(int)


def make_system(
    positions: np.ndarray,
    numbers: np.ndarray,
    cell: np.ndarray,
    pbc: np.ndarray,
    cutoff: float,
    n_atoms: int = 0,
    n_slots: int = 0,
) -> System:
    """Make a System in float64 with every pair within `cutoff` Å, padded to at least n_atoms atoms and n_slots slots.

    Atoms are first brought into the cell by whole vectors, or a distant molecule to the origin, so that a later cast to
    float32 loses no precision to the distance from it. Without padding arguments the arrays are as small as the
    structure allows.
    """
    positions, cell, pbc = np.asarray(positions, float), np.asarray(cell, float), np.asarray(pbc, bool)
    n = len(positions)
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))[:5].tolist()
        raise UserError(f"positions and cell must be finite numbers, but those of atoms {bad} or of the cell are not")
    require_searchable(positions, cell, pbc, cutoff)
    if pbc.any():
        wrapped = positions - wrap_shifts(positions, cell, pbc) @ cell
    else:
        wrapped = positions - np.mean(positions, axis=0) if np.abs(positions).max(initial=0.0) > AWAY else positions
    i, j, S = _search(wrapped, cell, pbc, cutoff)
    vectors = wrapped[j] + S @ cell - wrapped[i]
    same = np.flatnonzero(np.einsum("pa,pa->p", vectors, vectors) < SAME_PLACE**2)
    if len(same):
        raise UserError(f"atoms {i[same[0]]} and {j[same[0]]} are at the same place; remove one of them")
    counts = np.bincount(i, minlength=n)
    rows, slots = max(n, n_atoms), max(int(counts.max(initial=1)), n_slots, 1)
    slot = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
    neighbors = np.full((rows, slots), rows, np.int32)
    shifts = np.zeros((rows, slots, 3), np.int32)
    neighbors[i, slot], shifts[i, slot] = j, S
    padded_numbers, padded_positions = np.zeros(rows, np.int32), np.zeros((rows, 3))
    padded_numbers[:n], padded_positions[:n] = numbers, wrapped
    return System(padded_positions, padded_numbers, cell, neighbors, shifts)


def stack(systems: list[System]) -> System:
    """Stack systems made without padding into one batch of a common shape, with a leading axis on every field."""
    rows, slots = max(len(s.numbers) for s in systems), max(s.neighbors.shape[1] for s in systems)
    return System(*(np.stack(field) for field in zip(*(pad(s, rows, slots) for s in systems), strict=True)))


def pad(system: System, n_atoms: int, n_slots: int) -> System:
    """Append empty atoms and slots to a system; empty slots hold the new number of atoms."""
    n, k = system.neighbors.shape
    neighbors = np.full((n_atoms, n_slots), n_atoms, np.int32)
    neighbors[:n, :k] = np.where(system.neighbors < n, system.neighbors, n_atoms)
    shifts = np.zeros((n_atoms, n_slots, 3), np.int32)
    shifts[:n, :k] = system.shifts
    positions, numbers = np.zeros((n_atoms, 3)), np.zeros(n_atoms, np.int32)
    positions[:n], numbers[:n] = system.positions, system.numbers
    return System(positions, numbers, system.cell, neighbors, shifts)
