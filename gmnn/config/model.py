"""The user's choices about the model, in plain dataclasses.

Types, choices and ranges are checked whenever a section is made, from YAML, ``config.json`` or Python. This module
imports only the standard library: a saved model is read without pydantic or PyYAML.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from gmnn.checking import check_fields, from_mapping
from gmnn.elements import parse_pair
from gmnn.errors import require
from gmnn.reference import Reference

SWISH_FLOOR = 0.278464543  # minus the minimum of x / (1 + exp(-x)), at x = -1.278465
RARE = frozenset({
    "model.r_min", "model.cutoff", "model.distance", "model.unit_offset", "model.zbl.r_off", "model.zbl.coefficients",
    "model.core.nearest_switch",
})  # fmt: skip
"""Keys that only imported models or studies set; docs/config.md lists them in a table of their own."""


def _pairs(values: dict[str, float], key: str) -> dict[str, float]:
    """Return the same numbers under alphabetical names (C-H, not H-C).

    UserError for a pair named twice or a number that is not positive.
    """
    named: dict[str, float] = {}
    for name, value in values.items():
        pair = parse_pair(name, key)
        require(pair not in named, key, dict(values), f"a mapping that names {pair} once")
        require(value > 0, f"{key}.{name}", value, "positive")
        named[pair] = float(value)
    return named


@dataclass(frozen=True)
class ZBLConfig:
    """Strength and window of the pair repulsion in physical units (docs/theory.md)."""

    strength: float = 1.0
    """Initial multiple of the physical energy, per element pair (Apax's kappa is 14.3996 times this)."""
    trainable: bool = True
    """Train one strength per element pair; false keeps `strength`."""
    floor: float = 0.5
    """Lower limit of a trainable strength."""
    floors: dict[str, float] = field(default_factory=dict, hash=False)
    """Lower limits of given pairs, as in `{H-H: 0.9}`, from `floor` to below `strength`."""
    window: Literal["closest", "covalent", "cosine"] = "closest"
    """`closest`: 1 up to `inner`, 0 beyond `outer` times the pair's smallest training distance, C2 between; `covalent`:
    the same in summed covalent radii; `cosine`: (1 + cos(pi r / r_off)) / 2."""
    inner: float = 0.5
    """Where the window starts to close, in smallest distances or covalent sums."""
    outer: float = 1.0
    """Where the window has closed. Above 1 smallest distance the repulsion acts on the data: its strengths are trained,
    forces err more, stretched bonds are pushed apart (docs/theory.md)."""
    r_off: float = 3.5
    """Where the cosine window has closed, Å."""
    coefficients: tuple[float, ...] = ()
    """Weights of the four exponentials of ZBL's screening; empty for the published ones."""

    def __post_init__(self) -> None:
        check_fields(self, "model.zbl")
        require(self.strength > 0, "model.zbl.strength", self.strength, "positive")
        require(self.floor >= 0, "model.zbl.floor", self.floor, "zero or positive")
        require(
            not self.trainable or self.strength > self.floor,
            "model.zbl.strength",
            self.strength,
            f"above model.zbl.floor ({self.floor}) when it is trainable",
        )
        object.__setattr__(self, "floors", _pairs(self.floors, "model.zbl.floors"))
        for name, floor in self.floors.items():
            allowed = f"in [model.zbl.floor, model.zbl.strength) = [{self.floor}, {self.strength})"
            require(self.floor <= floor < self.strength, f"model.zbl.floors.{name}", floor, allowed)
        require(0 < self.inner < self.outer, "model.zbl.inner", self.inner, f"in (0, outer = {self.outer})")
        require(self.r_off > 0, "model.zbl.r_off", self.r_off, "positive")
        require(
            not self.coefficients or (len(self.coefficients) == 4 and min(self.coefficients) > 0),
            "model.zbl.coefficients",
            list(self.coefficients),
            "empty or four positive numbers",
        )


@dataclass(frozen=True)
class CoreConfig:
    """What the network sees of pairs closer than those of the data (docs/certificate.md)."""

    clamp: bool = True
    """Show the network a constant distance below a radius under the pair's smallest training distance."""
    margin: float = 0.0
    """How far below the pair's smallest training distance the clamp begins, as a fraction of it."""
    width: float = 0.1
    """Width from the clamp's beginning to the constant, as a fraction of the radius where it begins."""
    depth: float = 0.5
    """How far below its beginning the constant lies, in widths; above 0.5 an approach seems faster than it is."""
    radii: dict[str, float] = field(default_factory=dict, hash=False)
    """Radii where the clamp begins for given pairs, as in `{C-H: 0.9}`, Å; others come from the data."""
    gate: bool = True
    """Hide the direction of a pair below the clamp."""
    gate_outer: float = 0.5
    """Where the gate begins, in radii of the constant clamp."""
    gate_inner: float = 0.2
    """Where the direction is hidden, in radii of the constant clamp."""
    bounded_moments: bool = True
    """Bound the norm of each atom's moments."""
    moment_room: float = 3.0
    """Bound of the moments, in largest norms over the training data at the initial coefficients."""
    nearest_switch: bool = False
    """Switch an atom's network energy off when a neighbour comes below the clamp (as pacemaker does)."""

    def __post_init__(self) -> None:
        check_fields(self, "model.core")
        require(0 <= self.margin < 1, "model.core.margin", self.margin, "in [0, 1)")
        require(0 < self.width < 1, "model.core.width", self.width, "in (0, 1)")
        require(0.5 <= self.depth <= 1, "model.core.depth", self.depth, "in [0.5, 1]")
        require(
            0 <= self.gate_inner < self.gate_outer <= 1,
            "model.core.gate_inner",
            self.gate_inner,
            f"in [0, gate_outer), and gate_outer ({self.gate_outer}) at most 1",
        )
        require(self.moment_room > 0, "model.core.moment_room", self.moment_room, "positive")
        object.__setattr__(self, "radii", _pairs(self.radii, "model.core.radii"))

    @property
    def uses_distances(self) -> bool:
        """Whether the smallest distances of the training data are needed."""
        return self.clamp or self.gate or self.nearest_switch


NO_CORE = CoreConfig(clamp=False, gate=False, bounded_moments=False)


@dataclass(frozen=True)
class ModelConfig:
    """The Gaussian-moment neural network: descriptor, readout, repulsion."""

    r_max: float = 5.0
    """Cutoff radius, Å."""
    basis: Literal["bessel", "gaussian"] = "bessel"
    """Radial basis functions."""
    n_basis: int = 16
    """Number of radial basis functions."""
    smoothness: float = 0.0
    """Bessel amplitudes fall as (n + 1)^-smoothness, smooth functions first. Above 0 a long training errs less between
    its frames, a short one learns less."""
    n_radial: int = 5
    """Radial channels; 5 give 360 features, 7 give 910."""
    r_min: float = 0.5
    """Centre of the first Gaussian, Å (for `basis: gaussian`)."""
    cutoff: Literal["polynomial", "cosine"] = "polynomial"
    """Cutoff function: `polynomial` is C2 at r_max, `cosine` C1."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the readout's hidden layers."""
    output_activation: Literal["swish", "identity"] = "swish"
    """The readout's output activation: `swish` bounds each atomic energy from below, `identity` does not."""
    distance: Literal["identity", "agnesi"] = "identity"
    """Transform of the distance in the radial basis: `identity`, or `agnesi`, flat at contact as in MACE."""
    unit_offset: float = 0.0
    """Added to the distance by which vectors are divided for their direction, Å; Apax: 1e-5."""
    repulsion: Literal["zbl", "nlh", "exponential", "none"] = "zbl"
    """Pair repulsion added to the network: `zbl`, `nlh` (needs `data.nlh_coefficients`), `exponential` (only imported
    from Apax) or `none`."""
    zbl: ZBLConfig = field(default_factory=ZBLConfig)
    """Strength and window of the repulsion, ZBL or NLH."""
    core: CoreConfig = field(default_factory=CoreConfig)
    """What the network sees of pairs closer than those of the data."""
    ensemble: Literal["none", "shallow", "full"] = "none"
    """Several models in one: `shallow` members share all but the last layer, `full` ones nothing; `none`: one model."""
    members: int = 8
    """Members of the ensemble."""

    def __post_init__(self) -> None:
        check_fields(self, "model")
        require(0 < self.r_max <= 20, "model.r_max", self.r_max, "in (0, 20] Å")
        require(1 <= self.n_basis <= 64, "model.n_basis", self.n_basis, "in 1 ... 64")
        require(-2 <= self.smoothness <= 4, "model.smoothness", self.smoothness, "in [-2, 4]")
        require(
            self.basis == "bessel" or self.smoothness == 0,
            "model.smoothness",
            self.smoothness,
            "0 for model.basis: gaussian, whose functions are all as smooth",
        )
        require(1 <= self.n_radial <= 16, "model.n_radial", self.n_radial, "in 1 ... 16")
        require(0 <= self.r_min < self.r_max, "model.r_min", self.r_min, f"in [0, r_max = {self.r_max})")
        require(
            len(self.hidden) > 0 and all(1 <= width <= 8192 for width in self.hidden),
            "model.hidden",
            list(self.hidden),
            "a non-empty list of widths in 1 ... 8192",
        )
        require(0 <= self.unit_offset <= 0.01, "model.unit_offset", self.unit_offset, "in [0, 0.01] Å")
        require(
            self.repulsion == "zbl" or not self.zbl.coefficients,
            "model.zbl.coefficients",
            list(self.zbl.coefficients),
            f"empty for model.repulsion: {self.repulsion}",
        )
        require(
            self.repulsion == "none" or self.zbl.window != "cosine" or self.zbl.r_off <= self.r_max,
            "model.zbl.r_off",
            self.zbl.r_off,
            f"at most r_max = {self.r_max} Å, where the neighbour list ends",
        )
        require(2 <= self.members <= 64, "model.members", self.members, "in 2 ... 64")

    @property
    def uses_distances(self) -> bool:
        """Whether the smallest distances of the training data are needed."""
        return self.core.uses_distances or (self.repulsion != "none" and self.zbl.window == "closest")

    @property
    def bounded(self) -> bool:
        """Whether each atomic network energy has a lower bound."""
        return self.output_activation == "swish"

    @property
    def n_members(self) -> int:
        """Number of models: 1 without an ensemble."""
        return 1 if self.ensemble == "none" else self.members


def model_config_from_dict(values: dict[str, Any]) -> ModelConfig:
    """Return the ModelConfig of a ``config.json`` of any format version; unknown keys are errors."""
    core: Any = NO_CORE  # format version 1 has no core; up to version 3 the depth of the clamp is 1
    if isinstance(values, Mapping) and "core" in values:
        core = values["core"]
        values = {key: value for key, value in values.items() if key != "core"}
        core = {"depth": 1.0, **core} if isinstance(core, Mapping) else core
    return from_mapping(ModelConfig, {**values, "core": core} if isinstance(values, Mapping) else values, "model")


def to_dict(value: ModelConfig | Reference) -> dict[str, Any]:
    """Return plain JSON types; `model_config_from_dict` and `reference_from_dict` are the inverse."""
    return asdict(value)
