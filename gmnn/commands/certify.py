"""`gmnn certify MODEL`: what is proved about the close approach of two atoms with a trained potential."""

import argparse
from pathlib import Path

from gmnn.commands._frame import Command

DESCRIPTION = """Certified radii of every pair of elements: a barrier that no trajectory of a given structure crosses
(T1), a distance below which the energy rises at every step of an approach (T2) and one that no stationary point has
(T3). docs/certificate.md has the theorems. Without --structure there is only T2."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    parser.add_argument("model", metavar="MODEL", help="folder of a trained model")
    parser.add_argument("--structure", metavar="FILE", help="FILE[@INDEX], anything ASE reads, or `ethanol`")
    parser.add_argument("--energy", metavar="K", type=float, help="energy above the structure's, eV; default: 5")
    parser.add_argument("--rho", metavar="R", type=float, help="closest other contact, Å; default: 0.8 covalent sums")
    parser.add_argument("--n", metavar="N", type=int, help="most other atoms in range; default: the structure's, or 8")
    parser.add_argument("--json", metavar="OUT", help="write the numbers into OUT")


def run(arguments: argparse.Namespace) -> int:
    """Load, certify, report."""
    from gmnn import files
    from gmnn.certificate import certify
    from gmnn.commands._inputs import load_structure
    from gmnn.model import folder

    potential = folder.load(arguments.model)
    named = arguments.structure == "ethanol" and not Path("ethanol").exists()  # then frame 0 of the embedded set
    atoms = load_structure(None if named else arguments.structure)[0] if arguments.structure else None
    given = {} if arguments.energy is None else {"energy": arguments.energy}
    certificate = certify(potential, atoms, rho=arguments.rho, n=arguments.n, **given)
    about = f" and {arguments.structure}, {certificate.energy:g} eV above it" if arguments.structure else ""
    print(f"{arguments.model}{about}\n{certificate.table()}")
    if arguments.json:
        source = {"model": str(arguments.model), "structure": arguments.structure}
        files.write_json(Path(arguments.json), {**source, **folder.provenance(), **certificate.to_dict()})
        print(f"written to {arguments.json}")
    return 0


COMMAND = Command("certify", DESCRIPTION, add_arguments, run)
main, parser = COMMAND.main, COMMAND.parser
