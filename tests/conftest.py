"""Set-up of all tests: float64, strict broadcasting, CPU, a compile cache; small structures and small potentials.

The compile cache lies in $GMNN_TEST_CACHE, or else in the folder for temporary files; delete it to time a cold run.
"""

import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from tests.support import processes

os.environ |= processes.settings()  # before JAX reads it

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from gmnn.config.model import NO_CORE, ModelConfig, ZBLConfig
from gmnn.data.embedded import ethanol
from gmnn.model.descriptor import n_features
from gmnn.model.potential import Potential
from gmnn.reference import Reference

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

LONG = {
    "test_md",
    "test_device_list",
    "test_study",
    "test_certificate",
    "test_suites",
}  # they compute long

ELEMENTS = (1, 6, 8, 14)
ZBL = ZBLConfig(strength=1.0, floor=0.5, window="covalent", inner=0.6, outer=1.5)
SCREENING = (  # of the size of the published NLH numbers; H-H falls as the difference of two exponentials, as there
    (-8.9, 9.6, 9.9, 8.9, 0.0, 0.0), (0.04, 52.0, 0.96, 4.0, 0.0, 0.0), (0.01, 99.0, 0.99, 4.9, 0.0, 0.0),
    (0.35, 14.0, 0.65, 3.2, 0.0, 0.0), (0.2, 20.0, 0.3, 8.0, 0.5, 3.0), (0.1, 25.0, 0.4, 7.0, 0.5, 3.5),
    (0.3, 15.0, 0.3, 6.0, 0.4, 2.5), (0.2, 18.0, 0.5, 6.0, 0.3, 3.0), (0.3, 12.0, 0.4, 5.0, 0.3, 2.2),
    (0.4, 10.0, 0.4, 4.0, 0.2, 1.5),
)  # fmt: skip


def _rattled(atoms: Atoms, seed: int) -> Atoms:
    """No atom on a symmetric site, where wrong forces would vanish."""
    atoms.rattle(0.12, seed=seed)
    return atoms


@cache
def _structures() -> dict[str, Atoms]:
    frame = ethanol()[0]
    sheared = [[2.9, 0.0, 0.0], [1.3, 2.7, 0.0], [-0.9, 1.1, 3.3]]  # every height is below the cutoff
    sites = [[0.0, 0.0, 0.0], [1.1, 0.3, 0.4], [0.8, 1.7, 1.9]]
    sheet = [[3.1, 0.0, 0.0], [0.7, 3.4, 0.0], [0.0, 0.0, 0.0]]  # no third vector, as in many files of slabs
    layers = [[0.0, 0.1, 0.0], [1.5, 1.6, 0.9], [0.2, 0.1, 1.9], [0.3, 0.1, 2.9]]
    mirrored = bulk("SiC", "rocksalt", a=4.1).cell.array[[1, 0, 2]]  # rows with a negative triple product
    if np.linalg.det(mirrored) > 0:
        mirrored = mirrored[[1, 0, 2]]
    return {
        "molecule": Atoms(frame.numbers, frame.positions),
        "crystal": _rattled(bulk("SiC", "zincblende", a=4.36, cubic=True), 1),
        "triclinic": Atoms("OHC", sites, cell=sheared, pbc=True),
        "slab": Atoms("SiCOH", layers, cell=sheet, pbc=[True, True, False]),
        "dimer": Atoms("OH", [[0.1, 0.2, 0.3], [0.6, -0.3, 0.8]]),
        "atom": Atoms("C", [[0.3, -0.2, 0.1]]),
        "tiny_cell": bulk("Si", "fcc", a=3.5),
        "left_handed": _rattled(Atoms("SiC", [[0.0, 0.0, 0.0], [2.05, 0.0, 0.0]], cell=mirrored, pbc=True), 2),
    }


NAMES = ("molecule", "crystal", "triclinic", "slab", "dimer", "atom", "tiny_cell", "left_handed")


@pytest.fixture(autouse=True)
def _few_optimisations(request: pytest.FixtureRequest) -> None:
    """Most tests compile longer than they compute."""
    jax.config.update("jax_disable_most_optimizations", request.path.stem not in LONG)


@pytest.fixture(scope="session")
def once_for_all(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[..., Path]:
    """once_for_all(name, build) -> folder: what `build(folder)` leaves there, made once for all workers of this run."""
    base = tmp_path_factory.getbasetemp()
    return partial(processes.once_for_all, base if worker_id == "master" else base.parent)


@pytest.fixture
def structures() -> dict[str, Atoms]:
    """Fresh copies of all structures by name."""
    return {name: atoms.copy() for name, atoms in _structures().items()}


@pytest.fixture(params=NAMES)
def atoms(request: pytest.FixtureRequest) -> Atoms:
    """Each structure in turn: molecule, crystal, thin sheared cell, slab, dimer, atom, one-atom cell, mirrored cell."""
    return _structures()[request.param].copy()


_init = jax.jit(Potential.init, static_argnums=0)


@cache
def _potential(seed: int, scaled: bool, config: ModelConfig) -> tuple[Potential, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    reference = Reference(
        elements=ELEMENTS,
        E0=(-13.6, -1027.0, -2041.0, -7870.0),
        scale=(0.3, 0.5, 0.6, 0.7),
        shift=(-0.4, 0.7, -1.1, 0.2),
        feature_scale=tuple(rng.uniform(0.5, 2.0, n_features(config.n_radial)).tolist()) if scaled else (),
        closest=(0.7, 0.95, 0.9, 1.4, 1.35, 1.3, 1.8, None, 1.6, 2.2),  # H-H, H-C, H-O, H-Si, C-C, C-O ...; no O-O
        moment_scale=(0.8, 1.1, 1.0, 1.3),
        screening=SCREENING if config.repulsion == "nlh" else (),
    )
    potential = Potential(config, reference)
    leaves, tree = jax.tree.flatten(jax.device_get(_init(potential, seed)))
    moved = [np.asarray(leaf, float) + 0.1 * rng.normal(size=np.shape(leaf)) for leaf in leaves]
    params = jax.tree.unflatten(tree, moved)
    params["readout"][f"layer_{len(config.hidden)}"]["kernel"] *= 20.0  # the network weighs as much as the repulsion
    return potential, params


@pytest.fixture
def make_potential() -> Callable[..., tuple[Potential, dict[str, Any]]]:
    """make_potential(seed=0, scaled=False, **config) -> (potential, float64 parameters), tiny and fully random.

    `scaled` adds a feature scale. The core is off; ``core=CoreConfig()`` switches it on. Every parameter is moved off
    its initial value, so that no zero bias or unit strength hides a mistake. The covalent window reaches far enough out
    to act on the bonds of the structures.
    """

    def make(seed: int = 0, scaled: bool = False, **config: Any) -> tuple[Potential, dict[str, Any]]:
        small = {"r_max": 3.6, "n_radial": 2, "n_basis": 5, "hidden": (8, 8), "zbl": ZBL, "core": NO_CORE}
        potential, params = _potential(seed, scaled, ModelConfig(**(small | config)))
        return potential, jax.tree.map(np.copy, params)

    return make
