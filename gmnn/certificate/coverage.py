"""Lists of what the theorems cover: every setting of a model, with the values for which each proof was written.

A setting or a value that is not listed here is not covered by any theorem. A new setting of the model's configuration
is listed here only after the proof in docs/certificate.md covers it.
"""

from gmnn.config.coverage import ANY, Covered, uncovered
from gmnn.config.model import ModelConfig
from gmnn.errors import UserError

MODEL: Covered = {  # all that any theorem covers
    "r_max": ANY,
    "basis": ("bessel", "gaussian"),
    "n_basis": ANY,
    "smoothness": ANY,
    "n_radial": ANY,
    "r_min": ANY,
    "cutoff": ("polynomial", "cosine"),
    "hidden": ANY,
    "output_activation": ("swish", "identity"),
    "distance": ("identity", "agnesi"),
    "unit_offset": ANY,
    "repulsion": ("zbl", "nlh", "exponential", "none"),
    "zbl.strength": ANY,
    "zbl.trainable": (True, False),
    "zbl.floor": ANY,
    "zbl.floors": ANY,
    "zbl.window": ("closest", "covalent", "cosine"),
    "zbl.inner": ANY,
    "zbl.outer": ANY,
    "zbl.r_off": ANY,
    "zbl.coefficients": ANY,
    "core.clamp": (True, False),
    "core.margin": ANY,
    "core.width": ANY,
    "core.depth": ANY,
    "core.radii": ANY,
    "core.gate": (True, False),
    "core.gate_outer": ANY,
    "core.gate_inner": ANY,
    "core.bounded_moments": (True, False),
    "core.moment_room": ANY,
    "core.nearest_switch": (True, False),
    "ensemble": ("none", "shallow"),
    "members": ANY,
}
WALL: Covered = {**MODEL, "repulsion": ("zbl", "nlh")}  # a repulsion that may be certified to fall
NO_WALL: Covered = {**MODEL, "repulsion": ("none",)}
FLOOR: Covered = {**MODEL, "output_activation": ("swish",)}  # a lower bound of the network's energy: T1
FORCE: Covered = {  # an upper bound of the network's force: T2 and T3
    **MODEL,
    "distance": ("identity",),
    "unit_offset": (0.0,),
    "core.bounded_moments": (True,),
    "core.nearest_switch": (False,),
    "ensemble": ("none",),
}
PATH: Covered = {  # dE/dr on a whole path
    **FORCE,
    "cutoff": ("polynomial",),
    "repulsion": ("zbl", "nlh"),
    "zbl.window": ("closest", "covalent"),
    "core.clamp": (True,),
    "core.gate": (True,),
}


def require(config: ModelConfig, covered: Covered, what: str) -> None:
    """Raise UserError unless all settings are covered; its text names `what` as not derived."""
    if setting := uncovered(config, covered):
        raise refusal(what, setting)


def refusal(what: str, setting: str) -> UserError:
    """The error for a setting that a theorem does not cover, such as `model.distance: agnesi`."""
    return UserError(
        f"{what} is not derived for {setting}; docs/certificate.md says what is proved, and for which models"
    )
