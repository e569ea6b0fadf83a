"""`gmnn certify MODEL`: proved bounds on how close two atoms can come with a trained potential."""

import argparse
from pathlib import Path

from gmnn.commands._frame import Command

DESCRIPTION = """Compute certified radii (Å) for every pair of elements and print them as a table. The barrier radius
(T1) is a distance that no trajectory reaches whose energy is at most K above that of the structure. Below the monotone
radius (T2) the energy rises at every step of an approach. No stationary point has a pair within the stationary radius
(T3). A dash means that nothing is proved. Without --structure there is only T2. docs/certificate.md has the theorems
and their assumptions."""


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
    certificate = certify(potential, atoms, rho=arguments.rho, n=arguments.n, **energy)
    about = f" and {arguments.structure}, {certificate.energy:g} eV above it" if arguments.structure else ""
    print(f"{arguments.model}{about}\n{certificate.table()}")
    if arguments.json:
        source = {"model": str(arguments.model), "structure": arguments.structure}
        content = {**source, **folder.provenance(), **certificate.to_dict()}
        files.write_json(Path(arguments.json), files.sealed(content))
        print(f"written to {arguments.json}")
    return 0


COMMAND = Command("certify", DESCRIPTION, add_arguments, run)
main, parser = COMMAND.main, COMMAND.parser
