"""True approach curves of ethanol: every bond of frame 0 driven to 0.1 Å with all-electron MP2.

    pip install pyscf ase
    python make_curves.py run     FOLDER [part n_parts]            # about 7 s per point on one core, 450 points
    python make_curves.py back    FOLDER [part n_parts]            # looks for lower SCF solutions from the inside
    python make_curves.py check   FOLDER                           # forces against differences and against PySCF's own
    python make_curves.py collect FOLDER ethanol_curves.extxyz.xz

The basis is def2-SVP *uncontracted*: a contracted core cannot follow two nuclei into one another. Three grids per bond:
``s0`` (the 20 distances of the scan protocol: X-H linear from 2d to 0.1 Å with the heavy atom at rest, heavy-heavy
linear from d to 0.1 Å about the fixed midpoint, d the bond length in the frame), ``minimum`` (the search for the
outermost minimum r_eq, a root of dE/dr) and ``geometric`` (32 distances in geometric progression from 1.1 r_eq to
0.1 Å). All other atoms stay. ``run`` appends one line per point and skips what is there, so it can be stopped and
started again; several parts share the bonds (set OMP_NUM_THREADS=1: two parts of one thread beat one of two).

Each point starts the SCF twice, from PySCF's default guess and from the orbitals of the next point outwards; the lower
solution is kept and handed on. The singlet and triplet orbital Hessians (real orbitals) are diagonalised whole: a
negative singlet eigenvalue is followed downhill, a negative triplet one (RHF to UHF) marks the point as not single
reference. ``back`` then continues the innermost solution of each grid outwards and computes a point again from any
solution that lies lower; the lowest is kept. ``mp2_gradients.py`` has the forces.
"""

import hashlib
import json
import lzma
import sys
from importlib.resources import files
from io import StringIO
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read
from ase.neighborlist import neighbor_list

BOND_CUTOFF = 1.6  # Å, of the neighbour list that says which pairs of frame 0 are bonds
SHORTEST = 0.1  # Å
N_S0, N_GEOMETRIC = 20, 32
SAME_SOLUTION = 1e-3  # eV, between two SCF solutions
LARGEST_OCCUPATION = 0.10  # electrons in a virtual natural orbital of MP2; more is not single reference
ROOT_TOLERANCE = 1e-5  # Å, of r_eq


def first_frame() -> Atoms:
    packed = (files("gmnn") / "data" / "files" / "ethanol.extxyz.xz").read_bytes()
    return read(StringIO(lzma.decompress(packed).decode()), 0, format="extxyz")


def bonds_of(atoms: Atoms) -> list[tuple[int, int]]:
    return sorted({(int(i), int(j)) for i, j in zip(*neighbor_list("ij", atoms, BOND_CUTOFF), strict=True) if i < j})


def label(atoms: Atoms, i: int, j: int) -> str:
    return f"{atoms.symbols[i]}{i}-{atoms.symbols[j]}{j}"


def weights(atoms: Atoms, i: int, j: int) -> tuple[float, float]:
    """The shares of atoms i and j in a change of their distance: 1 for the H of X-H, a half each otherwise."""
    light = [atoms.symbols[k] == "H" for k in (i, j)]
    return (0.5, 0.5) if light[0] == light[1] else (float(light[0]), float(light[1]))


def place(atoms: Atoms, i: int, j: int, distance: float) -> Atoms:
    """The frame with the pair i, j at ``distance`` [Å] along its own direction, all other atoms unmoved."""
    vector = atoms.positions[j] - atoms.positions[i]
    length = np.linalg.norm(vector)
    change = (distance - length) / length * vector
    share_i, share_j = weights(atoms, i, j)
    moved = Atoms(atoms.get_chemical_symbols(), atoms.positions)
    moved.positions[i] -= share_i * change
    moved.positions[j] += share_j * change
    return moved


def slope(atoms: Atoms, i: int, j: int, forces: np.ndarray) -> float:
    """dE/dr [eV/Å] along the path of ``place``."""
    vector = atoms.positions[j] - atoms.positions[i]
    share_i, share_j = weights(atoms, i, j)
    return float((share_i * forces[i] - share_j * forces[j]) @ vector / np.linalg.norm(vector))


