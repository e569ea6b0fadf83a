"""Model folders: everything that makes a trained potential, written atomically and checked when read.

A model folder holds ``config.json`` (the model, its origin, its accuracy), ``params/<epoch>/``, once it is trained
``grade/<epoch>/`` and, to resume, ``state/<epoch>/`` (orbax, plain nested dicts). ``config.json`` and
``state/latest.json`` name their folders with a SHA-256. They are replaced in one step after those are complete, so that
a killed run leaves either the old or the new, never half of one.
"""

import hashlib
import json
import os
import re
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gmnn import device, files
from gmnn.config.model import ModelConfig, model_config_from_dict, to_dict
from gmnn.device import require_not_forked
from gmnn.errors import UserError
from gmnn.files import SEAL, package_versions, read_json, read_sealed, sealed, verified, write_json
from gmnn.folders import MARKER
from gmnn.model.grade import Grade
from gmnn.model.potential import Potential
from gmnn.model.trees import read_tree, remove_siblings, tree_digest, write_tree
from gmnn.reference import reference_from_dict

FORMAT_VERSION = 4  # 4 adds the clamp's depth, 3 a checksum of config.json, 2 core, distance transform and NLH
UNITS = {"energy": "eV", "length": "Å", "forces": "eV/Å", "stress": "eV/Å^3"}
FILES = ("config.json", "params", "grade", "state")  # what is written into a model folder here
PATIENCE = 100  # times that a load starts again because a training saved meanwhile
PACKAGES = ("gmnn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "ase")


def save(path: Path, potential: Potential, epoch: int, facts: dict[str, Any]) -> None:
    """Write the potential and `facts` (data, training, metrics) into a model folder, replacing an earlier epoch."""
    _require_model_folder(path)
    location, digest = _written(path, "params", epoch, potential.params, path / "config.json", "parameters")
    graded = {} if potential.grade is None else {"grade": _with_grade(path, potential.grade, epoch)}
    description = {
        "format_version": FORMAT_VERSION,
        "model": to_dict(potential.config),
        "reference": to_dict(potential.reference),
        "parameters": {"folder": location, "sha256": digest},
        **graded,
        "units": UNITS,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        **provenance(),
        **facts,
    }
    write_json(path / "config.json", sealed(description))
    remove_siblings(path / location)
    if graded:
        remove_siblings(path / graded["grade"]["folder"])


def add_grade(path: Path, grade: Grade) -> None:
    """Write what grades are computed from into a model folder that has its parameters."""
    _require_model_folder(path)
    description = read_description(path)
    epoch = int(re.sub(r"\D", "", Path(str(description["parameters"]["folder"])).name))
    description["grade"] = _with_grade(path, grade, epoch)
    description.pop(SEAL, None)
    write_json(path / "config.json", sealed(description))
    remove_siblings(path / description["grade"]["folder"])


def _with_grade(path: Path, grade: Grade, epoch: int) -> dict[str, Any]:
    """Write the arrays of a grade and return its entry in ``config.json``."""
    location, digest = _written(path, "grade", epoch, grade._asdict(), path / "config.json", "grade")
    return {"folder": location, "sha256": digest, "rank": np.shape(grade.rows)[-2]}


def load(path: str | os.PathLike) -> Potential:
    """Load the potential in a model folder, with float32 parameters. UserError if it is absent, newer or damaged.

    While a training saves into the folder, the model is the one before or the one after.
    """
    require_not_forked()
    path = _folder(path)
    device.require()
    for _ in range(PATIENCE):
        before = _index(path)
        try:
            return _load(path)
        except UserError:
            if _index(path) == before:
                raise
            time.sleep(0.01)
    raise UserError(f"{path} changes all the time while it is read; try again when its training has ended")


def _index(path: Path) -> bytes | None:
    try:
        return (path / "config.json").read_bytes()
    except OSError:
        return None


def _folder(path: str | os.PathLike) -> Path:
    return Path(files.expanded(os.fspath(path)))


def _load(path: Path) -> Potential:
    description = read_description(path)
    try:
        config, reference = model_config_from_dict(description["model"]), reference_from_dict(description["reference"])
        location, digest = (str(description["parameters"][key]) for key in ("folder", "sha256"))
        potential = Potential(config, reference)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}/config.json is damaged: {error} is missing; copy the model folder again") from None
    except UserError as error:
        raise UserError(f"{path}/config.json does not fit: {error}; copy the model folder again") from None
    template = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(lambda: potential.init(0)))
    potential = potential.with_params(read_tree(_inside(path, location), template, digest))
    return potential if "grade" not in description else replace(potential, grade=_grade(path, potential, description))


