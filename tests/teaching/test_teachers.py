"""Teachers by name: presets, callables and model folders, what decides their labels, and what is refused."""

import ast
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

from gmnn.commands._calculators import make
from gmnn.errors import UserError
from gmnn.interfaces.calculator import Calculator as Ours
from gmnn.teaching import Label, Pool, Teacher, presets, teachers, worker
from gmnn.teaching.quantum import PySCF
from tests.support.paths import GOLDEN, ROOT


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "nothing"}, "must be a preset .*gfn2-xtb.*MODULE:CALLABLE"),
        ({"name": "module:"}, "must be a preset"),
        ({"name": "emt", "processes": 0}, "teacher.processes is 0, but must be 1 or more"),
        ({"name": "emt", "processes": True}, "teacher.processes is True"),
        ({"name": "emt", "seconds": 0.0}, "teacher.seconds is 0"),
        ({"name": "emt", "seconds": float("inf")}, "teacher.seconds is inf"),
        ({"name": "emt", "kwargs": {"x": object()}}, "teacher.kwargs is .*a mapping of names to numbers"),
        ({"name": "emt", "kwargs": [1]}, "teacher.kwargs is"),
        ({"name": "mace"}, "needs model_paths"),
        ({"name": "lammps"}, "needs lmpcmds"),
        ({"name": str(GOLDEN / "v4" / "model"), "kwargs": {"x": 1}}, "left out with a model folder"),
    ],
)
def test_what_is_no_teacher(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Teacher(**arguments)


class Stand(Calculator):
    """What a foreign package would offer; it remembers how it was made."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.made = (args, kwargs)


@pytest.mark.parametrize(
    ("name", "kwargs", "expected"),
    [
        ("mace", {"model_paths": "my.model"}, {"model_paths": "my.model", "device": "cpu", "default_dtype": "float64"}),
        ("mace-mpa-0", {"dispersion": True}, {"model": "medium-mpa-0", "dispersion": True, "device": "cpu"}),
        ("orb", {}, {"device": "cpu"}),
        ("upet", {"model": "pet-mad-xs"}, {"model": "pet-mad-xs", "version": "1.6.0", "device": "cpu"}),
        ("sevennet-0", {}, {"model": "7net-0", "device": "cpu"}),
        ("sevennet-l3i5", {"device": "cuda"}, {"model": "7net-l3i5", "device": "cuda"}),
        ("chgnet", {}, {"use_device": "cpu"}),
        ("gfn1-xtb", {}, {"method": "GFN1-xTB", "verbosity": 0}),
        ("gfn2-xtb", {"accuracy": 1.0}, {"method": "GFN2-xTB", "accuracy": 1.0}),
        ("lammps", {"lmpcmds": ["pair_style sw"]}, {"lmpcmds": ["pair_style sw"]}),
    ],
)
def test_presets_call_their_package(
    name: str, kwargs: dict[str, Any], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for the package: module, callable and arguments; the scan makes the same calculator."""
    declared = [presets()[name], *(value for value in presets()[name].get("args", []) if "module" in value)]
    for declaration in declared:
        parts = declaration["module"].split(".")
        for k in range(len(parts)):
            monkeypatch.setitem(sys.modules, ".".join(parts[: k + 1]), types.ModuleType(parts[k]))
    for declaration in declared:  # the last module that was set is the one to import
        called = next(declaration[key] for key in worker.NAMES if key in declaration)
        setattr(sys.modules[declaration["module"]], called, Stand)
    for calculator in (
        worker.make(Teacher(name, kwargs).declaration),
        make({"preset": name, "kwargs": kwargs}, name),
    ):
        args, given = calculator.made
        assert given.items() >= expected.items()
        assert [type(argument) for argument in args] == [Stand] * (len(declared) - 1)


def test_identity_holds_what_decides_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments, versions and the source of a module of one's own; not how many work or for how long."""
    monkeypatch.chdir(tmp_path)
    base = Teacher("emt")
    assert base.identity["versions"]["ase"]
    assert base.fingerprint == Teacher("emt", processes=7, seconds=3.0).fingerprint
    assert base.fingerprint != Teacher("emt", {"asap_cutoff": True}).fingerprint
    prints = set()
    for text in ("x = 1", "x = 2"):
        (tmp_path / "my_teacher.py").write_text(text, encoding="utf-8")
        prints.add(Teacher("my_teacher:calculator").fingerprint)
    assert len(prints) == 2
    folder = Teacher(str(GOLDEN / "v4" / "model"))
    assert folder.identity["model"]["parameters"]["sha256"]
    assert json.loads(json.dumps(folder.identity)) == folder.identity


@pytest.mark.parametrize("name", ["worker.py", "quantum.py"])
def test_files_for_other_interpreters_are_for_old_ones_too(name: str) -> None:
    """Their syntax is that of Python 3.9, and what they import at once is in its library, numpy or ASE."""
    tree = ast.parse((ROOT / "gmnn" / "teaching" / name).read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
    tops = {module.partition(".")[0] for module in imported}
    assert tops <= {*sys.stdlib_module_names, *({"numpy", "ase"} if name == "quantum.py" else ())}


def test_threads_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker has its share of the cores, unless the user says how many threads it has."""
    monkeypatch.setattr(teachers, "usable_cores", lambda: 8)
    for name in teachers.THREADS:
        monkeypatch.delenv(name, raising=False)
    assert {Teacher("emt").environment()[name] for name in teachers.THREADS} == {"1"}
    assert Teacher("emt", processes=2).environment()["OMP_NUM_THREADS"] == "4"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert {Teacher("emt", processes=2).environment()[name] for name in teachers.THREADS} == {"3"}
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    assert Teacher("emt").environment()["PYTHONPATH"].split(":") == [str(ROOT), "elsewhere"]
    assert Teacher("emt", python="env").environment()["PYTHONPATH"] == "elsewhere"


@pytest.mark.slow
def test_a_model_folder_is_a_teacher(tmp_path: Path) -> None:
    """An ensemble's mean in double precision, as its calculator gives it."""
    folder = ROOT / "examples" / "ethanol"
    from gmnn.data.embedded import ethanol

    frames = ethanol()[:3]
    with Pool(Teacher(str(folder), processes=1), tmp_path / "log") as pool:
        answers = dict(pool.label(frames))
    for k, atoms in enumerate(frames):
        bare = Atoms(atoms.numbers, atoms.positions)
        bare.calc, label = Ours(folder, dtype="float64"), answers[k]
        assert isinstance(label, Label)
        assert label.energy == pytest.approx(bare.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(label.forces, bare.get_forces(), atol=1e-9)


class Scratching(EMT):
    """EMT that writes into its folder, as calculators do that run other programs."""

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        """Compute, and give the energy only to those who have a folder of their own."""
        super().calculate(*args, **kwargs)
        with open(Path(self.directory) / "input", "x", encoding="utf-8") as file:
            file.write("alone")
        Path(self.directory, "input").unlink()


@pytest.mark.slow
def test_workers_do_not_share_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher that writes into its folder gets one of its own, which is gone afterwards."""
    monkeypatch.chdir(ROOT)
    frames = [bulk("Cu", cubic=True) for _ in range(40)]
    with Pool(Teacher("tests.teaching.test_teachers:Scratching", processes=2), tmp_path / "log") as pool:
        scratch = Path(pool._scratch.name)
        assert all(isinstance(answer, Label) for _, answer in pool.label(frames))
        assert len(list(scratch.iterdir())) == 2
    assert not scratch.exists()
    assert not (ROOT / "input").exists()


def test_methods_of_pyscf_that_are_none() -> None:
    for wrong in ({"method": "MP5"}, {"method": "RKS"}, {"method": "MP2", "xc": "pbe"}):
        with pytest.raises(ValueError, match=r"must be one of|Kohn-Sham"):
            PySCF(**wrong)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["RHF", "MP2", "RKS", "CCSD", "CCSD(T)"])
def test_forces_of_pyscf_are_derivatives(method: str) -> None:
    """dE/dx of a bent water molecule against differences of energies, and the energy in eV."""
    pytest.importorskip("pyscf")
    xc = {"xc": "pbe", "grid_level": 5} if method == "RKS" else {}
    atoms = Atoms("OHH", [[0, 0, 0.1], [0, 0.8, 0.6], [0.1, -0.7, 0.6]])
    atoms.calc = PySCF(method, "sto-3g", conv_tol=1e-12, **xc)
    forces, energy = atoms.get_forces(), atoms.get_potential_energy()
    assert -2060 < energy < -2020
    for atom, axis in ((0, 2), (1, 1), (2, 0)):
        ends = []
        for step in (1e-3, -1e-3):
            moved = atoms.copy()
            moved.positions[atom, axis] += step
            moved.calc = PySCF(method, "sto-3g", conv_tol=1e-12, **xc)
            ends.append(moved.get_potential_energy())
        assert forces[atom, axis] == pytest.approx((ends[1] - ends[0]) / 2e-3, abs=2e-3 if xc else 2e-4)
