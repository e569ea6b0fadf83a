"""Grades in dynamics: a replica stays where it left the data; temperatures of its own for every replica."""

import csv
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms, units
from ase.io import write

from gmnn import md
from gmnn.commands import md as command
from gmnn.data import read_dataset
from gmnn.data.embedded import ethanol
from gmnn.errors import UserError
from gmnn.evaluation import with_grades
from gmnn.model import folder
from gmnn.model.potential import Potential
from gmnn.structures import read_structures
from gmnn.system import Prediction, System
from tests.md.test_md import Make, nothing, toy


def graded_by_place(_: Any, system: System) -> Prediction:
    """An ideal gas, whose atoms have their first coordinate as grade; beyond 50 Å nothing is finite."""
    x = system.positions[:, 0]
    plain = nothing(_, system)
    return plain._replace(energies=jnp.where(x > 50.0, jnp.nan, plain.energies), grades=x)


def flyers(potential: Potential, stop_above: float, speeds: tuple[float, ...]) -> md.Dynamics:
    """Replicas of one atom that flies from the origin along x; the speeds are in Å/fs."""
    atom = Atoms("H", positions=[[0.0, 0.0, 0.0]])
    run = toy(
        potential, graded_by_place, atom, md.Bath("nve"), 1.0, replicas=len(speeds), stop_above_grade=stop_above
    )  # fmt: skip
    velocities = [np.array([[speed / units.fs, 0.0, 0.0]]) for speed in speeds]
    states = [state._replace(velocities=v) for state, v in zip(run.states, velocities, strict=True)]
    run.resume(0, states)
    return run


def test_a_replica_stays_where_its_grade_is_too_large(potential: Potential) -> None:
    """At speed v the first step beyond grade 2 is floor(2 / v) + 1; the others go on, and see nothing of it."""
    run = flyers(potential, 2.0, (0.03, 0.0, 0.15, 0.01))
    run.run(40)
    run.run(60)
    places = [replica.positions[0, 0] for replica in run.replicas]
    np.testing.assert_allclose(places, [67 * 0.03, 0.0, 14 * 0.15, 1.0], atol=1e-12)
    np.testing.assert_allclose([replica.worst.grade for replica in run.replicas], places, atol=1e-12)
    assert run.replicas[0].worst.step == 67  # of the run
    assert [replica.worst.above for replica in run.replicas[:3]] == [27, 0, 0]  # in the second segment, beyond grade 1
    assert run.now.step == 100


def test_the_worst_frame_of_a_segment_is_kept(potential: Potential) -> None:
    """A bounced atom is farthest out in the middle of the segment; nothing is stopped."""

    def wall(_: Any, system: System) -> Prediction:
        x = system.positions
        pushed = jnp.where(x[:, :1] > 1.0, -50.0, 0.0) * jnp.array([[1.0, 0.0, 0.0]])
        return graded_by_place(_, system)._replace(forces=pushed)

    run = toy(potential, wall, Atoms("H", [[0, 0, 0]]), md.Bath("nve"), 0.5, stop_above_grade=np.inf)
    run.resume(0, [run.states[0]._replace(velocities=np.array([[0.05 / units.fs, 0.0, 0.0]]))])
    most = 0.0
    for _ in range(120):
        most = max(most, run.run(1).positions[0, 0])
    again = toy(potential, wall, Atoms("H", [[0, 0, 0]]), md.Bath("nve"), 0.5, stop_above_grade=np.inf)
    again.resume(0, [again.states[0]._replace(velocities=np.array([[0.05 / units.fs, 0.0, 0.0]]))])
    end = again.run(120)
    assert end.positions[0, 0] < most - 0.1
    assert end.worst.grade == pytest.approx(most, abs=1e-12)
    assert end.worst.positions[0, 0] == pytest.approx(most, abs=1e-12)


def test_a_replica_whose_numbers_end_stays_at_the_last_good_frame(potential: Potential) -> None:
    run = flyers(potential, np.inf, (1.0, 0.01))
    with pytest.raises(UserError, match="a number of replica 0 is not finite any more between steps 0 and 80"):
        run.run(80)
    assert run.now.step == 0
    run.run(80, keep_broken=True)
    assert run.replicas[0].finite
    assert run.replicas[0].positions[0, 0] == pytest.approx(50.0, abs=1e-9)
    assert np.isnan(run.replicas[0].largest_grade)
    assert run.replicas[1].positions[0, 0] == pytest.approx(0.8, abs=1e-9)


def test_an_infinite_grade_is_no_broken_number(potential: Potential) -> None:
    """An element that was never trained has it; where nothing is to stop, the dynamics go on and say so."""

    def untrained(_: Any, system: System) -> Prediction:
        return graded_by_place(_, system)._replace(grades=jnp.full(1, jnp.inf))

    run = toy(potential, untrained, Atoms("H", [[0, 0, 0]]), md.Bath("nve"), 1.0, stop_above_grade=np.inf)
    run.resume(0, [run.states[0]._replace(velocities=np.array([[0.01 / units.fs, 0.0, 0.0]]))])
    assert run.run(80).positions[0, 0] == pytest.approx(0.8, abs=1e-9)
    assert run.now.largest_grade == np.inf


def test_a_segment_ends_early_once_all_have_left(potential: Potential) -> None:
    run = flyers(potential, 2.0, (0.5, 0.25))
    run.run(1000)
    assert run.now.step < 20


