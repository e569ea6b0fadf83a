"""The YAML configuration of a training run: schema, reading, ``key.path=value`` overrides, JSON schema.

Every key is documented where it is defined; ``gmnn schema`` and docs/config.md are generated from here.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from gmnn.config.data import DataConfig
from gmnn.config.model import ModelConfig
from gmnn.config.train import StartConfig, TrainConfig
from gmnn.config.types import STRICT
from gmnn.errors import UserError

Section = TypeVar("Section", bound=BaseModel)


class Config(BaseModel):
    """A training run."""

    model_config = STRICT

    output: str
    """Folder of the trained model; it must not hold another one."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the split, the initial parameters and the order of the batches."""
    data: DataConfig
    """The frames."""
    model: ModelConfig = ModelConfig()
    """The potential."""
    start: StartConfig | None = None
    """The potential to start from; by default the parameters are random."""
    train: TrainConfig = TrainConfig()
    """The optimisation."""

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        learns_spread = self.train.loss.energy.form in ("nll", "crps")
        if self.start is None and learns_spread != (self.model.ensemble == "shallow"):
            raise ValueError(
                f"train.loss.energy.form is {self.train.loss.energy.form} and model.ensemble is {self.model.ensemble}, "
                "but a shallow ensemble needs crps or nll, and only a shallow ensemble can have them"
            )
        return self


def read_config(path: str, overrides: list[str] | None = None) -> Config:
    """The configuration of a training in a YAML file; see `read_any`."""
    return read_any(Config, path, overrides)


def read_any(section: type[Section], path: str, overrides: list[str] | None = None) -> Section:
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
        what = {type(None): "is empty", list: "is a list", str: "is a line of text"}.get(type(values), "is one value")
        raise UserError(f"{path} must hold keys such as `output:`, but {what}")
    for override in overrides or []:
        _set(values, override)
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: " + "; ".join(_sentence(e, section) for e in error.errors())) from None


def read_section(section: type[Section], overrides: list[str]) -> Section:
    """A section of a configuration from ``key.path=value`` alone; UserError that names every wrong key."""
    values: dict[str, Any] = {}
    for override in overrides:
        _set(values, override)
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise UserError("; ".join(_sentence(e, section) for e in error.errors())) from None


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


def _sentence(error: Any, section: type[BaseModel] = Config) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        allowed = _keys(error["loc"][:-1], section)
        near = difflib.get_close_matches(str(error["loc"][-1]), allowed, n=1)
        hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(allowed)}"
        return f"{key} is not a key of the configuration; {hint}"
    if error["type"] == "missing":
        return f"{key} is missing; set it in the file or as {key}=VALUE"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{key or 'the file'} is {error['input']!r}, but {message.replace('input should', 'it should')}"


def section_of(node: dict[str, Any]) -> str:
    """Reference of a schema's node to the schema of a section, optional ones included; empty for a plain value."""
    options = [node, *node.get("anyOf", ())]
    return next((option["$ref"] for option in options if "$ref" in option), "")


def _keys(location: tuple[int | str, ...], section: type[BaseModel]) -> list[str]:
    node: dict[str, Any] = section.model_json_schema()
    definitions = node.get("$defs", {})
    for part in location:
        node = node["properties"].get(part, {})
        reference = section_of(node)
        node = definitions.get(reference.rsplit("/", 1)[-1], node)
    return list(node.get("properties", {}))
