"""Neighbour slots on the host: against ASE on random cells, the ladder of capacities, refusals, padding and batches."""

from collections import Counter
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gmnn.errors import UserError
from gmnn.model.potential import Potential, neighbor_vectors
from gmnn.neighbors.host import capacity, complete_cell, make_system, neighbor_pairs, pad, stack, wrap_shifts
from gmnn.system import System
from tests.support.oracle import assert_close, slope

CUTOFF = 3.0
ROWS, SLOTS = 18, 40
REPRODUCIBLE = settings(derandomize=True, deadline=None, max_examples=60, database=None)

predict = jax.jit(Potential.predict, static_argnums=0)


@st.composite
def structures(draw: st.DrawFn) -> Atoms:
    """One to five atoms in a sheared cell, 0.9 to 12 Å along each vector, any handedness, any directions periodic.

    Atoms lie up to two cells outside. A pair within 1e-9 of the cutoff may count either way and is left out, as are
    coincident atoms.
    """
    lengths = draw(arrays(float, 3, elements=st.floats(1.2, 12.0)))
    lower = np.tril(draw(arrays(float, (3, 3), elements=st.floats(-0.9, 0.9))), -1)
    cell = (np.eye(3) + lower) * lengths[:, None]
    cell = cell[list(draw(st.permutations(range(3))))]
    n = draw(st.integers(1, 5))
    fractions = draw(arrays(float, (n, 3), elements=st.floats(-2.0, 3.0)))
    pbc = draw(arrays(bool, 3))
    if draw(st.booleans()):
        cell[~pbc] = 0.0  # no vector where nothing repeats
    atoms = Atoms("C" * n, fractions @ np.where(cell.any(axis=1)[:, None], cell, 4 * np.eye(3)), cell=cell, pbc=pbc)
    distances = neighbor_list("d", atoms, CUTOFF + 1e-6)
    assume(not len(distances) or (distances.min() > 1e-3 and np.abs(distances - CUTOFF).min() > 1e-9))
    return atoms


def pairs_of(atoms: Atoms) -> Counter[tuple[int, ...]]:
    """How often (i, j, S) occurs in our list."""
    i, j, S = neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF)
    return Counter(map(tuple, np.column_stack([i, j, S]).tolist()))


@REPRODUCIBLE
@given(structures())
def test_pairs_equal_ase(atoms: Atoms) -> None:
    """Every (i, j, S) with |x_j + S cell - x_i| < cutoff once, images of an atom itself included."""
    i, j, S = neighbor_list("ijS", atoms, CUTOFF)
    assert pairs_of(atoms) == Counter(map(tuple, np.column_stack([i, j, S]).tolist()))


@REPRODUCIBLE
@given(structures())
def test_slots_hold_the_vectors_of_ase(atoms: Atoms) -> None:
    """What the potential reads from the slots: the same vectors per atom as ASE's, though atoms were wrapped."""
    system = make_system(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, CUTOFF)
    vectors, mask = map(np.asarray, jax.device_get(neighbor_vectors(system, CUTOFF)))
    i, D = neighbor_list("iD", atoms, CUTOFF)
    for centre in range(len(atoms)):
        mine, theirs = vectors[centre][mask[centre]], D[i == centre]
        assert len(mine) == len(theirs)
        # vectors are at most 3 Å, positions some 100 Å: rounding is some 1e-14
        difference = np.linalg.norm(mine[:, None] - theirs, axis=-1)
        assert (difference.min(axis=1, initial=0 if not len(theirs) else np.inf) < 1e-11).all()
        assert (difference.min(axis=0, initial=0 if not len(mine) else np.inf) < 1e-11).all()
    assert (np.linalg.norm(vectors[~mask], axis=-1) > CUTOFF).all()


@REPRODUCIBLE
@given(structures())
def test_wrapping_brings_atoms_into_the_cell(atoms: Atoms) -> None:
    """After subtraction of whole cells, periodic fractions are in [0, 1) up to rounding, others are as before.

    Fractions with vectors across the periodic ones: what stands in other rows of the cell does not matter.
    """
    shifts = wrap_shifts(atoms.positions, atoms.cell.array, atoms.pbc)
    box = complete_cell(np.where(atoms.pbc[:, None], atoms.cell.array, 0.0), atoms.pbc)
    fractions = np.linalg.solve(box.T, (atoms.positions - shifts @ box).T).T
    assert ((fractions > -1e-9) & (fractions < 1 + 1e-9))[:, atoms.pbc].all()
    assert not shifts[:, ~atoms.pbc].any()


