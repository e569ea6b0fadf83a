"""Suites of approaches beyond the bonds of one frame: what a potential must withstand to be called repulsive.

Every suite has the same pass rule: dE/dr < 0 (from forces) and E rises inwards, both finite, at every point that the
judge examines from r_start to r_end. The suites differ in their curves and where these start; see `families`. Every
suite but `bonds` leaves out the curves on which a third contact falls below 0.8: there physics itself need not be
monotone (H drawn past an atom to another one forms a bond). `relaxation` has its own rule; see `relaxation.relax`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from gmnn.errors import UserError
from gmnn.scanning import families
from gmnn.scanning.evaluate import Evaluate
from gmnn.scanning.judge import BATCH_POINTS, Progress, Verdict, judge
from gmnn.scanning.metrics import clopper_pearson
from gmnn.scanning.paths import Approach, without_third_contacts
from gmnn.scanning.reference import ReferenceCurve
from gmnn.scanning.relaxation import Relaxation, overlapping_starts, relax

CURVE_SUITES = (
    "bonds", "nonbonded", "directions", "dimers", "rattled", "compressed", "hot", "three", "scaling", "deep",
)  # fmt: skip
SUITES = (*CURVE_SUITES, "relaxation")


@dataclass(frozen=True)
class Suite:
    """Approaches to judge, and the number of curves that the rule of the third contact left out."""

    name: str
    approaches: tuple[Approach, ...]
    n_left_out: int


@dataclass(frozen=True)
class Sizes:
    """Sizes of the suites; `frames`: number of frames, from frame 0 on, for the suites that are not of frame 0 alone.

    directions: per atom. rattled, compressed: structures per frame. three: triples per frame, chosen at random if there
    are more. hot: number of hot frames that are used, those of highest energy. relaxation: starts.
    """

    frames: int = 1
    directions: int = 50
    rattled: int = 5
    compressed: int = 4
    hot: int = 5
    three: int = 100
    relaxation: int = 50


def make_suites(
    frames: Sequence[Atoms],
    rng: np.random.Generator,
    *,
    names: Sequence[str] = CURVE_SUITES,
    sizes: Sizes | None = None,
    reference: Mapping[str, ReferenceCurve] | None = None,
    hot_frames: Sequence[Atoms] = (),
) -> list[Suite]:
    """Make the named suites of one molecule, in the order of names; frames and hot_frames have the atoms of frame 0.

    The same generator state gives a suite the same curves, whichever other suites are requested. reference: curves by
    label that give r_eq of the bonds if they belong to frame 0. Raises UserError for an unknown name and for frames
    that are empty, periodic or of different molecules.
    """
    sizes = sizes or Sizes()
    check_names(names, CURVE_SUITES)
    check_frames([*frames, *hot_frames])
    frames = [frame.copy() for frame in frames]  # the approaches share the arrays of these copies, not the caller's
    streams = dict(zip(CURVE_SUITES, rng.spawn(len(CURVE_SUITES)), strict=True))
    bonds, used = families.equilibrium_bonds(frames[0], reference), frames[: sizes.frames]
    hot = [frame.get_positions() for frame in families.hottest(hot_frames, sizes.hot)]
    makers = {
        "bonds": lambda _: families.bonds_of_frame(frames[0], bonds),
        "nonbonded": lambda _: families.nonbonded(used, bonds),
        "directions": lambda stream: families.directions(used, sizes.directions, stream),
        "dimers": lambda _: families.dimers(frames[0].numbers),
        "rattled": lambda stream: families.rattled(used, bonds, sizes.rattled, stream),
        "compressed": lambda _: families.compressed(used, bonds, sizes.compressed),
        "hot": lambda _: families.driven_bonds("hot", hot, frames[0].numbers, bonds),
        "three": lambda stream: families.three(used, bonds, sizes.three, stream),
        "scaling": lambda _: families.scaling(used),
        "deep": lambda _: families.deep(used),
    }
    suites = []
    for name in names:
        approaches, n_left_out = makers[name](streams[name]), 0
        if name != "bonds":
            approaches, n_left_out = without_third_contacts(approaches)
        suites.append(Suite(name, tuple(approaches), n_left_out))
    return suites


def check_names(names: Sequence[str], allowed: Sequence[str]) -> None:
    """Raise UserError for a suite that does not exist, or if no suite is named."""
    unknown = [name for name in names if name not in allowed]
    if unknown or not names:
        raise UserError(
            f"There is no such suite, got '{', '.join(unknown)}'; allowed are {', '.join(allowed)}; correct the name."
        )


def check_frames(frames: Sequence[Atoms]) -> None:
    """Raise UserError unless the frames are isolated and of one molecule of at least two atoms."""
    for index, frame in enumerate(frames):
        if frame.pbc.any():
            raise UserError(
                f"The suites are of isolated molecules, got a periodic structure (pbc {frame.pbc.tolist()}); a "
                "structure without periodic directions is allowed; take the bond scan, or cut out a molecule."
            )
        if len(frame) < 2 or not np.array_equal(frame.numbers, frames[0].numbers):
            raise UserError(
                f"Frame {index} of the suites is {frame.get_chemical_formula() or 'empty'}, frame 0 is "
                f"{frames[0].get_chemical_formula() or 'empty'}; at least two atoms, the same in the same order, are "
                "needed; choose other frames."
            )
    if not frames:
        raise UserError("The suites have no structure, got no frame; at least one is needed; give frame 0.")


@dataclass(frozen=True)
class SuiteResult:
    """Verdicts of one suite, or relaxations if it is `relaxation`; the number of curves that were left out of it."""

    name: str
    verdicts: tuple[Verdict, ...]
    n_left_out: int = 0
    relaxations: tuple[Relaxation, ...] = ()

    @property
    def n_curves(self) -> int:
        """Number of curves judged, or of starts relaxed."""
        return len(self.verdicts) + len(self.relaxations)

    @property
    def n_failed(self) -> int:
        """Number of curves that failed, or of starts that fused."""
        return sum(not record.passed for record in self.verdicts) + sum(record.fused for record in self.relaxations)

    @property
    def pass_rate_interval(self) -> tuple[float, float]:
        """95 % interval of the pass rate (Clopper and Pearson); (0, 1) without a curve."""
        return clopper_pearson(self.n_curves - self.n_failed, self.n_curves)

    @property
    def worst(self) -> Verdict | None:
        """The curve with the deepest drop; if all drops are 0, the one with the least push; None without curves."""
        return max(self.verdicts, key=_badness, default=None)


def _badness(verdict: Verdict) -> tuple[float, float]:
    push = verdict.least_push
    return verdict.worst_drop, -push if np.isfinite(push) else np.inf


def run_suites(
    frames: Sequence[Atoms],
    evaluate: Evaluate,
    rng: np.random.Generator,
    *,
    names: Sequence[str] = SUITES,
    sizes: Sizes | None = None,
    reference: Mapping[str, ReferenceCurve] | None = None,
    hot_frames: Sequence[Atoms] = (),
    batch_points: int = BATCH_POINTS,
    progress: Progress | None = None,
) -> list[SuiteResult]:
    """Make, judge and relax the named suites of one molecule; arguments as for `make_suites`, `judge` and `relax`.

    progress(done, total, label) counts curves and starts. The verdicts keep their points. Raises UserError for an
    unknown name, frames that are no molecule, an evaluator that fails on frame 0, or suites without any curve.
    """
    check_names(names, SUITES)
    check_frames(frames)
    sizes, names = sizes or Sizes(), tuple(dict.fromkeys(names))
    _check_evaluator(frames[0], evaluate)
    curve_rng, start_rng = rng.spawn(2)
    curve_names = [name for name in names if name in CURVE_SUITES]
    curve_suites: dict[str, Suite] = {}
    if curve_names:
        suites = make_suites(
            frames, curve_rng, names=curve_names, sizes=sizes, reference=reference, hot_frames=hot_frames
        )
        curve_suites = {suite.name: suite for suite in suites}
    n_starts = sizes.relaxation if "relaxation" in names else 0
    total = sum(len(suite.approaches) for suite in curve_suites.values()) + n_starts
    if total == 0:
        raise UserError(
            f"There is no curve to judge, got {', '.join(names)} for {frames[0].get_chemical_formula()}; suites with "
            "at least one approach are needed; choose other suites or another structure."
        )
    results: list[SuiteResult] = []
    for name in names:
        report = _counting(progress, sum(result.n_curves for result in results), total, name)
        if name == "relaxation":
            starts = overlapping_starts(frames[0].numbers, n_starts, start_rng)
            relaxations = relax(starts, frames[0].numbers, evaluate, progress=report)
            results.append(SuiteResult(name, (), relaxations=tuple(relaxations)))
        else:
            suite = curve_suites[name]
            verdicts = judge(suite.approaches, evaluate, batch_points=batch_points, keep=True, progress=report)
            results.append(SuiteResult(name, tuple(verdicts), suite.n_left_out))
    if progress is not None:
        progress(total, total, "")
    return results


def _counting(progress: Progress | None, before: int, total: int, name: str) -> Callable[[int, int, str], None] | None:
    if progress is None:
        return None
    progress(before, total, name)
    return lambda done, _, __: progress(before + done, total, name)


def _check_evaluator(atoms: Atoms, evaluate: Evaluate) -> None:
    energies, forces = evaluate(atoms.get_positions()[None], atoms.numbers[None])
    if not (np.isfinite(energies).all() and np.isfinite(forces).all()):
        messages: dict[int, Any] = getattr(evaluate, "messages", {})
        raise UserError(
            f"The calculator cannot evaluate the structure itself, got {messages.get(0, 'a number that is not finite')}"
            f"; a calculator with energy and forces for {', '.join(sorted(set(atoms.symbols)))} is needed; choose "
            "another one."
        )
