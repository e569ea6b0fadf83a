"""Kind 8: why a model cannot be loaded is said as it is, and a load while a training saves gets one of the models."""

import threading
from pathlib import Path

import jax
import numpy as np
import pytest

import gmnn
from gmnn.config.model import ModelConfig
from gmnn.errors import UserError
from gmnn.model import folder, trees
from gmnn.model.potential import Potential
from gmnn.reference import Reference
from tests.support import processes
from tests.support.paths import GOLDEN


def small() -> Potential:
    potential = Potential(ModelConfig(n_radial=1, n_basis=2, hidden=(2,)), Reference((1,), (0.0,), (1.0,), (0.0,),
                          closest=(0.7,), moment_scale=(1.0,)))  # fmt: skip
    return potential.with_params(jax.tree.map(np.asarray, potential.init(5)))


def test_kind_8_a_load_during_a_save_gets_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every moment of a load a whole save happens, which deletes what the load is about to read."""
    old = small()
    new = old.with_params(jax.tree.map(lambda leaf: leaf + 1, old.params))
    folder.save(tmp_path, old, 1, {})
    read, left = folder.read_tree, [3]

    def interrupted(*arguments: object) -> object:
        if left[0]:
            left[0] -= 1
            folder.save(tmp_path, new, 10 - left[0], {})
        return read(*arguments)

    monkeypatch.setattr(folder, "read_tree", interrupted)
    assert folder.tree_digest(gmnn.load(tmp_path).params) == folder.tree_digest(new.params)
    assert not left[0]


@pytest.mark.slow
def test_kind_8_loads_beside_a_training_that_saves(tmp_path: Path) -> None:
    """Saves without pause in a thread, loads in another."""
    potential = small()
    models = [potential.with_params(jax.tree.map(lambda leaf, k=k: leaf + k, potential.params)) for k in range(2)]
    digests = {folder.tree_digest(model.params) for model in models}
    folder.save(tmp_path, models[0], 0, {})
    ended = threading.Event()

    def save() -> None:
        for epoch in range(1, 60):
            folder.save(tmp_path, models[epoch % 2], epoch, {})
        ended.set()

    thread = threading.Thread(target=save)
    thread.start()
    while not ended.is_set():
        assert folder.tree_digest(gmnn.load(tmp_path).params) in digests
    thread.join()


def test_kind_8_a_damaged_folder_is_not_tried_for_ever(tmp_path: Path) -> None:
    folder.save(tmp_path, small(), 1, {})
    trees.files.remove_tree(tmp_path / "params")
    with pytest.raises(UserError, match="copy the model folder again"):
        gmnn.load(tmp_path)


@pytest.mark.parametrize("error", [MemoryError("no room"), ImportError("no orbax")])
def test_kind_8_what_is_not_the_folders_fault_is_not_said_of_it(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.save(tmp_path, small(), 1, {})

    def fails() -> None:
        raise error

    monkeypatch.setattr(trees, "_checkpointer", fails)
    with pytest.raises(type(error), match=str(error)):
        gmnn.load(tmp_path)


def test_kind_8_no_device_is_said() -> None:
    """With JAX told to use a platform that is not there; the folder is whole."""
    done = processes.python("-m", "gmnn", "certify", GOLDEN / "v4" / "model", JAX_PLATFORMS="rocm")
    assert done.returncode == 2
    assert "JAX has no device to compute on" in done.stderr
    assert "copy" not in done.stderr
