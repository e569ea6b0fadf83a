"""Models trained with Apax 0.14 give the same energies and forces here (benchmarks/peers/apax_reference.py)."""

import copy
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml
from ase import Atoms

import gmnn
from gmnn import Calculator
from gmnn.commands.import_apax import main
from gmnn.config.model import ModelConfig, ZBLConfig
from gmnn.errors import UserError
from gmnn.interfaces import apax
from gmnn.model.network import scale_shift
from gmnn.model.potential import Potential
from gmnn.model.trees import read_foreign
from tests.support import paths

GOLDEN = paths.GOLDEN / "apax"
NAMES = ("ethanol", "ethanol_zbl", "ethanol_exponential", "water_zbl")


@cache
def source(name: str) -> tuple[dict[str, Any], dict[str, Any], int]:
    return apax.read(GOLDEN / name)


def unseen(name: str) -> tuple[list[Atoms], np.ndarray, np.ndarray]:
    """Frames that the model never saw, the later ones compressed, and Apax's energies [n] and forces [n, N, 3]."""
    found = np.load(GOLDEN / name / "unseen.npz")
    geometries = zip(found["positions"], found["cells"], strict=True)
    frames = [Atoms(found["numbers"], x, cell=cell, pbc=found["pbc"]) for x, cell in geometries]
    return frames, found["energies"], found["forces"].reshape(found["positions"].shape)


def predicted(model: Potential | Path, frames: list[Atoms]) -> tuple[np.ndarray, np.ndarray]:
    done = Calculator(model, dtype="float64").batch_eval(frames)
    return np.array([a.get_potential_energy() for a in done]), np.array([a.get_forces() for a in done])


@pytest.mark.parametrize("name", NAMES)
def test_same_energies_and_forces(name: str, tmp_path: Path) -> None:
    """Through the command and the model folder, on 20 frames of ethanol and 4 of water, half of them compressed.

    The exponential repulsion reaches hundreds of eV/Å, which Apax computes in float32: there a part of that is allowed.
    """
    assert main([str(GOLDEN / name), str(tmp_path / "out")]) == 0
    frames, energies, forces = unseen(name)
    ours, our_forces = predicted(tmp_path / "out", frames)
    steep = np.abs(forces).max(axis=(1, 2)) if name == "ethanol_exponential" else np.zeros(len(frames))
    assert (np.abs(ours - energies) / len(frames[0]) < 1e-6 * (1.0 + steep / 50.0)).all()
    assert (np.abs(our_forces - forces).max(axis=(1, 2)) < 1e-5 * (1.0 + steep / 10.0)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES[1:])
def test_the_repulsion_matters(name: str) -> None:
    """Without it no frame would pass, and the compressed ones least."""
    config, params, _ = source(name)
    frames, energies, _ = unseen(name)
    bare = apax.potential(config | {"model": config["model"] | {"empirical_corrections": []}}, params)
    missing = np.abs(predicted(bare, frames)[0] - energies) / len(frames[0])
    assert missing.min() > 1e-4
    assert missing[-1] == missing.max()


def test_what_the_data_moved_is_kept() -> None:
    """Elements from the fitted scales, shifts as atomic references, constants in place of trained repulsions."""
    config, params, epoch = source("ethanol_zbl")
    found = apax.potential(config, params)
    assert epoch > 0
    assert found.reference.elements == (1, 6, 8)
    assert found.trained["radial"]["coefficients"].shape == (3, 3, 5, 8)
    table = params["energy_model"]["scale_shift"]
    np.testing.assert_array_equal(found.reference.E0, table["shift_per_element"][[1, 6, 8], 0].astype(float))
    np.testing.assert_allclose(scale_shift(found.trained)[0], table["scale_per_element"][[1, 6, 8], 0], rtol=2e-7)
    assert found.config.repulsion == "zbl"
    assert not found.config.zbl.trainable
    assert 0.006 < found.config.zbl.strength < 0.008  # Apax starts at 0.1 / 14.4
    assert sum(found.config.zbl.coefficients) == pytest.approx(1.0, abs=0.01)


def test_folder_gives_back_what_was_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ethanol_exponential", "water_zbl"):
        out = tmp_path / name
        assert main([str(GOLDEN / name), str(out)]) == 0
        assert str(out) in capsys.readouterr().out
        loaded, made = gmnn.load(out), apax.potential(*source(name)[:2])
        assert (loaded.config, loaded.reference) == (made.config, made.reference)
        jax.tree.map(np.testing.assert_array_equal, loaded.trained, made.trained)


