"""Run suites on one potential and keep what came out, suite by suite."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from gmnn.errors import UserError
from gmnn.scanning.judge import BATCH_POINTS, Evaluate, Progress, Verdict, judge
from gmnn.scanning.metrics import clopper_pearson
from gmnn.scanning.reference import ReferenceCurve
from gmnn.scanning.relaxation import Relaxation, overlapping_starts, relax
from gmnn.scanning.suites import CURVE_SUITES, SUITES, Sizes, Suite, check_frames, check_names, make_suites


@dataclass(frozen=True)
class SuiteResult:
    """Verdicts of one suite, or the relaxations of the suite of that name; how many curves were left out of it."""

    name: str
    verdicts: tuple[Verdict, ...]
    n_left_out: int = 0
    relaxations: tuple[Relaxation, ...] = ()

    @property
    def n_curves(self) -> int:
        """How many curves were judged, or starts relaxed."""
        return len(self.verdicts) + len(self.relaxations)

    @property
    def n_failed(self) -> int:
        """How many of them failed; for relaxations, fused."""
        return sum(not one.passed for one in self.verdicts) + sum(one.fused for one in self.relaxations)

    @property
    def pass_rate_interval(self) -> tuple[float, float]:
        """95 % interval of the pass rate (Clopper and Pearson); (0, 1) without a curve."""
        return clopper_pearson(self.n_curves - self.n_failed, self.n_curves)

    @property
    def worst(self) -> Verdict | None:
        """The curve with the deepest drop; of equals (all drops 0) the one with the least push; None without curves."""
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
    """Make, judge and relax the named suites of one molecule; arguments as of `make_suites`, `judge` and `relax`.

    progress(done, total, label) counts curves and starts. The verdicts keep their points. Raises UserError for an
    unknown name, frames that are no molecule, an evaluator that fails on frame 0, suites without any curve.
    """
    check_names(names, SUITES)
    check_frames(frames)
    sizes, names = sizes or Sizes(), tuple(dict.fromkeys(names))
    _check_evaluator(frames[0], evaluate)
    for_curves, for_starts = rng.spawn(2)
    curve_names = [name for name in names if name in CURVE_SUITES]
    made: dict[str, Suite] = {}
    if curve_names:
        suites = make_suites(
            frames, for_curves, names=curve_names, sizes=sizes, reference=reference, hot_frames=hot_frames
        )
        made = {suite.name: suite for suite in suites}
    n_starts = sizes.relaxation if "relaxation" in names else 0
    total = sum(len(suite.approaches) for suite in made.values()) + n_starts
    if total == 0:
        raise UserError(
            f"There is no curve to judge, got {', '.join(names)} for {frames[0].get_chemical_formula()}; suites with "
            "at least one approach are needed; choose other suites or another structure."
        )
    results: list[SuiteResult] = []
    for name in names:
        report = _counting(progress, sum(one.n_curves for one in results), total, name)
        if name == "relaxation":
            starts = overlapping_starts(frames[0].numbers, n_starts, for_starts)
            ended = relax(starts, frames[0].numbers, evaluate, progress=report)
            results.append(SuiteResult(name, (), relaxations=tuple(ended)))
        else:
            suite = made[name]
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
