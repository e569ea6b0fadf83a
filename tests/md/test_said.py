"""What a run says: its first temperature, distances, pieces, spread, whether it left its data; the compressibility."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule

from gmnn import md
from gmnn.commands import md as command
from gmnn.data.embedded import ethanol
from gmnn.device import on_device
from gmnn.errors import UserError
from gmnn.md import summary
from gmnn.md.bonds import Bonds
from gmnn.md.compressibility import _centres, compressibility
from gmnn.md.figures import draw
from gmnn.md.log import Log
from gmnn.md.summary import DataRange, Record, departures, record_of
from gmnn.model.potential import Potential
from gmnn.neighbors.host import make_system
from gmnn.system import Prediction, System
from tests.md.test_md import Make, nothing, toy
from tests.support.paths import ROOT


@pytest.mark.parametrize(
    ("atoms", "later"),
    [
        (molecule("CH3OH"), 18),
        pytest.param(Atoms("OH", [[0, 0, 0], [0, 0, 1.0]]), 6, marks=pytest.mark.slow),
        pytest.param(Atoms("HO", [[0, 0, 0], [3.0, 0, 0]], cell=[6.0] * 3, pbc=True), 6, marks=pytest.mark.slow),
    ],
)
def test_the_first_temperature_is_the_one_that_was_asked_for(potential: Potential, atoms: Atoms, later: int) -> None:
    """Velocities drawn without momentum and rotation have fewer degrees of freedom than a Langevin bath moves later."""
    run = toy(potential, nothing, atoms, md.Bath("langevin", 300.0, 300.0), 1.0)
    assert run.now.temperature == pytest.approx(300.0, rel=1e-6)
    now = run.run(50)
    assert now.temperature == pytest.approx(2 * now.kinetic / (later * units.kB))


@pytest.mark.slow
def test_the_closest_distance_of_a_crystal_is_that_of_its_images(
    potential: Potential, structures: dict[str, Atoms]
) -> None:
    """At the end of a segment, against all images within two cells."""
    run = md.Dynamics(structures["triclinic"], potential, md.Bath("langevin", 900.0, 900.0), 1.0, path="fast")
    for steps in (0, 5):
        if steps:
            run.run(steps)
        now = run.now.snapshot(structures["triclinic"])
        shifts = np.array(list(itertools.product(range(-2, 3), repeat=3))) @ now.cell.array
        for (a, b), closest in zip(run.now.setting.pairs, run.now.closest, strict=True):
            i, j = (np.flatnonzero(now.numbers == z) for z in (a, b))
            vectors = now.positions[j][None, :, None] + shifts - now.positions[i][:, None, None]
            r = np.linalg.norm(vectors, axis=-1)
            nearest = r[r > 1e-6].min()
            assert closest == pytest.approx(nearest, abs=1e-5) if nearest < 3.6 else np.isinf(closest) or closest > 3.6


def test_pieces_of_a_molecule() -> None:
    """Ethanol whose H, then whose hydroxyl group, goes away; two molecules of water, which bind to none, are two."""
    atoms = molecule("CH3CH2OH")
    bonds = Bonds(atoms)
    assert bonds.pieces_at_start == 1
    assert len(bonds.i) == 8
    assert bonds.kinds == ["C-C", "C-H", "C-O", "H-O"]
    oxygen = int(np.flatnonzero(atoms.numbers == 8)[0])
    hydrogen = int(bonds.j[(bonds.i == oxygen) & (atoms.numbers[bonds.j] == 1)][0])
    carbon = int(bonds.i[(bonds.j == oxygen)][0])
    away = (atoms.positions[oxygen] - atoms.positions[carbon]) / 1.4
    for moved, far, pieces in (
        ([hydrogen], 9.0, 2),
        ([oxygen, hydrogen], 9.0, 2),
        ([oxygen], 9.0, 3),
        ([oxygen], 0.1, 1),
    ):
        x = atoms.positions.copy()
        x[moved] += far * away
        assert bonds.pieces(x) == pieces
    assert bonds.longest(np.array([atoms.positions, 1.1 * atoms.positions]))["C-O"] == pytest.approx(
        1.1 * atoms.get_distance(carbon, oxygen)
    )
    two = molecule("H2O")
    two.extend(Atoms("OH2", molecule("H2O").positions + np.array([5.0, 0, 0])))
    waters = Bonds(two)
    assert waters.pieces_at_start == 2
    assert waters.pieces(two.positions + np.repeat([[0, 0, 0], [30.0, 0, 0]], 3, axis=0)) == 2


def test_a_log_that_was_begun_keeps_its_columns(potential: Potential, structures: dict[str, Atoms]) -> None:
    run = md.Dynamics(structures["dimer"], potential, md.Bath("nve"), path="fast")
    whole = Log(run, 1.0)
    assert whole.header.count(",") == whole.lines().count(",")
    assert whole.names[-2:] == ["longest_H-O_A", "pieces"]
    assert Log(run, 1.0, "step,time_ps,gone\n").lines() == "0,0.000000,\n"


@pytest.mark.slow
def test_the_spread_is_that_of_the_members(make_potential: Make, structures: dict[str, Atoms]) -> None:
    """Of the logged energy, against the members' energies from the potential itself; also after some steps."""
    potential, params = make_potential(ensemble="shallow", members=4)
    potential = potential.with_params(params)
    atoms = structures["molecule"]
    run = md.Dynamics(
        atoms, potential, md.Bath("langevin", 300.0, 300.0), 0.5, dtype="float64", path="fast", replicas=2
    )
    run.run(3)

    for replica in run.replicas:
        system = make_system(replica.positions, atoms.numbers, np.zeros((3, 3)), atoms.pbc, potential.config.r_max)
        energies = np.asarray(potential.predict(potential.params, on_device(system, "float64")).members)
        assert replica.spread == pytest.approx(np.std(energies, ddof=1), rel=2e-4)
    assert float(Log(run, 0.5).lines().split(",")[run_column(run, "energy_std_eV")]) == pytest.approx(
        run.now.spread, abs=1e-6
    )


