"""What a model needs to be made without data: no core, and a repulsion whose window is in covalent radii."""

from typing import Any

from gmnn.config.model import NO_CORE, ZBLConfig

WIDE = ZBLConfig(window="covalent", inner=0.3, outer=1.2)
PLAIN: dict[str, Any] = {"core": NO_CORE, "zbl": WIDE}
