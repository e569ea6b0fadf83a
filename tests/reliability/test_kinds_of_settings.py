"""Generated cases of settings: numbers (6), one schema (7), work without limit (10), late checks (14), paths (15)."""

import copy
import json
import math
import os
import pwd
import re
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk

import gmnn
from gmnn import files
from gmnn.config.md import DynamicsConfig
from gmnn.config.model import ModelConfig, model_config_from_dict, to_dict
from gmnn.config.reading import Config, read_any, validated
from gmnn.config.yaml12 import parsed
from gmnn.data.embedded import ethanol
from gmnn.errors import UserError
from gmnn.model import folder
from gmnn.neighbors.host import make_system
from tests.support.kinds import changes, clear, command, content, generated
from tests.support.nested import value_at, with_value
from tests.support.paths import GOLDEN

MODEL = GOLDEN / "v3" / "model"
TRAINING: dict[str, Any] = {"output": "x", "data": {"train": "ethanol"}}
MOVING: dict[str, Any] = {"model": "m", "structure": "s", "output": "x", "steps": 100}
NUMBERS: dict[type, dict[str, str]] = {  # keys, and what they take
    Config: {
        "seed": "whole", "data.n_train": "whole", "data.n_valid": "whole", "train.epochs": "whole",
        "train.batch_size": "whole", "train.learning_rate": "real", "train.weight_decay": "real",
        "train.clip_norm": "real", "train.checkpoint_seconds": "real", "train.loss.energy.weight": "real",
        "train.loss.switch_at": "real", "train.schedule.warmup_epochs": "real", "train.schedule.cycles": "whole",
        "train.averaging.decay": "real", "train.rates.readout": "real", "train.devices": "whole",
        "model.r_max": "real", "model.n_basis": "whole", "model.n_radial": "whole", "model.smoothness": "real",
        "model.members": "whole", "model.zbl.strength": "real", "model.core.width": "real",
        "data.atomic_energies.H": "real", "data.config_type_weights.bulk": "real",
        "train.optimizer.arguments.b2": "number", "train.device_memory_MB": "real",
    },
    DynamicsConfig: {
        "steps": "whole", "every": "whole", "trajectory_every": "whole", "seed": "whole", "replicas": "whole",
        "timestep_fs": "real", "temperature_K": "real", "final_temperature_K": "real", "friction_per_ps": "real",
        "relaxation_fs": "real", "pressure_GPa": "real", "skin": "real", "compressibility_per_GPa": "real",
    },
}  # fmt: skip
FLAGS = {Config: ["model.core.clamp", "model.zbl.trainable"], DynamicsConfig: ["tf32_network"]}
INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")  # https://yaml.org/spec/1.2.2, 10.3.2
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def numeral(rng: np.random.Generator) -> str:
    """A scalar of YAML that looks like a number, and may be none."""
    digits = "".join(rng.choice(list("0123456789"), rng.integers(1, 6)))
    forms = [
        digits, f"0{digits}", f"+{digits}", f"-{digits}", f"0o{digits}", f"0x{digits}", f"0b{digits}", f"0X{digits}",
        f"{digits}.", f".{digits}", f"{digits}.{digits}", f"{digits}e3", f"{digits}E-2", f"1.{digits}e+1",
        f"1e{digits}",
        f"{digits}_000", f"{digits},5", f"1:{digits[:2]}", f"{digits}:30:00", "yes", "no", "on", "off", "y", "true",
        "True", "TRUE", "false", "null", "~", ".inf", "-.INF", "+.inf", ".nan", ".NaN", "inf", "nan", "Infinity", "1e",
        "e5", "--1", "+-1", "1.2.3", "2024-02-30", "2024-01-01", "12:30:45", f"'{digits}'", f'"{digits}"',
        f"!!int '{digits}'",
        f"!!float {digits}", f"!!str {digits}", "9" * 30, "1" * 400, f"{digits}%", f"{digits} ", f"{digits}j", "٣",
        "１２",
        f"[{digits}]", "{}", f"1/{digits}", "1e400", "-0", "-0.0", "0", "1e-400", f"{digits}f", "0x", "1__0",
        "infinity",
    ]  # fmt: skip
    return str(forms[rng.integers(len(forms))])


def meaning(text: str) -> int | Decimal | bool | str | None:
    """The value of a plain scalar by YAML 1.2, worked out anew: a number, or the text where it is none."""
    text = text.strip()
    if INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if FLOAT.fullmatch(text):
        return Decimal(text)
    return {"true": True, "True": True, "TRUE": True, "false": False, "null": None, "~": None}.get(text, text)


