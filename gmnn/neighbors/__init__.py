"""Neighbour slots on the device: an O(N) list in pure JAX, for any cell, inside a compiled program.

The host plans a `Grid`, which fixes all shapes; `build` makes the slots inside a program. If they do not fit, a flag is
set: then `grow` the grid or `plan` anew. A list without the flag is complete.
"""

from gmnn.neighbors.planning import grow, plan
from gmnn.neighbors.runs import Grid, Pbc
from gmnn.neighbors.slots import Slots, build

__all__ = ["Grid", "Pbc", "Slots", "build", "grow", "plan"]
