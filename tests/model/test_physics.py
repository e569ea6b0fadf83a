"""What any potential energy must do, for every structure: its derivatives, its symmetries, its continuity.

Index letters: i centre, k neighbour slot, j its atom, a b Cartesian. Bounds are relative to the largest number
compared; float64 sums here round to some 1e-14 of that. Padding and batches are in test_neighbors.py.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from scipy.stats import ortho_group

from gmnn.config.model import NO_CORE, CoreConfig, ZBLConfig
from gmnn.errors import UserError
from gmnn.model.network import GMNN, constants
from gmnn.model.potential import Potential, neighbor_vectors
from gmnn.neighbors.host import make_system
from gmnn.system import Prediction, System
from tests.support import oracle
from tests.support.oracle import assert_close, slope

ROWS, SLOTS = 18, 40  # one padded shape for all structures and their doubles: few compilations
Model = tuple[Potential, dict[str, Any]]

energy = jax.jit(Potential.energy, static_argnums=0)
predict = jax.jit(Potential.predict, static_argnums=0)
CHOICES = {
    "bounded": {},
    "linear, no repulsion": {"output_activation": "identity", "repulsion": "none", "scaled": True},
    "gaussians": {"basis": "gaussian", "cutoff": "cosine", "repulsion": "none"},
    "fixed cosine repulsion": {
        "output_activation": "identity",
        "scaled": True,
        "zbl": ZBLConfig(strength=0.8, trainable=False, window="cosine", r_off=3.2),
    },
    "full core": {"core": CoreConfig(moment_room=1.0), "scaled": True},
    "window of the data": {"core": CoreConfig(moment_room=1.0), "zbl": ZBLConfig(window="closest", outer=1.5)},
    "full core, agnesi, nlh": {
        "core": CoreConfig(width=0.3, depth=0.8, gate_outer=1.0, moment_room=2.0),
        "distance": "agnesi",
        "repulsion": "nlh",
    },
}  # fmt: skip


def system_of(atoms: Atoms) -> System:
    """The structure with neighbours within 3.6 Å, padded."""
    return make_system(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, 3.6, ROWS, SLOTS)


def evaluate(model: Model, atoms: Atoms) -> Prediction:
    """Prediction in float64 with the padding cut off."""
    potential, params = model
    got = jax.device_get(predict(potential, params, system_of(atoms)))
    return got._replace(energies=got.energies[: len(atoms)], forces=got.forces[: len(atoms)])


def moved(atoms: Atoms, i: int, a: int, step: float) -> Atoms:
    """Atom i displaced by `step` along a."""
    atoms = atoms.copy()
    atoms.positions[i, a] += step
    return atoms


def strained(atoms: Atoms, a: int, b: int, step: float) -> Atoms:
    """Positions and cell under the symmetric strain with components ab and ba."""
    deform = np.eye(3)
    deform[a, b] += step / 2
    deform[b, a] += step / 2
    out = atoms.copy()
    out.positions, out.cell[:] = atoms.positions @ deform, atoms.cell.array @ deform
    return out


@pytest.fixture(params=[NO_CORE, CoreConfig(moment_room=1.0)], ids=["plain", "core"])
def model(make_potential: Callable[..., Model], request: pytest.FixtureRequest) -> Model:
    """The potential with bounded readout and trainable repulsion, without and with its core."""
    return make_potential(core=request.param)


@pytest.mark.parametrize("choice", CHOICES)
def test_energy_equals_oracle(make_potential: Callable[..., Model], atoms: Atoms, choice: str) -> None:
    """The whole energy, periodic images included, equals the plain NumPy sum of the published equations.

    1e-12 of the larger of 1 eV and the energy; single terms are of that size, so cancellation costs little.
    """
    potential, params = make_potential(**CHOICES[choice])
    expected = oracle.energy(potential.config, potential.reference, params, atoms)
    assert_close(energy(potential, params, system_of(atoms)), np.array(expected), 1e-12)


def test_forces_are_the_gradient(model: Model, atoms: Atoms) -> None:
    """F = -dE/dx by central differences with neighbour lists made anew for each displacement, to 1e-6 of the largest.

    Five points at 5e-4 Å: truncation about 1e-9, rounding of the energy 1e-14 / 1e-4 = 1e-10 of the largest force.
    """
    energy_at = lambda *step: float(evaluate(model, moved(atoms, *step)).energy)  # noqa: E731
    numeric = [[-slope(lambda h: energy_at(i, a, h), 5e-4) for a in range(3)] for i in range(len(atoms))]  # noqa: B023
    assert_close(evaluate(model, atoms).forces, np.array(numeric), 1e-6, floor=0.1)


def test_virial_is_the_strain_derivative(model: Model, atoms: Atoms) -> None:
    """virial_ab = dE/d(strain_ab) by central differences in all six strains of positions and cell; symmetric."""
    numeric = np.zeros((3, 3))
    for a in range(3):
        for b in range(a, 3):
            derivative = slope(lambda h: float(evaluate(model, strained(atoms, a, b, h)).energy), 2e-4)  # noqa: B023
            numeric[a, b] = numeric[b, a] = derivative
    virial = evaluate(model, atoms).virial
    assert_close(virial, numeric, 1e-6, floor=0.1)
    assert_close(virial, virial.T, 1e-13)


def test_stress_has_the_sign_of_ase(model: Model, structures: dict[str, Atoms]) -> None:
    """A crystal held together by nothing but repulsion wants to expand: dE/d(strain) is negative along each axis."""
    potential, params = model
    params["scale_shift"]["scale"][:] = -1e4  # no network
    virial = evaluate((potential, params), structures["tiny_cell"]).virial
    assert (np.diag(virial) < -0.1).all()


def test_forces_and_virial_equal_gathered_edge_forces(model: Model, atoms: Atoms) -> None:
    """Second route to every number: dE/d(vector of slot k of i) collected on the atoms and into the virial by hand."""
    potential, params = model
    system = system_of(atoms)
    vectors, mask = jax.device_get(neighbor_vectors(system, potential.config.r_max))
    j = np.minimum(system.neighbors, ROWS - 1)
    element = potential.element_index[system.numbers]
    edge = edge_forces(potential, params, vectors, mask, element, element[j], system.numbers > 0)
    edge = np.where(mask[..., None], edge, 0.0)
    forces = edge.sum(axis=1)
    np.add.at(forces, j.ravel(), -edge.reshape(-1, 3))
    got = evaluate(model, atoms)
    assert_close(got.forces, forces[: len(atoms)])
    assert_close(got.virial, np.einsum("ika,ikb->ab", vectors, edge))


@jax.jit(static_argnums=0)
def edge_forces(potential: Potential, params: dict, vectors: jax.Array, *slots: jax.Array) -> jax.Array:
    """dE/d(vector to the atom in slot k of centre i), [N, K, 3]; `slots` are mask, elements of i and j, real atoms."""
    *arguments, real = slots

    def total(vectors: jax.Array) -> jax.Array:
        network = GMNN(potential.config, potential.reference, constants(potential.config, potential.reference))
        energies = network.apply({"params": params}, vectors, *arguments)
        return jnp.sum(jnp.where(real[:, None], energies, 0.0))

    return jax.grad(total)(vectors)


def test_forces_add_up_to_nothing(model: Model, atoms: Atoms) -> None:
    """Newton's third law: no net force; no net torque either where nothing is periodic."""
    got = evaluate(model, atoms)
    assert_close(got.forces.sum(axis=0), np.zeros(3))
    assert_close(got.energies.sum(), got.energy, 1e-14)
    if not atoms.pbc.any():
        assert_close(np.cross(atoms.positions, got.forces).sum(axis=0), np.zeros(3))


