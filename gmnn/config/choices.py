"""Names shared by a configuration and the code behind it. This module imports only the standard library."""

from typing import Literal

Ensemble = Literal["nve", "langevin", "bussi", "nose_hoover", "minimise"]
Pressure = Literal["none", "isotropic", "anisotropic"]
PathName = Literal["auto", "reference", "fast", "kernel"]