def run_column(run: md.Dynamics, name: str) -> int:
    return Log(run, 0.5).names.index(name)


def record(**columns: Any) -> Record:
    """A log of two replicas with five lines."""
    given = {name: np.broadcast_to(np.asarray(values, float), (5, 2)) for name, values in columns.items()}
    steps = np.broadcast_to(10.0 * np.arange(5)[:, None], (5, 2))
    base = {"step": steps, "time_ps": steps / 1000, "temperature_K": 300 + steps, "potential_eV": -steps}
    return Record(base | given)


COLUMN = np.ones((5, 1))


@pytest.mark.parametrize(
    ("columns", "data", "words"),
    [
        ({"steps_above_1": np.zeros((5, 2))}, DataRange(), ""),
        ({"steps_above_1": np.array([[1, 0], [3, 10], [0, 10], [3, 10], [3, 0]])}, DataRange(),
         "the grade of replica 1 was above 1 for 75 % of the time"),
        ({"steps_above_1": np.array([[9, 9]] + [[2, 1]] * 4)}, DataRange(), ""),
        ({"pieces": np.array([[1, 1], [2, 1], [1, 1], [1, 1], [1, 1]])}, DataRange(), ""),
        ({"pieces": np.array([[1, 1], [2, 1], [1, 1], [1, 3], [1, 3]])}, DataRange(),
         "the structure of replica 1 is in 3 pieces, not 1"),
        ({"pieces": np.array([[4, 4]] * 4 + [[3, 3]])}, DataRange(), ""),
        ({"density_g_per_cm3": 7.2 * COLUMN, "held_GPa": 0 * COLUMN}, DataRange(density=(7.5, 8.0)), ""),
        ({"density_g_per_cm3": 6.0 * COLUMN, "held_GPa": 0 * COLUMN}, DataRange(density=(7.5, 8.0)),
         "the density of replicas 0, 1 became 6 g/cm³, 7.5 to 8 in the data"),
        ({"density_g_per_cm3": 6.0 * COLUMN}, DataRange(density=(7.5, 8.0)), ""),
        ({"density_g_per_cm3": np.array([[7.8], [7.0], [1.0], [0.3], [0.2]]), "held_GPa": 0 * COLUMN}, DataRange(),
         "became 0.5 g/cm³, 7.8 at the start"),
    ],
)  # fmt: skip
def test_a_run_that_left_its_data_is_told(columns: dict[str, np.ndarray], data: DataRange, words: str) -> None:
    """Most of the time, not once; at the end, not on the way; in the second half, and only where a pressure is held."""
    clauses = departures(record(**columns), data)
    assert len(clauses) == bool(words)
    assert words in "".join(clauses)