@pytest.mark.parametrize("determinant", [1, -1])
def test_rotation_and_reflection(model: Model, atoms: Atoms, determinant: int) -> None:
    """E(Q x) = E(x), F(Q x) = Q F(x), virial(Q x) = Q virial Q^T for proper and improper Q."""
    Q = ortho_group.rvs(3, random_state=3)
    Q *= determinant * np.sign(np.linalg.det(Q))
    before = evaluate(model, atoms)
    atoms.positions, atoms.cell[:] = atoms.positions @ Q.T, atoms.cell.array @ Q.T
    after = evaluate(model, atoms)
    assert_close(after.energies, before.energies)
    assert_close(after.forces, before.forces @ Q.T)
    assert_close(after.virial, Q @ before.virial @ Q.T)


def test_permutation(model: Model, atoms: Atoms) -> None:
    """The order of the atoms is of no account."""
    order = np.random.default_rng(0).permutation(len(atoms))
    before, after = evaluate(model, atoms), evaluate(model, atoms[order])
    assert_close(after.energies, before.energies[order])
    assert_close(after.forces, before.forces[order])
    assert_close(after.virial, before.virial)


def test_translation_and_wrapping(model: Model, atoms: Atoms) -> None:
    """Moving all atoms alike, or single atoms by up to 5 whole cells along periodic directions, changes nothing."""
    rng = np.random.default_rng(1)
    before = evaluate(model, atoms)
    atoms.positions += rng.normal(size=3)
    cells = rng.integers(-5, 6, size=(len(atoms), 3)) * atoms.pbc
    atoms.positions += cells @ atoms.cell.array
    after = evaluate(model, atoms)
    assert_close(after.energies, before.energies)
    assert_close(after.forces, before.forces)
    assert_close(after.virial, before.virial)


