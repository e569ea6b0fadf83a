"""Drive every bond of a structure together with any ASE calculator, and judge what its energy does.

`scan_bonds(atoms, calculator)` returns a `ScanResult`; `write_report` puts it into a folder as CSV, JSON and figures;
`read_reference` reads the curves of a quantum-chemical method to compare with.
"""

from gmnn.scanning.reference import read_reference
from gmnn.scanning.report import write_report
from gmnn.scanning.scan import ScanResult, scan_bonds

__all__ = ["ScanResult", "read_reference", "scan_bonds", "write_report"]
