"""Any ASE calculator by name: MODULE:CALLABLE, a preset, or declared in a file with module, class and arguments.

A declaration is an object with `module` and one of `class`, `class_name` (the key of MLIPX) or `factory`. `kwargs` and
`args` may contain further declarations, whose results are passed. `preset: NAME` takes an entry of
gmnn/teaching/presets.json, whose kwargs may be extended. `folder: DIR` takes a model folder of gmnn.
"""

import importlib
import json
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

from ase.calculators.calculator import BaseCalculator

from gmnn.errors import UserError, reason
from gmnn.files import expanded, require_file
from gmnn.scanning.evaluate import kept_running
from gmnn.teaching import worker
from gmnn.teaching.teachers import from_preset, presets

NAMES = worker.NAMES
KEYS = {"module", *NAMES, "kwargs", "args", "preset", "folder"}


def load_calculator(text: str, kwargs: str | None) -> tuple[BaseCalculator, str]:
    """Make the calculator of MODULE:CALLABLE or of a preset with the JSON object kwargs, and name it."""
    more = _json_object(kwargs)
    module, colon, name = text.partition(":")
    if not colon and text in presets():
        return make({"preset": text, "kwargs": more}, text), text
    if not colon or not module or not name:
        raise UserError(
            f"The calculator is not named as MODULE:CALLABLE and is no preset, got '{text}'; an example is "
            f"ase.calculators.emt:EMT, presets are {', '.join(presets())}; correct the text."
        )
    return make({"module": module, "factory": name, "kwargs": more}, text), name


def declared(file: str) -> dict[str, dict[str, Any]]:
    """Read the declarations of a JSON or YAML file, by name. UserError names what is wrong with the file."""
    path = Path(file)
    require_file(path, "a JSON or YAML file")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"The models cannot be read, got '{file}' ({getattr(error, 'strerror', None) or error}); a JSON or YAML "
            "file is needed; correct the path."
        ) from error
    models = _parsed(path, text)
    if not isinstance(models, dict) or not models or not all(isinstance(entry, dict) for entry in models.values()):
        raise UserError(
            f"The models are not named objects, got '{file}'; an example of its content is "
            '{"emt": {"module": "ase.calculators.emt", "class": "EMT"}}; correct the file.'
        )
    for name, entry in models.items():
        unknown = sorted(map(str, set(entry) - KEYS))
        if unknown:
            raise UserError(
                f"The model {name} has the keys {', '.join(unknown)}, got '{file}'; allowed are "
                f"{', '.join(sorted(KEYS))}; correct the file."
            )
        if "/" in str(name) or str(name) in ("", ".", ".."):
            raise UserError(f"The model '{name}' gives its name to a folder, but no folder can be named so; rename it.")
    return {str(name): entry for name, entry in models.items()}


def make(declaration: dict[str, Any], name: str) -> BaseCalculator:
    """Make the calculator of a declaration. UserError names what to install, or what was refused."""
    if "folder" in declaration:
        return load_model(Path(expanded(str(declaration["folder"]))))
    hint, kwargs = "install the package or correct the name", declaration.get("kwargs") or {}
    if "preset" in declaration:
        declaration, hint = from_preset(declaration["preset"], kwargs, name)
    try:
        with kept_running():
            return worker.make(declaration)
    except UserError:
        raise
    except worker.NotImported as error:
        raise UserError(
            f"The calculator cannot be imported, got '{name}' ({error}); an importable module and a name in it are "
            f"needed; {hint}."
        ) from error
    except Exception as error:  # a calculator may fail in any way
        kwargs = declaration.get("kwargs") or {}
        raise UserError(
            f"The calculator '{name}' cannot be made from {kwargs}, got {type(error).__name__}: {reason(error, 300)}; "
            f"the keyword arguments it knows are allowed; correct them, or {hint}."
        ) from error


def load_model(folder: Path) -> BaseCalculator:
    """Make the calculator of a model folder, in double precision and by the energy itself, without tables."""
    try:
        module = importlib.import_module("gmnn.interfaces.calculator")
    except ImportError as error:
        raise UserError(
            f"A gmnn model cannot be loaded here, got {type(error).__name__}: {error}; the package with its "
            "dependencies is needed; install it, or pass --calculator."
        ) from error
    return module.Calculator(folder, dtype="float64", path="reference")  # rounding decides no verdict


def provider(calculator: BaseCalculator) -> dict[str, str]:
    """Package that a calculator comes from, with its version; empty if unknown."""
    top = type(calculator).__module__.partition(".")[0]
    try:
        names = packages_distributions().get(top, [])
        return {name: version(name) for name in sorted(set(names))}
    except PackageNotFoundError:
        return {}


def _parsed(path: Path, text: str) -> Any:
    try:
        if path.suffix.lower() not in (".yaml", ".yml"):
            return json.loads(text)
        yaml = importlib.import_module("yaml")
    except json.JSONDecodeError as error:
        raise UserError(f"The models are not valid JSON, got '{path}' ({error}); correct the file.") from error
    except ImportError as error:
        raise UserError(
            f"A YAML file needs PyYAML, got '{path}'; a JSON file is read without; pip install pyyaml, or write JSON."
        ) from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"The models are not valid YAML, got '{path}' ({reason}); correct the file.") from error


def _json_object(text: str | None) -> dict[str, Any]:
    """Read the keyword arguments of --kwargs."""
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"--kwargs is not valid JSON, got '{text}' ({error}); an object such as '{{\"sigma\": 1.0}}' is allowed; "
            "correct the text and quote it for the shell."
        ) from error
    if not isinstance(value, dict):
        raise UserError(
            f"--kwargs is not a JSON object, got '{text}'; an object such as '{{\"sigma\": 1.0}}' is allowed; "
            "put the values into braces with their names."
        )
    return value