@pytest.mark.parametrize("name", ["crystal", "triclinic", "slab", "tiny_cell", "left_handed"])
def test_supercell(model: Model, structures: dict[str, Atoms], name: str) -> None:
    """E(2 x 1 x 1) = 2 E with the same forces, also when an atom is its own neighbour; a as good as a + b."""
    atoms = structures[name]
    once, twice = evaluate(model, atoms), evaluate(model, atoms.repeat((2, 1, 1)))
    assert_close(twice.energy, 2 * once.energy)
    assert_close(twice.forces, np.tile(once.forces, (2, 1)))
    assert_close(twice.virial, 2 * once.virial)
    atoms.cell[0] = atoms.cell[0] + atoms.cell[1]
    assert_close(evaluate(model, atoms).forces, once.forces)


def test_extensivity(model: Model, structures: dict[str, Atoms]) -> None:
    """Two molecules 40 Å apart do not know of each other."""
    far = structures["molecule"].copy()
    far.translate([40.0, 0.0, 0.0])
    one, two = evaluate(model, structures["molecule"]), evaluate(model, structures["molecule"] + far)
    assert_close(two.energies, np.tile(one.energies, 2))
    assert_close(two.forces, np.tile(one.forces, (2, 1)))


@jax.jit(static_argnums=0)
def curve(potential: Potential, params: dict, system: System, direction: jax.Array) -> tuple[jax.Array, ...]:
    """E, E' and E'' along a displacement of all atoms."""

    def at(step: jax.Array) -> jax.Array:
        return potential.energy(params, system._replace(positions=system.positions + step * direction))

    (value, first), (_, second) = jax.jvp(lambda x: jax.jvp(at, (x,), (1.0,)), (0.0,), (1.0,))
    return value, first, second


def jumps(model: Model, symbols: str, r: float, d: float) -> np.ndarray:
    """Change of E, E', E'' from r - d to r + d between the first atom and the last, less the integral of E', E''.

    Neighbour lists are made anew on each side. A third atom in between makes the path feel more than one pair.
    """
    rows = []
    direction = np.zeros((ROWS, 3))
    direction[len(symbols) - 1, 2] = 1.0
    for distance in (r - d, r + d):
        sites = [[0.0, 0.0, 0.0], [0.9, 0.8, 0.3], [0.0, 0.0, distance]]
        atoms = Atoms(symbols, sites if len(symbols) == 3 else sites[::2])
        rows.append([float(x) for x in curve(*model, system_of(atoms), direction)])
    low, high = np.array(rows)
    return np.abs(high - low - [d * (low[1] + high[1]), d * (low[2] + high[2]), 0])