class Bond:
    """One bond's points in ``FOLDER/<bond>.jsonl`` and the orbitals of the last point of each grid beside it."""

    def __init__(self, folder: Path, atoms: Atoms, i: int, j: int):
        self.atoms, self.i, self.j = atoms, i, j
        self.name = label(atoms, i, j)
        self.folder = folder
        self.path = folder / f"{self.name}.jsonl"
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        self.points: dict[tuple[str, float], dict] = {}
        for record in map(json.loads, lines):
            self.remember(record)

    def remember(self, record: dict) -> None:
        """Of several solutions at one point the lowest stays, a converged one before its unconverged twin."""
        key = record["grid"], round(record["distance"], 9)
        known = self.points.setdefault(key, record)
        gain = known["scf_energy"] - record["scf_energy"]
        if gain > SAME_SOLUTION or (abs(gain) <= SAME_SOLUTION and not known["converged"]):
            self.points[key] = record

    def point(self, grid: str, distance: float) -> dict:
        """The record of one point, computed unless it is in the file; the last orbitals of ``grid`` are a start."""
        key = grid, round(distance, 9)
        if key in self.points:
            return self.points[key]
        orbitals = self.folder / f"{self.name}-{grid}.npy"
        if grid != "s0" and not orbitals.exists():  # the first point continues the nearest s0 orbitals held, if any
            orbitals = orbitals.with_name(f"{self.name}-frame.npy")
        kept = self.compute(grid, distance, np.load(orbitals) if orbitals.exists() else None)
        np.save(self.folder / f"{self.name}-{grid}.npy", kept)
        if grid == "s0" and not (self.folder / f"{self.name}-frame.npy").exists() and self.points[key]["triplet"] > 0:
            np.save(self.folder / f"{self.name}-frame.npy", kept)
        return self.points[key]

    def compute(self, grid: str, distance: float, orbitals: np.ndarray | None) -> np.ndarray:
        """Solve one point, append it to the file, give its occupied orbitals."""
        from mp2_gradients import solve

        result, kept = solve(place(self.atoms, self.i, self.j, distance), orbitals)
        record = {
            "grid": grid,
            "distance": float(distance),
            "dEdr": slope(self.atoms, self.i, self.j, np.array(result["forces"])),
            **result,
        }
        self.remember(record)
        with self.path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(record) + "\n")
        print(
            f"{self.name} {grid:9s} {distance:.6f}  {record['energy']:.8f} eV  {record['dEdr']:.6f} eV/Å  starts "
            f"{record['starts_differ_eV']:.1e}  singlet {record['singlet']:.4f} triplet {record['triplet']:.4f}  "
            f"occupation {record['occupation']:.4f}  {record['seconds']:.1f} s",
            flush=True,
        )
        return kept

    def back(self) -> None:
        """Continue the innermost solution of each grid outwards; redo points that end lower or had not converged."""
        from mp2_gradients import scf_only

        for grid in ("geometric", "s0"):
            known = sorted((p for p in self.points.values() if p["grid"] == grid), key=lambda p: p["distance"])
            orbitals = np.load(self.folder / f"{self.name}-{grid}.npy")
            for record in known[1:]:
                energy, orbitals = scf_only(place(self.atoms, self.i, self.j, record["distance"]), orbitals)
                gain = record["scf_energy"] - energy
                if gain > SAME_SOLUTION or (abs(gain) <= SAME_SOLUTION and not record["converged"]):
                    self.compute(grid, record["distance"], orbitals)
                elif gain < -SAME_SOLUTION:  # only higher from here on
                    break
        (self.folder / f"{self.name}.back").touch()

    def s0(self) -> np.ndarray:
        length = self.atoms.get_distance(self.i, self.j)
        outermost = length if weights(self.atoms, self.i, self.j) == (0.5, 0.5) else 2 * length
        return np.linspace(outermost, SHORTEST, N_S0)

    def minimum(self) -> float:
        """r_eq [Å]: the outermost single-reference root of dE/dr with the energy rising outwards, by secants."""
        outer = inner = None
        for distance in self.s0():
            here = self.point("s0", distance)
            if outer and outer["dEdr"] > 0 > here["dEdr"] and single_reference(here) and single_reference(outer):
                inner = here
                break
            outer = here
        if inner is None:  # the frame's bond is shorter than r_eq: walk outwards
            inner = outer = self.point("s0", self.s0()[0])
            while outer["dEdr"] < 0:
                inner, outer = outer, self.point("minimum", outer["distance"] + 0.06)
        a, b = (inner, outer) if abs(inner["dEdr"]) > abs(outer["dEdr"]) else (outer, inner)
        low, high = inner["distance"], outer["distance"]
        while True:
            curvature = (b["dEdr"] - a["dEdr"]) / (b["distance"] - a["distance"])
            step = -b["dEdr"] / curvature
            if abs(step) < ROOT_TOLERANCE:
                return b["distance"]
            a, b = b, self.point("minimum", float(np.clip(b["distance"] + step, low, high)))

    def run(self) -> None:
        for distance in self.s0():
            self.point("s0", distance)
        for distance in np.geomspace(1.1 * self.minimum(), SHORTEST, N_GEOMETRIC):
            self.point("geometric", distance)


