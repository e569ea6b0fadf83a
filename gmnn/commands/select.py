"""`gmnn select MODEL FILE`: choose the frames of a file to compute and train on next."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gmnn.commands._frame import Command

if TYPE_CHECKING:
    from ase import Atoms

BOUNDS = {  # options, in the order of training.selection.extremes
    "energy": "a predicted energy above E0, eV/atom,",
    "forces": "a longest predicted force, eV/Å,",
    "grade": "a largest grade (1: of the validation frames)",
}
DESCRIPTION = """Choose N frames of FILE, labelled or not, that differ most from each other and from those of --known in
the features of the model's last layer. The command prints their indices, from 0, and writes the frames in the order in
which they were chosen, so that a smaller batch is the beginning of a larger one. Bounds on energy, forces and grade
keep out frames of a run that has left all data behind; `gmnn show` prints those of the training data."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="folder of a trained model")
    parser.add_argument(
        "file",
        metavar="FILE",
        help="frames to choose from, in any format that ASE reads, or some of them, as run.xyz@:1000 or run.xyz@::10; "
        "or `ethanol` for the packaged set",
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
    for name, what in BOUNDS.items():
        parser.add_argument(
            f"--{name}", type=float, nargs=2, metavar=("LO", "HI"),
            help=f"choose among frames with {what} from LO to HI; default: all",
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
    bounds = {name: getattr(arguments, name) for name in BOUNDS}
    places = np.arange(len(frames))
    if any(bounds.values()):
        numbers = selection.extremes(potential, frames, grades=bool(bounds["grade"]))
        for column, between in zip(numbers.T, bounds.values(), strict=True):
            if between is not None:
                places = places[(column[places] >= between[0]) & (column[places] <= between[1])]
        print(f"{len(places)} of {len(frames)} frames are within the bounds")
        if len(places) < arguments.n:
            k, name = next((k, name) for k, (name, between) in enumerate(bounds.items()) if between)
            low, high = np.nanmin(numbers[:, k]), np.nanmax(numbers[:, k])
            raise UserError(
                f"-n is {arguments.n}, but {len(places)} frames are within the bounds; widen them (--{name} of the "
                f"frames is {low:.3g} to {high:.3g}) or give a smaller -n"
            )
    features = selection.frame_features(potential, [frames[k] for k in places])
    known = selection.frame_features(potential, _frames(arguments.known)) if arguments.known else features[:0]
    choose = selection.by_determinant if arguments.by == "determinant" else selection.by_distance
    within, scores = choose(features, arguments.n, known)
    chosen = places[within]
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
