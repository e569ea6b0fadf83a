"""Model folders: everything that makes a trained potential, written atomically and checked when read.

A model folder holds ``config.json`` (the model, its origin, its accuracy), ``params/<epoch>/`` and, to resume,
``state/<epoch>/`` (orbax, plain nested dicts). ``config.json`` and ``state/latest.json`` name their folder and its
SHA-256. They are replaced in one step after that folder is complete, so that a killed run leaves either the old or the
new, never half of one.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gmnn.config.model import ModelConfig, model_config_from_dict, to_dict
from gmnn.device import require_not_forked
from gmnn.errors import UserError, reason
from gmnn.files import SEAL, _read_json, _verified, package_versions, read_sealed, sealed, write_json
from gmnn.model.potential import Potential
from gmnn.reference import reference_from_dict

FORMAT_VERSION = 4  # 4 adds the clamp's depth, 3 a checksum of config.json, 2 core, distance transform and NLH
UNITS = {"energy": "eV", "length": "Å", "forces": "eV/Å", "stress": "eV/Å^3"}
PACKAGES = ("gmnn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "ase")


def save(path: Path, potential: Potential, epoch: int, facts: dict[str, Any]) -> None:
    """Write the potential and `facts` (data, training, metrics) into a model folder, replacing an earlier epoch."""
    location, digest = _written(path, "params", epoch, potential.params, path / "config.json")
    description = {
        "format_version": FORMAT_VERSION,
        "model": to_dict(potential.config),
        "reference": to_dict(potential.reference),
        "parameters": {"folder": location, "sha256": digest},
        "units": UNITS,
        **provenance(),
        **facts,
    }
    write_json(path / "config.json", sealed(description))
    _remove_siblings(path / location)


def load(path: str | os.PathLike) -> Potential:
    """Load the potential in a model folder, with float32 parameters. UserError if it is absent, newer or damaged."""
    require_not_forked()
    path = Path(path)
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
    return potential.with_params(_read_tree(_inside(path, location), template, digest))


def read_config(path: str | os.PathLike) -> ModelConfig:
    """Read the model's settings from a model folder, without its parameters and without JAX."""
    path = Path(path)
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
    description = _read_json(file, hint)
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
    return _verified(description, file, hint) if format_version >= 3 or SEAL in description else description


def save_state(path: Path, epoch: int, state: Any) -> None:
    """Write everything training needs to continue after `epoch`."""
    location, digest = _written(path, "state", epoch, state, path / "state/latest.json")
    write_json(path / "state/latest.json", sealed({"folder": location, "sha256": digest}))
    _remove_siblings(path / location)


def load_state(path: Path, template: Any) -> Any | None:
    """Load the last state in a model folder, shaped like `template`; None if training has not saved one yet."""
    file = path / "state/latest.json"
    if not file.exists():
        return None
    latest = read_sealed(file, "start again with another output folder")
    return _read_tree(_inside(path, latest["folder"]), template, latest["sha256"])


def provenance() -> dict[str, Any]:
    """Versions of the packages, commit of a source checkout and whether its code was modified, and the device."""
    root = Path(__file__).parents[2]
    commit = _git(root, "rev-parse", "HEAD")
    modified = _git(root, "status", "--porcelain", "-uno", "--", "*.py", "*.cpp", "*.h", "*.yaml")
    device = f"{jax.devices()[0].platform}: {jax.devices()[0].device_kind}"
    code = {"commit": commit, "dirty": bool(modified) if commit else None}
    return {"versions": package_versions(PACKAGES), **code, "device": device}


def tree_digest(tree: Any) -> str:
    """SHA-256 of the names, shapes, types and bytes of all leaves."""
    total = hashlib.sha256()
    for name, leaf in jax.tree_util.tree_leaves_with_path(tree):
        value = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(name)} {value.shape} {value.dtype}".encode())
        total.update(value.tobytes())
    return total.hexdigest()


