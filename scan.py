"""Drive every bond of a structure together with a model: does its energy rise all the way to contact?

    python scan.py MODEL                                   the folder of a trained model, on the packaged ethanol frame
    python scan.py MODEL --structure my.extxyz@3           on a structure of yours
    python scan.py --calculator ase.calculators.emt:EMT    any other ASE calculator
    python scan.py --calculator gfn2-xtb                   one of the presets, as --help lists them
    python scan.py --models models.yaml                    several, in one figure and one table
    python scan.py --compare scan_a scan_b                 finished scans side by side, from any environment
    python scan.py MODEL --suites all                      ten suites of other approaches, and relaxations
    python scan.py --help

Writes scan.csv, scan.json, scan.png and panels.png, and prints a verdict per bond.
Exit code: 0 every bond passes, 1 a bond fails, 2 misuse.
"""

import sys

from gmnn.commands.scan import main

if __name__ == "__main__":
    sys.exit(main())
