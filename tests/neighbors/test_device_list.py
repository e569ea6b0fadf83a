"""Neighbour slots on the device: exact or flagged on random cells, reverse slots, one order, replicas, compiled loops.

Random cells run operation by operation, as every grid would compile anew; the rest is compiled.
"""

from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gmnn.errors import UserError
from gmnn.neighbors import Grid, Slots, build, grow, plan, slots
from gmnn.neighbors.host import neighbor_pairs
from gmnn.neighbors.runs import full_cell

CUTOFF, ATOMS, ROOM, SLOTS = 3.0, 4, 40, 240
REPRODUCIBLE = settings(derandomize=True, deadline=None, database=None)


def pairs_in(found: Slots) -> np.ndarray:
    """Rows (i, j, S) of the filled slots, in the order of the slots.  [P, 5]"""
    neighbors, shifts = np.asarray(found.neighbors), np.asarray(found.shifts)
    i, k = np.nonzero(neighbors < len(neighbors))
    return np.column_stack([i, neighbors[i, k], shifts[i, k]])


def expected_pairs(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, radius: float) -> np.ndarray:
    """Rows (i, j, S) of the list on the host, sorted.  [P, 5]"""
    return np.column_stack(neighbor_pairs(positions, cell, pbc, radius))


def compile_and_run(grid: Grid, pbc: np.ndarray, radius: float, positions: np.ndarray, cell: np.ndarray) -> Slots:
    """The list from a compiled program."""
    return jax.jit(partial(build, grid, tuple(map(bool, pbc)), radius))(positions, cell)


