"""Drive atoms of a structure together with any ASE calculator, and judge what its energy does.

`scan_bonds(atoms, calculator)` returns a `ScanResult`; `write_report` writes it to a folder as CSV, JSON and figures.
`read_reference` reads the curves of a quantum-chemical method to compare with. Beyond the bonds, `run_suites(frames,
BulkCalculator(calculator), rng)` judges whole suites of approaches, and `write_suite_report` writes the results.
`make_suites`, `judge` and `relax` are its parts.
"""

from gmnn.scanning.evaluate import BulkCalculator
from gmnn.scanning.judge import Verdict, judge
from gmnn.scanning.paths import Approach
from gmnn.scanning.reference import read_reference
from gmnn.scanning.relaxation import Relaxation, overlapping_starts, relax
from gmnn.scanning.report import format_suites, summarise_suites, write_report, write_suite_report
from gmnn.scanning.scan import ScanResult, scan_bonds
from gmnn.scanning.suites import CURVE_SUITES, SUITES, Sizes, Suite, SuiteResult, make_suites, run_suites

__all__ = [
    "CURVE_SUITES", "SUITES", "Approach", "BulkCalculator", "Relaxation", "ScanResult", "Sizes", "Suite",
    "SuiteResult", "Verdict", "format_suites", "judge", "make_suites", "overlapping_starts", "read_reference", "relax",
    "run_suites", "scan_bonds", "summarise_suites", "write_report", "write_suite_report",
]  # fmt: skip
