"""The YAML configuration of a training run: schema, reading, ``key.path=value`` overrides, JSON schema.

Every key is documented where it is defined; ``gmnn schema`` and docs/config.md are generated from here.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gmnn.errors import UserError
from gmnn.model_config import ModelConfig

_STRICT = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class DataConfig(BaseModel):
    """Which frames to train on. A source is a file that ASE reads, or `ethanol` for the embedded set."""

    model_config = _STRICT

    train: str
    """Source of the training frames; without `valid` and `test` it is split into all three."""
    valid: str | None = None
    """Source of the validation frames; without it `n_valid` frames are split off `train`."""
    test: str | None = None
    """Source of the test frames; without it and without `valid`, the test set is what the split leaves over."""
    n_train: Count | None = None
    """Number of training frames, drawn with the seed; by default all, or 80 % where the split also makes a test set."""
    n_valid: Count | None = None
    """Number of validation frames split off `train`; by default 10 %."""
    energy_key: str | None = None
    """Key of the energy in a frame's `info`; by default the energy of the frame's calculator."""
    forces_key: str | None = None
    """Key of the forces in a frame's `arrays`; by default the forces of the frame's calculator."""
    atomic_energies: dict[str, float] | None = None
    """Energy of each isolated atom by symbol, eV; by default regression of the training energies on composition."""
    nlh_coefficients: str | None = None
    """Published file of the NLH coefficients, for `model.repulsion: nlh`."""

    @model_validator(mode="after")
    def _consistent(self) -> "DataConfig":
        if self.valid is not None and self.n_valid is not None:
            raise ValueError("data.n_valid splits frames off data.train; leave it out when data.valid is given")
        return self


class RatesConfig(BaseModel):
    """Multiples of `train.learning_rate` for each group of parameters."""

    model_config = _STRICT

    radial: NonNegative = 1.0
    """Radial coefficients."""
    readout: NonNegative = 1.0
    """Weights and biases of the network."""
    scale_shift: NonNegative = 1.0
    """Scale and shift per element."""
    repulsion: NonNegative = 0.3
    """Strengths of the repulsion."""


class TrainConfig(BaseModel):
    """How to train: Adam, warm-up and cosine decay to zero, exponential moving average of the parameters."""

    model_config = _STRICT

    epochs: Count = 300
    """Passes over the training frames; the learning rate decays to zero over all of them."""
    batch_size: Count = 8
    """Frames per step; an incomplete last batch of a (shuffled) epoch waits for the next epoch."""
    learning_rate: Positive = 6e-3
    """Peak learning rate."""
    rates: RatesConfig = RatesConfig()
    """Multiples of the learning rate per group of parameters."""
    weight_decay: NonNegative = 0.0
    """Decay of the network's weight matrices per unit of learning rate (AdamW); all other parameters are exempt."""
    warmup_epochs: NonNegative = 1.0
    """Epochs of linear warm-up from zero."""
    energy_weight: NonNegative = 3.0
    """Weight of the mean squared error of the energy, (eV)^2 divided by the number of atoms."""
    forces_weight: NonNegative = 1.0
    """Weight of the mean squared error of the force components, (eV/Å)^2."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay per step of the moving average that is validated, saved and used; 0 switches it off."""
    patience: Count | None = None
    """Stop after this many epochs without a better validation loss; by default never."""
    checkpoint_seconds: NonNegative = 20.0
    """Seconds between two saved states, from which `--resume` continues."""

    @model_validator(mode="after")
    def _consistent(self) -> "TrainConfig":
        if self.energy_weight == 0 and self.forces_weight == 0:
            raise ValueError("train.energy_weight and train.forces_weight are both 0; at least one must be positive")
        return self


class Config(BaseModel):
    """A training run."""

    model_config = _STRICT

    output: str
    """Folder of the trained model; it must not hold another one."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the split, the initial parameters and the order of the batches."""
    data: DataConfig
    """The frames."""
    model: ModelConfig = ModelConfig()
    """The potential."""
    train: TrainConfig = TrainConfig()
    """The optimisation."""


def read_config(path: str, overrides: list[str] | None = None) -> Config:
    """The configuration in a YAML file with ``key.path=value`` overrides; UserError that names every wrong key."""
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise UserError(f"cannot read the configuration {path}: {reason}") from None
    try:
        values = yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold keys such as `output:` and `data:`, but is {type(values).__name__}")
    for override in overrides or []:
        _set(values, override)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: " + "; ".join(_sentence(e) for e in error.errors())) from None


def schema() -> dict[str, Any]:
    """JSON schema of the configuration, for editors."""
    return Config.model_json_schema()


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error instead of silently winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _set(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"override {override!r} must read key.path=value, for example train.epochs=100")
    *parents, last = key.split(".")
    for parent in parents:
        child = values.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(f"override {override!r}: {parent} holds {child!r}, not a section with keys")
        values = child
    try:
        values[last] = yaml.load(text, _UniqueKeys)
    except yaml.YAMLError:
        raise UserError(f"override {override!r}: {text!r} is not a valid YAML value") from None


def _sentence(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        allowed = _keys(error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), allowed, n=1)
        hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(allowed)}"
        return f"{key} is not a key of the configuration; {hint}"
    if error["type"] == "missing":
        return f"{key} is missing; set it in the file or as {key}=VALUE"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{key or 'the file'} is {error['input']!r}, but {message.replace('input should', 'it should')}"


def _keys(location: tuple[int | str, ...]) -> list[str]:
    definitions = schema()["$defs"]
    node: dict[str, Any] = schema()
    for part in location:
        node = node["properties"].get(part, {})
        reference = node.get("$ref", "")
        node = definitions.get(reference.rsplit("/", 1)[-1], node)
    return list(node.get("properties", {}))
