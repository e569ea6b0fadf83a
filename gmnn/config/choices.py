"""Names that a configuration and the code behind it share. Standard library only."""

from typing import Literal

Ensemble = Literal["nve", "langevin", "bussi", "nose_hoover", "minimise"]
Pressure = Literal["none", "isotropic", "anisotropic"]
PathName = Literal["auto", "reference", "fast", "kernel"]
