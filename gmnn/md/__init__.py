"""Molecular dynamics on the device: forces, neighbour lists and integrators in one compiled program.

`Dynamics` advances a structure, or many replicas of it, segment by segment; `run` keeps the trajectory, the log and the
state in a folder.
"""

from gmnn.md.dynamics import Dynamics
from gmnn.md.folder import approach_column, run
from gmnn.md.integrators import Bath
from gmnn.md.moment import Moment
from gmnn.md.pressure import Piston

__all__ = ["Bath", "Dynamics", "Moment", "Piston", "approach_column", "run"]
