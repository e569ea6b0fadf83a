"""Kind 2: what a run of dynamics or a training depends on is stored with it and compared when it is resumed."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from gmnn import files, md
from gmnn.config.model import ModelConfig
from gmnn.config.reading import Config
from gmnn.errors import UserError
from gmnn.model.potential import Potential
from gmnn.reference import Reference
from gmnn.training import run as training

REFERENCE = Reference((1, 8), (-1.5, -20.0), (0.5, 0.6), (0.1, 0.2), closest=(0.7, 0.9, None), moment_scale=(1.0, 1.0))


class Stop(Exception):
    """Where the first step would be made."""


class Begun:
    """Dynamics that ends where its first step would be made: files are as at the start of a run."""

    graded = False

    def __init__(self, atoms: Atoms, potential: Potential, fixed: tuple[int, ...] = ()) -> None:
        self.atoms, self.potential = atoms, potential
        self.fixed = np.isin(np.arange(len(atoms)), fixed)

    @property
    def replicas(self) -> list:
        raise Stop


def water() -> Atoms:
    return Atoms("OHH", [[0, 0, 0], [0, 0, 1.0], [0.9, 0, -0.3]], cell=[9.0, 9, 9], pbc=True, momenta=np.ones((3, 3)))


def potential(**changes: Any) -> Potential:
    made = Potential(ModelConfig(n_radial=1, n_basis=2, hidden=(2,)), replace(REFERENCE, **changes))
    return made.with_params({"radial": {"coefficients": np.ones(3, np.float32)}})


def begin(dynamics: Begun, path: Path, resume: bool = True) -> None:
    settings: dict[str, Any] = {"steps": 1, "every": 1, "trajectory_every": 1, "timestep_fs": 1.0}
    with pytest.raises(Stop):
        md.run(dynamics, path, {"seed": 0}, resume=resume, **settings)  # type: ignore[arg-type]


def changed(change: Callable[[Atoms], None]) -> Begun:
    atoms = water()
    change(atoms)
    return Begun(atoms, potential())


def order(atoms: Atoms) -> None:
    atoms.positions[1:] = atoms.positions[[2, 1]]


CHANGES = {
    "numbers of": lambda: changed(lambda atoms: atoms.set_chemical_symbols("OHO")),
    "positions of": lambda: changed(lambda atoms: atoms.translate(1e-9)),
    "cell of": lambda: changed(lambda atoms: atoms.set_cell([9.0, 9, 9.1])),
    "periodicity of": lambda: changed(lambda atoms: atoms.set_pbc([True, True, False])),
    "masses of": lambda: changed(lambda atoms: atoms.set_masses([16.0, 2.014, 1.0])),
    "momenta of": lambda: changed(lambda atoms: atoms.set_momenta(np.zeros((3, 3)))),
    "positions": lambda: changed(order),
    "fixed atoms": lambda: Begun(water(), potential(), (0,)),
    "the potential": lambda: Begun(water(), potential(E0=(-1.5, -20.1))),
    "potential": lambda: Begun(
        water(), potential().with_params({"radial": {"coefficients": np.full(3, 2, np.float32)}})
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_kind_2_dynamics_resume_only_with_the_same_inputs(what: str, tmp_path: Path) -> None:
    """Whatever changed is named, and no file is touched; the same structure goes on."""
    begin(Begun(water(), potential()), tmp_path, resume=False)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(UserError, match=rf"started otherwise \(.*{what}.*\)"):
        md.run(CHANGES[what](), tmp_path, {"seed": 0}, steps=1, every=1, trajectory_every=1, timestep_fs=1.0,
               resume=True)  # type: ignore[arg-type]  # fmt: skip
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    begin(Begun(water(), potential()), tmp_path)


def test_kind_2_a_run_of_version_0_1_goes_on_and_says_what_is_not_known(tmp_path: Path) -> None:
    files.write_json(tmp_path / "run.json", files.sealed({"seed": 0}))
    with pytest.warns(UserWarning, match="kept no checksums of structure and potential"):
        begin(Begun(water(), potential()), tmp_path)
    assert "content" in json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    begin(Begun(water(), potential()), tmp_path)


INPUTS = {"start.model": "aa", "data.nlh_coefficients": "bb"}


@pytest.mark.parametrize("key", INPUTS)
def test_kind_2_trainings_resume_only_with_the_same_inputs(key: str, tmp_path: Path) -> None:
    """The potential to start from and the file of NLH coefficients are compared by their content."""
    config, splits = Config(output="x", data={"train": "y"}), SimpleNamespace(describe=dict)
    training._begin(tmp_path, None, config, splits, potential(), INPUTS)  # type: ignore[arg-type]
    started = training._started(tmp_path, resume=True)
    assert started is not None
    training._begin(tmp_path, started, config, splits, potential(), INPUTS)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"content of {key} has changed"):
        training._begin(tmp_path, started, config, splits, potential(), {**INPUTS, key: "cc"})  # type: ignore[arg-type]
    del started["inputs"]  # as in version 0.1
    with pytest.warns(UserWarning, match="kept no checksum of start.model, data.nlh_coefficients"):
        training._begin(tmp_path, started, config, splits, potential(), INPUTS)  # type: ignore[arg-type]


def test_kind_2_inputs_are_found_by_content(tmp_path: Path) -> None:
    (tmp_path / "nlh").write_text("1 1 1 2 3 4 5 6\n", encoding="utf-8")
    values = {"output": "x", "data": {"train": "y", "nlh_coefficients": str(tmp_path / "nlh")},
              "model": {"repulsion": "nlh"}}  # fmt: skip
    first = training._inputs(Config(**values), potential())
    assert set(first) == set(INPUTS)
    (tmp_path / "nlh").write_text("1 1 1 2 3 4 5 7\n", encoding="utf-8")
    second = training._inputs(Config(**values), potential(E0=(0.0, 0.0)))
    assert all(first[key] != second[key] for key in INPUTS)
