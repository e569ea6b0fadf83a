"""Runs jobs of LAMMPS commands in one process, or in each of several MPI ranks: lammps_driver.py JOBS.json OUT.json

A job is a list of lines and goes on after errors; warnings are those of its log.
`collect` is no command of LAMMPS: there all is written down.
"""

import json
import sys
from pathlib import Path
from typing import Any

from lammps import lammps
from mpi4py import MPI

LOG = "log.lammps"


def collected(lmp: Any) -> dict[str, Any]:
    """Energies, forces, positions, types, pressures of the virial and of its shares, by atom in order of the ids."""
    found: dict[str, Any] = {"energy": lmp.get_thermo("pe"), "total": lmp.get_thermo("etotal")}
    for name, width in (("f", 3), ("x", 3), ("c_e", 1), ("c_s", 6), ("f_g", 1)):
        kind = {"c_": "compute", "f_": "fix"}.get(name[:2])
        if kind is None or lmp.has_id(kind, name[2:]):
            ask = lmp.gather_atoms if kind is None else lmp.gather
            found[name] = list(ask(name, 1, width))
    found["type"] = list(lmp.gather_atoms("type", 0, 1))
    found["pressure"] = [lmp.get_thermo(name) for name in ("pxx", "pyy", "pzz", "pxy", "pxz", "pyz")]
    return found


def main(jobs: str, out: str) -> None:
    """Run them all; rank 0 writes."""
    results = []
    for job in json.loads(Path(jobs).read_text(encoding="utf-8")):
        lmp = lammps(comm=MPI.COMM_WORLD, cmdargs=["-screen", "none", "-log", LOG, "-nocite"])
        steps, errors = [], []
        for line in job:
            try:
                if line == "collect":
                    steps.append(collected(lmp))
                else:
                    lmp.command(line)
            except Exception as error:
                errors.append(str(error))
        lmp.close()
        said = Path(LOG).read_text(encoding="utf-8").splitlines() if MPI.COMM_WORLD.rank == 0 else []
        warnings = [line for line in said if line.startswith("WARNING")]
        results.append({"steps": steps, "errors": errors, "warnings": warnings})
    if MPI.COMM_WORLD.rank == 0:
        Path(out).write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
