"""Arrays in folders: nested dicts written and read by orbax, with a checksum of their content."""

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gmnn import files
from gmnn.errors import UserError, reason

NUMBERED = re.compile(r"\d{6,}b?(\.orbax-checkpoint-tmp.*)?")  # folders of one epoch, whole or of a killed run
ORBAX = re.compile(  # entries of such a folder
    r"_CHECKPOINT_METADATA|_METADATA|_sharding|array_metadatas|\.?commit_success\.txt.*|d|manifest\.ocdbt|"
    r"ocdbt\.process_\d+|.*orbax-checkpoint-tmp.*"
)


def tree_digest(tree: Any) -> str:
    """SHA-256 of the names, shapes, types and bytes of all leaves."""
    total = hashlib.sha256()
    for name, leaf in jax.tree_util.tree_leaves_with_path(tree):
        value = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(name)} {value.shape} {value.dtype}".encode())
        total.update(value.tobytes())
    return total.hexdigest()


def _checkpointer() -> Any:
    """Checkpointer of orbax. If several processes train, this one reads or writes without waiting for the others."""
    import orbax.checkpoint as ocp  # slow to import and needed only to read or write files

    if jax.process_count() == 1:
        return ocp.StandardCheckpointer()
    alone = ocp.options.MultiprocessingOptions(me := jax.process_index(), {me}, f"gmnn{me}")
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def write_tree(path: Path, tree: Any) -> None:
    """Write arrays into a new folder, or over the remains of a killed run. UserError if that is not possible."""
    files.refuse_link(path.parent)
    if os.path.lexists(path):
        if not _written_here(path):
            raise UserError(f"{path} was not written by gmnn and is not replaced; move it away")
        files.remove_tree(path)  # the remains of a killed run
    try:
        with _quiet(logging.CRITICAL), _checkpointer() as checkpointer:
            checkpointer.save(path.absolute(), tree)
    except Exception as error:  # orbax raises many kinds for a disk that is full or cannot be written
        raise UserError(f"cannot write {path}: {reason(error, 200)}; what was saved before is kept") from None
    mark = path / "commit_success.txt"
    if mark.exists():  # orbax writes an absolute path of this machine into it, which is private
        files.write_text(mark, "complete\n")


def read_tree(path: Path, template: Any, digest: str) -> Any:
    """Read arrays shaped like `template`; UserError if they are absent, damaged or do not match their checksum."""
    try:
        with _checkpointer() as checkpointer:
            tree = checkpointer.restore(path.absolute(), template)
    except (ImportError, MemoryError):  # have nothing to do with the files
        raise
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


def remove_siblings(path: Path) -> None:
    """Delete earlier epochs beside `path`, and what killed runs left. Whatever else lies there stays."""
    for sibling in path.parent.iterdir():
        if sibling.name != path.name and _written_here(sibling):
            files.remove_tree(sibling)


def _written_here(path: Path) -> bool:
    """Whether a folder has the name and the entries of parameters or a state that we wrote, whole or half."""
    plain = path.is_dir() and not path.is_symlink()
    return bool(
        plain and NUMBERED.fullmatch(path.name) and all(ORBAX.fullmatch(entry.name) for entry in path.iterdir())
    )
