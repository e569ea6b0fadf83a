"""The user's choices about the model, in plain dataclasses.

Types, choices and ranges are checked when a section is made, whoever makes it: the YAML configuration, ``config.json``
or Python. Standard library only: a saved model is read without pydantic or PyYAML.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from gmnn.checking import check_fields, from_mapping
from gmnn.elements import parse_pair
from gmnn.errors import require
from gmnn.reference import Reference

SWISH_FLOOR = 0.278464543  # minus the minimum of x / (1 + exp(-x)), at x = -1.278465


def _pairs(values: dict[str, float], key: str) -> dict[str, float]:
    """The same numbers under names in alphabetical order (C-H, not H-C), all of them positive."""
    named: dict[str, float] = {}
    for name, value in values.items():
        pair = parse_pair(name)
        require(pair not in named, key, dict(values), f"a mapping that names {pair} once")
        require(value > 0, f"{key}.{name}", value, "positive")
        named[pair] = float(value)
    return named


@dataclass(frozen=True)
class ZBLConfig:
    """Strength and window of the pair repulsion in physical units (docs/theory.md)."""

    strength: float = 1.0
    """Initial multiple of the physical energy, per element pair. (Apax's kappa is 14.3996 times this number.)"""
    trainable: bool = True
    """Train one strength per element pair; false keeps `strength`."""
    floor: float = 0.5
    """Lower limit of a trainable strength."""
    floors: dict[str, float] = field(default_factory=dict, hash=False)
    """Lower limits for given pairs, as in `{H-H: 0.9}`, above `floor`."""
    window: Literal["closest", "covalent", "cosine"] = "closest"
    """`closest`: 1 up to `inner`, 0 beyond `outer` times the smallest distance of the pair in the training data, C2
    between. `covalent`: the same in summed covalent radii. `cosine`: (1 + cos(pi r / r_off)) / 2."""
    inner: float = 0.5
    """Where the window starts to close, in smallest distances or summed covalent radii."""
    outer: float = 1.0
    """Where the window has closed. Above 1 smallest distance the repulsion acts on the data: its strengths are then
    trained, forces err more, and stretched bonds are pushed apart (docs/theory.md)."""
    r_off: float = 3.5
    """Where the cosine window has closed, Å."""
    coefficients: tuple[float, ...] = ()
    """Weights of the four exponentials of the ZBL screening function; empty for the published ones."""

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
    """What the network is shown of pairs closer than those of the data (docs/certificate.md)."""

    clamp: bool = True
    """Show a constant distance below a radius that lies under the smallest distance of the data, pair by pair."""
    margin: float = 0.0
    """How far below the smallest training distance of a pair the clamp begins to act, as a fraction of it."""
    width: float = 0.1
    """Where the clamp goes from acting to constant, as a fraction of the radius at which it begins."""
    depth: float = 0.5
    """How far below its beginning the constant lies, in widths; above 0.5 an approach seems faster than it is."""
    radii: dict[str, float] = field(default_factory=dict, hash=False)
    """Radii at which the clamp begins to act for given pairs, as in `{C-H: 0.9}`, Å; others come from the data."""
    gate: bool = True
    """Hide the direction of a pair below the clamp."""
    gate_outer: float = 0.5
    """Where the gate begins to act, in radii of the constant clamp."""
    gate_inner: float = 0.2
    """Where the direction is hidden, in radii of the constant clamp."""
    bounded_moments: bool = True
    """Bound the norm of each centre's moments."""
    moment_room: float = 3.0
    """The bound of the moments, in largest norms over the training data at the initial coefficients."""
    nearest_switch: bool = False
    """Switch the network's energy of an atom off when a neighbour comes below the clamp (as pacemaker does)."""

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
    """Amplitudes of Bessel functions fall as (n + 1)^-smoothness: smooth radial functions come first. Above 0 a long
    training errs less between its frames, a short one learns less."""
    n_radial: int = 5
    """Number of radial channels; 5 gives 360 features, 7 gives 910."""
    r_min: float = 0.5
    """Centre of the first Gaussian, Å (only for `basis: gaussian`)."""
    cutoff: Literal["polynomial", "cosine"] = "polynomial"
    """Cutoff function: `polynomial` is C2 at r_max, `cosine` C1."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of the readout."""
    output_activation: Literal["swish", "identity"] = "swish"
    """Activation on the readout's output: `swish` bounds every atomic energy from below, `identity` does not."""
    distance: Literal["identity", "agnesi"] = "identity"
    """Transform of the distance in the radial basis; `agnesi` is flat at contact, as in MACE."""
    unit_offset: float = 0.0
    """Added to the distance that vectors are divided by for their direction, Å; 1e-5 in Apax."""
    repulsion: Literal["zbl", "nlh", "exponential", "none"] = "zbl"
    """Pair repulsion added to the network; `nlh` needs `data.nlh_coefficients`, `exponential` is only imported from
    Apax."""
    zbl: ZBLConfig = field(default_factory=ZBLConfig)
    """Strength and window of the repulsion, ZBL or NLH."""
    core: CoreConfig = field(default_factory=CoreConfig)
    """What the network sees of pairs closer than those of the data."""
    ensemble: Literal["none", "shallow", "full"] = "none"
    """Several models in one: members of a `shallow` ensemble share all but the last layer, of a `full` one nothing."""
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
        """How many models this is: 1 without an ensemble."""
        return 1 if self.ensemble == "none" else self.members


def model_config_from_dict(values: dict[str, Any]) -> ModelConfig:
    """The ModelConfig of a ``config.json`` of any format version; unknown keys are errors."""
    core: Any = NO_CORE  # as in format version 1; up to 3 the clamp had the depth 1
    if isinstance(values, Mapping) and "core" in values:
        core = values["core"]
        values = {key: value for key, value in values.items() if key != "core"}
        core = {"depth": 1.0, **core} if isinstance(core, Mapping) else core
    return from_mapping(ModelConfig, {**values, "core": core} if isinstance(values, Mapping) else values, "model")


def to_dict(value: ModelConfig | Reference) -> dict[str, Any]:
    """Plain JSON types, the inverse of the two readers above."""
    return asdict(value)