def test_a_fall_in_energy_is_told() -> None:
    """Beyond 1 eV and 0.1 eV per atom below the start, once, with the step of the lowest; nothing where it rises."""
    for n, energies, step in ((9, [5.0, 3.9, 4.5], 10), (9, [5.0, 4.1, 9.0], None), (40, [5.0, 3.9, 0.9], 20),
                              (40, [5.0, 3.9, 1.1], None)):  # fmt: skip
        rows = [
            {"step": str(10 * k), "time_ps": "0", "potential_eV": str(energy + shift), "replica": str(replica)}
            for k, energy in enumerate(energies)
            for replica, shift in enumerate((0.0, 100.0))
        ]
        said = summary.fall(record_of(rows), n)
        assert (f"at step {step} the potential energy of replica " in said) if step else said == ""
        said = summary.fall(record_of(rows[::2]), n)
        assert (f"at step {step} the potential energy is " in said) if step else said == ""


@pytest.mark.parametrize("replicas", [1, 3, 8])
def test_the_figure_shows_whatever_the_log_has(replicas: int) -> None:
    names = ("temperature_K", "potential_eV", "pressure_GPa", "held_GPa", "density_g_per_cm3", "largest_grade",
             "energy_std_eV", "pieces", "closest_C-H_A", "longest_C-H_A")  # fmt: skip
    columns = {name: np.ones((4, replicas)) for name in names}
    columns["closest_C-H_A"] = np.full((4, replicas), np.inf)  # never within reach
    columns["time_ps"] = columns["step"] = np.arange(4.0)[:, None] * np.ones((1, replicas))
    data = DataRange({"C-H": 0.9}, {"C-H": 1.3}, (0.9, 1.1))
    for shown in (columns, {name: values[:1] for name, values in columns.items()}):
        assert draw(Record(shown), data, 9, "title")[:8] == b"\x89PNG\r\n\x1a\n"


def springs(stiff: float) -> Callable[[np.ndarray, np.ndarray], Any]:
    """Energy of dimers (0, 1), (2, 3) ... with stiff bonds of 1 Å, whose first atoms repel each other by 3 / r^6."""

    def energy(x: Any, cell: Any) -> Any:
        def apart(i: np.ndarray, j: np.ndarray) -> Any:
            vectors = x[j] - x[i]
            fractions = vectors @ jnp.linalg.inv(cell)
            return jnp.linalg.norm((fractions - jnp.round(fractions)) @ cell, axis=1)

        first = np.arange(0, len(x), 2)
        i, j = (first[k] for k in np.triu_indices(len(first), 1))
        return jnp.sum(stiff * (apart(first, first + 1) - 1.0) ** 2) + jnp.sum(3.0 / apart(i, j) ** 6)

    return energy


def test_the_compressibility_is_the_curvature_of_the_energy(potential: Potential) -> None:
    """The pressure from energies of whole dimers, moved apart and together; 50 eV/Å² inside them do not count."""
    energy = springs(50.0)

    def predict(_: Any, system: System) -> Prediction:
        def strained(x: Any, strain: Any) -> Any:
            deformation = jnp.eye(3) + 0.5 * (strain + strain.T)
            return energy(x @ deformation, system.cell @ deformation)

        gradient, virial = jax.grad(strained, (0, 1))(system.positions, jnp.zeros((3, 3)))
        total = energy(system.positions, system.cell)
        energies = jnp.full(len(system.numbers), total / len(system.numbers))
        return Prediction(total, energies, -gradient, virial, total[None])

    sites = 3.0 * np.indices((2, 2, 2)).reshape(3, -1).T
    x = np.concatenate([[site, site + np.array([0.6, 0.0, 0.8])] for site in sites + 1.0])
    box = Atoms("OH" * 8, x, cell=[6.0, 6.2, 6.4], pbc=True)
    run = toy(potential, predict, box, md.Bath("nve"), 1.0)
    before = run.now.positions
    centres = np.repeat(x.reshape(-1, 2, 3).mean(axis=1), 2, axis=0)

    def pressure(share: float) -> float:
        def at(share: float) -> float:
            scale = (1 + share) ** (1 / 3)
            return float(energy(x + (scale - 1) * centres, scale * box.cell.array))

        return -(at(share + 1e-4) - at(share - 1e-4)) / (2e-4 * box.get_volume())

    modulus = (pressure(-0.01) - pressure(0.01)) / 0.02 / units.GPa
    assert compressibility(run) == pytest.approx(1 / modulus, rel=0.06)
    np.testing.assert_array_equal(run.now.positions, before)
    assert 1 / modulus > 0


