"""Reference curves of single bonds, from a quantum-chemical method, to compare with those of a model."""

import io
import lzma
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gmnn.errors import UserError
from gmnn.scanning.metrics import hermite
from gmnn.scanning.paths import Approach, Array, atom_name

KEYS = ("bond", "i", "j", "grid", "distance", "dEdr", "r_eq", "reliable")
GRIDS = ("s0", "geometric", "minimum")
TOLERANCE = 1e-4  # Å, between positions of the reference and of the scanned structure


@dataclass(frozen=True)
class ReferenceCurve:
    """The curve of one bond, from the largest distance inwards; all arrays are [n].

    distances (Å), energies (eV, with the method's own zero), slopes dE/dr (eV/Å); reliable: False where the method is
    known to fail (close in); grids: the grid of each point; r_eq (Å): the outermost minimum; frames: the structures.
    """

    bond: str
    i: int
    j: int
    distances: Array
    energies: Array
    slopes: Array
    reliable: NDArray[np.bool_]
    grids: tuple[str, ...]
    r_eq: float
    frames: tuple[Atoms, ...]

    @property
    def rise(self) -> Array:
        """E − E(r_eq) in eV, [n]."""
        return self.energies - self.energy_eq

    @property
    def energy_eq(self) -> float:
        """E(r_eq) in eV: the point there if the file has one, else the cubic between its neighbours."""
        nearest = int(np.argmin(np.abs(self.distances - self.r_eq)))
        if abs(self.distances[nearest] - self.r_eq) < 1e-6:
            return float(self.energies[nearest])
        k = int(np.clip(np.searchsorted(-self.distances, -self.r_eq), 1, len(self.distances) - 1))
        points = np.stack([self.distances, self.energies, self.slopes], axis=1)
        return float(hermite(points[k - 1], points[k], self.r_eq)[0])

    def wall(self) -> tuple[Array, Array, Array]:
        """(r, E − E(r_eq), dE/dr) from r_eq inwards, before the first point that is not reliable."""
        inside = self.distances < self.r_eq - 1e-6
        first_bad = np.flatnonzero(inside & ~self.reliable)
        if len(first_bad):
            inside[first_bad[0] :] = False
        fields = (self.distances, self.rise, self.slopes)
        at_minimum = (self.r_eq, 0.0, 0.0)
        r, rise, slopes = (np.append(start, values[inside]) for start, values in zip(at_minimum, fields, strict=True))
        return r, rise, slopes


def read_reference(path: str | PathLike[str]) -> dict[str, ReferenceCurve]:
    """Read curves by label ("O6-H8") from an extended-xyz file (also .xz) with one frame per point.

    Each frame has an energy (eV) and in its info `bond`, `i`, `j` (atoms), `grid` ("s0", "geometric" or "minimum"),
    `distance` (Å), `dEdr` (eV/Å), `r_eq` (Å), `reliable`. Raises UserError for a missing file, key or unknown grid.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"The reference file was not found, got '{path}'; an extended-xyz file (.extxyz, .extxyz.xz) is needed; "
            "correct the path or pass 'none'."
        )
    try:
        frames = ase.io.read(io.StringIO(unpack(path)), index=":", format="extxyz")
    except Exception as error:  # readers of ASE raise anything
        raise UserError(
            f"The reference file could not be read, got '{path}' ({type(error).__name__}: {error}); extended xyz with "
            "one frame per point is allowed; write it with ase.io.write(..., format='extxyz')."
        ) from error
    by_bond: dict[str, list[Atoms]] = {}
    for index, frame in enumerate(frames):
        missing = [key for key in KEYS if key not in frame.info]
        if missing or frame.calc is None or "energy" not in frame.calc.results:
            raise UserError(
                f"Frame {index} of the reference '{path}' lacks {', '.join(missing) or 'its energy'}; each frame needs "
                f"an energy and the info keys {', '.join(KEYS)}; add them to the file."
            )
        if frame.info["grid"] not in GRIDS:
            raise UserError(
                f"Frame {index} of the reference '{path}' has the unknown grid '{frame.info['grid']}'; allowed are "
                f"{', '.join(GRIDS)}; correct the file."
            )
        by_bond.setdefault(str(frame.info["bond"]), []).append(frame)
    return {bond: _curve(bond, members) for bond, members in by_bond.items()}


def unpack(path: Path) -> str:
    """The text of a file, decompressed first if its name ends in .xz: ASE would seek in it, which takes 20 s."""
    content = path.read_bytes()
    return (lzma.decompress(content) if path.suffix == ".xz" else content).decode()


def _curve(bond: str, frames: list[Atoms]) -> ReferenceCurve:
    frames = sorted(frames, key=lambda frame: -float(frame.info["distance"]))
    distinct = [frames[0]]
    for frame in frames[1:]:  # the grids share end points
        if distinct[-1].info["distance"] - frame.info["distance"] > 1e-7:
            distinct.append(frame)

    def column(key: str, kind: Any = float) -> NDArray[Any]:
        return np.array([kind(frame.info[key]) for frame in distinct])

    energies = np.array([float(frame.calc.results["energy"]) for frame in distinct])
    first = distinct[0].info
    grids = tuple(str(frame.info["grid"]) for frame in distinct)
    return ReferenceCurve(
        bond, int(first["i"]), int(first["j"]), column("distance"), energies, column("dEdr"),
        column("reliable", _as_bool), grids, float(first["r_eq"]), tuple(distinct),
    )  # fmt: skip


def _as_bool(value: Any) -> bool:
    """Convert an info value to bool: extxyz gives T/F as bool; files from other programs have numbers and texts."""
    return value.strip().lower() in ("t", "true", "1") if isinstance(value, str) else bool(value)


def mismatch(curve: ReferenceCurve, path: Approach) -> str | None:
    """The reason why a curve is no reference for a path, in words; None if it is one.

    It is one if both have the same atoms in the same order and every frame equals the path at its distance within
    1e-4 Å: the atoms that stay and the line of those that move.
    """
    for frame, positions in zip(curve.frames, path.positions_at(curve.distances), strict=True):
        if not np.array_equal(frame.numbers, path.numbers):
            return f"the reference is of {frame.get_chemical_formula()} in another atom order or with other atoms"
        offsets = np.linalg.norm(frame.positions - positions, axis=1)
        worst = int(np.argmax(offsets))
        if offsets[worst] > TOLERANCE:
            name = atom_name(path.numbers, worst)
            return f"atom {name} of the reference lies {offsets[worst]:.2g} Å away (more than {TOLERANCE:g} Å)"
    return None
