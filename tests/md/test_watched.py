"""Grades in dynamics: a replica stays where it left the data; temperatures of its own for every replica."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms, units

from gmnn import md
from gmnn.errors import UserError
from gmnn.model.potential import Potential
from gmnn.system import Prediction, System
from tests.md.test_md import Make, nothing, toy


@pytest.fixture
def potential(make_potential: Make) -> Potential:
    made, params = make_potential()
    return made.with_params(params)


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
    run.run(80)
    assert run.replicas[0].finite
    assert run.replicas[0].positions[0, 0] == pytest.approx(50.0, abs=1e-9)
    assert run.replicas[0].worst.grade == np.inf
    assert run.replicas[1].positions[0, 0] == pytest.approx(0.8, abs=1e-9)


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
