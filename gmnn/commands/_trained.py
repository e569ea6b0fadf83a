"""The frames that a model folder was trained on, read again from their file where it still has the same content."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gmnn.errors import UserError, reason
from gmnn.files import digest, expanded, read_sealed
from gmnn.structures import read_structures, split_index

if TYPE_CHECKING:
    from ase import Atoms

EMBEDDED = "ethanol"  # source of the packaged set
REMEDY = "give a structure with --structure FILE"


@dataclass(frozen=True)
class TrainingFrames:
    """Training frames in Å, in the order of their file, and where they come from."""

    atoms: "list[Atoms]"
    indices: list[int]
    """Place of every frame in the file."""
    source: str


def training_frames(folder: Path, remedy: str = REMEDY) -> TrainingFrames:
    """Read the frames of `data.train` that a model was trained on; all of the file where the split is not kept.

    A relative name is looked for from here. UserError, one sentence that ends with the remedy, if the folder names no
    file, or the file is absent, has another content or cannot be read.
    """
    from gmnn.model.folder import read_description

    folder = Path(expanded(str(folder)))
    description = read_description(folder)
    try:
        part, training = description["data"]["train"], description.get("training") or {}
        source, checksum = str(part["source"]), str(part["sha256"])
        length = str(training.get("data", {}).get("units", {}).get("length", "Å"))
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{folder} does not say which frames its model was trained on; {remedy}") from None
    if source == EMBEDDED:
        from gmnn.data import embedded

        if checksum == embedded.CHECKSUMS["ethanol.extxyz.xz"]:
            frames = embedded.ethanol()
            return TrainingFrames(*_chosen(frames, _indices(folder, len(frames))), source)
    path, rows = split_index(expanded(source))
    if not path.is_file():
        raise UserError(f"the training data of {folder} are not found, which were {source}; {remedy}")
    if digest(path) != checksum:
        raise UserError(f"{source} has changed since {folder} was trained on it; {remedy}")
    if rows and ":" not in rows:
        rows = f"{rows}:{int(rows) + 1 or ''}"
    try:
        frames = read_structures(path, rows or ":")
    except UserError as error:
        raise UserError(f"the training data of {folder} cannot be read: {reason(error, 200)}; {remedy}") from None
    return TrainingFrames(*_chosen(_in_angstrom(frames, length), _indices(folder, len(frames))), source)


def training_file(folder: Path) -> Path | None:
    """The file that a model was trained on, as far as its folder names one; it need not exist."""
    from gmnn.model.folder import read_description

    try:
        source = str(read_description(Path(expanded(str(folder))))["data"]["train"]["source"])
    except (KeyError, TypeError):
        return None
    return None if source == EMBEDDED else split_index(expanded(source))[0]


def _indices(folder: Path, n_frames: int) -> list[int]:
    """Places of the training frames in their file, ascending; all of them without a readable ``split.json``."""
    if not (folder / "split.json").is_file():
        return list(range(n_frames))
    try:
        record = read_sealed(folder / "split.json", "")
        indices = sorted({int(k) for k in record["splits"]["train"]["indices"]})
    except (UserError, KeyError, TypeError, ValueError):
        return list(range(n_frames))
    return [k for k in indices if 0 <= k < n_frames]


def _chosen(frames: "list[Atoms]", indices: list[int]) -> "tuple[list[Atoms], list[int]]":
    return [frames[k] for k in indices], indices


def _in_angstrom(frames: "list[Atoms]", length: str) -> "list[Atoms]":
    """The frames with positions and cells in Å, read from a file in another unit."""
    from gmnn.config.data import UnitsConfig
    from gmnn.data.units import factors

    factor = factors(UnitsConfig.model_validate({"length": length})).length
    if factor == 1.0:
        return frames
    scaled = [frame.copy() for frame in frames]
    for frame in scaled:
        frame.set_cell(frame.cell.array * factor, scale_atoms=False)
        frame.positions = frame.positions * factor
    return scaled
