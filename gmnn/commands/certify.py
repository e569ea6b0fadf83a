"""`gmnn certify MODEL`: proved bounds on how close two atoms can come with a trained potential."""

import argparse
import contextlib
import math
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gmnn.commands._frame import Command

if TYPE_CHECKING:
    from gmnn.certificate import Certificate

INTERVAL = 10.0  # s between two signs of life; a model of three elements takes about a minute
DESCRIPTION = """Compute certified radii (Å) for every pair of elements and print them as a table. The barrier radius
(T1) is a distance that no trajectory reaches whose energy is at most K above that of the structure. Below the monotone
radius (T2) the energy rises at every step of an approach. No stationary point has a pair within the stationary radius
(T3). A dash means that nothing is proved. Without --structure there is only T2. Forces of the network stand beside
the radii: `certified` is the bound of the proof, far above what occurs, `sampled` the largest that a search found.
docs/certificate.md has the theorems and their assumptions."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="folder of a trained model")
    parser.add_argument(
        "--structure", metavar="FILE",
        help="structure as FILE[@INDEX] in any format that ASE reads, INDEX from 0 (default 0), or `ethanol` for "
        "frame 0 of the packaged set; default: none",
    )  # fmt: skip
    parser.add_argument(
        "--energy", metavar="K", type=float,
        help="energy above that of the structure for T1, eV, 0 or more; default: 5",
    )  # fmt: skip
    parser.add_argument(
        "--rho", metavar="R", type=float,
        help="smallest distance of other atoms to the pair for T2, Å, from 0.01 to below r_max; default: 0.8 summed "
        "covalent radii of each pair",
    )  # fmt: skip
    parser.add_argument(
        "--n", metavar="N", type=int,
        help="largest number of other atoms within r_max of either atom for T2, 0 to 1000; default: that of the "
        "structure, or 8",
    )  # fmt: skip
    parser.add_argument(
        "--json",
        metavar="OUT",
        help="file for the numbers as JSON, new or of an earlier certificate; default: none",
    )


def run(arguments: argparse.Namespace) -> int:
    """Load the potential, certify it and report."""
    from gmnn import files
    from gmnn.certificate import certify
    from gmnn.commands._inputs import load_structure
    from gmnn.model import folder

    if arguments.json:
        files.require_sealed(Path(arguments.json))
    potential = folder.load(arguments.model)
    packaged = arguments.structure == "ethanol" and not Path("ethanol").exists()  # then frame 0 of the packaged set
    atoms = load_structure(None if packaged else arguments.structure)[0] if arguments.structure else None
    energy = {} if arguments.energy is None else {"energy": arguments.energy}
    with _signs_of_life():
        certificate = certify(potential, atoms, rho=arguments.rho, n=arguments.n, **energy)
    about = f" and {arguments.structure}, {certificate.energy:g} eV above it" if arguments.structure else ""
    print(f"{arguments.model}{about}\n{summary(certificate)}\n\n{certificate.table()}")
    if arguments.json:
        source = {"model": str(arguments.model), "structure": arguments.structure}
        content = {**source, **folder.provenance(), **certificate.to_dict()}
        files.write_json(Path(arguments.json), files.sealed(content))
        print(f"written to {arguments.json}")
    return 0


def summary(certificate: "Certificate") -> str:
    """Say in a sentence what the certificate is good for: the barrier, or else the larger of the other radii."""
    barrier = {pair: radius for pair, radius in certificate.barrier.items() if radius}
    if barrier:
        radii = ", ".join(f"{pair} {_down(radius):.3f}" for pair, radius in barrier.items())
        open_pairs = [pair for pair in certificate.barrier if pair not in barrier]
        rest = f"; nothing is proved for {', '.join(open_pairs)}" if open_pairs else ""
        return f"No trajectory within this energy brings two atoms closer than {radii} Å{rest}."
    others = [r for table in (certificate.monotone, certificate.stationary) for r in table.values() if r]
    if not others:
        return "Nothing is proved for this model; the reasons are below."
    return (
        f"No barrier is proved, only an approach that costs energy below {_down(max(others)):.3f} Å at most, which "
        "dynamics does not reach; with --structure FILE there is a barrier where the notes below allow one."
    )


def _down(radius: float) -> float:
    """Round down to the digits that are printed, so that the printed number is proved."""
    return math.floor(1e3 * radius) / 1e3


@contextlib.contextmanager
def _signs_of_life() -> Iterator[None]:
    """Print on stderr, while the work within lasts, how long it has lasted."""
    done = threading.Event()

    def tell() -> None:
        start = time.monotonic()
        while not done.wait(INTERVAL):
            print(f"certify: at work for {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


COMMAND = Command("certify", DESCRIPTION, add_arguments, run)
main, parser = COMMAND.main, COMMAND.parser