@pytest.mark.parametrize("section", [Config, DynamicsConfig])
def test_kind_6_numbers_of_a_configuration(section: type, tmp_path: Path) -> None:
    """Accepted with exactly the number that stands there, or refused with a sentence that names the key."""
    base = TRAINING if section is Config else MOVING
    keys = sorted(NUMBERS[section])
    for case in generated(6, f"numbers of {section.__name__}", 14, seconds=3):
        with case:
            key, text = str(case.rng.choice(keys)), numeral(case.rng)
            by_override = bool(case.rng.integers(2))
            case.about = (key, text, by_override)
            file = tmp_path / "c.yaml"
            values = base if by_override else with_value(base, key, "HERE")
            file.write_text(yaml.safe_dump(values).replace("HERE", text), encoding="utf-8")
            try:
                read = read_any(section, str(file), [f"{key}={text}"] if by_override else [])
            except UserError as error:
                clear(error, key, key.rpartition(".")[2], "YAML")  # a scalar that YAML cannot read has no key
                value = meaning(text)
                plain = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 2
                words = ("valid", "multiple", "below", "must be in")
                assert not plain or any(word in str(error) for word in words), text  # noqa: PT017
                continue
            value, taken = meaning(text), value_at(read, key)
            if value is None or text.startswith("!!"):
                continue
            if isinstance(taken, bool) and key.startswith("train.optimizer.arguments"):
                continue  # numbers or flags, as optax takes them: checked when a training begins
            assert isinstance(value, int | Decimal), (text, taken)
            assert not isinstance(value, bool), (text, taken)
            assert taken == (float(value) if isinstance(taken, float) else value)
            assert isinstance(taken, int) or NUMBERS[section][key] != "whole"
            assert math.isfinite(taken)


def test_kind_6_flags_are_true_or_false(tmp_path: Path) -> None:
    for case in generated(6, "flags", 4, seconds=3):
        with case:
            section = (Config, DynamicsConfig)[case.rng.integers(2)]
            key, text = str(case.rng.choice(FLAGS[section])), numeral(case.rng)
            case.about = (key, text)
            base = TRAINING if section is Config else {**MOVING, "path": "fast"}
            try:
                read = read_any(section, written(tmp_path, base), [f"{key}={text}"])
            except UserError as error:
                clear(error, key, "YAML")
                assert meaning(text) is not True
            else:
                assert value_at(read, key) is meaning(text)