def _grade(path: Path, potential: Potential, description: dict[str, Any]) -> Grade:
    """Read what grades are computed from."""
    try:
        location, digest = (str(description["grade"][key]) for key in ("folder", "sha256"))
        rank = int(description["grade"]["rank"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}/config.json is damaged: grade ({error}); copy the model folder again") from None
    config, n_elements = potential.config, len(potential.reference.elements)
    members = (config.members,) if config.ensemble == "full" else ()
    shapes = {"center": (config.hidden[-1],), "rows": (rank, config.hidden[-1]), "rest": ()}
    template = {name: np.zeros((*members, n_elements, *shape), np.float32) for name, shape in shapes.items()}
    return Grade(**read_tree(_inside(path, location), template, digest))


def read_config(path: str | os.PathLike) -> ModelConfig:
    """Read the model's settings from a model folder, without its parameters and without JAX."""
    path = _folder(path)
    description = read_description(path)
    try:
        return model_config_from_dict(description["model"])
    except (KeyError, UserError) as error:
        raise UserError(f"{path}/config.json does not fit: {error}; copy the model folder again") from None


def read_description(path: Path) -> dict[str, Any]:
    """Read ``config.json`` of a model folder; UserError if it is absent, newer or damaged."""
    file = path / "config.json"
    if not file.is_file():
        raise UserError(
            f"{path} is not a model folder (it has no config.json); give the `output` folder of a training run"
        )
    hint = "copy the model folder again"
    description = read_json(file, hint)
    try:
        format_version = int(description["format_version"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(f"{file} is damaged ({error}); {hint}") from None
    if format_version > FORMAT_VERSION:
        versions = description.get("versions")
        writer = versions.get("gmnn", "unknown") if isinstance(versions, dict) else "unknown"
        raise UserError(
            f"{path} has format version {format_version}, this gmnn reads up to {FORMAT_VERSION}; install the one that "
            f"wrote it ({writer}) or a newer one"
        )
    return verified(description, file, hint) if format_version >= 3 or SEAL in description else description


def save_state(path: Path, epoch: int, state: Any) -> None:
    """Write everything training needs to continue after `epoch`."""
    location, digest = _written(path, "state", epoch, state, path / "state/latest.json", None)
    write_json(path / "state/latest.json", sealed({"folder": location, "sha256": digest}))
    remove_siblings(path / location)


def load_state(path: Path, template: Any) -> Any | None:
    """Load the last state in a model folder, shaped like `template`; None if training has not saved one yet."""
    file = path / "state/latest.json"
    if not file.exists():
        return None
    latest = read_sealed(file, "start again with another output folder")
    return read_tree(_inside(path, latest["folder"]), template, latest["sha256"])


def provenance() -> dict[str, Any]:
    """Versions of the packages, commit of a source checkout and whether its code was modified, and the device."""
    root = Path(__file__).parents[2]
    commit = _git(root, "rev-parse", "HEAD")
    modified = _git(root, "status", "--porcelain", "-uno", "--", "*.py", "*.cpp", "*.h", "*.yaml")
    device = f"{jax.devices()[0].platform}: {jax.devices()[0].device_kind}"
    code = {"commit": commit, "dirty": bool(modified) if commit else None}
    return {"versions": package_versions(PACKAGES), **code, "device": device}


def potential_digest(potential: Potential) -> str:
    """SHA-256 of a potential: its settings, the facts from its data and its trained parameters."""
    settings = json.dumps([to_dict(potential.config), to_dict(potential.reference)], sort_keys=True)
    return hashlib.sha256(f"{settings} {tree_digest(potential.trained)}".encode()).hexdigest()


def _written(path: Path, kind: str, epoch: int, tree: Any, index: Path, key: str | None) -> tuple[str, str]:
    """Write arrays and return their place and checksum; the place that `index` names is never overwritten.

    `key` is where the index names it; None for at its top.
    """
    try:
        known = json.loads(index.read_text(encoding="utf-8"))
        known = known if key is None else known[key]
        named, content = known["folder"], known["sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        named, content = "", ""
    tree = jax.tree.map(np.asarray, tree)
    location, digest = f"{kind}/{epoch:06d}", tree_digest(tree)
    if named == location:
        if content == digest:
            return location, digest
        location += "b"  # the same epoch with different numbers
    write_tree(path / location, tree)
    return location, digest


def _inside(path: Path, location: str) -> Path:
    try:
        target = (path / location).resolve()
    except (ValueError, OSError) as error:  # a NUL in the name, or a circle of links
        raise UserError(f"{path} refers to {location!r}, which is no folder ({error}); copy it again") from None
    if not target.is_relative_to(path.resolve()):
        raise UserError(f"{path} refers to {location}, outside the folder; it is damaged or not to be trusted")
    return target


def _require_model_folder(path: Path) -> None:
    """Raise UserError if a link or somebody else's config.json is where the potential is to be written."""
    for name in ("", *FILES):
        files.refuse_link(path / name)
    index = path / "config.json"
    if index.exists() and not (files.is_sealed(index) or files.is_sealed(path / MARKER)):
        raise UserError(f"{index} was not written by gmnn and is not replaced; choose another folder")


def _git(root: Path, *arguments: str) -> str | None:
    if not (root / ".git").exists():
        return None
    try:
        return (
            subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True)
            .stdout.decode(errors="replace")
            .strip()
        )
    except (OSError, subprocess.CalledProcessError):
        return None
