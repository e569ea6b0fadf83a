"""The user's choices about the model and the facts learnt from the data, in plain dataclasses.

Standard library only: a saved model is read without pydantic or PyYAML. Ranges are checked here, once, for the
YAML configuration and for ``config.json`` alike.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from gmnn.errors import UserError

SWISH_FLOOR = 0.278464543  # minus the minimum of x / (1 + exp(-x)), at x = -1.278465


def _require(condition: bool, key: str, got: object, allowed: str) -> None:
    if not condition:
        raise UserError(f"{key} is {got!r}, but must be {allowed}")


@dataclass(frozen=True)
class ZBLConfig:
    """Ziegler-Biersack-Littmark repulsion in physical units (docs/theory.md)."""

    strength: float = 1.0
    """Initial multiple of the physical ZBL energy, per element pair. (Apax's kappa is 14.3996 times this number.)"""
    trainable: bool = True
    """Train one strength per element pair; false keeps `strength`."""
    floor: float = 0.5
    """Lower limit of a trainable strength."""
    window: Literal["covalent", "cosine"] = "covalent"
    """`covalent`: 1 up to `inner`, 0 beyond `outer` times the summed covalent radii, C2 between.
    `cosine`: (1 + cos(pi r / r_off)) / 2."""
    inner: float = 0.3
    """Where the covalent window starts to close, in summed covalent radii."""
    outer: float = 1.0
    """Where the covalent window has closed, in summed covalent radii."""
    r_off: float = 3.5
    """Where the cosine window has closed, Å."""

    def __post_init__(self) -> None:
        _require(self.strength > 0, "model.zbl.strength", self.strength, "positive")
        _require(self.floor >= 0, "model.zbl.floor", self.floor, "zero or positive")
        _require(
            not self.trainable or self.strength > self.floor,
            "model.zbl.strength",
            self.strength,
            f"above model.zbl.floor ({self.floor}) when it is trainable",
        )
        _require(0 < self.inner < self.outer, "model.zbl.inner", self.inner, f"in (0, outer = {self.outer})")
        _require(self.r_off > 0, "model.zbl.r_off", self.r_off, "positive")


@dataclass(frozen=True)
class ModelConfig:
    """The Gaussian-moment neural network: descriptor, readout, repulsion."""

    r_max: float = 5.0
    """Cutoff radius, Å."""
    basis: Literal["bessel", "gaussian"] = "bessel"
    """Radial basis functions."""
    n_basis: int = 16
    """Number of radial basis functions."""
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
    repulsion: Literal["zbl", "none"] = "zbl"
    """Pair repulsion added to the network."""
    zbl: ZBLConfig = field(default_factory=ZBLConfig)
    """Settings of the ZBL repulsion."""

    def __post_init__(self) -> None:
        _require(0 < self.r_max <= 20, "model.r_max", self.r_max, "in (0, 20] Å")
        _require(1 <= self.n_basis <= 64, "model.n_basis", self.n_basis, "in 1 ... 64")
        _require(1 <= self.n_radial <= 16, "model.n_radial", self.n_radial, "in 1 ... 16")
        _require(0 <= self.r_min < self.r_max, "model.r_min", self.r_min, f"in [0, r_max = {self.r_max})")
        _require(
            len(self.hidden) > 0 and all(1 <= width <= 8192 for width in self.hidden),
            "model.hidden",
            list(self.hidden),
            "a non-empty list of widths in 1 ... 8192",
        )
        _require(
            self.repulsion == "none" or self.zbl.window != "cosine" or self.zbl.r_off <= self.r_max,
            "model.zbl.r_off",
            self.zbl.r_off,
            f"at most r_max = {self.r_max} Å, where the neighbour list ends",
        )

    @property
    def bounded(self) -> bool:
        """Whether each atomic network energy has a lower bound."""
        return self.output_activation == "swish"


@dataclass(frozen=True)
class Reference:
    """Facts learnt from the training data; every list follows ``elements``."""

    elements: tuple[int, ...]
    """Trained atomic numbers, ascending."""
    E0: tuple[float, ...]
    """Atomic reference energies, eV, subtracted and added in float64 outside the model."""
    scale: tuple[float, ...]
    """Initial sigma_Z of the scale-shift layer, eV."""
    shift: tuple[float, ...]
    """Initial mu_Z of the scale-shift layer, eV."""
    feature_scale: tuple[float, ...] = ()
    """Root mean square of each feature over the training data at the initial coefficients; empty = 1."""

    def __post_init__(self) -> None:
        sizes = {len(self.elements), len(self.E0), len(self.scale), len(self.shift)}
        _require(len(sizes) == 1, "reference", sizes, "four lists of one length")
        _require(list(self.elements) == sorted(set(self.elements)), "reference.elements", self.elements, "ascending")


def model_config_from_dict(values: dict[str, Any]) -> ModelConfig:
    """Rebuild a ModelConfig from ``config.json``; unknown keys are errors."""
    values = dict(values)
    try:
        zbl = ZBLConfig(**values.pop("zbl", {}))
        values["hidden"] = tuple(values.get("hidden", ModelConfig.hidden))
        return ModelConfig(zbl=zbl, **values)
    except TypeError as error:
        raise UserError(f"the model section of config.json does not fit this version of gmnn: {error}") from None


def reference_from_dict(values: dict[str, Any]) -> Reference:
    """Rebuild a Reference from ``config.json``."""
    try:
        return Reference(**{key: tuple(value) for key, value in values.items()})
    except TypeError as error:
        raise UserError(f"the reference section of config.json does not fit this version of gmnn: {error}") from None


def to_dict(value: ModelConfig | Reference) -> dict[str, Any]:
    """Plain JSON types, the inverse of the two readers above."""
    return asdict(value)
