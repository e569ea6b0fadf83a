"""Dynamics on the device: against ASE's integrator, lists that grow, killed runs, statistics of thermostats."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms, units
from ase.constraints import FixAtoms, FixBondLength
from ase.md.verlet import VelocityVerlet
from ase.optimize import FIRE
from scipy import special, stats

from gmnn import Calculator, load, md, neighbors
from gmnn.commands import md as md_command
from gmnn.data.embedded import ethanol
from gmnn.errors import UserError
from gmnn.md.pressure import least_stretch
from gmnn.md.velocities import maxwell
from gmnn.model.potential import Potential
from gmnn.system import Prediction, System
from tests.support import processes
from tests.support.paths import ROOT

Make = Callable[..., tuple[Any, dict]]


def moving(atoms: Atoms, temperature: float = 300.0) -> Atoms:
    fixed = np.zeros(len(atoms), bool)
    atoms.set_velocities(maxwell(atoms, temperature, fixed, np.random.default_rng(3)))
    return atoms


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("molecule", "fast"),
        ("crystal", "kernel"),
        pytest.param("crystal", "reference", marks=pytest.mark.slow),
        pytest.param("molecule", "reference", marks=pytest.mark.slow),
        pytest.param("molecule", "kernel", marks=pytest.mark.slow),
        pytest.param("crystal", "fast", marks=pytest.mark.slow),
    ],
)
def test_fifty_steps_are_ases(potential: Potential, structures: dict[str, Atoms], name: str, path: str) -> None:
    """Velocity Verlet of ASE with the calculator, hot enough that lists are made again on the way; float64, float32.

    Rounding grows along the trajectory: to 1e-9 Å in float64, with tables of 1e-7 to 1e-5, in float32 to 1e-3.
    """
    atoms = moving(structures[name], 2000.0)
    device = {
        dtype: md.Dynamics(atoms, potential, md.Bath(), 1.0, dtype=dtype, path=path, skin=0.05)
        for dtype in ("float64", "float32")[: 1 if path == "reference" else 2]
    }
    atoms.calc = Calculator(potential, dtype="float64", path="reference")
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


@pytest.mark.slow
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


def toy(potential: Potential, predict: Callable[..., Prediction], *arguments: Any, **settings: Any) -> md.Dynamics:
    """Dynamics under an energy of which everything is known, with a list of a short radius, which it does not use."""
    short = replace(potential, config=replace(potential.config, r_max=0.6))
    with pytest.MonkeyPatch.context() as patch:
        each = lambda params, systems, reverse: jax.vmap(predict, (None, 0))(params, systems)  # noqa: E731
        patch.setattr("gmnn.md.dynamics.evaluator", lambda *_, **__: (jnp.zeros(()), each))
        return md.Dynamics(arguments[0], short, *arguments[1:], **{"dtype": "float64", "skin": 2.4, **settings})


def nothing(_: Any, system: System) -> Prediction:
    """An ideal gas."""
    e = jnp.zeros(len(system.numbers), system.positions.dtype)
    return Prediction(e[0], e, jnp.zeros_like(system.positions), jnp.zeros((3, 3), e.dtype), e[:1])


def soft(_: Any, system: System) -> Prediction:
    """Soft spheres in a cube of 12 Å, E = sum over pairs of (1 - r^2 / 25)^3: at 1000 K a liquid that mixes fast."""
    apart = system.positions[:, None] - system.positions[None]
    apart = apart - 12.0 * jnp.round(apart / 12.0)
    near = jnp.maximum(0.0, 1.0 - jnp.sum(apart**2, axis=2) / 25.0) * (1.0 - jnp.eye(len(apart)))
    e, forces = 0.5 * jnp.sum(near**3, axis=1), 0.24 * jnp.sum((near**2)[:, :, None] * apart, axis=1)
    return Prediction(jnp.sum(e), e, forces, jnp.zeros((3, 3)), e[:1])


def liquid() -> Atoms:
    return Atoms(np.tile([1, 8], 14)[:27], 4.0 * np.indices((3, 3, 3)).reshape(3, -1).T, cell=[12.0] * 3, pbc=True)


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", ["langevin", "bussi", "nose_hoover"])
def test_the_bath_gives_the_canonical_distribution(potential: Potential, ensemble: str) -> None:
    """Kinetic energy, equipartition over elements and over each degree of freedom, in replicas of a liquid.

    Samples lie 100 fs apart, against 20 fs of the bath, which leaves correlations of the whole below 0.2: the mean of
    n has a standard error of sigma / sqrt(n), of which 5 are the bound, with sigma of the Gamma distribution that the
    kinetic energy has: k_B T sqrt(freedom / 2). A Kolmogorov-Smirnov test may reject at 1e-4. A single degree of
    freedom, with 2 (k_B T)^2 as the variance of m v^2, forgets more slowly: n is divided by 1 + 2 sum of the
    autocorrelation, the mean over all degrees. With the centre of mass at rest an atom has the share 1 - m / M.
    """
    bath = md.Bath(ensemble, 1000.0, 1000.0, friction_per_ps=20.0, relaxation_fs=20.0)
    run = toy(potential, soft, liquid(), bath, 2.0, seed=1, replicas=4)
    run.run(200)
    masses, temperatures, shares, conserved = run.atoms.get_masses(), [], [], []
    n, freedom = 200, run.freedom
    assert freedom == (81 if ensemble == "langevin" else 78)
    for _ in range(n // 4):
        run.run(50)
        temperatures += [now.temperature for now in run.replicas]
        shares.append([masses[:, None] * now.velocities**2 / units.kB for now in run.replicas])
        conserved.append([now.conserved for now in run.replicas])
    sigma = 1000.0 * np.sqrt(2.0 / freedom)
    assert abs(np.mean(temperatures) - 1000.0) < 5 * sigma / np.sqrt(n)
    assert abs(np.var(temperatures, ddof=1) / sigma**2 - 1) < 5 * np.sqrt(2 / n)
    assert stats.kstest(temperatures, stats.gamma(freedom / 2, scale=2000.0 / freedom).cdf).pvalue > 1e-4
    each = np.array(shares) / (1.0 if ensemble == "langevin" else (1 - masses / masses.sum())[:, None])
    off = each / 1000.0 - 1.0  # [time, replica, atom, direction]
    alike = 1 + 2 * sum(max(0.0, np.mean(off[k:] * off[:-k]) / np.mean(off**2)) for k in range(1, 6))
    off = off.reshape(n, *off.shape[2:])
    assert np.abs(off.mean(axis=0)).max() < 5 * np.sqrt(2 * alike / n)
    for element in (slice(0, None, 2), slice(1, None, 2)):
        assert abs(off[:, element].mean()) < 5 * np.sqrt(2 * alike / off[:, element].size)
    if ensemble == "nose_hoover":  # of more than 3 eV that come and go
        assert np.ptp(conserved, axis=0).max() < 0.02


@pytest.mark.parametrize("ensemble", ["langevin", "bussi", "nose_hoover"])
def test_time_constants_act(potential: Potential, ensemble: str) -> None:
    """From 300 K in a bath of 900 K, an ideal gas after 100 fs under a time constant tau of 50 and of 500 fs.

    The mean follows 600 (1 - exp(-t / tau)), tau = 1 / (2 friction) or the relaxation time; single runs of 64 atoms
    scatter by some 10 %. A chain begins with d^2 ln T / dt^2 = 2 (1 - 300 / 900) / tau^2, so that it is looked at
    after 30 fs, where the temperature with 50 fs has grown by exp(0.24) less what the second link holds back.
    """
    way, chain = {}, ensemble == "nose_hoover"
    atoms = Atoms(np.tile([1, 8], 32), 60.0 * np.indices((4, 4, 4)).reshape(3, -1).T, cell=[240.0] * 3, pbc=True)
    atoms.set_velocities(maxwell(atoms, 300.0, np.zeros(64, bool), np.random.default_rng(3)))
    for tau in (50.0, 500.0):
        bath = md.Bath(ensemble, 900.0, 900.0, friction_per_ps=1000.0 / (2 * tau), relaxation_fs=tau)
        run = toy(potential, nothing, atoms, bath, 2.0, seed=1)
        run.run(15 if chain else 50)
        way[tau] = (run.now.temperature - 300.0) / 600.0
        if chain:
            assert np.log(run.now.temperature / 300.0) == pytest.approx(2 / 3 * (30.0 / tau) ** 2, rel=0.2)
        else:
            assert abs(way[tau] - (1 - np.exp(-100.0 / tau))) < 0.3
    assert way[50.0] > 2 * way[500.0]


def test_a_killed_run_goes_on_as_if_it_had_not_been(
    potential: Potential, structures: dict[str, Atoms], tmp_path: Path
) -> None:
    """Trajectory and log byte for byte, from any state, with half-written lines behind it; Langevin noise included."""
    bath = md.Bath("langevin", 300.0, 600.0, steps=80)

    def new() -> md.Dynamics:
        return md.Dynamics(structures["crystal"], potential, bath, 1.0, dtype="float64", skin=0.2, seed=5)

    settings: dict[str, Any] = {"every": 10, "trajectory_every": 20, "timestep_fs": 1.0}
    first = new()
    start = first.now
    md.run(first, tmp_path / "whole", {"a": 1}, steps=80, **settings)
    first.resume(0, [start.state])

    class Killed(Exception):
        pass

    def kill(dynamics: md.Dynamics) -> None:
        if dynamics.now.step == 30:
            raise Killed

    with pytest.raises(Killed):
        md.run(first, tmp_path / "cut", {"a": 1}, steps=80, report=kill, **settings)
    for file in ("trajectory.extxyz", "log.csv"):
        with open(tmp_path / "cut" / file, "a", encoding="utf-8") as out:
            out.write("12\nLattice=half a fra")
    again = new()
    with pytest.raises(UserError, match="already holds a run; add --resume"):
        md.run(again, tmp_path / "cut", {"a": 1}, steps=80, **settings)
    with pytest.raises(UserError, match="started otherwise"):
        md.run(again, tmp_path / "cut", {"a": 2}, steps=80, resume=True, **settings)
    md.run(again, tmp_path / "cut", {"a": 1}, steps=80, resume=True, **settings)
    for file in ("trajectory.extxyz", "log.csv"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    frames = ase.io.read(tmp_path / "whole" / "trajectory.extxyz", ":")
    assert [frame.info["step"] for frame in frames] == [0, 20, 40, 60, 80]
    frames[2].calc, kept = Calculator(potential, dtype="float64"), frames[2].calc
    assert frames[2].get_potential_energy() == pytest.approx(kept.results["energy"], abs=1e-3)
    (tmp_path / "cut" / "state.npz").write_bytes(b"PK half a file")
    with pytest.raises(UserError, match="is damaged"):
        md.run(again, tmp_path / "cut", {"a": 1}, steps=80, resume=True, **settings)


@pytest.mark.slow
def test_replicas_are_runs_of_their_own(potential: Potential, structures: dict[str, Atoms]) -> None:
    """Each goes the way of a single run from its velocities, to rounding; under a bath each has noise of its own."""
    settings: dict[str, Any] = {"dtype": "float64", "path": "reference", "skin": 0.1}
    together, single = (
        md.Dynamics(structures["crystal"], potential, md.Bath("nve", 800.0, 800.0), 1.0, replicas=n, **settings)
        for n in (3, 1)
    )
    start = together.states
    together.run(30)
    assert together.now.rebuilds > 1
    for state, one in zip(start, together.replicas, strict=True):
        single.resume(0, [state])
        single.run(30)
        np.testing.assert_allclose(one.velocities, single.now.velocities, atol=1e-9)
        np.testing.assert_allclose(one.virial, single.now.virial, atol=1e-8)
        assert one.energy == pytest.approx(single.now.energy, abs=1e-9)
    gas = Atoms("HO" * 64, 60.0 * np.indices((8, 4, 4)).reshape(3, -1).T, cell=[480.0, 240.0, 240.0], pbc=True)
    run = toy(potential, nothing, gas, md.Bath("langevin", 300.0, 300.0), 2.0, replicas=2)
    before, roots = run.states, np.sqrt(gas.get_masses())[:, None]
    run.run(10)
    kicks = [roots * (one.velocities - old.velocities) for one, old in zip(run.replicas, before, strict=True)]
    assert abs(np.corrcoef(kicks[0].ravel(), kicks[1].ravel())[0, 1]) < 5 / np.sqrt(kicks[0].size)


@pytest.mark.slow
def test_the_closest_approach_is_that_of_all_steps(potential: Potential, structures: dict[str, Atoms]) -> None:
    """A hot molecule, every step looked at."""
    atoms = moving(structures["molecule"], 1500.0)
    whole, steps = (md.Dynamics(atoms, potential, md.Bath(), 0.5, dtype="float64", skin=3.0) for _ in range(2))
    whole.run(40)
    r = [steps.now.snapshot(atoms).get_all_distances()]
    for _ in range(40):
        steps.run(1)
        r.append(steps.now.snapshot(atoms).get_all_distances())
    z = atoms.numbers
    assert len(whole.now.setting.pairs) > 1
    came = []
    for (a, b), closest in zip(whole.now.setting.pairs, whole.now.closest, strict=True):
        of_kind = (z[:, None] == a) & (z[None] == b) & ~np.eye(len(z), dtype=bool)
        assert closest == pytest.approx(np.array(r)[:, of_kind].min(), abs=1e-9)
        came.append(closest < r[0][of_kind].min())
    assert any(came)


@pytest.mark.slow
def test_a_chain_and_a_cell_go_on_where_they_were(potential: Potential, tmp_path: Path) -> None:
    """Files of three replicas byte for byte from the state in the middle."""
    bath, piston = md.Bath("nose_hoover", 1000.0, 1000.0, steps=40), md.Piston("anisotropic", 1.0, 2.0, 40, 200.0)
    settings: dict[str, Any] = {"every": 10, "trajectory_every": 10, "timestep_fs": 2.0, "resume": True}
    runs = [toy(potential, soft, liquid(), bath, 2.0, piston=piston, replicas=3) for _ in range(2)]
    start = runs[0].states
    md.run(runs[0], tmp_path / "whole", {}, steps=40, **settings)
    runs[0].resume(0, start)
    md.run(runs[0], tmp_path / "cut", {}, steps=20, **settings)
    md.run(runs[1], tmp_path / "cut", {}, steps=40, **settings)
    for file in ("trajectory.extxyz", "log.csv"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    head, *_, last = (tmp_path / "cut" / "log.csv").read_text(encoding="utf-8").splitlines()
    assert {"conserved_eV", "volume_A3", "density_g_per_cm3", "pressure_GPa", "replica"} < set(head.split(","))
    frames = ase.io.read(tmp_path / "cut" / "trajectory.extxyz", ":")
    assert [(a.info["step"], a.info["replica"]) for a in frames] == [(n, k) for n in range(0, 50, 10) for k in range(3)]
    assert float(last.split(",")[head.split(",").index("volume_A3")]) != pytest.approx(1728.0, rel=1e-4)


def elastic(_: Any, system: System) -> Prediction:
    """A cell that pulls itself together, E = 65 kT |h|^2 / 800 Å^2 at 300 K, around an ideal gas."""
    stiffness = 65 * units.kB * 300.0 / 400.0
    e = jnp.full(len(system.numbers), 0.5 * stiffness * jnp.sum(system.cell**2) / len(system.numbers))
    virial = stiffness * jnp.sum(system.cell[:, :, None] * system.cell[:, None, :], axis=0)
    return Prediction(jnp.sum(e), e, jnp.zeros_like(system.positions), virial, e[:1])


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "ensemble"), [("isotropic", "bussi"), ("anisotropic", "langevin")])
def test_the_piston_gives_the_distribution_of_volumes(potential: Potential, kind: str, ensemble: str) -> None:
    """An ideal gas of N = 64 atoms, and one in an elastic cell that may change its shape.

    Isotropic: the density of V is V^N exp(-P V / kT), Gamma(N + 1); of one power less where the centre of mass is at
    rest. Anisotropic at P = 0: the cell h has det(h)^(N - 2) exp(-c |h|^2 / 2 kT) dh, so that h h^T is Wishart
    distributed with n = N + 1 degrees of freedom: trace chi^2 of 3 n, elements off the diagonal of variance n, ln V
    half the sum of the logarithms of chi^2 of n, n - 1, n - 2. Samples lie four relaxation times apart (in the elastic
    cell as well, whose modes relax in 3/2 tau), which leaves correlations of 0.02: 5 standard errors are the bound.
    """
    N, n, thermal = 64, 100, units.kB * 300.0
    atoms = Atoms("HO" * 32, np.random.default_rng(1).uniform(0, 20, (N, 3)), cell=[20.0] * 3, pbc=True)
    pressure = 65 * thermal / 20.0**3 / units.GPa
    held = 0.0 if kind == "anisotropic" else pressure
    piston = md.Piston(kind, held, held, relaxation_fs=100.0, compressibility_per_GPa=1 / pressure)
    bath = md.Bath(ensemble, 300.0, 300.0, friction_per_ps=100.0, relaxation_fs=10.0)
    run = toy(potential, elastic if held == 0 else nothing, atoms, bath, 2.0, seed=1, piston=piston)
    run.grid = neighbors.plan(0.5 * atoms.positions, 0.5 * atoms.cell.array, atoms.pbc, run.radius)  # never too wide
    cells, pressures = [], []
    for _ in range(n):
        run.run(300 if held == 0 else 200)
        cells.append(run.now.state.cell)
        pressures.append(np.trace(run.now.pressure) / 3)
    volumes, square = np.abs(np.linalg.det(cells)), np.einsum("nia,nja->nij", cells, cells)

    def agrees(samples: np.ndarray, mean: float, variance: float) -> None:
        assert abs(np.mean(samples) - mean) < 5 * np.sqrt(variance / n)
        assert abs(np.var(samples) / variance - 1) < 5 * np.sqrt(2 / n) + 0.02  # a share of a time step in tau

    if held:
        shape = N + (ensemble == "langevin")
        agrees(volumes * pressure * units.GPa / thermal, shape, shape)
        assert stats.kstest(volumes * pressure * units.GPa / thermal, stats.gamma(shape).cdf).pvalue > 1e-4
        assert abs(np.mean(pressures) - pressure) < 5 * np.std(pressures) / np.sqrt(n)
        np.testing.assert_allclose(run.now.state.cell, volumes[-1] ** (1 / 3) * np.eye(3), atol=1e-9)
    else:
        unit = 400.0 / 65
        agrees(np.trace(square, axis1=1, axis2=2) / unit, 3 * 65, 6 * 65)
        degrees = np.array([65, 64, 63]) / 2
        agrees(
            2 * np.log(volumes / unit**1.5), np.sum(special.digamma(degrees) + np.log(2)),
            np.sum(special.polygamma(1, degrees)),
        )  # fmt: skip
        for a, b in ((0, 1), (0, 2), (1, 2)):
            assert abs(np.mean(square[:, a, b] / unit)) < 5 * np.sqrt(65 / n)
            assert np.mean((square[:, a, b] / unit) ** 2) == pytest.approx(65, rel=5 * np.sqrt(2.2 / n))


def test_a_list_stays_right_while_the_cell_shrinks(potential: Potential, structures: dict[str, Atoms]) -> None:
    """A crystal pressed together in all directions: energies are those of a fresh list, the pressure is -dE/dV."""
    atoms = moving(structures["crystal"])
    piston = md.Piston("anisotropic", 100.0, 100.0, relaxation_fs=50.0, compressibility_per_GPa=0.01)
    settings: dict[str, Any] = {"dtype": "float64", "path": "reference", "skin": 0.6, "piston": piston}
    run = md.Dynamics(atoms, potential, md.Bath("langevin", 300.0, 300.0), 1.0, **settings)
    calculator, rebuilds, began = Calculator(potential, dtype="float64"), 0, atoms.cell.array
    for _ in range(4):
        rebuilds += run.run(10).rebuilds
        snapshot = run.now.snapshot(run.atoms)
        snapshot.calc = calculator
        assert run.now.energy == pytest.approx(snapshot.get_potential_energy(), abs=1e-8)
        np.testing.assert_allclose(run.now.forces, snapshot.get_forces(), atol=1e-8)
    assert np.linalg.svd(np.linalg.solve(began, snapshot.cell.array))[1].min() < 0.95
    assert rebuilds > 0
    ends = []
    for scale in (1 - 1e-5, 1 + 1e-5):
        other = snapshot.copy()
        other.set_cell(scale * snapshot.cell.array, scale_atoms=True)
        other.calc = calculator
        ends.append((other.get_potential_energy(), other.get_volume()))
    slope = -(ends[1][0] - ends[0][0]) / (ends[1][1] - ends[0][1])
    ideal = 2 * run.now.kinetic / (3 * snapshot.get_volume())
    assert np.trace(run.now.pressure) / 3 * units.GPa == pytest.approx(slope + ideal, rel=1e-6)


@pytest.mark.slow
def test_a_cell_that_shrinks_in_a_segment_gets_wider_bins(potential: Potential) -> None:
    """An ideal gas in a cube of 6.3 Å, of two bins across, which reach too short before the first segment ends."""
    atoms = Atoms("HOHO", np.random.default_rng(1).uniform(0, 6.3, (4, 3)), cell=[6.3] * 3, pbc=True)
    piston = md.Piston("isotropic", 2.0, 2.0, relaxation_fs=100.0, compressibility_per_GPa=0.5)
    run = toy(potential, nothing, atoms, md.Bath("langevin", 300.0, 300.0), 2.0, piston=piston, replicas=4)
    narrow = run.grid.bins
    run.run(15)
    assert run.growths > 0
    assert max(run.grid.bins[:2]) < max(narrow[:2])
    assert min(one.snapshot(run.atoms).get_volume() for one in run.replicas) < 0.85 * atoms.get_volume()


def test_a_smallest_stretch_is_never_too_large() -> None:
    """Against singular values; equal for a deformation that is the same in all directions."""
    for F in np.eye(3) + 0.2 * np.random.default_rng(0).normal(size=(50, 3, 3)):
        assert float(least_stretch(jnp.asarray(F))) <= np.linalg.svd(F)[1].min() + 1e-12
    assert float(least_stretch(0.9 * jnp.eye(3))) == pytest.approx(0.9)


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


@pytest.mark.slow
def test_fire_finds_the_minimum_of_ases(tmp_path: Path) -> None:
    """Ethanol with a fixed atom and the shipped model, against ASE's FIRE; to 1e-5 eV with forces below 1e-3 eV/Å.

    It stops where it says, in the middle of a segment, and has nothing to do when it is asked to go on.
    """
    potential, frame = load(ROOT / "examples" / "ethanol"), ethanol()[0]
    atoms = Atoms(frame.numbers, frame.positions, constraint=FixAtoms([0]))
    bath = md.Bath("minimise", fmax_eV_per_A=1e-3)
    run = md.Dynamics(atoms, potential, bath, 0.5, dtype="float64", path="reference")
    began = run.now.positions
    settings: dict[str, Any] = {"every": 50, "trajectory_every": 1000, "timestep_fs": 0.5}
    md.run(run, tmp_path / "out", {}, steps=1000, **settings)
    assert run.converged
    assert run.now.largest_force <= 1e-3
    assert run.now.step < 1000
    np.testing.assert_array_equal(run.now.positions[0], began[0])
    files = [(tmp_path / "out" / name).read_bytes() for name in ("trajectory.extxyz", "log.csv")]
    md.run(run, tmp_path / "out", {}, steps=1000, resume=True, **settings)
    assert files == [(tmp_path / "out" / name).read_bytes() for name in ("trajectory.extxyz", "log.csv")]
    atoms.calc = Calculator(potential, dtype="float64")
    FIRE(atoms, logfile=None).run(fmax=1e-3, steps=1000)
    assert run.now.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-5)


def test_refusals(potential: Potential, structures: dict[str, Atoms]) -> None:
    atoms = structures["molecule"]
    with pytest.raises(UserError, match="ensemble is 'npt'"):
        md.Dynamics(atoms, potential, md.Bath("npt"))
    with pytest.raises(UserError, match="but must be positive"):
        md.Dynamics(atoms, potential, md.Bath("nose_hoover", 300.0, 0.0))
    with pytest.raises(UserError, match="no atoms"):
        md.Dynamics(Atoms(), potential, md.Bath())
    with pytest.raises(UserError, match="not trained on Au"):
        md.Dynamics(Atoms("Au"), potential, md.Bath())
    for change, said in (
        ({"pbc": False}, "periodic along three directions"),
        ({"constraint": FixAtoms([0])}, "atoms are fixed"),
        ({"ensemble": "nve"}, "ensemble is nve"),
        ({"kind": "cubic"}, "pressure is 'cubic'"),
    ):
        ensemble, kind = change.pop("ensemble", "bussi"), change.pop("kind", "isotropic")
        crystal = structures["crystal"].copy()
        crystal.pbc = change.get("pbc", True)
        crystal.set_constraint(change.get("constraint"))
        with pytest.raises(UserError, match=said):
            md.Dynamics(crystal, potential, md.Bath(ensemble, 300.0, 300.0), piston=md.Piston(kind))
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


@pytest.mark.slow
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """A short run with the shipped model, its table, its files; a wrong key and a missing file in one sentence."""
    frame = ethanol()[0]
    ase.io.write(tmp_path / "start.xyz", Atoms(frame.numbers, frame.positions))
    (tmp_path / "md.yaml").write_text(
        f"model: {ROOT}/examples/ethanol\nstructure: {tmp_path}/start.xyz\noutput: {tmp_path}/out\nensemble: nve\n"
        "steps: 40\nevery: 10\ntrajectory_every: 20\n",
        encoding="utf-8",
    )
    done = processes.python("-m", "gmnn", "md", tmp_path / "md.yaml")
    assert done.returncode == 0, done.stderr
    assert re.search(r"drift of the total energy [+-]", done.stdout)
    approaches = re.findall(r"^([CHO]-[CHO]) +([0-9.]+) +([0-9.]+) +([0-9.]+) +([0-9.]+|-) +", done.stdout, re.M)
    assert [pair for pair, *_ in approaches] == ["H-H", "C-H", "H-O", "C-C", "C-O"]
    assert all(0.01 < float(proved) < float(closest) for _, closest, _, proved, _ in approaches)
    assert re.search(r"[0-9.]+ ns/day, [0-9.e+]+ µs/atom-step", done.stdout)
    assert len((tmp_path / "out" / "log.csv").read_text(encoding="utf-8").splitlines()) == 6
    assert len(ase.io.read(tmp_path / "out" / "trajectory.extxyz", ":")) == 3
    monkeypatch.setattr(md_command, "_use_all_cores", lambda: None)
    for arguments, said in (
        ((), "already holds a run"),
        (("temperatur_K=3",), "did you mean temperature_K"),
        (("steps=45",), "multiple of every"),
        (("structure=nowhere.xyz", "output=x"), "the file nowhere.xyz does not exist"),
        (("model=nowhere", "output=x"), "not a model folder"),
    ):
        assert md_command.main([str(tmp_path / "md.yaml"), *arguments]) == 2
        assert said in capsys.readouterr().err
    assert md_command.main([str(tmp_path / "md.yaml"), "steps=60", "--resume"]) == 0
    assert len((tmp_path / "out" / "log.csv").read_text(encoding="utf-8").splitlines()) == 8


def test_mistakes_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(md_command, "_use_all_cores", lambda: None)
    (tmp_path / "md.yaml").write_text(
        f"model: nowhere\nstructure: nowhere.xyz\noutput: {tmp_path}/out\nsteps: 40\nevery: 10\n",
        encoding="utf-8",
    )
    for arguments, said in (
        (("temperatur_K=3",), "did you mean temperature_K"),
        (("every=30",), "multiple of every"),
        ((), "nowhere"),
    ):
        assert md_command.main([str(tmp_path / "md.yaml"), *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
