"""The YAML configuration of a training run: schema, reading, ``key.path=value`` overrides, JSON schema.

Every key is documented where it is defined; ``gmnn schema`` and docs/config.md are generated from here.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError, model_validator

from gmnn.checking import from_mapping
from gmnn.config.data import DataConfig
from gmnn.config.model import ModelConfig
from gmnn.config.train import StartConfig, TrainConfig
from gmnn.config.types import STRICT, PathText, Seed
from gmnn.config.yaml12 import parsed
from gmnn.errors import UserError, shortened
from gmnn.files import require_file

MOST_MISTAKES = 20  # named in one message

Section = TypeVar("Section", bound=BaseModel)


def checked_model(values: Any) -> Any:
    """Return the model section, checked by ModelConfig itself, as it is in Python and from ``config.json``."""
    return values if isinstance(values, ModelConfig) else from_mapping(ModelConfig, values, "model")


class Config(BaseModel):
    """A training run."""

    model_config = STRICT

    output: PathText
    """Folder for the trained model; must not hold another one."""
    seed: Seed = 0
    """Seed of the split, the initial parameters and the batch order."""
    data: DataConfig
    """The frames."""
    model: Annotated[ModelConfig, BeforeValidator(checked_model)] = ModelConfig()
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
    """Read the configuration of a training run from a YAML file; see `read_any`."""
    return read_any(Config, path, overrides)


def read_any(section: type[Section], path: str, overrides: list[str] | None = None) -> Section:
    """Read a configuration from a YAML file with ``key.path=value`` overrides; UserError names every wrong key."""
    require_file(Path(path), "a configuration in YAML")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file in UTF-8"
        raise UserError(f"cannot read the configuration {path}: {reason}") from None
    values = parsed(text, path)
    if not isinstance(values, dict):
        what = {type(None): "is empty", list: "is a list", str: "is a line of text"}.get(type(values), "is one value")
        raise UserError(f"{path} must hold keys such as `output:`, but {what}")
    for override in overrides or []:
        _set(values, override)
    return validated(section, values, f"{path}: ")


def validated(section: type[Section], values: dict[str, Any], source: str = "") -> Section:
    """Return the section of plain values; UserError, whose text begins with `source`, names the wrong keys."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        sentences = [_sentence(e, section) for e in mistakes[:MOST_MISTAKES]]
        sentences += [f"and {len(mistakes) - MOST_MISTAKES} mistakes more"] if len(mistakes) > MOST_MISTAKES else []
        raise UserError(source + "; ".join(sentences)) from None


def read_section(section: type[Section], overrides: list[str]) -> Section:
    """Read a section of a configuration from ``key.path=value`` alone; UserError names every wrong key."""
    values: dict[str, Any] = {}
    for override in overrides:
        _set(values, override)
    return validated(section, values)


def schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration, for editors."""
    return Config.model_json_schema()


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
    values[last] = parsed(text, f"override {shortened(override)}: {shortened(text)}")


def _sentence(error: Any, section: type[BaseModel] = Config) -> str:
    key = ".".join(str(part)[:100] for part in error["loc"])
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        allowed = _keys(error["loc"][:-1], section)
        near = difflib.get_close_matches(str(error["loc"][-1])[:100], allowed, n=1)
        hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(allowed)}"
        return f"{key} is not a key of the configuration; {hint}"
    if error["type"] == "missing":
        return f"{key} is missing; set it in the file or as {key}=VALUE"
    if error["type"] == "value_error":
        text = str(error["ctx"]["error"])
        return text if not key or key.rpartition(".")[2] in text else f"{key}: {text}"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{key or 'the file'} is {shortened(error['input'])}, but {message.replace('input should', 'it should')}"


def section_of(node: dict[str, Any]) -> str:
    """Return a schema node's reference to the schema of a section, optional or not; empty for a plain value."""
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
