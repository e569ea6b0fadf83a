"""Kind 10: the work for a list of neighbours is estimated before it is done; what is too much is refused at once."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from gmnn import Calculator, md
from gmnn.errors import UserError
from gmnn.neighbors import memory, plan
from gmnn.neighbors.host import estimated_pairs, make_system, neighbor_pairs, require_searchable

Make = Callable[..., tuple[Any, dict]]
RNG = np.random.default_rng(0)
CUBE = RNG.uniform(0, 5, (10_000, 3))
NONE, ALL = np.array([False] * 3), np.array([True] * 3)
NO_CELL = np.zeros((3, 3))

TOO_DENSE = {
    "a cube": (CUBE, NO_CELL, NONE),
    "a periodic cube": (CUBE, 5 * np.eye(3), ALL),
    "a slab": (CUBE, np.diag([5.0, 5.0, 0.0]), np.array([True, True, False])),
    "a rod": (CUBE * [1, 1, 3], np.diag([5.0, 5.0, 15.0]), np.array([False, False, True])),
    "a cube and an atom far away": (np.vstack([CUBE, [[5e5, 0, 0]]]), NO_CELL, NONE),
    "two cubes far apart": (np.vstack([CUBE, CUBE + np.array([9e4, 0, 0])]), NO_CELL, NONE),
    "a box of water in nm": (RNG.uniform(0, 3.1, (3000, 3)), 3.1 * np.eye(3), ALL),
    "a small box of water in nm": (RNG.uniform(0, 0.99, (96, 3)), 0.99 * np.eye(3), ALL),
    "silicon in nm": (0.1 * bulk("Si", cubic=True).positions, 0.1 * bulk("Si", cubic=True).cell.array, ALL),
    "a cluster in nm": (0.1 * bulk("Si", cubic=True).repeat(9).positions, NO_CELL, NONE),
}


@pytest.mark.parametrize("name", TOO_DENSE)
def test_kind_10_nm_for_angstrom(name: str) -> None:
    """One sentence within a second, from the host's list and from the plan of the device's."""
    positions, cell, pbc = TOO_DENSE[name]
    began = time.perf_counter()
    for search in (
        lambda: neighbor_pairs(positions, cell, pbc, 5.5),
        lambda: make_system(positions, np.full(len(positions), 14), cell, pbc, 5.5),
        lambda: plan(positions, cell, pbc, 5.5),
    ):
        with pytest.raises(UserError, match="are the positions in nm"):
            search()
    assert time.perf_counter() - began < 3


ORDINARY = {
    "crystal": (bulk("Si", cubic=True).repeat(5), 5.5),
    "primitive cell": (bulk("Si"), 8.0),
    "compressed crystal": (
        Atoms("Si8", 0.4 * bulk("Si", cubic=True).positions, cell=0.4 * 5.43 * np.eye(3), pbc=1),
        5.5,
    ),
    "skewed cell": (bulk("Cu").repeat(9), 5.0),
    "cluster": (Atoms("H1500", RNG.uniform(0, 20, (1500, 3))), 5.0),
    "slab": (Atoms("H1500", RNG.uniform(0, 20, (1500, 3)) * [1, 1, 0.2], cell=[20, 20, 0], pbc=[1, 1, 0]), 5.0),
    "all pairs of a molecule": (Atoms("H40", RNG.uniform(0, 5, (40, 3))), 100.0),
    "atoms all at one height": (Atoms("H400", RNG.uniform(0, 40, (400, 3)) * [1, 1, 0]), 5.0),
    "far apart": (Atoms("H20", RNG.uniform(0, 5e4, (20, 3))), 5.0),
    "left-handed": (Atoms("H80", RNG.uniform(0, 9, (80, 3)), cell=9 * np.eye(3)[[1, 0, 2]], pbc=1), 5.5),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_kind_10_the_estimate_is_near_the_truth(name: str) -> None:
    """Within a half, an atom's pair with itself aside; nothing ordinary is refused."""
    atoms, cutoff = ORDINARY[name]
    arguments = (atoms.positions, atoms.cell.array, atoms.pbc, cutoff)
    i, _, _ = neighbor_pairs(*arguments)
    pairs, most = estimated_pairs(*arguments)
    assert len(i) / 1.5 < pairs < 1.5 * len(i) + 2 * len(atoms)
    assert most > np.bincount(i, minlength=1).max() / 2


@pytest.mark.parametrize("skin", [1e5, 1e300, np.inf, np.nan, "0.5", "wide", None, -1.0, True, [0.5]])
def test_kind_10_skins_that_are_none(make_potential: Make, structures: dict[str, Atoms], skin: Any) -> None:
    """Also kind 11: a calculator takes a number and refuses the rest with one sentence, when it is made or used."""
    potential, params = make_potential()
    for name in ("molecule", "crystal"):
        with pytest.raises(UserError, match=r"skin|neighbours within"):
            Calculator(potential.with_params(params), skin=skin).get_potential_energy(structures[name])


def test_kind_10_skins_of_dynamics(make_potential: Make, structures: dict[str, Atoms]) -> None:
    potential, params = make_potential()
    for skin in (1e5, np.inf):
        with pytest.raises(UserError, match="take a smaller cutoff or skin"):
            md.Dynamics(structures["crystal"], potential.with_params(params), md.Bath("nve"), skin=skin)


def test_kind_10_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that needs more memory than there is; the slots of all atoms are as many as the fullest needs."""
    crystal = bulk("Si", cubic=True).repeat(12)
    arguments = (crystal.positions, crystal.cell.array, crystal.pbc, 7.0)
    require_searchable(*arguments)
    monkeypatch.setattr(memory, "machine_memory", lambda: 2.0**26)
    with pytest.raises(UserError, match=r"would need about .* GB .* this machine has 0.0625 GB"):
        require_searchable(*arguments)
    clump = np.vstack([RNG.uniform(0, 300, (20_000, 3)), RNG.uniform(0, 10, (900, 3))])
    with pytest.raises(UserError, match="would need about"):
        require_searchable(clump, NO_CELL, NONE, 5.5)