def written(place: Path, values: dict) -> str:
    (place / "c.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return str(place / "c.yaml")


@pytest.mark.parametrize(
    ("command_", "option"),
    [("scan", "--frames"), ("scan", "--r-min"), ("scan", "--seed"), ("certify", "--energy"), ("certify", "--rho"),
     ("certify", "--n"), ("select", "-n"), ("distort", "-n")],
)  # fmt: skip
def test_kind_6_numbers_of_a_command(
    command_: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no number, or none that is possible, is refused with a sentence, before a file is written."""
    monkeypatch.chdir(tmp_path)
    ase.io.write("f.extxyz", ethanol()[:6])
    config = written(tmp_path, {"output": "o", "data": {"train": "f.extxyz", "n_train": 3, "n_valid": 2}})
    begin = {
        "scan": ["--calculator", "ase.calculators.emt:EMT", "--structure", "f.extxyz", "--out", "new", "--suites=nix"
                 if option == "--seed" else "--reference=none"],
        "certify": [MODEL, "--json", "new"], "select": [MODEL, "f.extxyz", "--out", "new"],
        "distort": [config, "--calculator", "ase.calculators.emt:EMT", "--out", "new"],
    }[command_]  # fmt: skip
    bad = ["nan", "inf", "-inf", "-1", "1e400", "x", "", "0x10", "1_000_000_000_000", "1:30", "-0", "1e-320", "True"]
    for case in generated(6, f"{command_} {option}", 0.5, seconds=6):
        with case:
            text = bad[case.index % len(bad)]
            if (option, text) in [("--energy", "-0"), ("--seed", "-0"), ("--energy", "1_000_000_000_000"),
                                  ("--energy", "1e-320"), ("--seed", "1_000_000_000_000"), ("--n", "-0")]:  # fmt: skip
                continue
            case.about = text
            before = content(tmp_path)
            code, _, err = command([command_, *begin, f"{option}={text}"], capsys)
            assert code == 2, err
            assert content(tmp_path) == before


# one schema


@cache
def sections() -> tuple[list[tuple[str, ...]], dict]:
    """Paths of all plain values of a model section, and the section."""
    values = json.loads(json.dumps(to_dict(ModelConfig())))

    def leaves(node: dict, path: tuple = ()) -> list[tuple[str, ...]]:
        return [
            leaf for key, value in node.items()
            for leaf in (leaves(value, (*path, key)) if isinstance(value, dict) and value else [(*path, key)])
        ]  # fmt: skip

    return leaves(values), values


def oddity(rng: np.random.Generator) -> Any:
    values = [
        None, True, False, 0, 1, 2, -1, 3, 64, 65, 10**6, 10**30, 0.5, 1.0, -0.1, 0.999, 1e-9, 1e300, float("nan"),
        float("inf"), "", "foo", "zbl", "none", "bessel", "1", "true", "é", "a\0b", [], [1], [16, 16], [0.1] * 4, [-1],
        ["a"], {}, {"H-H": 0.9}, {"C-H": -1}, {"X-H": 1.0}, {"H-C": 0.7, "C-H": 0.7}, {"a": {"b": 1}}, [[1]],
        "x" * 10**4,
        {"H-H": float("nan")}, [10**9], 20, 20.1, 8192, 8193,
    ]  # fmt: skip
    return values[rng.integers(len(values))]


def same(one: Any, two: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)


def test_kind_7_yaml_python_and_json_agree(tmp_path: Path) -> None:
    """A value of the model section is taken by all three as the same, or refused by all three with its name."""
    paths, whole = sections()
    for case in generated(7, "three ways", 16, seconds=3):
        with case:
            values, path = copy.deepcopy(whole), paths[case.rng.integers(len(paths))]
            value = oddity(case.rng)
            case.about = (path, value)
            place = values
            for part in path[:-1]:
                place = place[part]
            place[path[-1]] = value
            results = []
            for read in (
                lambda values=values: model_config_from_dict(values),
                lambda values=values: validated(Config, {**TRAINING, "model": values}).model,
                lambda values=values: read_any(Config, dumped(tmp_path, {**TRAINING, "model": values})).model,
            ):
                try:
                    results.append(to_dict(read()))
                except UserError as error:
                    clear(error, path[-1], path[0], "YAML", at_most=4000)
                    results.append(None)
            assert same(results[0], results[1]), results
            if not (isinstance(value, str) and "\0" in value):
                assert same(results[0], results[2]), results


def dumped(place: Path, values: dict) -> str:
    (place / "c.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return str(place / "c.yaml")


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that loads quickly."""
    from gmnn.config.model import NO_CORE
    from gmnn.model.potential import Potential
    from gmnn.reference import Reference

    place = tmp_path_factory.mktemp("small") / "m"
    reference = Reference((1, 6), (-13.0, -1000.0), (1.0, 1.0), (0.0, 0.0), closest=(0.7, 1.0, 1.3))
    potential = Potential(ModelConfig(n_radial=1, n_basis=2, hidden=(2,), core=NO_CORE), reference)
    folder.save(place, potential.with_params(potential.init(0)), 1, {})
    return place


def test_kind_7_model_folders_of_strangers(small_model: Path) -> None:
    """Any value of config.json, with a right checksum: the same numbers as before, or a sentence; never a traceback."""
    file = small_model / "config.json"
    original = file.read_bytes()
    whole = json.loads(original)
    whole.pop(files.SEAL)
    expected = gmnn.load(small_model)

    def leaves(node: Any, path: tuple = ()) -> list[tuple]:
        inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        return [leaf for key, value in inner for leaf in [(*path, key), *leaves(value, (*path, key))]]

    paths = leaves(whole)
    for case in generated(7, "config.json", 3, seconds=6):
        with case:
            path, value = paths[case.rng.integers(len(paths))], oddity(case.rng)
            case.about = (path, value)
            values = copy.deepcopy(whole)
            place = values
            for part in path[:-1]:
                place = place[part]
            place[path[-1]] = value
            file.write_text(json.dumps(files.sealed(values)), encoding="utf-8")
            try:
                loaded = gmnn.load(small_model)
            except UserError as error:
                clear(error, at_most=4000)
            else:
                for part in ("config", "reference"):
                    now, before = to_dict(getattr(loaded, part)), to_dict(getattr(expected, part))
                    where = {"config": "model", "reference": "reference"}[part]
                    if path[0] != where:
                        assert same(now, before)
                    assert "NaN" not in json.dumps(now), now
    file.write_bytes(original)


DECLARED = {"module": "ase.calculators.emt", "class": "EMT"}


def test_kind_7_declared_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of models in YAML or JSON: what is declared, or a sentence that names the file or the model."""
    from gmnn.commands._calculators import KEYS, declared

    monkeypatch.chdir(tmp_path)
    odd = [
        5,
        None,
        [1],
        {"a": 1},
        "",
        "x",
        True,
        1.5,
        [[]],
        "a\0b",
        {1: 2},
        {"module": 5},
        {"module": "m", "class": []},
    ]
    names = [
        "a",
        "",
        ".",
        "..",
        ".hidden",
        "comparison.md",
        "a/b",
        "x" * 300,
        "é",
        "水",
        "-",
        "a b",
        "a\nb",
        "1",
        ".gmnn",
    ]
    for case in generated(7, "models", 8, seconds=3):
        with case:
            entry: dict[Any, Any] = dict(DECLARED)
            for _ in range(case.rng.integers(0, 3)):
                entry[[*KEYS, "nonsense", 3][case.rng.integers(len(KEYS) + 2)]] = odd[case.rng.integers(len(odd))]
            name = names[case.rng.integers(len(names))]
            case.about = (name, entry)
            as_json = bool(case.rng.integers(2)) and all(isinstance(key, str) for key in entry)
            file = tmp_path / ("m.json" if as_json else "m.yml")
            text = json.dumps({name: entry}) if as_json else yaml.safe_dump({name: entry}, allow_unicode=True)
            file.write_text(text, encoding="utf-8")
            try:
                models = declared(str(file))
            except UserError as error:
                clear(error, file.name, "model")
            else:
                assert list(models) == [name]
                assert not name.startswith(".")
                assert isinstance(models[name].get("kwargs", {}), dict)
                (tmp_path / "out" / name).mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("text", ["{a: 1, a: 2}", "[" * 9000, "a: 2024-02-30", "&a [*a]", "a: 1:30", "a: " + "9" * 5000,
                                  "a: !!python/object/apply:os.getcwd []", "a: !!binary '!'", "\0", "a: *b", "? [1]: 2",
                                  "a: !!timestamp x", "a: !!set {b}", "!!omap [a: 1]"])  # fmt: skip
def test_kind_6_texts_that_are_no_yaml(text: str) -> None:
    """A sentence, or what stands there; no date, no base 60, no object of Python."""
    try:
        value = parsed(text, "c.yaml")
    except UserError as error:
        clear(error, "c.yaml")
    else:
        assert value in ({"a": "1:30"}, {"a": "2024-02-30"}) or isinstance(value, list) or set(value) == {"a"}


@pytest.mark.parametrize("text", ["[" * 10**5, '{"a": NaN}', '{"a": 1, "a": 2}', "9" * 5000, "{", '{"a": Infinity}'])
def test_kind_7_texts_that_are_no_json(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        files.strict_json(text)


# work without limit


BIG = [10**8, 10**9, 10**12, 10**18, 2**31, 2**63, 10**30]


def test_kind_10_sizes_of_a_configuration(tmp_path: Path) -> None:
    """Long texts, many keys, deep nesting, aliases of aliases: an answer within a second, and a short one."""
    for case in generated(10, "sizes of a configuration", 2, seconds=3, megabytes=300):
        with case:
            n = int(case.rng.choice([10, 1000, 20_000]))
            form = case.index % 7
            case.about = (form, n)
            base = "output: x\ndata: {train: ethanol}\n"
            text = {
                0: base + "".join(f"k{k}: 1\n" for k in range(n)),
                1: base.replace("x\n", "x" * n + "\n") + "seed: x\n",
                2: base + "train: {optimizer: {arguments: {" + ", ".join(f"k{k}: x" for k in range(n // 4)) + "}}}\n",
                3: base + "start: " + "[" * n,
                4: "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
                    f"{chr(98 + k)}: &{chr(98 + k)} [{','.join(['*' + chr(97 + k)] * 9)}]\n" for k in range(9)
                ) + base + "seed: *j\n",
                5: base + "model: {hidden: [" + "1," * n + "0]}\n",
                6: base + f"seed: {'9' * n}\n",
            }[form]  # fmt: skip
            (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
            with pytest.raises(UserError) as caught:
                read_any(Config, str(tmp_path / "c.yaml"))
            clear(caught.value, at_most=6000)


def test_kind_10_atoms_without_a_unit() -> None:
    """Structures in the wrong unit, too dense or too large: refused within a second, or searched in some."""
    for case in generated(10, "atoms without a unit", 1.5, seconds=5, megabytes=1500):
        with case:
            n = int(case.rng.choice([2, 200, 3000, 20_000]))
            edge = float(10 ** case.rng.uniform(-4, 7))
            pbc = case.rng.integers(0, 2, 3).astype(bool)
            cell = edge * np.eye(3) + (0.3 * edge * case.rng.normal(size=(3, 3)) if case.rng.integers(2) else 0)
            case.about = (n, edge, pbc.tolist(), cell.tolist())
            positions = case.rng.uniform(size=(n, 3)) @ cell
            try:
                system = make_system(positions, np.full(n, 6), cell, pbc, float(case.rng.uniform(3, 7)))
            except UserError as error:
                clear(error)
            else:
                assert np.isfinite(system.positions).all()
                assert system.neighbors.size < 5e7


@pytest.mark.parametrize(
    "key", ["repeat", "replicas", *(pytest.param(key, marks=pytest.mark.slow) for key in ("steps", "skin", "every"))]
)
def test_kind_10_sizes_of_dynamics(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More copies, replicas or reach than the machine has memory for are refused before the work."""
    from gmnn import md

    class Begun(Exception):
        """Where the dynamics would begin."""

    def begun(*_: object, **__: object) -> None:
        raise UserError("this is where the dynamics would begin, with settings that are possible")

    monkeypatch.setattr(md, "run", begun)
    ase.io.write(tmp_path / "s.extxyz", bulk("C", cubic=True))
    for case in generated(10, f"dynamics, {key}", 0.4, seconds=20, megabytes=3000):
        with case:
            big = BIG[case.index % len(BIG)]
            value = f"[{big}, {case.rng.integers(1, 9)}, 1]" if key == "repeat" else str(big)
            case.about = value
            file = dumped(tmp_path, {"model": str(MODEL), "structure": str(tmp_path / "s.extxyz"),
                                     "output": str(tmp_path / "o"), "steps": 100, "path": "fast"})  # fmt: skip
            more = [f"steps={big}"] if key == "every" else ["every=1", "trajectory_every=1"]
            code, _, err = command(["md", file, f"{key}={value}", *more], capsys)
            assert code == 2
            assert not (tmp_path / "o").exists()
            if key in ("repeat", "replicas") and big >= 10**9:
                clear(err, key, "memory", "atoms", "neighbour")


@pytest.mark.parametrize("key", ["data.n_train", "train.batch_size", "train.epochs", "model.hidden", "train.devices"])
def test_kind_10_sizes_of_training(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers of frames, devices or widths that are not there or too many: refused before the first step."""
    from gmnn.training import run as training

    def begun(*_: object, **__: object) -> None:
        raise UserError("this is where the training would begin, with settings that are possible")

    monkeypatch.setattr(training, "optimise", begun)
    ase.io.write(tmp_path / "f.extxyz", ethanol()[:6])
    for case in generated(10, f"training, {key}", 0.25, seconds=20, megabytes=4000):
        with case:
            big = BIG[(case.index * 3) % len(BIG)]
            value = f"[{big}, {big}]" if key == "model.hidden" else str(big)
            case.about = value
            file = dumped(tmp_path, {
                "output": str(tmp_path / f"o{case.index}"), "model": {"n_radial": 1, "n_basis": 2, "hidden": [4]},
                "data": {"train": str(tmp_path / "f.extxyz"), "n_valid": 2},
            })  # fmt: skip
            code, _, err = command(["train", file, f"{key}={value}"], capsys)
            assert code == 2
            clear(err.splitlines()[-1])
            assert key in err or key in ("train.batch_size", "train.epochs")


# late checks


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    ase.io.write("f.extxyz", ethanol()[:8])
    Path("file").write_text("mine", encoding="utf-8")
    dumped(tmp_path, {"output": "out", "data": {"train": "f.extxyz", "n_train": 4, "n_valid": 2},
                      "model": {"n_radial": 1, "n_basis": 2, "hidden": [4]}, "train": {"epochs": 1}})  # fmt: skip
    (tmp_path / "c.yaml").rename("t.yaml")
    dumped(tmp_path, {"model": str(MODEL), "structure": "f.extxyz", "output": "out", "steps": 10, "every": 10,
                      "trajectory_every": 10, "path": "reference"})  # fmt: skip
    (tmp_path / "c.yaml").rename("m.yaml")
    return tmp_path


EMT = "ase.calculators.emt:EMT"
WRITING: dict[str, tuple[list, str]] = {  # a command, and how it is told where to write
    "train": (["train", "t.yaml"], "output={}"), "md": (["md", "m.yaml"], "output={}"),
    "eval": (["eval", MODEL, "f.extxyz"], "--out={}"), "export": (["export", MODEL], "{}"),
    "scan": (["scan", "--calculator", EMT, "--structure", "f.extxyz"], "--out={}"),
    "scan of models": (["scan", "--models", "models.json", "--structure", "f.extxyz"], "--out={}"),
    "certify": (["certify", MODEL], "--json={}"), "select": (["select", MODEL, "f.extxyz", "-n", "2"], "--out={}"),
    "distort": (["distort", "t.yaml", "--calculator", EMT, "-n", "2"], "--out={}"),
    "import-apax": (["import-apax", GOLDEN / "apax" / "ethanol"], "{}"),
    "lammps": (["lammps", "build"], "--out={}"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITING)
def test_kind_14_where_nothing_can_be_written(
    name: str, inputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place where no file can be made is refused before the work, and nothing changes."""
    Path("models.json").write_text(json.dumps({"emt": DECLARED}), encoding="utf-8")
    Path("dangling").symlink_to("nowhere")
    os.mkfifo("pipe")
    places = ["file/x", "file/x/y", "/dev/null/x", "y" * 300, "a/" + "y" * 300, "dangling/x", "pipe/x", "file",
              "dangling", "pipe", "./dangling", "$NOWHERE/x", "~nobody-of-this-name/x"]  # fmt: skip
    arguments, told = WRITING[name]
    for case in generated(14, f"{name}, places", 0.6, at_least=5, seconds=8):
        with case:
            place = places[(case.index * 5 + len(name)) % len(places)]
            case.about = place
            before = content(inputs)
            code, _, err = command([*arguments, told.format(place)], capsys)
            assert code == 2, err
            assert content(inputs) == before
            clear(err, place.removeprefix("./").removeprefix("a/")[:10])


# paths as in a shell


def test_kind_15_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`~` and `~user` as Python's shell does; a variable, an unknown user, an empty path and NUL are refused."""
    monkeypatch.chdir(tmp_path)
    me = pwd.getpwuid(os.getuid())
    parts = ["~", f"~{me.pw_name}", "a", "b c", "$HOME", "${HOME}", "$", "~x~", "é", "..", ".", "a$b", "%", "#",
             "~nobody-x",
             "\\~", "'", "*", "\0", "", "-", "--out"]  # fmt: skip
    for case in generated(15, "paths", 8, seconds=2):
        with case:
            home = bool(case.rng.integers(4))
            text = "/".join(str(part) for part in case.rng.choice(parts, case.rng.integers(1, 4)))
            case.about = (text, home)
            monkeypatch.setenv("HOME", "/nowhere/me") if home else monkeypatch.delenv("HOME", raising=False)
            wanted = re.sub(r"^~(?=/|$)", "/nowhere/me" if home else me.pw_dir, text)
            wanted = re.sub(rf"^~{me.pw_name}(?=/|$)", me.pw_dir, wanted)
            refused = not text or "\0" in text or wanted.startswith("~") or bool(re.search(r"\$(\w|\{)", wanted))
            for take in (
                files.expanded,
                lambda text: validated(Config, {**TRAINING, "output": text}).output,
                lambda text: validated(DynamicsConfig, {**MOVING, "structure": text}).structure,
            ):
                if refused:
                    with pytest.raises(UserError) as caught:
                        take(text)
                    clear(caught.value)
                else:
                    assert take(text) == wanted


def test_kind_15_atoms_stay_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder whose name begins with ~ is reached by its path; nothing named ~ is ever made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("home").mkdir()
    ase.io.write("home/s.extxyz", Atoms("H"))
    before = content(tmp_path)
    assert files.expanded("./~/x") == "./~/x"
    files.write_text(Path(files.expanded("~/made")), "x")
    assert not changes(before, content(tmp_path))
    assert (tmp_path / "home" / "made").exists()
    assert not (tmp_path / "~").exists()
