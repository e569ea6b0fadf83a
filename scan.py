"""Drive every bond of a structure together with a model and check that its energy rises all the way to contact.

    python scan.py MODEL                                   scan a model folder on a frame it was trained on
    python scan.py MODEL --structure my.extxyz@3           scan a structure of yours
    python scan.py --calculator ase.calculators.emt:EMT    scan with any other ASE calculator
    python scan.py --calculator gfn2-xtb                   scan with one of the presets that --help lists
    python scan.py --models models.yaml                    scan with several, in one figure and one table
    python scan.py --compare scan_a scan_b                 compare finished scans from any environments
    python scan.py MODEL --suites all                      judge ten suites of other approaches, and relaxations
    python scan.py --help

It writes scan.csv, scan.json, scan.png and panels.png, and prints a verdict per bond.
Exit code: 0 if every bond passes, 1 if a bond fails, 2 for misuse or a model that could not be made.
"""

import sys

from gmnn.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "scan")
    sys.exit(main())
