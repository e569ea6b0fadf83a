"""`gmnn distort CONFIG`: training frames that reach beyond the data, with labels corrected by a cheap method."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gmnn.commands._frame import Command

if TYPE_CHECKING:
    from ase import Atoms

    from gmnn.config.reading import Config

DESCRIPTION = """Make N distorted frames from the training frames of CONFIG. All atoms are displaced, with standard
deviations of up to 0.12 Å, and some are pulled from their nearest neighbour by up to 1 Å. The label of a distorted
frame is that of its original plus the difference that a cheap calculator finds between the two. Added to a training as
data.extra with a small weight, the frames keep bonds from breaking where the data end (docs/dataset.md)."""
MOST = 1_000_000  # frames
TRIES = 20  # attempts for every frame that is asked for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("config", metavar="CONFIG", help="YAML file of the training that is to use the frames")
    parser.add_argument(
        "overrides", nargs="*", metavar="key.path=value",
        help="values that replace those of CONFIG, for example data.train=my.xyz",
    )  # fmt: skip
    parser.add_argument(
        "--calculator", required=True, metavar="NAME",
        help="cheap method: gfn2-xtb, another preset of gmnn scan, or MODULE:CALLABLE of an ASE calculator; required",
    )  # fmt: skip
    parser.add_argument(
        "--kwargs", metavar="JSON", help="keyword arguments of the calculator as a JSON object; default: none"
    )
    parser.add_argument(
        "-n", type=int, default=240, metavar="N", help="number of frames to make, 1 or more; default: 240"
    )
    parser.add_argument(
        "--out", metavar="FILE", default="distorted.extxyz", help="new file for the frames; default: distorted.extxyz"
    )


def run(arguments: argparse.Namespace) -> int:
    """Read frames, distort and label them, and write them."""
    import numpy as np

    from gmnn.config.reading import read_config
    from gmnn.data import distortion
    from gmnn.errors import UserError
    from gmnn.files import require_new, write_whole

    out = Path(arguments.out)
    require_new(out)
    if not 1 <= arguments.n <= MOST:
        raise UserError(f"-n is {arguments.n}, but must be in 1 ... {MOST}")
    config = read_config(arguments.config, arguments.overrides)
    done, tried = _distorted(config, arguments)
    for atoms in done:  # labels also under the names that the configuration gives
        if config.data.energy_key not in (None, "energy"):
            atoms.info[config.data.energy_key] = atoms.get_potential_energy()
        if config.data.forces_key not in (None, "forces"):
            atoms.arrays[config.data.forces_key] = atoms.get_forces()
    write_whole(out, done)
    rise = np.array([atoms.info[distortion.RISE] for atoms in done])
    print(f"{arguments.n} of {tried} distorted frames written to {out}; {np.median(rise):.2f} eV above the frames they "
          f"were made from in the median, {rise.max():.2f} at most")  # fmt: skip
    weight = f"'data.config_type_weights={{{distortion.KIND}: {distortion.WEIGHT}}}'"
    print(f"train on them with data.extra={out} {weight} train.learning_rate={distortion.RATE}")
    return 0


def _distorted(config: "Config", arguments: argparse.Namespace) -> "tuple[list[Atoms], int]":
    """Make the number of frames that is asked for; return them and the number of attempts."""
    import numpy as np
    from tqdm import tqdm

    from gmnn.commands._calculators import load_calculator
    from gmnn.config.data import UnitsConfig
    from gmnn.data import distortion, split
    from gmnn.errors import UserError, reason
    from gmnn.scanning.evaluate import EndedByCalculator, kept_running

    if config.data.units != UnitsConfig():
        raise UserError("data.units is not eV and Å, in which distorted frames are written; convert the frames first")
    data = split(config).train
    complete = np.flatnonzero(data.present[:, :2].all(axis=1))
    if not len(complete):
        raise UserError(f"no training frame of {data.name} has both an energy and forces; both are needed")
    calculator, name = load_calculator(arguments.calculator, arguments.kwargs)
    rng, tried = np.random.default_rng(config.seed), 0
    done: list[Atoms] = []
    with tqdm(total=arguments.n, desc=name, disable=None) as bar:
        while len(done) < arguments.n:
            if tried >= TRIES * arguments.n:
                raise UserError(
                    f"only {len(done)} of {tried} distorted frames are of use: {name} fails at most of them, or they "
                    f"lie too high; is {name} made for these elements?"
                )
            try:
                chosen = rng.choice(complete, arguments.n - len(done))
                with kept_running():
                    for atoms in distortion.labelled(data, chosen, calculator, rng):
                        tried += 1
                        done += [] if atoms is None else [atoms]
                        bar.update(atoms is not None)
            except EndedByCalculator:
                raise
            except Exception as error:  # any failure at an undistorted frame
                raise UserError(f"{name} fails at a frame of {data.name}: {reason(error, 200)}") from None
    return done, tried


COMMAND = Command("distort", DESCRIPTION, add_arguments, run)
main, parser = COMMAND.main, COMMAND.parser