def smooth(coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """Whether E, E', E'' are continuous: jumps shrink at least like d; a tenth is asserted as a fifth."""
    return fine < 0.2 * coarse + 1e-11  # rounding of some eV, eV/Å, eV/Å^2


def test_smooth_across_cutoff(make_potential: Callable[..., Model]) -> None:
    """An atom leaves the neighbour list of another. With Gaussians: Bessel functions alone vanish at the cutoff."""
    model = make_potential(basis="gaussian")
    coarse, fine = jumps(model, "OCH", 3.6, 1e-3), jumps(model, "OCH", 3.6, 1e-4)
    assert smooth(coarse, fine).all()
    assert coarse[2] > 1e-6  # something does change


def test_cosine_cutoff_keeps_forces_continuous(make_potential: Callable[..., Model]) -> None:
    """With the cosine cutoff E' is continuous too, and E'' jumps: that is why it is not the default."""
    model = make_potential(basis="gaussian", cutoff="cosine")
    coarse, fine = jumps(model, "OCH", 3.6, 1e-3), jumps(model, "OCH", 3.6, 1e-4)
    assert smooth(coarse, fine)[:2].all()
    assert fine[2] > 0.5 * coarse[2]


def test_smooth_across_switches_of_repulsion(model: Model) -> None:
    """Where the covalent window of O-H starts to close and has closed, E, E' and E'' are continuous."""
    for r in (0.6 * (0.66 + 0.31), 1.5 * (0.66 + 0.31)):
        coarse, fine = jumps(model, "OH", r, 1e-3), jumps(model, "OH", r, 1e-4)
        assert smooth(coarse, fine).all()
        assert coarse[2] > 1e-3


def test_float32_budget(model: Model, atoms: Atoms) -> None:
    """In float32 throughout: energies within 1e-5 eV per atom and forces within 1e-4 eV/Å of float64.

    Numbers here reach some 20 eV and eV/Å, which float32 resolves to 2e-6; sums over neighbours and layers lose a few
    of these. Measured: 1e-6 eV per atom, 1e-5 eV/Å. A promotion to float64 on the way would be slow on accelerators.
    """
    potential, params = model
    to32 = lambda x: np.asarray(x, np.float32) if np.asarray(x).dtype == np.float64 else x  # noqa: E731
    got = predict(potential, jax.tree.map(to32, params), jax.tree.map(to32, system_of(atoms)))
    expected = evaluate(model, atoms)
    assert abs(got.energy - expected.energy) < 1e-5 * len(atoms)
    assert np.abs(got.forces[: len(atoms)] - expected.forces).max() < 1e-4
    assert {x.dtype for x in jax.tree.leaves(got)} == {np.dtype(np.float32)}


def test_jit_equals_eager(model: Model, structures: dict[str, Atoms]) -> None:
    """Compiled and operation by operation give the same to 1e-12: compilers have been wrong here before."""
    potential, params = model
    system = system_of(structures["triclinic"])
    assert_close(predict(potential, params, system).energies, potential.atomic_energies(params, system), 1e-12)


def test_unknown_elements_are_refused(model: Model) -> None:
    """The message names the strangers and lists the trained elements; references add up in float64."""
    potential, _ = model
    with pytest.raises(UserError, match=r"not trained on N, Au; it knows H, C, O, Si"):
        potential.offsets(np.array([6, 79, 7, 1]))
    with pytest.raises(UserError, match="not trained on He"):
        potential.require_elements(np.array([2]))
    E0 = dict(zip(potential.reference.elements, potential.reference.E0, strict=True))
    assert potential.offsets(np.array([14, 1, 1, 0])).tolist() == [E0[14], E0[1], E0[1], 0.0]