def test_pairs_are_sorted(structures: dict[str, Atoms]) -> None:
    """Order by i, j, S: equal structures give equal slots whatever the library does."""
    crystal = structures["crystal"]
    i, j, S = neighbor_pairs(crystal.positions, crystal.cell.array, crystal.pbc, 3.6)
    rows = np.column_stack([i, j, S]).tolist()
    assert rows == sorted(rows)


def test_no_atoms() -> None:
    """An empty structure has no pairs."""
    assert [len(x) for x in neighbor_pairs(np.zeros((0, 3)), np.zeros((3, 3)), [False] * 3, 3.0)] == [0, 0, 0]


def test_missing_vectors_are_made_up() -> None:
    """Where nothing repeats, a zero row becomes a direction outside the span of the others; given rows stay."""
    cell = np.array([[3.0, 0.5, 0.0], [0.0, 0.0, 0.0], [0.0, 2.0, 2.0]])
    full = complete_cell(cell, np.array([True, False, True]))
    np.testing.assert_array_equal(full[[0, 2]], cell[[0, 2]])
    np.testing.assert_allclose([full[1] @ full[1], *(full[[0, 2]] @ full[1])], [1, 0, 0], atol=1e-14)
    assert abs(np.linalg.det(complete_cell(np.zeros((3, 3)), np.zeros(3, bool)))) == pytest.approx(1)


def test_capacity_is_a_ladder() -> None:
    """Enough room, never less for more, at most a quarter (and 1) too much, few rungs, each rung its own capacity."""
    needed = range(1, 3000)
    rungs = [capacity(n) for n in needed]
    assert all(n <= rung <= max(8, 1.25 * n + 1) for n, rung in zip(needed, rungs, strict=True))
    assert rungs == sorted(rungs)
    assert len(set(rungs)) < 30
    assert all(capacity(rung) == rung for rung in set(rungs))
    assert capacity(3, smallest=2) == 3


def test_periodic_direction_needs_a_vector() -> None:
    """The message names the axis."""
    with pytest.raises(UserError, match="periodic along b but that cell vector is zero"):
        make_system([[0, 0, 0]], [6], np.diag([3.0, 0.0, 3.0]), [True, True, False], 3.0)


def test_flat_cell_is_refused() -> None:
    """Three vectors in one plane, in a structure that repeats."""
    with pytest.raises(UserError, match="span no volume"):
        make_system([[0, 0, 0]], [6], [[3, 0, 0], [0, 3, 0], [3, 3, 0]], [True, True, True], 3.0)


def test_numbers_must_be_finite() -> None:
    """NaN and infinity are refused, and the message names the atoms."""
    positions = np.zeros((4, 3)) + np.arange(4)[:, None]
    positions[1, 2], positions[3, 0] = np.nan, np.inf
    with pytest.raises(UserError, match=r"atoms \[1, 3\]"):
        make_system(positions, [6] * 4, np.zeros((3, 3)), [False] * 3, 3.0)
    with pytest.raises(UserError, match="finite"):
        make_system([[0, 0, 0]], [6], np.full((3, 3), np.nan), [False] * 3, 3.0)


@pytest.mark.parametrize("cell", [np.diag([4.0, 5.0, 6.0]), [[4.0, 0, 0], [1.3, 3.7, 0], [-0.7, 0.9, 3.1]]])
def test_coincident_atoms_are_refused(cell: np.ndarray) -> None:
    """Two atoms at one place, or whole cells apart up to rounding, make the energy infinite; the message names them."""
    cell = np.array(cell)
    first = np.array([0.31, 0.47, 0.53])
    for shift in ([0, 0, 0], [1, 0, 0], [-2, 3, 1]):
        positions = [first, first + np.array([1.1, 1.2, 0.9]), first + shift @ cell]
        with pytest.raises(UserError, match="atoms 0 and 2"):
            make_system(positions, [6, 1, 6], cell, [True, True, True], 3.0)


