"""The certificate of the shipped model, and a search for environments that break it.

    python benchmarks/adversary.py [--environments 1000000] [--model examples/ethanol]

Below each certified monotone radius: random environments of three atoms of any trained elements, with contacts of at
least 0.8 covalent sums, and environments of the seven other atoms of ethanol, pushed up the gradient of dE/dr. Above
it, where nothing is proved: gradient ascent alone, to see where monotony really ends. Results in
benchmarks/results/adversary.json.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from ase import Atoms  # noqa: E402

from benchmarks import pages, stored  # noqa: E402
from gmnn import load  # noqa: E402
from gmnn.certificate import certify, search  # noqa: E402
from gmnn.certificate.certificate import CONTACT  # noqa: E402
from gmnn.data.embedded import ethanol  # noqa: E402
from gmnn.elements import pair_name  # noqa: E402
from gmnn.model import short_range  # noqa: E402

BEYOND = ((0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5))  # Å
SAMPLED_OTHERS = 3
ASCENTS, STEPS, BATCH = 256, 20, 256


def main() -> None:
    """Certify, search, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=int, default=1_000_000, help="random environments over all pairs")
    parser.add_argument("--model", default=str(ROOT / "examples" / "ethanol"))
    arguments = parser.parse_args()
    potential, atoms = load(arguments.model), ethanol()[0]
    certificate = certify(potential, Atoms(atoms.numbers, atoms.positions), samples=128)
    rho = CONTACT * short_range.covalent_sums(potential.reference.elements)
    elements = potential.reference.elements
    pairs = [(z, y) for k, z in enumerate(elements) for y in elements[k:]]
    proved = [pair for pair in pairs if certificate.monotone[pair_name(*pair)] is not None]
    rows = {}
    for k, pair in enumerate(pairs):
        name = pair_name(*pair)
        others = list(atoms.numbers)
        for z in pair:
            if z in others:
                others.remove(z)
        crowd = np.array(others[:7])
        row = {
            "barrier": certificate.barrier[name], "monotone": certificate.monotone[name],
            "certified": certificate.network[name], "sampled": certificate.sampled[name],
            "environments": 0, "violations": 0, "seconds": 0.0, "beyond": [],
        }  # fmt: skip
        runs = []
        if pair in proved:
            r_c = certificate.monotone[name]
            wanted = -(-arguments.environments // len(proved))
            runs = [
                search(potential, pair, (0.2 * r_c, r_c), rho, SAMPLED_OTHERS, wanted, 0, BATCH, k),
                search(potential, pair, (0.2 * r_c, r_c), rho, 7, ASCENTS, STEPS, BATCH, k, crowd),
            ]
        for run in runs:
            row["environments"] += run.environments
            row["violations"] += run.violations
            row["seconds"] += run.seconds
            row["sampled"] = max(row["sampled"] or 0.0, run.network)
        for low, high in BEYOND:
            run = search(potential, pair, (low, high), rho, 7, ASCENTS, STEPS, BATCH, k, crowd)
            row["beyond"].append(
                {"r": [low, high], "environments": run.environments, "violations": run.violations,
                 "highest_eV_per_A": run.highest, "network_eV_per_A": run.network}
            )  # fmt: skip
        rows[name] = row
        print(name, row, flush=True)
    stored.keep("adversary", {"pairs": rows, "certificate": certificate.to_dict()}, "float64")
    pages.write("docs/how_much_data.md")


if __name__ == "__main__":
    main()