def test_every_replica_has_its_temperature(potential: Potential) -> None:
    """An ideal gas of many atoms under strong friction: kinetic temperatures to 5 standard errors."""
    gas = Atoms("HO" * 200, 60.0 * np.indices((20, 5, 4)).reshape(3, -1).T, cell=[1200.0, 300.0, 240.0], pbc=True)
    wanted = (100.0, 900.0, 400.0)
    baths = [md.Bath("langevin", t, t, friction_per_ps=200.0) for t in wanted]
    run = toy(potential, nothing, gas, baths, 2.0, replicas=3)
    run.run(40)
    for replica, temperature in zip(run.replicas, wanted, strict=True):
        assert abs(replica.temperature - temperature) < 5 * temperature * np.sqrt(2 / (3 * len(gas)))


def test_baths_of_replicas_differ_in_temperature_alone(potential: Potential) -> None:
    gas = Atoms("H2", [[0, 0, 0], [0, 0, 9.0]])
    for baths, words in (
        ([md.Bath("langevin", 1.0, 1.0)], "1 baths for 2 replicas"),
        ([md.Bath("langevin", 1.0, 1.0), md.Bath("bussi", 1.0, 1.0)], "differ in more than their temperatures"),
    ):
        with pytest.raises(UserError, match=words):
            toy(potential, nothing, gas, baths, 1.0, replicas=2)


def test_frames_that_left_the_data_are_kept_and_a_killed_run_is_the_same(potential: Potential, tmp_path: Path) -> None:
    """A bounced atom leaves twice; the frame of each time is in beyond.extxyz, once, also after a restart."""

    def box(_: Any, system: System) -> Prediction:
        x = system.positions
        pushed = jnp.where(x[:, :1] > 1.6, -3.0, jnp.where(x[:, :1] < 0.0, 3.0, 0.0)) * jnp.array([[1.0, 0.0, 0.0]])
        return graded_by_place(_, system)._replace(forces=pushed)

    def new() -> md.Dynamics:
        run = toy(potential, box, Atoms("H", [[0, 0, 0]]), md.Bath("nve"), 1.0, stop_above_grade=np.inf)
        run.resume(0, [run.states[0]._replace(velocities=np.array([[0.05 / units.fs, 0.0, 0.0]]))])
        return run

    settings: dict[str, Any] = {"every": 5, "trajectory_every": 10, "timestep_fs": 1.0}
    md.run(new(), tmp_path / "whole", {}, steps=200, **settings)
    for end in (35, 90, 200):
        md.run(new(), tmp_path / "parts", {}, steps=end, resume=True, **settings)
    for name in ("beyond.extxyz", "log.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    frames = ase.io.read(tmp_path / "whole" / "beyond.extxyz", ":")
    grades = [frame.positions[0, 0] for frame in frames]
    assert len(frames) > 1
    assert all(grade > 1.5 - 1e-7 for grade in grades)
    np.testing.assert_allclose(grades, [frame.info["largest_grade"] for frame in frames], atol=1e-6)
    with open(tmp_path / "whole" / "log.csv", encoding="utf-8") as file:
        logged = [float(row["largest_grade"]) for row in csv.DictReader(file)]
    assert sum(b > 1.5 >= a for a, b in itertools.pairwise(logged)) == len(frames)


@pytest.mark.slow
def test_a_run_that_leaves_its_data_says_so_and_stops_where_asked(
    make_potential: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 4 with a sentence, by the grade and, without grades, because the molecule is in pieces."""
    made, params = make_potential()
    write(tmp_path / "frames.xyz", ethanol()[:40])
    data = read_dataset(str(tmp_path / "frames.xyz"))
    graded = with_grades(
        made.with_params(jax.tree.map(np.float32, params)), data.take(np.arange(30)), data.take(np.arange(30, 40))
    )
    folder.save(tmp_path / "graded", graded, 1, {"finished": True})
    folder.save(tmp_path / "plain", replace(graded, grade=None), 1, {"finished": True})
    values = {
        "structure": str(tmp_path / "frames.xyz"), "steps": 400, "every": 20, "trajectory_every": 200,
        "temperature_K": 6000, "timestep_fs": 0.5,
    }  # fmt: skip
    for name, model, more, code, words in (
        ("stopped", "graded", ["stop_above_grade=1.6"], 4, "STOPPED"), ("warned", "graded", [], 4, "LEFT THE DATA"),
        ("silent", "graded", ["grades=false"], 4, "pieces, not 1"), ("plain", "plain", [], 4, "pieces, not 1"),
        ("none", "plain", ["stop_above_grade=2"], 2, "no grades"),
    ):  # fmt: skip
        config = tmp_path / f"{name}.yaml"
        config.write_text(
            json.dumps(values | {"model": str(tmp_path / model), "output": str(tmp_path / f"run_{name}")}),
            encoding="utf-8",
        )
        assert command.main([str(config), *more]) == code, name
        printed = capsys.readouterr()
        assert words in printed.err
        assert ("largest grade" in printed.out) == (name in ("stopped", "warned"))
        assert (tmp_path / f"run_{name}" / "beyond.extxyz").exists() == (name in ("stopped", "warned"))
    assert read_structures(tmp_path / "run_stopped" / "beyond.extxyz")[0].info["largest_grade"] > 1.6