def test_padding_keeps_what_is_there(structures: dict[str, Atoms]) -> None:
    """New atoms have number 0, empty slots hold the new number of atoms; make_system pads just as `pad` does."""
    slab = structures["slab"]
    arguments = (slab.positions, slab.numbers, slab.cell.array, slab.pbc, 3.0)
    bare = make_system(*arguments)
    n, k = bare.neighbors.shape
    assert n == 4
    padded = pad(bare, n + 3, k + 2)
    assert padded.neighbors.shape == (n + 3, k + 2)
    assert (padded.numbers[n:] == 0).all()
    assert set(padded.neighbors[bare_empty(bare, n + 3, k + 2)]) == {n + 3}
    assert (padded.neighbors[:n, :k][bare.neighbors < n] == bare.neighbors[bare.neighbors < n]).all()
    for mine, theirs in zip(padded, make_system(*arguments, n + 3, k + 2), strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype


def bare_empty(bare: System, rows: int, slots: int) -> np.ndarray:
    """Where the padded system must have empty slots, [rows, slots]."""
    empty = np.ones((rows, slots), bool)
    n, k = bare.neighbors.shape
    empty[:n, :k] = bare.neighbors == n
    return empty


def test_stack_keeps_every_system(structures: dict[str, Atoms]) -> None:
    """A batch has the largest shape; each row describes the same vectors between the same atoms."""
    singles = [make_system(a.positions, a.numbers, a.cell.array, a.pbc, 3.0) for a in structures.values()]
    batch = stack(singles)
    rows = max(len(s.numbers) for s in singles)
    assert batch.neighbors.shape == (len(singles), rows, max(s.neighbors.shape[1] for s in singles))
    for b, single in enumerate(singles):
        vectors, mask = map(np.asarray, neighbor_vectors(single, 3.0))
        row = System(*(field[b] for field in batch))
        padded_vectors, padded_mask = map(np.asarray, neighbor_vectors(row, 3.0))
        n, k = mask.shape
        np.testing.assert_array_equal(padded_mask[:n, :k], mask)
        assert padded_mask.sum() == mask.sum()
        np.testing.assert_array_equal(padded_vectors[:n, :k][mask], vectors[mask])
        assert row.numbers.tolist() == single.numbers.tolist() + [0] * (rows - n)


def bare_system(atoms: Atoms) -> System:
    """The structure without any padding, neighbours within 3.6 Å."""
    return make_system(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, 3.6)


def test_padding_changes_nothing(make_potential: Callable, structures: dict[str, Atoms]) -> None:
    """A slab without any padding against the same with empty atoms and slots, which feel exactly nothing."""
    potential, params = make_potential()
    bare = bare_system(structures["slab"])
    assert bare.neighbors.shape[0] == 4
    without, padded = predict(potential, params, bare), predict(potential, params, pad(bare, ROWS, SLOTS))
    assert_close(padded.energy, without.energy)
    assert_close(padded.forces[:4], without.forces)
    assert_close(padded.virial, without.virial)
    assert not np.any(padded.forces[4:])
    assert not np.any(padded.energies[4:])


def test_batch_equals_single_systems(make_potential: Callable, structures: dict[str, Atoms]) -> None:
    """One vmap over unlike structures equals one call each, a lone atom among them."""
    potential, params = make_potential()
    singles = [bare_system(atoms) for atoms in structures.values()]
    batch = jax.jit(jax.vmap(potential.predict, (None, 0)))(params, stack(singles))
    for row, atoms in enumerate(structures.values()):
        expected = predict(potential, params, pad(singles[row], ROWS, SLOTS))
        assert_close(batch.energy[row], expected.energy)
        assert_close(batch.forces[row, : len(atoms)], expected.forces[: len(atoms)])
        assert_close(batch.virial[row], expected.virial)
        assert not np.any(batch.forces[row, len(atoms) :])


@jax.jit(static_argnums=0)
def loss_gradient(potential: Potential, params: dict, system: System) -> tuple[dict, jax.Array]:
    """Gradient of E^2 + sum F^2 in parameters and positions."""

    def loss(params: dict, positions: jax.Array) -> jax.Array:
        got = potential.predict(params, system._replace(positions=positions))
        return got.energy**2 + jnp.sum(got.forces**2)

    return jax.grad(loss, (0, 1))(params, system.positions)


def test_training_gradients(make_potential: Callable, structures: dict[str, Atoms]) -> None:
    """Gradients of a loss of energies and forces, in parameters and positions, against differences along a direction.

    The force term makes these second derivatives; an empty slot that met a square root of zero would give NaN. Padding
    gets no gradient. Five points as for forces; 1e-6 of the derivative is left for truncation and rounding.
    """
    potential, params = make_potential()
    rng = np.random.default_rng(4)
    for name in ("atom", "dimer", "triclinic"):
        system = pad(bare_system(structures[name]), ROWS, SLOTS)
        gradient = jax.device_get(loss_gradient(potential, params, system))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
        assert not np.any(gradient[1][len(structures[name]) :])
        direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), gradient)

        def loss(step: float) -> float:
            there, positions = jax.tree.map(lambda x, d: x + step * d, (params, system.positions), direction)  # noqa: B023
            got = predict(potential, there, system._replace(positions=positions))  # noqa: B023
            return float(got.energy**2 + jnp.sum(got.forces**2))

        along = sum(np.vdot(g, d) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
        assert_close(along, np.array(slope(loss, 3e-4)), 1e-6)
