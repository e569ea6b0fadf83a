"""The configuration: what is accepted, and one clear sentence for what is not."""

import json
from pathlib import Path

import pytest

from gmnn.commands import schema
from gmnn.config.md import DynamicsConfig
from gmnn.config.model import ModelConfig, model_config_from_dict, to_dict
from gmnn.config.reading import Config, read_any, read_config
from gmnn.errors import UserError
from tests.support import processes
from tests.support.paths import ROOT


def write(tmp_path: Path, text: str) -> str:
    file = tmp_path / "run.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_numbers_overrides_and_defaults(tmp_path: Path) -> None:
    """`1e-3`, which YAML reads as text, is a number; an override wins; what is left out has its default."""
    path = write(tmp_path, "output: a\ndata: {train: ethanol}\ntrain: {learning_rate: 1e-3}\n")
    config = read_config(path, ["train.epochs=7", "model.hidden=[16, 8]", "model.zbl.floor=0.25", "data.n_train=50"])
    assert config.train.learning_rate == 1e-3
    assert config.train.epochs == 7
    assert config.model.hidden == (16, 8)
    assert config.model.zbl.floor == 0.25
    assert config.data.n_train == 50
    assert config.model.r_max == ModelConfig().r_max


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        ("output: a\ndata: {train: x}\ntrain: {epoch: 3}", [], ["train.epoch", "did you mean epochs"]),
        ("output: a\ndata: {train: x}\nmodel: {n_bassis: 3}", [], ["model.n_bassis", "did you mean n_basis"]),
        ("output: a\ndata: {train: x}\nmodel: {zbl: {flor: 1}}", [], ["model.zbl.flor", "floor"]),
        ("output: a\ndata: {train: x}", ["train.epochs=many"], ["train.epochs", "'many'", "integer"]),
        ("output: a\ndata: {train: x}", ["train.epochs=0"], ["train.epochs", "greater than or equal to 1"]),
        ("output: a\ndata: {train: x}", ["model.r_max=-1"], ["model.r_max", "-1", "(0, 20]"]),
        (
            "output: a\ndata: {train: x}",
            ["model.basis=sinc"],
            ["model.basis", "one of bessel, gaussian"],
        ),
        ("output: a\ndata: {train: x}", ["model.smoothness=9"], ["model.smoothness", "9", "[-2, 4]"]),
        ("output: a\ndata: {train: x}\nmodel: {basis: gaussian, smoothness: 1}", [], ["smoothness", "gaussian"]),
        ("output: a\ndata: {train: x}", ["model.zbl.floor=2"], ["model.zbl.strength", "above model.zbl.floor"]),
        ("output: a\ndata: {train: x}", ["epochs"], ["epochs", "key.path=value"]),
        ("output: a\ndata: {train: x}", ["output.b=1"], ["output.b=1", "not a section"]),
        (
            "output: a\ndata: {train: x}",
            ["train.loss={energy: {weight: 0}, forces: {weight: 0}, stress: {weight: 0}}"],
            ["are all 0"],
        ),
        ("data: {train: x}", [], ["output is missing"]),
        ("output: a\noutput: b\ndata: {train: x}", [], ["'output' stands twice"]),
        ("output: [a", [], ["not valid YAML"]),
        ("just text", [], ["must hold keys"]),
    ],
)
def test_mistakes_get_one_sentence(tmp_path: Path, text: str, overrides: list[str], words: list[str]) -> None:
    """Every message names the key, what was got and what is allowed."""
    with pytest.raises(UserError) as error:
        read_config(write(tmp_path, text), overrides)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.yaml"):
        read_config(str(tmp_path / "nothing.yaml"))


def test_every_key_is_documented() -> None:
    """The tables of docs/config.md have a meaning for every key, and are those this code generates."""
    lines = schema.rows(Config.model_json_schema())
    assert len(lines) > 30
    for line in lines + schema.rows(DynamicsConfig.model_json_schema()):
        assert len(line.split("|")[3].strip()) > 10, line
    page = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    assert page.strip() == schema.page().strip(), "run: gmnn schema --markdown > docs/config.md"


def test_schema_command_prints_json() -> None:
    done = processes.python("-m", "gmnn", "schema")
    assert json.loads(done.stdout)["properties"]["data"]


def test_all_shipped_configs_are_valid() -> None:
    files = sorted((ROOT / "configs").glob("*.yaml"))
    assert len(files) >= 6
    kinds = [DynamicsConfig if file.name.startswith("md_") else Config for file in files]
    assert DynamicsConfig in kinds
    outputs = [read_any(kind, str(file)).output for kind, file in zip(kinds, files, strict=True)]
    assert len(set(outputs)) == len(outputs), "two configs would write into one folder"


def test_model_config_survives_json() -> None:
    config = ModelConfig(n_basis=7, hidden=(3, 4))
    assert model_config_from_dict(json.loads(json.dumps(to_dict(config)))) == config
    with pytest.raises(UserError, match="n_bassis"):
        model_config_from_dict({"n_bassis": 3})
