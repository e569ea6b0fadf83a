"""Dynamics of replicas at all temperatures, and the frames with which they left the data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from gmnn.errors import UserError
from gmnn.learning.starts import Start
from gmnn.md.bonds import Bonds
from gmnn.md.dynamics import Dynamics
from gmnn.md.integrators import Bath
from gmnn.md.snapshot import Snapshot
from gmnn.model.potential import Potential
from gmnn.structures import bare

SEGMENT_FS = 50.0  # between checks of the bonds
HELD, LEFT, LOST, FUSED, BROKEN = "held", "left", "lost", "fused", "broken"


@dataclass(eq=False)
class Outcome:
    """What became of a replica."""

    start: int
    temperature_K: float
    replica: int
    end: str = HELD
    """`held`; `left` the data, by the grade; `lost` a bond; `fused` atoms; `broken`: numbers that are not finite."""
    held_ps: float = 0.0
    largest_grade: float = 0.0
    """Until it left."""
    above: float = 0.0
    """Share of the time with a grade above 1."""
    frames: tuple[Atoms, ...] = ()
    """Frames to label: where it left; around the loss of a bond, and where its grade first exceeded 1 before."""
    worst: Atoms | None = None
    """The frame of the largest grade so far."""
    crossing: Atoms | None = None
    """The worst frame of the first segment with a grade above 1."""

    def record(self) -> dict[str, Any]:
        """Everything but the frames, as JSON types."""
        values = {name: value for name, value in vars(self).items() if name not in ("frames", "worst", "crossing")}
        return values | {"largest_grade": min(self.largest_grade, 1e9)}


def explore(
    potential: Potential,
    start: Start,
    which: int,
    temperatures_K: tuple[float, ...],
    *,
    replicas: int,
    ps: float,
    timestep_fs: float,
    stop_above: float,
    seed: int,
    sample: Callable[[Atoms, Outcome], None] = lambda atoms, outcome: None,
    sample_every_ps: float = np.inf,
) -> list[Outcome]:
    """Run replicas of a start at every temperature for `ps` picoseconds, or until they leave.

    `sample` gets the frames of replicas that are still there every `sample_every_ps`.
    """
    outcomes = [Outcome(which, t, k) for t in temperatures_K for k in range(replicas)]
    baths = [Bath("langevin", outcome.temperature_K, outcome.temperature_K) for outcome in outcomes]
    dynamics = Dynamics(
        start.atoms, potential, baths, timestep_fs, seed=seed, replicas=len(baths), stop_above_grade=stop_above
    )
    bonds, home = Bonds(start.atoms), dynamics.states
    per_segment = max(1, round(SEGMENT_FS / timestep_fs))
    segments, sampled = max(1, round(1000 * ps / (per_segment * timestep_fs))), 0.0
    for k, snapshot in enumerate(dynamics.replicas):
        _judge(outcomes[k], bonds, start.atoms, snapshot, snapshot, timestep_fs, stop_above)
    for done in range(1, segments + 1):
        before = dynamics.replicas
        if all(outcome.end != HELD for outcome in outcomes):
            break
        try:
            dynamics.run(per_segment, keep_broken=True)
        except UserError:  # all replicas have one list of neighbours: none of them can go on
            for outcome, last in zip(outcomes, before, strict=True):
                if outcome.end == HELD:
                    outcome.end, outcome.frames = BROKEN, (_frame(last, start.atoms),)
            break
        states = dynamics.states
        for k, (outcome, last, now) in enumerate(zip(outcomes, before, dynamics.replicas, strict=True)):
            if outcome.end == HELD:
                _judge(outcome, bonds, start.atoms, last, now, timestep_fs, stop_above)
                outcome.above += (now.largest_grade > 1.0) / segments
            if outcome.end in (LOST, FUSED) and bonds.broken(now.positions, now.state.cell):
                states[k] = home[k]  # it goes on from there, uncounted: pieces may not fly apart for ever
        if any(state is there for state, there in zip(states, home, strict=True)):
            dynamics.resume(dynamics.now.step, states)
        if done * per_segment * timestep_fs / 1000 >= sampled + sample_every_ps:
            sampled += sample_every_ps
            for k, outcome in enumerate(outcomes):
                if outcome.end == HELD:
                    sample(dynamics.replicas[k].snapshot(start.atoms), outcome)
    return outcomes


def _frame(snapshot: Snapshot, atoms: Atoms) -> Atoms:
    """The structure at the end of a segment."""
    return bare(snapshot.snapshot(atoms))


def _judge(
    outcome: Outcome, bonds: Bonds, atoms: Atoms, before: Snapshot, now: Snapshot, timestep_fs: float, stop_above: float
) -> None:
    """Note how a replica went through a segment, and keep the frames with which it left."""
    grade = now.largest_grade
    outcome.held_ps = now.step * timestep_fs / 1000
    earlier = () if outcome.crossing is None else (outcome.crossing,)
    if np.isnan(grade):
        outcome.end, outcome.frames = BROKEN, (*earlier, _frame(now, atoms))
    elif (fused := bonds.fused(now.positions, now.state.cell)) or bonds.lost(now.positions):
        last = _frame(now, atoms)
        last.info["broken"] = True
        outcome.end, outcome.frames = FUSED if fused else LOST, (*earlier, _frame(before, atoms), last)
    elif grade > stop_above:
        assert now.worst is not None
        outcome.held_ps = float(now.worst.step) * timestep_fs / 1000
        outcome.end, outcome.frames = LEFT, (bare(now.worst_frame(atoms)),)
    elif grade > outcome.largest_grade:
        outcome.worst = bare(now.worst_frame(atoms))
        if grade > 1.0 and outcome.crossing is None:
            outcome.crossing = outcome.worst
    outcome.largest_grade = max(outcome.largest_grade, grade)