def test_elements_may_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(GOLDEN / "ethanol"), str(tmp_path / "out"), "--elements", "O,H"]) == 0
    assert gmnn.load(tmp_path / "out").reference.elements == (1, 8)
    assert main([str(GOLDEN / "ethanol"), str(tmp_path / "other"), "--elements", "O,Hy"]) == 2
    assert "'Hy'" in capsys.readouterr().err
    with pytest.raises(UserError, match="--elements H,C,O"):
        apax.trained_elements(np.ones(119), np.full(119, -3.0))


def test_order_of_the_features() -> None:
    """As measured for three channels, where only the products of three second moments stand in another order."""
    triples = [21, 24, 26, 25, 27, 22, 29, 30, 23, 28]
    np.testing.assert_array_equal(apax.feature_order(3), [*range(21), *triples, *range(31, 94)])
    for n in range(1, 9):
        order = apax.feature_order(n)
        np.testing.assert_array_equal(np.sort(order), np.arange(len(order)))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("name", "equiv-mp", "model.name is 'equiv-mp'"),
        ("ensemble", {"kind": "shallow", "n_members": 4}, "model.ensemble is"),
        ("activation_fn", "relu", "model.activation_fn is 'relu'; only 'variance_preserving_swish'"),
        ("property_heads", [{"name": "dipole"}], "model.property_heads"),
        ("basis", {"name": "gaussian", "n_basis": 8, "r_max": 4.0}, "model.basis.name is 'gaussian'; only 'bessel'"),
        ("empirical_corrections", [{"name": "latent_ewald"}], "only one, zbl or exponential"),
        ("empirical_corrections", [{"name": "zbl"}], "corrections_0"),
        ("n_contr", 9, "model.n_contr is 9"),
        ("n_contr", 7, "dense_0 has shape"),
        ("n_radial", 4, "dense_0 has shape"),
        ("basis", {"name": "bessel", "n_basis": 9, "r_max": 4.0}, "atomic_type_embedding has shape"),
        ("nn", [32, 32, 32], "lack 'dense_3'"),
        ("agnesi", True, "model.agnesi is not a setting of Apax 0.14"),
    ],
)
def test_other_models_are_refused(key: str, value: Any, said: str) -> None:
    config, params, _ = source("ethanol")
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        apax.potential(config | {"model": config["model"] | {key: value}}, params)


def test_broken_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each a sentence and exit code 2: no folder, no checkpoint, damaged files, a negative scale, an old OUT."""
    out = str(tmp_path / "out")
    assert main([str(tmp_path / "nowhere"), out]) == 2
    assert "config.yaml" in capsys.readouterr().err
    broken = tmp_path / "broken"
    shutil.copytree(GOLDEN / "ethanol", broken)
    (broken / "config.yaml").write_text("model: [", encoding="utf-8")
    assert main([str(broken), out]) == 2
    (broken / "config.yaml").write_text(yaml.safe_dump({"model": None}), encoding="utf-8")
    assert main([str(broken), out]) == 2
    assert "no section model" in capsys.readouterr().err
    shutil.copy(GOLDEN / "ethanol" / "config.yaml", broken)
    for file in (broken / "best").rglob("_METADATA"):
        file.unlink()
    assert main([str(broken), out]) == 2
    assert "cannot be read" in capsys.readouterr().err
    shutil.rmtree(broken / "best")
    assert main([str(broken), out]) == 2
    assert "best/<epoch>/" in capsys.readouterr().err
    assert main([str(GOLDEN / "ethanol"), str(broken)]) == 2
    assert "exists" in capsys.readouterr().err
    with pytest.raises(UserError, match="cannot be read"):
        read_foreign(tmp_path / "nowhere")
    config, params, _ = source("ethanol")
    params = copy.deepcopy(params)
    params["energy_model"]["scale_shift"]["scale_per_element"][6] = -1.0
    with pytest.raises(UserError, match="scale of C is -1"):
        apax.potential(config, params)
    with pytest.raises(UserError, match="200 is not an atomic number"):
        apax.potential(config, params, [1, 200])


def test_settings_made_for_it_have_ranges() -> None:
    for wrong in (
        lambda: ModelConfig(unit_offset=-1e-5),
        lambda: ZBLConfig(coefficients=(0.5, 0.5)),
        lambda: ZBLConfig(coefficients=(0.5, 0.5, 0.5, -0.5)),
        lambda: ModelConfig(repulsion="none", zbl=ZBLConfig(coefficients=(0.2, 0.5, 0.2, 0.1))),
    ):
        with pytest.raises(UserError):
            wrong()
    made = apax.potential(*source("ethanol")[:2])
    config = replace(made.config, repulsion="exponential", zbl=ZBLConfig(trainable=False, window="cosine"))
    with pytest.raises(UserError, match="only imported potentials have them"):
        predicted(Potential(config, made.reference).with_params(made.trained), unseen("ethanol")[0][:1])