def single_reference(point: dict) -> bool:
    """False where RHF is unstable towards UHF or MP2 fills a virtual natural orbital with more than 0.1 electrons."""
    return point["triplet"] > 0 and point["occupation"] < LARGEST_OCCUPATION


def run(folder: Path, part: int = 0, n_parts: int = 1, back: bool = False) -> None:
    folder.mkdir(exist_ok=True)
    atoms = first_frame()
    for i, j in bonds_of(atoms)[part::n_parts]:
        bond = Bond(folder, atoms, i, j)
        bond.back() if back else bond.run()


def check(folder: Path) -> None:
    """Forces at 0.1, 0.3 and 1.0 Å against fourth-order differences of the energy and PySCF's own MP2 gradient."""
    from mp2_gradients import energy_only, pyscf_forces, solve

    atoms = first_frame()
    for i, j in ((0, 2), (0, 1)):
        for distance in (0.1, 0.3, 1.0):
            here = place(atoms, i, j, distance)
            result, kept = solve(here, None)
            step = 2e-3 * distance
            energies = [energy_only(place(atoms, i, j, distance + k * step), kept) for k in (-2, -1, 1, 2)]
            numerical = float(np.dot([1, -8, 8, -1], energies)) / (12 * step)
            forces = np.array(result["forces"])
            along = slope(here, i, j, forces)
            own = np.abs(pyscf_forces(here, kept) - forces).max()
            print(
                f"{label(atoms, i, j)} {distance:.1f} Å: dE/dr {along:.7f} numerical {numerical:.7f} eV/Å, "
                f"largest difference to PySCF's forces {own:.1e}, net force {np.abs(forces.sum(0)).max():.1e} eV/Å, "
                f"overlap condition {result['condition']:.1e}",
                flush=True,
            )


def collect(folder: Path, target: Path) -> None:
    """Write all points as extended XYZ, bond by bond, outermost first within a grid; print the checksums."""
    atoms = first_frame()
    lines = []
    for i, j in bonds_of(atoms):
        bond = Bond(folder, atoms, i, j)
        r_eq = bond.minimum()
        for grid in ("s0", "minimum", "geometric"):
            for point in sorted((p for p in bond.points.values() if p["grid"] == grid), key=lambda p: -p["distance"]):
                single = single_reference(point)
                info = {
                    "bond": bond.name,
                    "i": i,
                    "j": j,
                    "grid": grid,
                    "distance": point["distance"],
                    "dEdr": round(point["dEdr"], 8),
                    "r_eq": r_eq,
                    "reliable": point["converged"] and single,
                    "single_reference": single,
                    "starts_differ_eV": round(point["starts_differ_eV"], 9),
                    "energy": round(point["energy"], 9),
                }
                frame = place(atoms, i, j, point["distance"])
                lines += extended_xyz(frame.get_chemical_symbols(), frame.positions, np.array(point["forces"]), info)
    content = ("\n".join(lines) + "\n").encode()
    packed = lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
    target.write_bytes(packed)
    for name, data in ((target.name, packed), (target.stem, content)):
        print(f"{hashlib.sha256(data).hexdigest()}  {len(data)} bytes  {name}")


def extended_xyz(symbols: list[str], positions: np.ndarray, forces: np.ndarray, info: dict) -> list[str]:
    """The lines of one frame with 12 decimals of the positions (ASE's own writer keeps 8) and 8 of the forces."""
    items = " ".join(f"{key}={'FT'[value] if isinstance(value, bool) else value}" for key, value in info.items())
    header = f'Properties=species:S:1:pos:R:3:forces:R:3 {items} pbc="F F F"'
    rows = [
        f"{symbol:2s}" + "".join(f"{x:17.12f}" for x in position) + "".join(f"{x:16.8f}" for x in force)
        for symbol, position, force in zip(symbols, positions, forces, strict=True)
    ]
    return [str(len(symbols)), header, *rows]


if __name__ == "__main__":
    command, *rest = sys.argv[1:] or ["help"]
    if command in ("run", "back"):
        run(Path(rest[0]), *(int(x) for x in rest[1:3] or (0, 1)), back=command == "back")
    elif command == "check":
        check(Path(rest[0]))
    elif command == "collect":
        collect(Path(rest[0]), Path(rest[1]))
    else:
        print(__doc__)
        sys.exit(command not in ("help", "-h", "--help"))
