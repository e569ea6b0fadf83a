"""Dynamics on the device: against ASE's integrator, lists that grow, killed runs, statistics of thermostats."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.constraints import FixAtoms, FixBondLength
from ase.md.verlet import VelocityVerlet
from scipy import stats

from gmnn import Calculator, md
from gmnn.embedded import ethanol
from gmnn.errors import UserError
from gmnn.md.start import maxwell
from gmnn.potential import Potential

Make = Callable[..., tuple[Any, dict]]


@pytest.fixture
def potential(make_potential: Make) -> Potential:
    made, params = make_potential()
    return made.with_params(params)


def moving(atoms: Atoms, temperature: float = 300.0) -> Atoms:
    fixed = np.zeros(len(atoms), bool)
    atoms.set_velocities(maxwell(atoms, temperature, fixed, np.random.default_rng(3)))
    return atoms


@pytest.mark.parametrize("path", ["reference", "fast"])
@pytest.mark.parametrize("name", ["molecule", "crystal"])
def test_fifty_steps_are_ases(potential: Potential, structures: dict[str, Atoms], name: str, path: str) -> None:
    """Velocity Verlet of ASE with the calculator, hot enough that lists are made again on the way; float64, float32.

    Rounding grows along the trajectory: to 1e-9 Å in float64, with tables of 1e-7 to 1e-5, in float32 to 1e-3.
    """
    atoms = moving(structures[name], 2000.0)
    device = {
        dtype: md.Dynamics(atoms, potential, md.Bath(), 1.0, dtype=dtype, path=path, skin=0.05)
        for dtype in ("float64", "float32")[: 1 if path == "reference" else 2]
    }
    atoms.calc = Calculator(potential, dtype="float64")
    VelocityVerlet(atoms, 1.0 * units.fs).run(50)
    bounds = {"float64": 1e-9 if path == "reference" else 1e-5, "float32": 1e-3}
    for dtype, run in device.items():
        end, bound = run.run(50), bounds[dtype]
        cell = atoms.cell.array
        apart = end.positions - atoms.positions
        if atoms.pbc.any():
            apart -= np.round(apart @ np.linalg.inv(cell)) @ cell
        assert np.abs(apart).max() < bound, dtype
        assert end.energy == pytest.approx(atoms.get_potential_energy(), abs=50 * bound)
        assert end.rebuilds > 3


def test_a_list_that_overflows_is_made_larger(potential: Potential, structures: dict[str, Atoms]) -> None:
    """The segment is done again, and the trajectory is that of a run with room enough from the start, bit for bit."""
    atoms = moving(structures["crystal"], 1000.0)
    roomy = md.Dynamics(atoms, potential, md.Bath(), 1.0, dtype="float64", path="reference", skin=0.1)
    tight = md.Dynamics(atoms, potential, md.Bath(), 1.0, dtype="float64", path="reference", skin=0.1)
    tight.grid = roomy.grid._replace(slots=8)
    ends = [one.run(20) for one in (roomy, tight)]
    assert tight.growths > 0
    assert tight.grid.slots > 8
    assert tight.grid.slots >= roomy.grid.slots
    np.testing.assert_array_equal(ends[0].positions, ends[1].positions)
    np.testing.assert_array_equal(ends[0].velocities, ends[1].velocities)


def test_a_killed_run_goes_on_as_if_it_had_not_been(
    potential: Potential, structures: dict[str, Atoms], tmp_path: Path
) -> None:
    """Trajectory and log byte for byte, from any state, with half-written lines behind it; Langevin noise included."""
    bath = md.Bath("langevin", 300.0, 600.0, steps=80)

    def new() -> md.Dynamics:
        return md.Dynamics(structures["crystal"], potential, bath, 1.0, dtype="float64", skin=0.2, seed=5)

    settings: dict[str, Any] = {"every": 10, "trajectory_every": 20, "timestep_fs": 1.0}
    md.run(new(), tmp_path / "whole", {"a": 1}, steps=80, **settings)

    class Killed(Exception):
        pass

    def kill(dynamics: md.Dynamics) -> None:
        if dynamics.now.step == 30:
            raise Killed

    with pytest.raises(Killed):
        md.run(new(), tmp_path / "cut", {"a": 1}, steps=80, report=kill, **settings)
    for file in ("trajectory.extxyz", "log.csv"):
        with open(tmp_path / "cut" / file, "a") as out:
            out.write("12\nLattice=half a fra")
    with pytest.raises(UserError, match="already holds a run; add --resume"):
        md.run(new(), tmp_path / "cut", {"a": 1}, steps=80, **settings)
    with pytest.raises(UserError, match="started otherwise"):
        md.run(new(), tmp_path / "cut", {"a": 2}, steps=80, resume=True, **settings)
    md.run(new(), tmp_path / "cut", {"a": 1}, steps=80, resume=True, **settings)
    for file in ("trajectory.extxyz", "log.csv"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    frames = ase.io.read(tmp_path / "whole" / "trajectory.extxyz", ":")
    assert [frame.info["step"] for frame in frames] == [0, 20, 40, 60, 80]
    frames[2].calc, kept = Calculator(potential, dtype="float64"), frames[2].calc
    assert frames[2].get_potential_energy() == pytest.approx(kept.results["energy"], abs=1e-3)
    (tmp_path / "cut" / "state.npz").write_bytes(b"PK half a file")
    with pytest.raises(UserError, match="is damaged"):
        md.run(new(), tmp_path / "cut", {"a": 1}, steps=80, resume=True, **settings)


def gas(potential: Potential, bath: md.Bath, n: int = 64) -> md.Dynamics:
    """Atoms that never meet: what the thermostat does to them is known exactly."""
    numbers = np.tile([1, 8], n // 2)
    places = 60.0 * np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    atoms = Atoms(numbers, places[:n], cell=[240.0] * 3, pbc=True)
    return md.Dynamics(atoms, potential, bath, 2.0, dtype="float64", path="reference", skin=0.5, seed=1)


@pytest.mark.parametrize("ensemble", ["langevin", "bussi"])
def test_the_bath_gives_the_canonical_distribution(potential: Potential, ensemble: str) -> None:
    """Mean temperature, equipartition over elements and the distribution of the kinetic energy.

    With the times chosen (friction 100/ps, relaxation 20 fs, 100 fs between samples) samples are independent to
    exp(-10): the mean of n of them has a standard error of sigma / sqrt(n), and 5 of these are the bound; the kinetic
    energy is Gamma distributed, and a Kolmogorov-Smirnov test may reject at 1e-4 only.
    """
    bath = md.Bath(ensemble, 300.0, 300.0, friction_per_ps=100.0, relaxation_fs=20.0)
    run, light, samples = gas(potential, bath), [], []
    masses = run.atoms.get_masses()
    for _ in range(100):
        now = run.run(50)
        each = masses * np.sum(now.velocities**2, axis=1) / (3 * units.kB)  # K of every atom
        light.append(each[::2].mean() - each[1::2].mean())
        samples.append(run.temperature)
    n, freedom = len(samples), run.freedom
    expected = 300.0 * np.sqrt(2.0 / freedom)
    assert freedom == (192 if ensemble == "langevin" else 189)
    assert abs(np.mean(samples) - 300.0) < 5 * expected / np.sqrt(n)
    assert abs(np.std(samples, ddof=1) - expected) < 5 * expected / np.sqrt(2 * (n - 1))
    if ensemble == "langevin":  # velocity rescaling keeps the shares of atoms that never meet
        assert abs(np.mean(light)) < 5 * np.std(light, ddof=1) / np.sqrt(n)
    gamma = stats.gamma(freedom / 2, scale=2 * 300.0 / freedom)
    assert stats.kstest(samples, gamma.cdf).pvalue > 1e-4


@pytest.mark.parametrize(("ensemble", "key"), [("langevin", "friction_per_ps"), ("bussi", "relaxation_fs")])
def test_time_constants_act(potential: Potential, ensemble: str, key: str) -> None:
    """From 300 K in a bath of 900 K: after 100 fs the tighter setting is at least twice as far on its way.

    The mean follows 600 (1 - exp(-t / tau)), tau = 1 / (2 friction) or the relaxation time; single runs of 64 atoms
    scatter by some 10 %.
    """
    way = {}
    for name, tau in (("tight", 50.0), ("loose", 500.0)):
        value = 1000.0 / (2 * tau) if key == "friction_per_ps" else tau
        run = gas(potential, md.Bath(ensemble, 900.0, 900.0, **{key: value}))
        run.resume(0, run.now.positions, run.now.velocities / np.sqrt(3.0))
        run.run(50)
        way[name] = (run.temperature - 300.0) / 600.0
        assert abs(way[name] - (1 - np.exp(-100.0 / tau))) < 0.3
    assert way["tight"] > 2 * way["loose"]


def test_the_bath_follows_its_schedule() -> None:
    bath = md.Bath("langevin", 100.0, 300.0, steps=10)
    found = [float(bath.temperature(np.float64(step))) / units.kB for step in (0, 5, 10, 20)]
    np.testing.assert_allclose(found, [100.0, 200.0, 300.0, 300.0])


def test_energy_and_momentum_are_conserved(potential: Potential, structures: dict[str, Atoms]) -> None:
    """The total energy of a crystal over 200 steps of 0.5 fs scatters by less than 1 % of its kinetic part."""
    run = md.Dynamics(moving(structures["crystal"]), potential, md.Bath(), 0.5, dtype="float64", skin=0.3)
    totals = [run.now.energy + run.now.kinetic]
    for _ in range(10):
        now = run.run(20)
        totals.append(now.energy + now.kinetic)
    assert np.ptp(totals) < 0.01 * now.kinetic
    momentum = np.sum(run.atoms.get_masses()[:, None] * now.velocities, axis=0)
    assert np.abs(momentum).max() < 1e-6


def test_fixed_atoms_stay(potential: Potential, structures: dict[str, Atoms]) -> None:
    atoms = structures["slab"]
    atoms.set_constraint(FixAtoms([0, 2]))
    run = md.Dynamics(atoms, potential, md.Bath("langevin", 500.0, 500.0), 1.0, dtype="float64", path="reference")
    before = run.now.positions
    end = run.run(20)
    np.testing.assert_array_equal(end.positions[[0, 2]], before[[0, 2]])
    assert np.abs(end.positions[[1, 3]] - before[[1, 3]]).min(axis=1).max() > 0
    assert run.freedom == 6


def test_refusals(potential: Potential, structures: dict[str, Atoms]) -> None:
    atoms = structures["molecule"]
    with pytest.raises(UserError, match="ensemble is 'npt'"):
        md.Dynamics(atoms, potential, md.Bath("npt"))
    with pytest.raises(UserError, match="no atoms"):
        md.Dynamics(Atoms(), potential, md.Bath())
    with pytest.raises(UserError, match="not trained on Au"):
        md.Dynamics(Atoms("Au"), potential, md.Bath())
    atoms.set_constraint(FixBondLength(0, 1))
    with pytest.raises(UserError, match="only FixAtoms can be used"):
        md.Dynamics(atoms, potential, md.Bath())


def test_numbers_that_are_not_finite_end_the_run(potential: Potential, structures: dict[str, Atoms]) -> None:
    """With a time step of 1,000 fs atoms fly apart; the last good structure is kept."""
    atoms = moving(structures["molecule"], 300.0)
    run = md.Dynamics(atoms, potential, md.Bath(), 1e6, dtype="float32", path="reference")
    with pytest.raises(UserError, match="take a shorter"):
        run.run(500)
    assert np.isfinite(run.now.positions).all()


def test_the_command(tmp_path: Path) -> None:
    """A short run with the shipped model, its table, its files; a wrong key and a missing file in one sentence."""
    frame = ethanol()[0]
    ase.io.write(tmp_path / "start.xyz", Atoms(frame.numbers, frame.positions))
    (tmp_path / "md.yaml").write_text(
        f"model: examples/ethanol\nstructure: {tmp_path}/start.xyz\noutput: {tmp_path}/out\nensemble: nve\n"
        "steps: 40\nevery: 10\ntrajectory_every: 20\n"
    )

    def command(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "gmnn", "md", str(tmp_path / "md.yaml"), *arguments], capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    done = command()
    assert done.returncode == 0, done.stderr
    assert re.search(r"drift of the total energy [+-]", done.stdout)
    assert len((tmp_path / "out" / "log.csv").read_text().splitlines()) == 6
    assert len(ase.io.read(tmp_path / "out" / "trajectory.extxyz", ":")) == 3
    for arguments, said in (
        ((), "already holds a run"),
        (("temperatur_K=3",), "did you mean temperature_K"),
        (("steps=45",), "multiple of every"),
        (("structure=nowhere.xyz", "output=x"), "there is no file nowhere.xyz"),
        (("model=nowhere", "output=x"), "not a model folder"),
    ):
        failed = command(*arguments)
        assert failed.returncode == 2
        assert said in failed.stderr, failed.stderr
        assert "Traceback" not in failed.stderr
    longer = command("steps=60", "--resume")
    assert longer.returncode == 0, longer.stderr
    assert len((tmp_path / "out" / "log.csv").read_text().splitlines()) == 8
