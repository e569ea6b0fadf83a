"""Starting from a trained potential: what it knew stays as it was, new elements join, references follow the data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.io import write

import gmnn
from gmnn import data, training
from gmnn.commands import train
from gmnn.config.model import CoreConfig
from gmnn.data import batches
from gmnn.data.embedded import ethanol
from gmnn.model import folder, short_range
from gmnn.model.potential import Potential
from gmnn.neighbors.host import make_system
from gmnn.reference import Reference

Model = tuple[Potential, dict[str, Any]]
energies = jax.jit(Potential.atomic_energies, static_argnums=0)


@pytest.fixture
def old(make_potential: Callable[..., Model]) -> Potential:
    """Knows H, C, O, Si; full core, scaled features."""
    potential, params = make_potential(scaled=True, core=CoreConfig())
    return potential.with_params(jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params))


def of_data(elements: tuple[int, ...], closest: float | None = None) -> Reference:
    """What a new data set with these elements says."""
    n = len(elements)
    return Reference(elements, (-5.0,) * n, (0.4,) * n, (0.0,) * n, closest=(closest,) * (n * (n + 1) // 2))


def energy_of(potential: Potential, atoms: Atoms) -> np.ndarray:
    system = make_system(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, potential.config.r_max)
    return np.asarray(energies(potential, potential.trained, system))


@pytest.mark.parametrize("elements", [(1, 6, 7, 8), (3, 26), pytest.param((1, 6), marks=pytest.mark.slow)])
def test_old_structures_keep_their_energies(
    old: Potential, structures: dict[str, Atoms], elements: tuple[int, ...]
) -> None:
    """With and without new elements in between: every atomic energy of what was known is the same."""
    new = training.start_from(old, of_data(elements), (), 0)
    assert new.reference.elements == tuple(sorted({1, 6, 8, 14, *elements}))
    for name in ("molecule", "crystal", "triclinic", "slab"):
        np.testing.assert_allclose(energy_of(new, structures[name]), energy_of(old, structures[name]), rtol=1e-12)
    for z in elements:
        assert np.isfinite(energy_of(new, Atoms(numbers=[z, 6], positions=[[0, 0, 0], [0, 0, 1.5]]))).all()


def test_clamps_lie_below_the_distances_of_both_sets(old: Potential) -> None:
    """A pair that comes closer in the new data is shown there; pairs that stay further apart keep what they had."""
    closer = short_range.closest_table(training.start_from(old, of_data((1, 6), closest=0.6), (), 0).reference)
    apart = short_range.closest_table(training.start_from(old, of_data((1, 6), closest=3.0), (), 0).reference)
    known = short_range.closest_table(old.reference)
    np.testing.assert_array_equal(closer[:2, :2], 0.6)
    np.testing.assert_array_equal(apart, known)
    np.testing.assert_array_equal(closer[2:, 2:], known[2:, 2:])


@pytest.mark.parametrize("group", ["radial", "readout", "scale_shift", "repulsion"])
def test_a_group_that_is_reset_starts_anew(old: Potential, group: str) -> None:
    """It has the initial parameters of the seed; all others have the trained ones."""
    new = training.start_from(old, of_data((1, 6)), (group,), 7)
    fresh = new.init(7)
    for name, tree in new.trained.items():
        wanted = fresh[name] if name == group else old.trained[name]
        for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7)


def labelled(potential: Potential, structures: dict[str, Atoms], offset: dict[int, float]) -> data.Dataset:
    """Energies of the potential plus a constant per element: what another method would say of the same atoms."""
    atoms = [structures[name] for name in ("molecule", "crystal", "triclinic", "dimer", "atom", "slab")]
    labels = [
        energy_of(potential, a).sum() + potential.offsets(a.numbers).sum() + sum(offset[int(z)] for z in a.numbers)
        for a in atoms
    ]
    n = len(atoms)
    forces = [np.zeros((len(a), 3)) for a in atoms]
    stresses = np.full((n, 3, 3), np.nan)
    return data.Dataset(atoms, np.array(labels), forces, stresses, np.ones(n), "x", "", np.arange(n))


def test_references_follow_the_method_of_the_data(old: Potential, structures: dict[str, Atoms]) -> None:
    """Nothing changes for data of the same method; a constant per element is found for data of another one."""
    for offset in (dict.fromkeys((1, 6, 8, 14), 0.0), {1: 3.0, 6: -2.0, 8: 0.5, 14: 100.0}):
        buckets = batches.make_buckets(labelled(old, structures, offset), old.reference, old.config.r_max, "float64")
        change = training.fit_references(*training.energy_differences(old, buckets))
        np.testing.assert_allclose(change, [offset[z] for z in (1, 6, 8, 14)], atol=1e-7)


@pytest.mark.slow
def test_fine_tuning_from_the_command_line(tmp_path: Path, old: Potential, capsys: pytest.CaptureFixture[str]) -> None:
    """The frozen group ends as it was, another one moved; the old elements are still known; mistakes are named."""
    folder.save(tmp_path / "old", old, 3, {"training": {}, "data": {}})
    file = tmp_path / "c.yaml"
    write(tmp_path / "few.extxyz", ethanol()[:30])
    file.write_text(
        f"output: {tmp_path / 'new'}\ndata: {{train: {tmp_path / 'few.extxyz'}, n_train: 20, n_valid: 4}}\n"
        f"start: {{model: {tmp_path / 'old'}}}\ntrain: {{epochs: 2, rates: {{readout: 0}}}}\n",
        encoding="utf-8",
    )
    assert train.main([str(file), "model.n_basis=7"]) == 2
    assert "leave the model section out" in capsys.readouterr().err
    assert train.main([str(file)]) == 0
    before, after = gmnn.load(tmp_path / "old"), gmnn.load(tmp_path / "new")
    assert after.config == before.config
    assert after.reference.elements == (1, 6, 8, 14)
    for a, b in zip(*(jax.tree.leaves(p.trained["readout"]) for p in (before, after)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(after.trained["radial"]["coefficients"] - before.trained["radial"]["coefficients"]).max() > 0
    assert np.isinf(after.fitted_grade.rest).tolist() == [False, False, False, True], "no silicon in the new data"
    record = json.loads((tmp_path / "new" / "split.json").read_text(encoding="utf-8"))
    assert record["config"]["start"]["model"] == str(tmp_path / "old")
    assert train.main([str(file), "--resume"]) == 0
