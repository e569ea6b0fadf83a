"""Kind 15: `~` in paths of configurations and commands is what a shell makes of it; a variable is refused."""

import argparse
import os
import pwd
from importlib import import_module
from pathlib import Path

import pytest

from gmnn.commands import COMMANDS
from gmnn.commands._frame import PATHS, Command
from gmnn.config.md import DynamicsConfig
from gmnn.config.reading import Config, read_any, validated
from gmnn.errors import UserError
from gmnn.files import expanded
from tests.support.nested import value_at, with_value

KEYS = ["output", "data.train", "data.valid", "data.test", "data.extra", "data.nlh_coefficients", "start.model"]


def values(key: str, path: str) -> dict:
    return with_value({"output": "x", "data": {"train": "y"}}, key, path)


@pytest.mark.parametrize("key", KEYS)
def test_kind_15_paths_of_a_training(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere/me")
    assert value_at(validated(Config, values(key, "~/a b")), key) == "/nowhere/me/a b"
    for path in ("$HOME/a", "a/${B}", "~nobody-of-this-name/a"):
        with pytest.raises(UserError, match=r"variables are not replaced|no user who has a home"):
            validated(Config, values(key, path))


@pytest.mark.parametrize("key", ["model", "structure", "output"])
def test_kind_15_paths_of_dynamics(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the file and as an override."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "md.yaml").write_text("model: m\nstructure: s\noutput: o\nsteps: 100\n", encoding="utf-8")
    config = read_any(DynamicsConfig, str(tmp_path / "md.yaml"), [f"{key}=~/x"])
    assert getattr(config, key) == str(tmp_path / "x")
    with pytest.raises(UserError, match="variables are not replaced"):
        read_any(DynamicsConfig, str(tmp_path / "md.yaml"), [f"{key}=$SCRATCH/x"])


def test_kind_15_what_a_shell_leaves_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` within a path, `./~`, a lone `$`, and names that exist."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cost$US").touch()
    for path in ("a~b", "./~/a", "a/~", "5$", "cost$US", "ethanol"):
        assert expanded(path) == path
    for path in ("", "a\0b"):
        with pytest.raises(UserError, match="cannot be the name"):
            expanded(path)
    user = pwd.getpwuid(os.geteuid())
    assert expanded(f"~{user.pw_name}/a") == f"{user.pw_dir.rstrip('/')}/a"


@pytest.mark.parametrize("name", COMMANDS)
def test_kind_15_every_path_of_a_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions and options whose metavar says that they are paths; no path has another metavar."""
    monkeypatch.setenv("HOME", "/nowhere/me")
    module = import_module(COMMANDS[name][0])
    command: Command = module.COMMAND
    taken: list[argparse.Namespace] = []
    spy = Command(command.name, "", command.add_arguments, lambda arguments: taken.append(arguments) or 0)  # type: ignore[func-returns-value]
    line: list[str] = []
    paths = []
    for action in spy.parser()._actions:
        if action.metavar in PATHS:
            paths.append(action.dest)
            line += [*action.option_strings[:1], "~/p"]
        elif action.required:
            choice = next(iter(action.choices)) if action.choices else "1"
            line += [*action.option_strings[:1], str(choice)]
    assert spy.main(line) == 0
    for dest in paths:
        value = getattr(taken[0], dest)
        assert [str(item) for item in (value if isinstance(value, list) else [value])] == ["/nowhere/me/p"], dest
