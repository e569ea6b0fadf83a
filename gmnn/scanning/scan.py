"""The scan: S0 for the plot, and a dense strict scan that a potential passes only if its energy rises all the way in.

Where the strict scan starts: r_start = r_eq − 0.05 Å. r_eq is never the model's own minimum. It is the outermost
minimum of the bond's reference curve at this geometry (`r_eq_source` "reference"). Without one it is the sum of the
covalent radii (Cordero et al., Dalton Trans. 2832 (2008), in ase.data), or the structure's own bond length where that
is shorter, at least 0.75 sums ("covalent radii", "bond length of the structure"): a stretched frame cannot move the
start outwards, and double and triple bonds (0.77 to 0.9 sums) do not start outside their well. The margin of 0.05 Å
covers the rest.

What it can see: features whose flanks reach a node, the nodes being 6 to 9 mÅ apart near the bond and 1.5 mÅ at 0.1 Å.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.data import covalent_radii

from gmnn.errors import UserError
from gmnn.scanning import metrics
from gmnn.scanning.evaluate import Samples, evaluate
from gmnn.scanning.paths import (
    BOND_CUTOFF,
    N_FRAMES,
    N_NODES,
    R_MIN,
    BondPath,
    bond_path,
    dense_nodes,
    find_bonds,
    s0_distances,
)
from gmnn.scanning.reference import ReferenceCurve, mismatch
from gmnn.scanning.refine import Rounding, estimate_rounding, inserted_points

MARGIN = 0.05  # Å, r_eq − r_start
SHORTEST_BOND = 0.75  # of the covalent sum
CORE_RADII = np.array([0.1, 0.05, 0.02])  # Å, where the divergence is compared with ZBL
SINGLE_PRECISION = 1e-10  # relative scatter of E above which it was not computed in float64 throughout
N_STENCILS, STENCIL_STEP = 12, 1e-4  # places on a curve where forces meet differences; step, of r


@dataclass(frozen=True)
class CurveResult:
    """One bond: s0 [n_frames] and strict (r_start inwards, refined) samples, the verdict and the numbers behind it.

    reason: one line, "" for a pass. metrics: plain numbers as in the JSON report. n_nodes of the strict points were set
    in advance, the others inserted where the curve called for them. energy_eq: the model's E(r_eq) in eV.
    """

    path: BondPath
    r_eq: float
    r_eq_source: str
    r_start: float
    energy_eq: float
    s0: Samples
    strict: Samples
    passed: bool
    reason: str
    metrics: dict[str, Any]
    reference: ReferenceCurve | None
    reference_note: str


@dataclass(frozen=True)
class ScanResult:
    """All curves of one structure and one calculator, and the protocol that made them."""

    atoms: Atoms
    curves: tuple[CurveResult, ...]
    protocol: dict[str, Any]

    @property
    def n_passed(self) -> int:
        """How many curves pass."""
        return sum(curve.passed for curve in self.curves)

    @property
    def passed(self) -> bool:
        """True if every curve passes."""
        return self.n_passed == len(self.curves)


def scan_bonds(
    atoms: Atoms,
    calculator: BaseCalculator,
    reference: Mapping[str, ReferenceCurve] | None = None,
    *,
    bonds: Sequence[tuple[int, int]] | None = None,
    n_frames: int = N_FRAMES,
    r_min: float = R_MIN,
    progress: Callable[[int, int, str], None] | None = None,
) -> ScanResult:
    """Scan every bond of the structure (or the pairs `bonds`, for a topology fixed elsewhere) with an ASE calculator.

    A calculator with `batch_eval(list[Atoms]) -> list[Atoms]` gets whole curves at once. reference: curves by label, as
    from `read_reference`; those that do not belong to this geometry are not used, and the result says why.
    progress(done, total, label) is called before each bond and at the end.
    Raises UserError for a structure without a bond, numbers out of range, a calculator that fails on `atoms` itself.
    """
    if n_frames < 2 or not 0.0 < r_min < SHORTEST_BOND * 2 * covalent_radii[1] - MARGIN:
        raise UserError(
            f"The scan has no points to judge, got {n_frames} frames per bond down to {r_min} Å; at least 2 frames and "
            "an end between 0 and 0.4 Å are allowed; the defaults are 20 and 0.1."
        )
    pairs = find_bonds(atoms) if bonds is None else list(bonds)
    if not pairs:
        raise UserError(
            f"There is no bond to scan, got {atoms.get_chemical_formula() or 'an empty structure'} "
            f"(number of atoms: {len(atoms)}); a pair of atoms within {BOND_CUTOFF} Å is needed; choose another "
            "structure."
        )
    paths = [bond_path(atoms, i, j) for i, j in pairs]
    _check_structure(atoms, calculator)
    curves = []
    for index, path in enumerate(paths):
        if progress is not None:
            progress(index, len(paths), path.label)
        curves.append(_scan_bond(path, calculator, reference or {}, n_frames, r_min))
    if progress is not None:
        progress(len(paths), len(paths), "")
    protocol = {
        "bond_cutoff": BOND_CUTOFF, "n_frames": n_frames, "r_min": r_min, "margin": MARGIN, "n_nodes": N_NODES,
        "pass": "dE/dr < 0 and E rises inwards at every node from r_start to r_min, refined where dE/dr changes sign "
        "or the nodes disagree with the cubic through their neighbours",
        "minima": f"prominence above {metrics.PROMINENCE} eV", "units": "eV, Å",
    }  # fmt: skip
    return ScanResult(atoms, tuple(curves), protocol)


def _check_structure(atoms: Atoms, calculator: BaseCalculator) -> None:
    frame = atoms.copy()
    frame.calc = calculator
    batch_eval = getattr(calculator, "batch_eval", None)
    try:
        if batch_eval is not None:  # the way that the scan takes: one compilation less
            frame = batch_eval([frame])[0]
        frame.get_potential_energy()
        frame.get_forces()
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"The calculator cannot evaluate the structure itself, got {type(error).__name__}: {error}; a calculator "
            f"with energy and forces for {', '.join(sorted(set(atoms.symbols)))} is needed; choose another one."
        ) from error


def equilibrium_distance(path: BondPath, curve: ReferenceCurve | None) -> tuple[float, str]:
    """r_eq (Å) of a bond and the rule that gave it, as stated at the top of this file."""
    if curve is not None:
        return curve.r_eq, "reference"
    covalent = float(covalent_radii[path.atoms.numbers[[path.i, path.j]]].sum())
    if path.distance >= covalent:
        return covalent, "covalent radii"
    return max(path.distance, SHORTEST_BOND * covalent), "bond length of the structure"


def _scan_bond(
    path: BondPath, calculator: BaseCalculator, reference: Mapping[str, ReferenceCurve], n_frames: int, r_min: float
) -> CurveResult:
    curve, note = reference.get(path.label), ""
    if curve is None:
        note = "no reference curve for this bond" if reference else "no reference given"
    elif (note := mismatch(curve, path) or "") != "":
        curve = None
    r_eq, source = equilibrium_distance(path, curve)
    r_start = r_eq - MARGIN

    places = np.geomspace(r_start, r_min, N_STENCILS)
    step = STENCIL_STEP * places
    stencils = places[:, None] + step[:, None] * np.arange(-2, 3)
    nodes = dense_nodes(r_start, r_min)
    blocks = [s0_distances(path, n_frames, r_min), np.array([r_eq]), nodes, CORE_RADII, stencils.ravel()]
    everything = evaluate(path, np.concatenate(blocks), calculator)  # one batch
    ends = np.cumsum([0] + [len(block) for block in blocks])
    s0, at_eq, base, core, probes = (everything.select(slice(a, b)) for a, b in pairwise(ends))

    probe_energies, probe_slopes = probes.energies.reshape(N_STENCILS, 5), probes.slopes.reshape(N_STENCILS, 5)
    energy_eq = float(at_eq.energies[0])
    rounding = estimate_rounding(places, probe_energies)
    strict = base.merge(inserted_points(path, calculator, base, rounding))
    r_fail, reason = _verdict(s0, at_eq, base, strict, rounding)
    numbers = _numbers(path, energy_eq, r_eq, s0, base, strict, core, r_fail)
    smooth = metrics.force_error(probe_energies, probe_slopes[:, 2], step, rounding.of(places))
    work = metrics.work_error(base.distances, base.energies, base.slopes, rounding.of(base.distances))
    scale = np.maximum(np.abs(np.nan_to_num(probe_energies[:, 2])), np.nanmax([abs(energy_eq), 1.0]))
    single = np.median(metrics.scatter(probe_energies) / scale) > SINGLE_PRECISION
    numbers["smoothness"] = {
        "force_error": smooth["max"], "force_error_rounding": smooth["rounding"], "work_error": work["max"],
        "work_error_r": work["r"], "energy_rounding": float(rounding.of(r_start)),
        "precision": "single" if single else "double",
        "curvature_jump": metrics.curvature_jump(base.distances, base.slopes),
        "forces_match_energy": bool(smooth["excess"] == 0.0 and work["excess"] == 0.0),
    }  # fmt: skip
    numbers["wall_error"] = _wall_errors(curve, strict, at_eq) if curve is not None else None
    passed = reason == ""
    return CurveResult(path, r_eq, source, r_start, energy_eq, s0, strict, passed, reason, numbers, curve, note)


def _verdict(
    s0: Samples, at_eq: Samples, base: Samples, strict: Samples, rounding: Rounding
) -> tuple[float | None, str]:
    """(r_fail, reason): where E stops rising on the way in, and the failure in words; (None, "") for a pass."""
    for samples in (strict, at_eq, s0):
        bad = np.flatnonzero(~samples.finite)
        if len(bad):
            k = int(bad[0])
            what = samples.messages[k] or "energy or force not finite"
            return float(samples.distances[k]), f"{what} at {samples.distances[k]:.3f} Å"
    nodes = np.isin(strict.distances, base.distances)
    stalls = np.zeros(len(nodes), bool)
    stalls[np.flatnonzero(nodes)[:-1]] = np.diff(base.energies) <= 0
    stalls[:-1] |= np.diff(strict.energies) < -rounding.of(strict.distances[1:])
    stalls |= strict.slopes >= 0
    if not stalls.any():
        return None, ""
    k = int(np.argmax(stalls))
    top = int(np.argmax(strict.energies[: k + 1]))
    r_fail = float(strict.distances[top])
    depth = metrics.drops(strict.energies)
    worst, ceiling = int(np.argmax(depth)), float(strict.energies[top] - at_eq.energies[0])
    if depth[worst] == 0.0:
        return r_fail, f"the force at {r_fail:.3f} Å pulls inwards although the energy rises"
    return r_fail, (
        f"stops rising at {r_fail:.3f} Å, {ceiling:.3g} eV above E(r_eq); lies up to {depth[worst]:.2g} eV deeper "
        f"at {strict.distances[worst]:.3f} Å"
    )


def _numbers(
    path: BondPath, energy_eq: float, r_eq: float, s0: Samples, base: Samples, strict: Samples, core: Samples,
    r_fail: float | None,
) -> dict[str, Any]:  # fmt: skip
    good = strict.select(strict.finite)
    minima = metrics.spurious_minima(good.distances, good.energies)
    fails_at = None if r_fail is None else np.flatnonzero(good.distances == r_fail)
    rise = core.energies - energy_eq
    ratio = metrics.divergence_ratio(core.distances, rise, *path.numbers)
    zbl = metrics.zbl_screening(core.distances, *path.numbers)
    # the shape from the outermost point of S0 to r_min; the energy jump only where the nodes are dense
    whole = s0.select(s0.distances > r_eq).merge(base)
    return {
        "n_points": len(strict.distances),
        "r_fail": r_fail,
        "ceiling": float(good.energies[fails_at[0]] - energy_eq) if fails_at is not None and len(fails_at) else None,
        "worst_depth": float(np.max(metrics.drops(good.energies), initial=0.0)) if len(good.energies) else None,
        "n_spurious_minima": len(minima),
        "spurious_minima": minima,
        "rise_at_r_min": float(strict.energies[-1] - energy_eq),
        "divergence": [
            {"r": float(r), "ratio": float(x), "zbl": float(phi)}
            for r, x, phi in zip(core.distances, ratio, zbl, strict=True)
        ],
        "energy_jump": metrics.energy_jump(base.energies),
        **metrics.arena_metrics(whole.distances, whole.energies, whole.slopes),
    }


def _wall_errors(curve: ReferenceCurve, strict: Samples, at_eq: Samples) -> list[dict[str, float]]:
    """r_model(E) − r_reference(E) in Å at 1 to 100 eV above E(r_eq); nan where a curve does not get there."""
    whole = at_eq.merge(strict)
    model = (whole.distances, whole.energies - at_eq.energies[0], whole.slopes)
    rows = []
    for level in metrics.WALL_LEVELS:
        r_model, r_reference = metrics.wall_distance(*model, level), metrics.wall_distance(*curve.wall(), level)
        rows.append({"energy": level, "r_model": r_model, "r_reference": r_reference, "error": r_model - r_reference})
    return rows
