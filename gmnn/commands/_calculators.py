"""Any ASE calculator by name: MODULE:CALLABLE, a preset, or declared in a file with module, class and arguments.

A declaration is an object with `module` and one of `class`, `class_name` (the key of MLIPX) or `factory`. `kwargs` and
`args` may contain further declarations, whose results are passed. `preset: NAME` takes an entry of
gmnn/teaching/presets.json, whose kwargs may be extended. `folder: DIR` takes a model folder of gmnn.
"""

import importlib
import re
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

from ase.calculators.calculator import BaseCalculator

from gmnn.errors import UserError, reason, shortened
from gmnn.files import expanded, require_file, strict_json
from gmnn.scanning.evaluate import kept_running
from gmnn.teaching import worker
from gmnn.teaching.teachers import from_preset, presets

NAMES = worker.NAMES
TEXT, MAPPING = (str, "text"), (dict, "a mapping of keyword arguments")
KEYS: dict[str, tuple[type, str]] = {
    "module": TEXT, **dict.fromkeys(NAMES, TEXT), "preset": TEXT, "folder": TEXT, "kwargs": MAPPING,
    "args": (list, "a list of arguments"),
}  # fmt: skip
FOLDER, LONGEST = re.compile(r"[^\W_.][^/\0-\x1f\x7f]*|_[^/\0-\x1f\x7f]*"), 100  # names of models, and their bytes
REPORTS = ("comparison.md", "comparison.json", "comparison.png")


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
        if not isinstance(name, str) or not FOLDER.fullmatch(name) or name in REPORTS or len(name.encode()) > LONGEST:
            raise UserError(
                f"The model {shortened(name)} gives its name to a folder, got '{file}'; allowed are up to {LONGEST} "
                f"printable letters without / that do not begin with a dot and are not {', '.join(REPORTS)}; rename it."
            )
        _check(entry, name)
    return models


def _check(entry: dict[Any, Any], name: str) -> None:
    """Raise UserError for a declaration with other keys, or values of other types, than the module's text says."""
    unknown = [key for key in entry if key not in KEYS]
    if unknown:
        raise UserError(
            f"The model {name} has the keys {shortened(unknown)}; allowed are {', '.join(sorted(KEYS))}; correct them."
        )
    for key, value in entry.items():
        kind, what = KEYS[key]
        if not isinstance(value, kind) or (kind is str and not value):
            raise UserError(f"The model {name} has {key}: {shortened(value)}, but it must be {what}; correct it.")
    ways = [key for key in ("preset", "folder", "module") if key in entry]
    called = [key for key in NAMES if key in entry]
    if len(ways) != 1 or len(called) != (ways == ["module"]):
        raise UserError(
            f"The model {name} has {', '.join(map(str, entry)) or 'no keys'}; needed are module with one of "
            f"{', '.join(NAMES)}, or preset, or folder; correct it."
        )
    for value in [*(entry.get("kwargs") or {}).values(), *(entry.get("args") or ())]:
        if isinstance(value, dict) and "module" in value:
            _check(value, name)


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
            f"The calculator '{name}' cannot be made from {shortened(kwargs)}, got "
            f"{type(error).__name__}: {reason(error, 300)}; the keyword arguments it knows are allowed; correct them, "
            f"or {hint}."
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
            return strict_json(text)
        yaml12 = importlib.import_module("gmnn.config.yaml12")
    except ValueError as error:
        raise UserError(f"The models are not valid JSON, got '{path}' ({error}); correct the file.") from error
    except ImportError as error:
        raise UserError(
            f"A YAML file needs PyYAML, got '{path}'; a JSON file is read without; pip install pyyaml, or write JSON."
        ) from error
    return yaml12.parsed(text, str(path))


def _json_object(text: str | None) -> dict[str, Any]:
    """Read the keyword arguments of --kwargs."""
    if text is None:
        return {}
    try:
        value = strict_json(text)
    except ValueError as error:
        raise UserError(
            f"--kwargs is not valid JSON, got {shortened(text)} ({error}); an object such as "
            "'{\"sigma\": 1.0}' is allowed; correct the text and quote it for the shell."
        ) from error
    if not isinstance(value, dict):
        raise UserError(
            f"--kwargs is not a JSON object, got {shortened(text)}; an object such as '{{\"sigma\": 1.0}}' is allowed; "
            "put the values into braces with their names."
        )
    return value
