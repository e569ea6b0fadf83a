"""How speed is measured: time of a compiled function, boxes of water of any size, results that say what they measure.

Compile time stands apart, every call is waited for, five repeats or more give a least and a median time.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ase.io
import jax
import numpy as np
from ase import Atoms
from ase.neighborlist import natural_cutoffs, neighbor_list
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from benchmarks import stored
from gmnn import files, neighbors

REPEATS = 5  # at least


def timed(function: Callable[..., Any], *arguments: Any, repeats: int = REPEATS, seconds: float = 0.5) -> dict:
    """Seconds of the first call, which compiles, and of `repeats` or more further ones, until `seconds` have gone."""
    first = elapsed(function, *arguments)
    times = [elapsed(function, *arguments)]
    repeats = max(repeats, min(200, int(seconds / max(times[0], 1e-9))))
    times += [elapsed(function, *arguments) for _ in range(repeats - 1)]
    return {"first_call_s": first, **spread(times)}


def elapsed(function: Callable[..., Any], *arguments: Any) -> float:
    """Seconds of one call, until its results are there."""
    clock = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - clock


def spread(seconds: Sequence[float]) -> dict:
    """Least and median of some times and how many there are."""
    return {"min_s": min(seconds), "median_s": float(np.median(seconds)), "repeats": len(seconds)}


def per_atom(times: dict, atoms: int, steps: int = 1) -> dict:
    """The times of `timed` in µs per atom and step."""
    return {f"{name}_us_per_atom": 1e6 * times[f"{name}_s"] / (atoms * steps) for name in ("min", "median")}


def water(structure: str, atoms: int) -> Atoms:
    """About this many atoms of water: the box of a file repeated, or, of fewer atoms than it has, molecules out of it.

    `structure` is what `ase.io.read` takes, its last frame. The repeats go round the three vectors in turn.
    """
    box = ase.io.read(structure)
    assert isinstance(box, Atoms)
    box.calc = None
    if atoms < len(box):
        return cluster(box, atoms)
    times = [1, 1, 1]
    while len(box) * np.prod(times) < atoms:
        times[int(np.argmin(np.array(times) * box.cell.lengths()))] *= 2
    return box.repeat(times)


def cluster(box: Atoms, atoms: int) -> Atoms:
    """Whole molecules around the first one, `atoms` or the next number below, not periodic."""
    i, j, vectors = neighbor_list("ijD", box, natural_cutoffs(box, mult=1.25))
    links = coo_matrix((np.ones(len(i)), (i, j)), shape=(len(box), len(box)))
    count, molecule = connected_components(links, directed=False)
    whole = box.positions.copy()
    placed = np.array([np.flatnonzero(molecule == m)[0] for m in range(count)])
    todo, done = list(placed), set(placed.tolist())
    while todo:
        here = todo.pop()
        for bonded, vector in zip(j[i == here], vectors[i == here], strict=True):
            if bonded not in done:
                whole[bonded] = whole[here] + vector
                todo.append(bonded)
                done.add(int(bonded))
    shift = np.array([whole[molecule == m].mean(axis=0) for m in range(count)]) - whole[molecule == molecule[0]].mean(
        axis=0
    )
    images = np.round(box.cell.scaled_positions(shift))
    whole -= (images @ box.cell.array)[molecule]
    order = np.argsort(np.linalg.norm(shift - images @ box.cell.array, axis=1), kind="stable")
    chosen: list[int] = []
    for m in order:
        members = np.flatnonzero(molecule == m).tolist()
        if len(chosen) + len(members) > atoms:
            break
        chosen += members
    return Atoms(box.numbers[chosen], whole[chosen])


def neighbor_facts(atoms: Atoms, r_max: float, skin: float) -> dict[str, Any]:
    """Atoms, cutoff, mean and largest number of neighbours within r_max, slots of a list with this skin."""
    i = neighbor_list("i", atoms, r_max) if len(atoms) <= 20_000 else np.zeros(0, int)
    counts = np.bincount(i, minlength=len(atoms))
    known = {"mean_neighbors": float(counts.mean()), "max_neighbors": int(counts.max())} if len(i) else {}
    slots = neighbors.plan(atoms.positions, atoms.cell.array, atoms.pbc, r_max + skin).slots
    return {"atoms": len(atoms), "r_max_A": r_max, "skin_A": skin, **known, "slots": slots}


def peak_bytes() -> int | None:
    """Largest memory that the first device has used, where it says so (a CPU does not)."""
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


class Record:
    """Results written to a file after every row, so that a run that is stopped keeps what it has."""

    def __init__(self, path: Path, **about: Any) -> None:
        made = stored.provenance("as named in the rows")
        self.path, self.about, self.rows = path, {**about, **made}, []  # type: ignore[var-annotated]

    def add(self, **row: Any) -> dict[str, Any]:
        """One more row; also on the screen."""
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(self.path, {**self.about, "rows": self.rows})
        print(*(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()), flush=True)
        return row
