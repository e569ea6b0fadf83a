"""Molecular dynamics on the device: forces, neighbour lists and integrators in one compiled program.

`Dynamics` advances a structure segment by segment; `run` keeps the trajectory, the log and the state in a folder.
"""

from gmnn.md.dynamics import Dynamics, Moment
from gmnn.md.folder import run
from gmnn.md.integrators import Bath
from gmnn.md.pressure import Piston

__all__ = ["Bath", "Dynamics", "Moment", "Piston", "run"]