def check(found: Slots, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, radius: float) -> None:
    """Not flagged, the pairs of the host in its order, and every slot is the reverse of its reverse."""
    assert not found.overflow
    expected = expected_pairs(positions, cell, pbc, radius)
    np.testing.assert_array_equal(pairs_in(found), expected)
    assert int(found.most) == np.bincount(expected[:, 0], minlength=1).max(initial=0)
    neighbors, shifts, reverse = (np.asarray(field) for field in found[:3])
    count, width = neighbors.shape
    assert neighbors.dtype == shifts.dtype == reverse.dtype == np.int32
    empty = (neighbors == count).ravel()
    assert (reverse.ravel()[empty] == count * width).all()
    assert not shifts.reshape(-1, 3)[empty].any()
    here = np.flatnonzero(~empty)
    there = reverse.ravel()[here]
    np.testing.assert_array_equal(reverse.ravel()[there], here)
    np.testing.assert_array_equal(there // width, neighbors.ravel()[here])
    np.testing.assert_array_equal(neighbors.ravel()[there], here // width)
    np.testing.assert_array_equal(shifts.reshape(-1, 3)[there], -shifts.reshape(-1, 3)[here])


@st.composite
def cases(draw: st.DrawFn) -> tuple[Atoms, Grid]:
    """Four atoms in a sheared cell, 1.5 to 12 Å along each vector, any handedness, any directions periodic, up to two
    cells outside, and a grid which may be too narrow or too small for them.

    A pair within 1e-9 of the cutoff may count either way and is left out.
    """
    lengths = draw(arrays(float, 3, elements=st.floats(1.5, 12.0)))
    lower = np.tril(draw(arrays(float, (3, 3), elements=st.floats(-0.9, 0.9))), -1)
    cell = ((np.eye(3) + lower) * lengths[:, None])[list(draw(st.permutations(range(3))))]
    fractions = draw(arrays(float, (ATOMS, 3), elements=st.floats(-2.0, 3.0)))
    pbc = draw(arrays(bool, 3))
    if draw(st.booleans()):
        cell[~pbc] = 0.0  # no vector where nothing repeats
    positions = fractions @ np.where(cell.any(axis=1)[:, None], cell, 4 * np.eye(3))
    atoms = Atoms("C" * ATOMS, positions, cell=cell, pbc=pbc)
    assume(not (np.abs(neighbor_list("d", atoms, CUTOFF + 1e-6) - CUTOFF) < 1e-9).any())
    bins = draw(st.sampled_from([(1, 1, 1), (2, 1, 3), (1, 3, 2)]))  # few, as each has shapes of its own
    reach = draw(st.sampled_from([(1, 1, 1), (3, 3, 6)]))
    return atoms, Grid(bins, reach, ROOM, SLOTS)


def exact_or_flagged(case: tuple[Atoms, Grid]) -> None:
    """The pairs of vesin and ASE in the order (i, j, S), or a flag; and the flag only where something was short."""
    atoms, grid = case
    positions, cell, pbc = atoms.positions, atoms.cell.array, atoms.pbc
    found = build(grid, tuple(pbc.tolist()), CUTOFF, jnp.asarray(positions), jnp.asarray(cell))
    if found.overflow:
        heights = 1 / np.linalg.norm(np.linalg.inv(full_cell(np, cell, pbc)), axis=0)
        narrow = (np.array(grid.reach) * heights / grid.bins < CUTOFF * 1.001)[pbc].any()
        assert narrow or found.most > grid.slots or found.fullest > grid.room
        return
    check(found, positions, cell, pbc, CUTOFF)
    i, j, S = neighbor_list("ijS", atoms, CUTOFF)
    assert Counter(map(tuple, pairs_in(found).tolist())) == Counter(map(tuple, np.column_stack([i, j, S]).tolist()))


@settings(REPRODUCIBLE, max_examples=20)
@given(cases())
def test_exact_or_flagged(case: tuple[Atoms, Grid]) -> None:
    exact_or_flagged(case)


@pytest.mark.slow
@settings(REPRODUCIBLE, max_examples=120)
@given(cases())
def test_exact_or_flagged_in_many_cases(case: tuple[Atoms, Grid]) -> None:
    exact_or_flagged(case)


@pytest.mark.parametrize("name", ["molecule", "slab", "left_handed", "tiny_cell", "atom"])
def test_plans_fit(name: str, structures: dict[str, Atoms]) -> None:
    """What the host plans for a structure is enough for it, and not wasteful; without a cell it is one run of all."""
    atoms = structures[name]
    positions, cell, pbc = atoms.positions, atoms.cell.array, atoms.pbc
    grid = plan(positions, cell, pbc, 3.4)
    found = compile_and_run(grid, pbc, 3.4, positions, cell)
    check(found, positions, cell, pbc, 3.4)
    assert grid.slots <= 1.1 * int(found.most) + 5
    assert grid.room <= 1.1 * int(found.fullest) + 5
    if name == "molecule":
        assert grid.room <= 12


def liquid(count: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Atoms at random in a sheared cell of some 9 Å, many of them outside of it."""
    cell = np.array([[9.0, 0.0, 0.0], [1.5, 10.0, 0.0], [-2.0, 1.0, 11.0]])
    return np.random.default_rng(seed).uniform(-1.0, 2.0, (count, 3)) @ cell, cell


PERIODIC = (True, True, True)
FINE = Grid((5, 6, 12), (2, 2, 4), 16, 24)  # heights are 8.3, 9.9 and 11 Å


@pytest.fixture(scope="module")
def compiled() -> Slots:
    """The liquid's list."""
    return compile_and_run(FINE, PERIODIC, CUTOFF, *liquid())


def test_compiled(compiled: Slots) -> None:
    """Inside of a program, as outside."""
    positions, cell = liquid()
    check(compiled, positions, cell, PERIODIC, CUTOFF)
    j = np.minimum(compiled.neighbors, len(positions) - 1)
    vectors = positions[j] + np.asarray(compiled.shifts) @ cell - positions[:, None]
    near = np.linalg.norm(vectors, axis=2) < CUTOFF
    assert near[np.asarray(compiled.neighbors) < len(positions)].all()


@pytest.mark.parametrize(
    "grid", [Grid((1, 1, 1), (1, 1, 1), 180, 24), Grid((2, 3, 3), (1, 1, 1), 40, 40), FINE._replace(room=23, slots=25)]
)
def test_rows_do_not_depend_on_the_grid(grid: Grid, compiled: Slots) -> None:
    """Other bins, more room and more slots give the same rows to the bit: a run goes on as it was after growth."""
    other = compile_and_run(grid, PERIODIC, CUTOFF, *liquid())
    assert not other.overflow
    np.testing.assert_array_equal(other.neighbors[:, :24], compiled.neighbors)
    np.testing.assert_array_equal(other.shifts[:, :24], compiled.shifts)
    assert (other.neighbors[:, 24:] == 60).all()


def test_blocks(compiled: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    """Atoms looked at in blocks, of which the last is not full, give the same list."""
    monkeypatch.setattr(slots, "CPU_BLOCK", 25 * FINE.room * 7)
    other = compile_and_run(FINE, PERIODIC, CUTOFF, *liquid())
    for found, whole in zip(jax.tree.leaves(other), jax.tree.leaves(compiled), strict=True):
        np.testing.assert_array_equal(found, whole)


def test_replicas_and_flags(compiled: Slots) -> None:
    """Under vmap every replica has its list and its flag: sound, a NaN, a narrowed cell, crowded, too far away."""
    positions, cell = liquid()
    lost, crowd, far = positions.copy(), positions.copy(), positions.copy()
    lost[7, 1] = np.nan
    crowd[:45] = positions[:1] + np.random.default_rng(1).uniform(0, 1.0, (45, 3))
    far[3] = 1e13
    other = liquid(seed=3)[0]
    batch = np.stack([positions, lost, positions, crowd, far, other, positions])
    cells = np.stack([cell, cell, 0.89 * cell, cell, cell, cell, np.full((3, 3), np.nan)])
    found = jax.device_get(jax.jit(jax.vmap(partial(build, FINE, PERIODIC, CUTOFF)))(batch, cells))
    assert found.overflow.tolist() == [False, True, True, True, True, False, True]
    jax.tree.map(np.testing.assert_array_equal, Slots(*(field[0] for field in found)), compiled)
    check(Slots(*(field[5] for field in found)), other, cell, PERIODIC, CUTOFF)
    assert found.fullest[3] > FINE.room
    assert found.most[3] > FINE.slots
    bigger = grow(FINE, found.most, found.fullest)
    assert bigger.room >= found.fullest.max()
    assert bigger.slots >= found.most.max()
    assert grow(FINE, found.most[2], found.fullest[2]) == FINE  # narrow: nothing to grow


def test_growth_ends(structures: dict[str, Atoms]) -> None:
    """From one atom of room and one slot, two turns at most lead to the list."""
    crystal = structures["crystal"]
    where = crystal.positions, crystal.cell.array
    grid = plan(crystal.positions, crystal.cell.array, crystal.pbc, CUTOFF)._replace(room=1, slots=1)
    for _ in range(2):
        found = compile_and_run(grid, PERIODIC, CUTOFF, *where)
        assert found.overflow
        grid = grow(grid, found.most, found.fullest)
    check(compile_and_run(grid, PERIODIC, CUTOFF, *where), *where, crystal.pbc, CUTOFF)


def test_inside_of_a_loop() -> None:
    """Rebuilt now and then in a compiled loop, as a simulation does, while atoms move and the cell breathes."""
    positions, cell = liquid()
    drift = np.random.default_rng(5).normal(size=positions.shape)
    make = partial(build, FINE, PERIODIC, CUTOFF)

    @jax.jit
    def simulate(positions: jax.Array, cell: jax.Array) -> tuple[Slots, Slots]:
        def step(held: Slots, time: jax.Array) -> tuple[Slots, Slots]:
            where = positions + 0.1 * time * drift, cell * (1 + 0.01 * time)
            held = jax.lax.cond(time % 2 == 0, lambda held: make(*where), lambda held: held, held)
            return held, held

        return jax.lax.scan(step, make(positions, cell), jnp.arange(5))

    history = simulate(positions, cell)[1]
    for time in range(5):
        built = time // 2 * 2
        where = positions + 0.1 * built * drift, cell * (1 + 0.01 * built)
        check(Slots(*(field[time] for field in history)), *where, PERIODIC, CUTOFF)


def test_single_precision() -> None:
    """In float32 the list of the rounded positions, up to pairs within 1e-4 Å of the cutoff, even cells away."""
    positions, cell = (np.asarray(x, np.float32) for x in liquid())
    positions[:20] += np.float32(40) * cell[0] - np.float32(30) * cell[2]
    found = compile_and_run(FINE, PERIODIC, CUTOFF, positions, cell)
    assert not found.overflow
    got = set(map(tuple, pairs_in(found).tolist()))
    exact = positions.astype(float), cell.astype(float), PERIODIC
    sure, possible = (
        set(map(tuple, expected_pairs(*exact, radius).tolist())) for radius in (CUTOFF - 1e-4, CUTOFF + 1e-4)
    )
    assert sure <= got <= possible


def test_far_out_in_single_precision() -> None:
    """Where float32 no longer tells positions apart, a flag."""
    positions, cell = (np.asarray(x, np.float32) for x in liquid())
    for away, flagged in ((100, False), (1000, True)):
        assert compile_and_run(FINE, PERIODIC, CUTOFF, positions + away * cell[:1], cell).overflow == flagged


def test_cluster_flies_apart() -> None:
    """Without a cell, atoms beyond the planned bins count to the last ones, until these are crowded; bins without a
    reach are flagged.
    """
    positions, nowhere, pbc = np.random.default_rng(2).uniform(0, 9, (50, 3)), np.zeros((3, 3)), (False, False, False)
    grid = plan(positions, nowhere, pbc, CUTOFF)
    assert min(grid.bins) > 1
    make = jax.jit(partial(build, grid, pbc, CUTOFF))
    for size in (1.0, 1.5):
        check(make(size * positions, nowhere), size * positions, nowhere, pbc, CUTOFF)
    wide = 3 * positions
    crowded = make(wide, nowhere)
    assert crowded.overflow
    larger = grow(grid, crowded.most, crowded.fullest)
    check(compile_and_run(larger, pbc, CUTOFF, wide, nowhere), wide, nowhere, pbc, CUTOFF)
    assert compile_and_run(grid._replace(reach=(0, 2, 4)), pbc, CUTOFF, positions, nowhere).overflow


def test_large_plan_counts_a_sample() -> None:
    """A crystal of thousands of atoms is planned from some of them; bins are about as many as atoms or fewer."""
    crystal = bulk("Cu", "fcc", a=3.6, cubic=True).repeat(11)
    grid = plan(crystal.positions, crystal.cell.array, crystal.pbc, 4.0)
    assert grid.slots == 20  # of 18 neighbours
    assert np.prod(grid.bins) <= 64 + 8 * len(crystal)


def test_sparse_atoms_have_few_bins() -> None:
    """A few atoms in a vast cell, or far apart without one, do not ask for a bin to every Å^3."""
    positions = np.random.default_rng(0).uniform(0, 1e4, (10, 3))
    for pbc in (PERIODIC, (False, False, False)):
        assert np.prod(plan(positions, np.eye(3) * 1e4, pbc, CUTOFF).bins) <= 64 + 80


def test_indices_must_fit() -> None:
    """Shapes beyond 32 bits are refused before they could wrap around."""
    shape = jax.ShapeDtypeStruct((1 << 20, 3), float), jax.ShapeDtypeStruct((3, 3), float)
    with pytest.raises(UserError, match="32 bits"):
        jax.eval_shape(partial(build, FINE._replace(slots=1 << 11), PERIODIC, CUTOFF), *shape)
