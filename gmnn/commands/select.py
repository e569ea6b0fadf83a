"""`gmnn select MODEL FILE`: choose the frames of a file to compute and train on next."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gmnn.commands._frame import Command

if TYPE_CHECKING:
    from ase import Atoms

DESCRIPTION = """Choose N frames of FILE, labelled or not, that differ most from each other and from those of --known in
the features of the model's last layer. The command prints their indices, from 0, and writes the frames in the order in
which they were chosen, so that a smaller batch is the beginning of a larger one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="folder of a trained model")
    parser.add_argument(
        "file",
        metavar="FILE",
        help="frames to choose from, in any format that ASE reads, or `ethanol` for the packaged set",
    )
    parser.add_argument(
        "-n", type=int, required=True, metavar="N", help="number of frames to choose, from 1 to all of FILE; required"
    )
    parser.add_argument(
        "--known", metavar="FILE", help="frames that are computed already, such as the training set; default: none"
    )
    parser.add_argument(
        "--by", choices=("determinant", "distance"), default="determinant",
        help="largest determinant of the kernel, or largest distance to the nearest frame; default: determinant",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="FILE", default="selected.extxyz", help="new file for the frames; default: selected.extxyz"
    )


def run(arguments: argparse.Namespace) -> int:
    """Read the frames, choose some and write them."""
    import numpy as np

    from gmnn.errors import UserError
    from gmnn.files import require_new, write_whole
    from gmnn.model import folder
    from gmnn.training import selection

    out = Path(arguments.out)
    require_new(out)
    potential = folder.load(arguments.model)
    frames = _frames(arguments.file)
    if not frames:
        raise UserError(f"{arguments.file} holds no frames; give a file with at least one")
    if not 1 <= arguments.n <= len(frames):
        raise UserError(f"-n is {arguments.n}, but {arguments.file} has {len(frames)} frames; give 1 to {len(frames)}")
    features = selection.frame_features(potential, frames)
    known = selection.frame_features(potential, _frames(arguments.known)) if arguments.known else features[:0]
    choose = selection.by_determinant if arguments.by == "determinant" else selection.by_distance
    chosen, scores = choose(features, arguments.n, known)
    write_whole(out, [frames[k] for k in chosen])
    what = "variance given the others" if arguments.by == "determinant" else "distance to the nearest"
    print(f"{'frame':>8}  {what} (of the first)")
    for k, share in zip(chosen, scores / scores[0], strict=True):
        print(f"{k:>8}  {share:.3g}")
    print(f"{len(np.unique(chosen))} of {len(frames)} frames written to {out}")
    return 0


def _frames(source: str) -> "list[Atoms]":
    from gmnn.data.embedded import ethanol
    from gmnn.structures import read_structures, split_index

    if source == "ethanol":
        return ethanol()
    path, index = split_index(source)
    return read_structures(path, index or ":")


COMMAND = Command("select", DESCRIPTION, add_arguments, run)
main, parser = COMMAND.main, COMMAND.parser
