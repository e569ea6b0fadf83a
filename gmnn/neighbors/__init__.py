"""Neighbour slots on the device: an O(N) list in pure JAX, for any cell, inside a compiled program.

The host plans a `Grid`, which fixes all shapes; `build` makes the slots inside of a program. What does not fit raises
a flag, and a list without the flag is complete: `grow` the grid then, or `plan` anew.
"""

from gmnn.neighbors.planning import grow, plan
from gmnn.neighbors.runs import Grid, Pbc
from gmnn.neighbors.slots import Slots, build

__all__ = ["Grid", "Pbc", "Slots", "build", "grow", "plan"]