def test_molecules_are_whole_and_networks_are_not(structures: dict[str, Atoms]) -> None:
    """Centres of ethanol across the boundary of a sheared cell; atoms of a crystal are their own centres."""
    atoms = structures["molecule"]
    atoms.set_cell([[9.0, 0, 0], [2.0, 9.0, 0], [1.0, 1.0, 9.0]])
    atoms.pbc = True
    atoms.positions -= atoms.positions.mean(axis=0)
    relative = atoms.positions.copy()
    atoms.wrap()
    assert not np.allclose(atoms.positions, relative)
    np.testing.assert_allclose(
        atoms.positions - _centres(atoms, atoms.positions, atoms.cell.array), relative, atol=1e-9
    )
    crystal = structures["crystal"]
    np.testing.assert_array_equal(_centres(crystal, crystal.positions, crystal.cell.array), crystal.positions)


def test_what_does_not_resist_has_no_compressibility(potential: Potential) -> None:
    gas = Atoms("H2", [[0, 0, 0], [0, 0, 3.0]], cell=[6.0] * 3, pbc=True)
    for pbc, words in ((True, "does not resist a change of its volume"), (False, "needs three periodic directions")):
        gas.pbc = pbc
        with pytest.raises(UserError, match=f"{words}.*give compressibility_per_GPa"):
            compressibility(toy(potential, nothing, gas, md.Bath("nve"), 1.0))


@pytest.mark.slow
def test_the_command_ends_with_4_where_a_molecule_is_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ethanol whose start flies apart; near its data the same run ends with 0. Both draw a figure."""
    monkeypatch.setattr(command, "_use_all_cores", lambda: None)
    frame = ethanol()[0]
    for name, speed, code in (("held", 0.0, 0), ("apart", 0.15, 4)):
        atoms = Atoms(frame.numbers, frame.positions)
        velocities = np.zeros((9, 3))
        velocities[2] = speed / units.fs * (atoms.positions[2] - atoms.positions[0])
        velocities[3] = 1e-6
        atoms.set_velocities(velocities)
        ase.io.write(tmp_path / f"{name}.traj", atoms)
        (tmp_path / f"{name}.yaml").write_text(
            json.dumps({
                "model": f"{ROOT}/examples/ethanol", "structure": str(tmp_path / f"{name}.traj"), "ensemble": "nve",
                "output": str(tmp_path / name), "steps": 100, "every": 20, "trajectory_every": 100, "timestep_fs": 0.2,
            }),
            encoding="utf-8",
        )  # fmt: skip
        assert command.main([str(tmp_path / f"{name}.yaml")]) == code, name
        printed = capsys.readouterr()
        assert ("is in 2 pieces, not 1" in printed.err) == (code == 4)
        assert "longest bond, Å" in printed.out
        assert (tmp_path / name / "md.png").read_bytes()[:4] == b"\x89PNG"


def for_ethanol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> str:
    """A configuration of the shipped model on one core, from a frame of its data; its output is the folder `out`."""
    monkeypatch.setattr(command, "_use_all_cores", lambda: None)
    frame = ethanol()[0]
    ase.io.write(tmp_path / "start.xyz", Atoms(frame.numbers, frame.positions))
    values = {"model": f"{ROOT}/examples/ethanol", "structure": str(tmp_path / "start.xyz"), "every": 10,
              "trajectory_every": 10, "output": str(tmp_path / "out"), **settings}  # fmt: skip
    (tmp_path / "md.yaml").write_text(json.dumps(values), encoding="utf-8")
    return str(tmp_path / "md.yaml")


@pytest.mark.slow
def test_replicas_take_the_temperatures_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log has the bath of every replica; the velocities begin at its temperature."""
    configuration = for_ethanol(tmp_path, monkeypatch, steps=20, temperatures_K=[100, 400], replicas=4,
                                friction_per_ps=1e-3)  # fmt: skip
    assert command.main([configuration]) == 0
    columns = summary.read_record(tmp_path / "out" / "log.csv").columns
    np.testing.assert_array_equal(columns["bath_K"], [[100, 400] * 2] * 3)
    np.testing.assert_allclose(columns["temperature_K"][0], [100, 400] * 2, rtol=1e-4)
    assert "mean temperatures of bath and replicas, K: 100: " in capsys.readouterr().out
    assert command.main([configuration, "replicas=3", f"output={tmp_path / 'other'}"]) == 2
    assert "must be a multiple of the number of temperatures_K (2)" in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupted_run_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    advance = md.Dynamics.run

    def interrupted(self: md.Dynamics, steps: int, keep_broken: bool = False) -> Any:
        if self.now.step >= 20:
            raise KeyboardInterrupt
        return advance(self, steps, keep_broken)

    monkeypatch.setattr(md.Dynamics, "run", interrupted)
    assert command.main([for_ethanol(tmp_path, monkeypatch, steps=60)]) == 130
    assert (tmp_path / "out" / "md.png").read_bytes()[:4] == b"\x89PNG"
