"""Scan bonds: S0 for the plot, and a dense strict scan, passed only if the energy rises all the way in.

The strict scan starts at r_start = r_eq − 0.05 Å. r_eq is never the model's own minimum. It is the outermost minimum of
the bond's reference curve at this geometry (`r_eq_source` "reference"). Without a reference curve it is the sum of the
covalent radii (Cordero et al., Dalton Trans. 2832 (2008), in ase.data; "covalent radii"), or the structure's own bond
length where that is shorter, but at least 0.75 sums ("bond length of the structure"). A stretched frame therefore
cannot move the start outwards, and double and triple bonds (0.77 to 0.9 sums) do not start outside their well. The
margin of 0.05 Å covers the rest.

The scan detects features whose flanks reach a node. Nodes are 6 to 9 mÅ apart near the bond and 1.5 mÅ at 0.1 Å.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.data import covalent_radii

from gmnn.errors import UserError, reason
from gmnn.scanning import metrics
from gmnn.scanning.bonds import Bonds, bonds_of
from gmnn.scanning.curves import STENCIL_STEP, Curves
from gmnn.scanning.evaluate import BulkCalculator, Evaluate, Samples, kept_running, point
from gmnn.scanning.judge import Verdict, failure_reason, judge_points, refine, stall_reason
from gmnn.scanning.paths import (
    MOST_FRAMES,
    N_FRAMES,
    N_NODES,
    R_LEAST,
    R_MIN,
    Approach,
    bond_path,
    covalent_sum,
    outward_distances,
    s0_distances,
)
from gmnn.scanning.reference import ReferenceCurve, mismatch

MARGIN = 0.05  # Å, r_eq − r_start
SHORTEST_BOND = 0.75  # of the covalent sum
CORE_RADII = np.array([0.1, 0.05, 0.02])  # Å, where the divergence is compared with ZBL
SINGLE_PRECISION = 1e-10  # relative scatter of E above which it was not computed in float64 throughout
N_STENCILS = 12  # places on a curve where forces are compared with differences


@dataclass(frozen=True)
class CurveResult:
    """One bond: s0 [n_frames] and strict (r_start inwards, refined) samples, the verdict and the numbers behind it.

    reason: one line, "" for a pass. metrics: plain numbers as in the JSON report. Of the strict points, n_nodes were
    set in advance and the others inserted where the curve is doubtful. energy_eq: the model's E(r_eq) in eV.
    """

    path: Approach
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
        """Number of curves that pass."""
        return sum(curve.passed for curve in self.curves)

    @property
    def passed(self) -> bool:
        """Whether every curve passes."""
        return self.n_passed == len(self.curves)


def scan_bonds(
    atoms: Atoms,
    calculator: BaseCalculator,
    reference: Mapping[str, ReferenceCurve] | None = None,
    *,
    bonds: Sequence[tuple[int, int]] | None = None,
    cutoff: float | None = None,
    n_frames: int = N_FRAMES,
    r_min: float = R_MIN,
    progress: Callable[[int, int, str], None] | None = None,
) -> ScanResult:
    """Scan every bond of the structure (or the pairs `bonds`, for a topology fixed elsewhere) with an ASE calculator.

    Without `bonds` the rule is that of `gmnn.scanning.bonds`; with a cutoff in Å, every pair within it is a bond.
    A calculator with `batch_eval(list[Atoms]) -> list[Atoms]` gets whole curves at once. reference: curves by label, as
    from `read_reference`; curves of another geometry are not used, and the result gives the reason.
    progress(done, total, label) is called before each bond and at the end. Raises UserError for a structure without a
    bond, numbers out of range, or a calculator that fails on `atoms` itself.
    """
    if not 2 <= n_frames <= MOST_FRAMES or not R_LEAST <= r_min < SHORTEST_BOND * 2 * covalent_radii[1] - MARGIN:
        raise UserError(
            f"The scan has no points to judge, got {n_frames} frames per bond down to {r_min} Å; 2 to "
            f"{MOST_FRAMES:,} frames and an end between {R_LEAST} and 0.4 Å are allowed; the defaults are 20 and 0.1."
        )
    chosen = bonds_of(atoms, cutoff) if bonds is None else Bonds(list(bonds), "given")
    if not chosen.pairs:
        raise UserError(
            f"There is no bond to scan, got {atoms.get_chemical_formula() or 'an empty structure'} "
            f"(number of atoms: {len(atoms)}); {chosen.rule} are needed; choose another structure, or a cutoff."
        )
    paths = [bond_path(atoms, i, j) for i, j in chosen.pairs]
    _check_structure(atoms, calculator)
    evaluate = BulkCalculator(calculator, paths[0].frame)
    curves = []
    for index, path in enumerate(paths):
        if progress is not None:
            progress(index, len(paths), path.label)
        curves.append(_scan_bond(path, evaluate, reference or {}, n_frames, r_min))
    if progress is not None:
        progress(len(paths), len(paths), "")
    protocol = {
        "bonds": chosen.rule, "n_left_out": chosen.n_left_out, "n_frames": n_frames, "r_min": r_min,
        "margin": MARGIN, "n_nodes": N_NODES,
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
        with kept_running():
            if batch_eval is not None:  # the scan calls it too, so this saves a compilation
                frame = batch_eval([frame])[0]
            energy, forces, _ = point(frame)
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise ValueError("a number that is not finite")
    except UserError:
        raise
    except Exception as error:  # a calculator may raise anything
        raise UserError(
            f"The calculator cannot evaluate the structure itself, got {type(error).__name__}: {reason(error, 300)}; "
            f"a calculator with energy and forces for {', '.join(sorted(set(atoms.symbols)))} is needed; choose "
            "another one."
        ) from error


def equilibrium_distance(path: Approach, curve: ReferenceCurve | None) -> tuple[float, str]:
    """r_eq (Å) of a bond and the rule that gave it; the rules are stated at the top of this file."""
    if curve is not None:
        return curve.r_eq, "reference"
    covalent = covalent_sum(path.numbers, *path.members)
    if path.distance >= covalent:
        return covalent, "covalent radii"
    return max(path.distance, SHORTEST_BOND * covalent), "bond length of the structure"


def _scan_bond(
    path: Approach, evaluate: Evaluate, reference: Mapping[str, ReferenceCurve], n_frames: int, r_min: float
) -> CurveResult:
    curve, note = reference.get(path.label), ""
    if curve is None:
        note = "no reference curve for this bond" if reference else "no reference given"
    elif (note := mismatch(curve, path) or "") != "":
        curve = None
    r_eq, source = equilibrium_distance(path, curve)
    path = replace(path, r_start=r_eq - MARGIN, r_end=r_min)
    blocks = [s0_distances(path, n_frames, r_min), np.array([r_eq]), CORE_RADII, outward_distances(path, r_eq)]
    edges = [0, *np.cumsum([len(block) for block in blocks])]
    curves = Curves([path], evaluate, N_NODES, N_STENCILS, [np.concatenate(blocks)])
    points = refine(curves)
    (verdict,) = judge_points(curves, points)
    further, strict = curves.samples(0, curves.further[0]), curves.samples(0, points.table)
    s0, at_eq, core, outside = (further.select(slice(a, b)) for a, b in pairwise(edges))
    numbers = _numbers(path, r_eq, s0, at_eq, strict.select(points.node), strict, core, verdict)
    reason = _reason(verdict, numbers, at_eq, s0)
    numbers["smoothness"] = _smoothness(curves, float(at_eq.energies[0]))
    numbers |= _outside(path, r_eq, outside, s0, at_eq, strict)
    numbers["wall_error"] = _wall_errors(curve, strict, at_eq) if curve is not None else None
    return CurveResult(
        path, r_eq, source, path.r_start, float(at_eq.energies[0]), s0, strict, reason == "", reason, numbers, curve,
        note,
    )  # fmt: skip


def _reason(verdict: Verdict, numbers: dict[str, Any], at_eq: Samples, s0: Samples) -> str:
    """The verdict in words, with energies above E(r_eq); if the curve itself passes, a failure at r_eq or of S0."""
    if verdict.r_fail is not None and numbers["ceiling"] is not None:
        return stall_reason(verdict.r_fail, numbers["ceiling"], verdict.worst_drop, verdict.worst_r, "E(r_eq)")
    if not verdict.passed:
        return verdict.reason
    for samples in (at_eq, s0):
        for k in np.flatnonzero(~samples.finite)[:1]:
            numbers["r_fail"] = float(samples.distances[k])
            return failure_reason(samples.messages[k], numbers["r_fail"])
    return ""


def _numbers(
    path: Approach, r_eq: float, s0: Samples, at_eq: Samples, base: Samples, strict: Samples, core: Samples,
    verdict: Verdict,
) -> dict[str, Any]:  # fmt: skip
    good, energy_eq = strict.select(strict.finite), float(at_eq.energies[0])
    minima = metrics.spurious_minima(good.distances, good.energies)
    fails_at = np.flatnonzero(good.distances == verdict.r_fail)
    pair = [int(z) for z in path.numbers[list(path.members)]]
    ratio = metrics.divergence_ratio(core.distances, core.energies - energy_eq, *pair)
    zbl = metrics.zbl_screening(core.distances, *pair)
    # shape numbers from the outermost point of S0 to r_min; the energy jump only where the nodes are dense
    whole = s0.select(s0.distances > r_eq).merge(base)
    return {
        "n_points": verdict.n_points,
        "r_fail": verdict.r_fail,
        "ceiling": float(good.energies[fails_at[0]] - energy_eq) if len(fails_at) else None,
        "worst_depth": verdict.worst_drop if len(good.energies) else None,
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


def _outside(
    path: Approach, r_eq: float, outside: Samples, s0: Samples, at_eq: Samples, strict: Samples
) -> dict[str, Any]:
    """Minima of the stretched bond, as far as it was stretched or S0 goes; they are no part of the verdict."""
    whole = outside.merge(s0.select(s0.distances > r_eq)).merge(at_eq).merge(strict)
    good = whole.select(whole.finite)
    minima = (
        metrics.outer_minima(good.distances, good.energies, (r_eq, path.distance)) if len(good.energies) > 1 else []
    )
    return {"n_outer_minima": len(minima), "outer_minima": minima, "r_outermost": float(whole.distances[0])}


def _smoothness(curves: Curves, energy_eq: float) -> dict[str, Any]:
    """Agreement of forces and energies on one curve, their precision, and jumps of E''."""
    (places,), (r, energies, slopes) = curves.places, curves.nodes.table
    _, stencil_energies, stencil_slopes = curves.stencils[:, 0]
    rounding, at_nodes = (curves.rounding(np.zeros(len(x), int), x) for x in (places, r))
    force = metrics.force_error(stencil_energies, stencil_slopes[:, 2], STENCIL_STEP * places, rounding)
    work = metrics.work_error(r, energies, slopes, at_nodes)
    scale = np.maximum(np.abs(np.nan_to_num(stencil_energies[:, 2])), np.nanmax([abs(energy_eq), 1.0]))
    single = np.median(metrics.scatter(stencil_energies) / scale) > SINGLE_PRECISION
    return {
        "force_error": force["max"], "force_error_rounding": force["rounding"], "work_error": work["max"],
        "work_error_r": work["r"], "energy_rounding": float(rounding[0]),
        "precision": "single" if single else "double",
        "curvature_jump": metrics.curvature_jump(r, slopes),
        "forces_match_energy": bool(force["excess"] == 0.0 and work["excess"] == 0.0),
    }  # fmt: skip


def _wall_errors(curve: ReferenceCurve, strict: Samples, at_eq: Samples) -> list[dict[str, float]]:
    """r_model(E) − r_reference(E) in Å at 1 to 100 eV above E(r_eq); nan where a curve does not reach the level."""
    whole = at_eq.merge(strict)
    model = (whole.distances, whole.energies - at_eq.energies[0], whole.slopes)
    rows = []
    for level in metrics.WALL_LEVELS:
        r_model, r_reference = metrics.wall_distance(*model, level), metrics.wall_distance(*curve.wall(), level)
        rows.append({"energy": level, "r_model": r_model, "r_reference": r_reference, "error": r_model - r_reference})
    return rows