def _written(path: Path, kind: str, epoch: int, tree: Any, index: Path) -> tuple[str, str]:
    """Write arrays and return their place and checksum; the place that `index` names is never overwritten."""
    try:
        known = json.loads(index.read_text())
        known = known.get("parameters", known)
        named, content = known["folder"], known["sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        named, content = "", ""
    tree = jax.tree.map(np.asarray, tree)
    location, digest = f"{kind}/{epoch:06d}", tree_digest(tree)
    if named == location:
        if content == digest:
            return location, digest
        location += "b"  # the same epoch with different numbers
    _write_tree(path / location, tree)
    return location, digest


def _checkpointer() -> Any:
    """Checkpointer of orbax. If several processes train, this one reads or writes without waiting for the others."""
    import orbax.checkpoint as ocp  # slow to import and needed only to read or write files

    if jax.process_count() == 1:
        return ocp.StandardCheckpointer()
    alone = ocp.options.MultiprocessingOptions(me := jax.process_index(), {me}, f"gmnn{me}")
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def _write_tree(path: Path, tree: Any) -> None:
    shutil.rmtree(path, ignore_errors=True)  # the remains of a killed run
    try:
        with _quiet(logging.CRITICAL), _checkpointer() as checkpointer:
            checkpointer.save(path.absolute(), tree)
    except Exception as error:  # orbax raises many kinds for a disk that is full or cannot be written
        raise UserError(f"cannot write {path}: {reason(error, 200)}; what was saved before is kept") from None
    mark = path / "commit_success.txt"
    if mark.exists():  # orbax writes an absolute path of this machine into it, which is private
        mark.write_text("complete\n")


def _read_tree(path: Path, template: Any, digest: str) -> Any:
    try:
        with _checkpointer() as checkpointer:
            tree = checkpointer.restore(path.absolute(), template)
    except Exception as error:  # orbax raises many kinds for files that are absent, truncated or of another shape
        raise UserError(
            f"the parameters in {path} cannot be read: {reason(error, 200)}; copy the model folder again"
        ) from None
    for (name, leaf), target in zip(jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(template), strict=True):
        if np.shape(leaf) != np.shape(target):
            raise UserError(
                f"the parameters in {path} cannot be read: {jax.tree_util.keystr(name)} has shape {np.shape(leaf)}, "
                f"the configuration asks for {np.shape(target)}; copy the model folder again"
            )
    if tree_digest(tree) != digest:
        raise UserError(f"the parameters in {path} do not match their checksum; copy the model folder again")
    return tree


def read_foreign(path: Path) -> Any:
    """Read an orbax checkpoint of another program into NumPy arrays; UserError if orbax cannot read it."""
    import orbax.checkpoint as ocp

    try:  # orbax warns about a file that it looks for here but that lies one folder up
        with _quiet(logging.ERROR), ocp.PyTreeCheckpointer() as checkpointer:
            metadata = checkpointer.metadata(path.absolute()).item_metadata.tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata)
            return checkpointer.restore(path.absolute(), restore_args=as_numpy)
    except Exception as error:  # orbax raises many kinds for files that are absent, truncated or of another version
        raise UserError(f"the checkpoint {path} cannot be read: {reason(error, 200)}; copy it again") from None


@contextlib.contextmanager
def _quiet(level: int) -> Iterator[None]:
    """Suppress log messages of orbax below this level."""
    log = logging.getLogger("absl")
    before = log.level
    log.setLevel(level)
    try:
        yield
    finally:
        log.setLevel(before)


def _inside(path: Path, location: str) -> Path:
    try:
        target = (path / location).resolve()
    except (ValueError, OSError) as error:  # a NUL in the name, or a circle of links
        raise UserError(f"{path} refers to {location!r}, which is no folder ({error}); copy it again") from None
    if not target.is_relative_to(path.resolve()):
        raise UserError(f"{path} refers to {location}, outside the folder; it is damaged or not to be trusted")
    return target


def _remove_siblings(path: Path) -> None:
    for sibling in path.parent.iterdir():
        if sibling.is_dir() and sibling.name != path.name:
            shutil.rmtree(sibling, ignore_errors=True)


def _git(root: Path, *arguments: str) -> str | None:
    if not (root / ".git").exists():
        return None
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
