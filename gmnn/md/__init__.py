"""Molecular dynamics on the device: forces, neighbour lists and integrators in one compiled program.

`Dynamics` advances a structure, or many replicas of it, segment by segment; `run` keeps the trajectory, the log and the
state in a folder.
"""

from gmnn.md.dynamics import Dynamics
from gmnn.md.integrators import Bath
from gmnn.md.log import approach_column
from gmnn.md.pressure import Piston
from gmnn.md.run import run
from gmnn.md.snapshot import Snapshot

__all__ = ["Bath", "Dynamics", "Piston", "Snapshot", "approach_column", "run"]
