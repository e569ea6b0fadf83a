"""The loop from a structure and a teacher to a potential that holds."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from gmnn import folders
from gmnn.config.learn import LearnConfig
from gmnn.errors import UserError
from gmnn.files import read_sealed, remove_tree, sealed, write_json
from gmnn.interfaces.calculator import Calculator
from gmnn.learning import report
from gmnn.learning.exploring import HELD, Outcome, explore
from gmnn.learning.labelling import Labeller, evenly, start_frames
from gmnn.learning.progress import Progress, begin
from gmnn.learning.rounds import FULL, FURTHER, GROWTH, HINT, STEPS, Round, diverse
from gmnn.learning.scanned import scan
from gmnn.learning.starts import Start, first_frames, read_starts
from gmnn.model import folder
from gmnn.model.potential import Potential
from gmnn.structures import bare, split_index
from gmnn.training.selection import frame_features

FILES = (
    "frames.extxyz", "labels", "learn.csv", "learn.png", "learn.json", "run.json", "rounds", "final", "model",
    "teacher.log",
)  # fmt: skip
LEAST_FIRST = 4  # frames that the teacher must label before the first training
AGAIN = 2  # rounds in a row that must hold
VERIFY = 8  # least replicas of a verification at every condition
MOST_NEW, LEAST_VARIANCE = 12, 0.02  # frames of a round; variance of one given the others, as a share of the first's
WANTED = 10  # frames of a round, where those that left are fewer, filled up with the worst of replicas that held
SAMPLES = 40  # frames of the verification that the teacher labels

Say = Callable[[str], None]


def learn(config: LearnConfig, *, resume: bool = False, say: Say = print) -> dict[str, Any]:
    """Learn a potential, write everything into the output folder, and return the content of learn.json.

    UserError for every mistake of the input and for a teacher that fails at all first frames. KeyboardInterrupt leaves
    a folder from which `resume` goes on.
    """
    output = Path(config.output)
    with folders.output_folder(output, "learn", FILES):
        starts = read_starts(config.structures, config.strains)
        begin(config, output, resume)
        with Labeller(config, output) as labeller:
            return _Learning(config, output, starts, labeller, say).run()


class _Learning:
    """One learning in its folder."""

    def __init__(
        self, config: LearnConfig, output: Path, starts: Sequence[Start], labeller: Labeller, say: Say
    ) -> None:
        self.config, self.output, self.starts, self.labeller, self.say = config, output, starts, labeller, say
        self.began = time.perf_counter()

    def run(self) -> dict[str, Any]:
        """Run to the end and return the summary."""
        start = None if self.config.start is None else Path(split_index(self.config.start)[0])
        at = Progress([])
        if start is not None and not start.is_dir():
            at.learnt += start_frames(str(self.config.start))
            if self.labeller.begin_with(at.learnt):
                self.say("labels of the start frames are of another method; those of the teacher are moved towards it")
        at.given = len(at.learnt)
        at.learnt += self.labeller.label([atoms for _, atoms in first_frames(self.starts, self.config.seed)], "first")
        if at.labels < LEAST_FIRST:
            raise UserError(f"the teacher labelled only {at.labels} of the first frames "
                            f"({self.labeller.last_failure}); is it made for these elements?")  # fmt: skip
        if start is not None and start.is_dir():
            at.model = start
        while True:
            verifies = at.streak >= AGAIN or at.reason != ""
            record, labelled = self._round(at, verifies)
            at.records.append(record)
            self.say(report.line(record) + self._left(at))
            if verifies and (record["held"] or at.reason):
                return self._end(at, record)
            at.learnt += labelled
            self._advance(at, record, bool(labelled))
            report.write(self.output, at.records, self.labeller.frames, self._summary(at, record, False, "it goes on"))

    def _round(self, at: Progress, verifies: bool) -> tuple[dict[str, Any], list[Atoms]]:
        """Do one round, or read what is there of it; return its record and the new labelled frames."""
        place = Round(self.output / "rounds" / f"{len(at.records):03d}")
        saved = place.read()
        if saved is None:
            clock = time.perf_counter()
            potential, model = self._trained(at, place, verifies)
            trained = time.perf_counter()
            outcomes, samples = self._explored(at, potential, len(at.records), verifies)
            seconds = {"train": trained - clock, "dynamics": time.perf_counter() - trained}
            record: dict[str, Any] = {
                "round": len(at.records), "labels": at.labels,
                "ps": self.config.hold_ps if verifies else at.ps,
                "model": str(model.relative_to(self.output)) if model.is_relative_to(self.output) else str(model),
                "trained_on": at.trained_on, "from_scratch": at.from_scratch, "verifies": verifies,
                "held": all(outcome.end == HELD for outcome in outcomes),
                "outcomes": [outcome.record() for outcome in outcomes], "seconds": seconds,
            }  # fmt: skip
            record["samples"] = len(samples)
            done = verifies and (record["held"] or at.reason != "")
            candidates = [*samples, *([] if done else self._chosen(potential, at.learnt, outcomes))]
            place.save(record, candidates)
        else:
            record, candidates = saved
            at.trained_on, at.from_scratch = record["trained_on"], record["from_scratch"]
        at.model = self.output / record["model"]
        clock, room = time.perf_counter(), max(0, self.config.max_labels - at.labels)
        samples, candidates = candidates[: record["samples"]], candidates[record["samples"] :]
        if samples:
            record |= self._errors(
                at.model, self.labeller.label(samples, f"verification {record['round']}"), "forces_mae"
            )
        labelled = self.labeller.label(candidates[:room], f"round {record['round']}")
        if len(candidates) > room:
            at.reason = "the budget of labels is spent"
        if labelled:
            record |= self._errors(at.model, labelled, "forces_mae_before")
        record["seconds"]["teacher"] = time.perf_counter() - clock
        return record | {"new_frames": len(labelled)}, labelled

    def _trained(self, at: Progress, place: Round, verifies: bool) -> tuple[Potential, Path]:
        """Train the potential of a round, where there are new labels; the last one is trained in full."""
        if verifies:
            return self._final(at)
        if at.model is not None and at.trained_on == len(at.learnt):
            return folder.load(at.model), at.model
        scratch = at.model is None or (at.from_scratch and len(at.learnt) >= GROWTH * at.from_scratch)
        steps, before = (STEPS, None) if scratch else (FURTHER, at.model)
        potential = place.train(self.config, at.learnt, steps, before, self.config.seed + len(at.records))
        at.trained_on = len(at.learnt)
        if scratch:
            at.from_scratch = len(at.learnt)
        return potential, place.model

    def _final(self, at: Progress) -> tuple[Potential, Path]:
        """Train on all labels as the configuration says."""
        place = Round(self.output / "final")
        place.model = self.output / "model"
        if place.found.exists() and read_sealed(place.found, HINT)["frames"] != len(at.learnt):
            remove_tree(place.model)
            remove_tree(place.path)
        write_json(place.found, sealed({"frames": len(at.learnt)}))
        potential = place.train(self.config, at.learnt, FULL, None, self.config.seed, full=True)
        at.trained_on = at.from_scratch = len(at.learnt)
        return potential, place.model

    def _explored(
        self, at: Progress, potential: Potential, number: int, verifies: bool
    ) -> tuple[list[Outcome], list[Atoms]]:
        """Run the dynamics of a round; return the outcomes and, of a verification, samples of its frames."""
        config, outcomes = self.config, list[Outcome]()
        samples: list[tuple[float, Atoms]] = []
        for k, start in enumerate(self.starts):
            outcomes += explore(
                potential, start, k, config.temperatures_K,
                replicas=max(VERIFY, config.replicas) if verifies else config.replicas,
                ps=config.hold_ps if verifies else at.ps, timestep_fs=config.timestep_fs,
                stop_above=np.inf if verifies else config.grade,
                seed=(config.seed + 7919 * (number + 1) + 104729 * k) % 2**31,
                sample=lambda atoms, outcome: samples.append((outcome.temperature_K, atoms)),
                sample_every_ps=config.hold_ps / 3 if verifies else np.inf,
            )  # fmt: skip
        frames = []
        for k in evenly(len(samples), SAMPLES):
            temperature, atoms = samples[k]
            frames.append(bare(atoms))
            frames[-1].info["temperature_K"] = temperature
        return outcomes, frames

    def _chosen(self, potential: Potential, known: Sequence[Atoms], outcomes: Sequence[Outcome]) -> list[Atoms]:
        """Frames of a round to label that differ from what is known and from each other."""
        chosen, most = list[Atoms](), MOST_NEW
        left = [atoms for outcome in outcomes for atoms in outcome.frames]
        held = [outcome.worst for outcome in outcomes if outcome.end == HELD and outcome.worst is not None]
        for candidates in (left, held):
            if candidates and most > 0:
                features = frame_features(potential, candidates)
                before = frame_features(potential, [*known, *chosen])
                chosen += [candidates[k] for k in diverse(features, before, most, LEAST_VARIANCE)]
            most = WANTED - len(chosen)
        return chosen

    def _errors(self, model: Path, labelled: Sequence[Atoms], name: str) -> dict[str, Any]:
        """Mean absolute force errors of a potential on labelled frames, in all and by temperature, meV/Å."""
        calculator = Calculator(folder.load(model), slots=64)
        rows = []
        for atoms in labelled:
            bare = atoms.copy()
            bare.calc = calculator
            error = float(np.abs(bare.get_forces() - atoms.get_forces()).mean()) * 1e3
            rows.append((atoms.info.get("temperature_K"), error))
        errors: dict[str, Any] = {f"{name}_meV_per_A": float(np.mean([e for _, e in rows])) if rows else None}
        if name == "forces_mae":
            temperatures = sorted({t for t, _ in rows if t is not None})
            errors["by_temperature"] = {f"{t:g}": float(np.mean([e for u, e in rows if u == t])) for t in temperatures}
        return errors

    def _advance(self, at: Progress, record: dict[str, Any], new: bool) -> None:
        """Choose the length of the next round, and whether the budget is spent."""
        ends = [outcome["end"] for outcome in record["outcomes"]]
        whole = record["ps"] >= self.config.hold_ps
        at.streak = at.streak + 1 if record["held"] and whole and not record["verifies"] else 0
        if np.mean([end == HELD for end in ends]) >= 0.5:
            at.ps = min(self.config.hold_ps, 2 * at.ps)
        if not new and not record["held"] and not at.reason:
            at.reason = "the teacher fails at every frame that would be needed"
        if self._spent(at) > 3600 * self.config.max_hours:
            at.reason = "the budget of time is spent"

    def _spent(self, at: Progress) -> float:
        """Seconds of this run, of all sessions."""
        return float(sum(sum(record["seconds"].values()) for record in at.records))

    def _left(self, at: Progress) -> str:
        """Describe how much of the budget is left."""
        minutes = max(0.0, 60 * self.config.max_hours - self._spent(at) / 60)
        return f"; at most {minutes:.0f} min and {max(0, self.config.max_labels - at.labels)} labels left"

    def _summary(self, at: Progress, record: dict[str, Any], held: bool, reason: str) -> dict[str, Any]:
        names = [start.name for start in self.starts]
        seconds: dict[str, float] = {}
        for each in at.records:
            for part, value in each["seconds"].items():
                seconds[part] = seconds.get(part, 0.0) + value
        rows = report.conditions(record["outcomes"], names)
        for row in rows:
            row["forces_mae_meV_per_A"] = record.get("by_temperature", {}).get(f"{row['temperature_K']:g}")
        return {
            "held": held, "reason": reason, "labels": at.labels, **self.labeller.counts(),
            "rounds": len(at.records), "seconds": seconds, "conditions": rows,
            "forces_mae_meV_per_A": record.get("forces_mae_meV_per_A"),
        }  # fmt: skip

    def _end(self, at: Progress, record: dict[str, Any]) -> dict[str, Any]:
        """Scan the potential, write the report and return its summary."""
        clock = time.perf_counter()
        verdict = scan(self.output / "model", self.starts)
        summary = self._summary(at, record, record["held"], "" if record["held"] else at.reason)
        summary["seconds"]["scan"] = time.perf_counter() - clock
        summary["scan"] = verdict
        report.write(self.output, at.records, self.labeller.frames, summary)
        return summary
