"""`train.py CONFIG`: from labelled frames to a model folder with errors and figures."""

import argparse
import contextlib
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gmnn.commands._exit import configured, configured_exit_code, exit_code
from gmnn.errors import UserError

if TYPE_CHECKING:
    from gmnn.config.reading import Config
    from gmnn.data import Dataset, Splits
    from gmnn.model.potential import Potential
    from gmnn.reference import Reference
    from gmnn.training import TrainingResult
    from gmnn.training.distributed.processes import Group

DESCRIPTION = """Train a potential as CONFIG says and evaluate it. Everything lands in the folder `output` of the
configuration: config.json and params/ (the potential), metrics.json, history.csv, split.json and figures. A run
that was stopped or killed continues with --resume and ends as if it had not been."""


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    made = configured("train.py", DESCRIPTION, "train.epochs=100 output=runs/b")
    made.add_argument(
        "--process",
        metavar="K/N",
        help="this is process K, from 0, of N that train together; auto under srun",
    )
    made.add_argument("--coordinator", metavar="HOST:PORT", help="of several processes, where process 0 listens")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0 trained, 2 misuse, 130 stopped (continue with --resume).

    3 if another process of a common training was lost.
    """
    return configured_exit_code(parser(), argv, "configs/ethanol_quick.yaml", run)


def run(config_path: str, overrides: list[str], resume: bool, process: str | None, coordinator: str | None) -> int:
    """Read the configuration and the frames, train, evaluate, report; alone or with other processes."""
    from gmnn import device
    from gmnn.config.reading import read_config
    from gmnn.training.distributed import devices, rendezvous

    config = read_config(config_path, overrides)
    group = rendezvous.join(process, coordinator)

    def body() -> int:
        device.reserve(devices.share_of_process(config.train, group.size))
        return _train(config, resume, group)

    return group.run(body, partial(exit_code, "train"))


def _train(config: "Config", resume: bool, group: "Group") -> int:
    from gmnn import files, training
    from gmnn.commands import _printing
    from gmnn.data import fit_reference, split
    from gmnn.data.batches import make_buckets
    from gmnn.model import folder
    from gmnn.training.distributed import devices

    training.direction(config.train.optimizer)  # names a mistake before the data are read
    old = folder.load(config.start.model) if config.start else None
    if old is not None:
        config = _with_model_of(old, config)
    output = Path(config.output)
    with _warnings_as_lines(group.first), files.exclusive(output) if group.first else contextlib.nullcontext():
        started = _started(output, resume) if group.first else None
        splits = split(config)
        reference = fit_reference(splits.train, config)
        potential = _first_potential(config, old, reference, splits.train)
        devices.check_batch(config.train, len(splits.train))
        if group.first:
            potential = _begin(output, started, config, splits, potential)
        potential = _with_broadcast_reference(group, config, potential)
        train_set, valid_set = (
            make_buckets(splits.train, potential.reference, potential.config.r_max),
            make_buckets(splits.valid, potential.reference, potential.config.r_max),
        )
        _printing.describe(config, splits, potential.reference)
        facts = _facts(config, splits)
        outcome = training.train(config, potential, train_set, valid_set, output, facts, group)
        if outcome.finished and not group.first:
            return 0
        if not outcome.finished:
            print(f"stopped after epoch {outcome.epochs}; the best potential so far is in {output}. Go on: --resume")
            return 130
        outcome = _calibrated(outcome, splits.valid)
        metrics = _evaluate(config, outcome, splits, output)
        folder.save(output, outcome.potential, outcome.epochs, {**facts, "metrics": metrics, "finished": True})
        _printing.report(outcome, metrics, train_set, output)
    return 0


def _with_broadcast_reference(group: "Group", config: "Config", potential: "Potential") -> "Potential":
    """With what process 0 found in the data or in the folder; UserError if another was given another configuration."""
    from dataclasses import replace

    from gmnn import __version__
    from gmnn.config.model import to_dict
    from gmnn.reference import reference_from_dict

    if group.size == 1:
        return potential
    group.check_same(f"gmnn {__version__} {config.model_dump_json(exclude={'output'})}", "another configuration")
    return replace(potential, reference=reference_from_dict(group.broadcast(to_dict(potential.reference))))


def _with_model_of(old: "Potential", config: "Config") -> "Config":
    """The configuration with the model section of the potential it starts from; UserError if it has another one."""
    if "model" in config.model_fields_set and config.model != old.config:
        raise UserError(
            "the model section differs from that of the potential in start.model, which fine-tuning cannot change; "
            "leave the model section out, or train a new potential without start"
        )
    return config.model_copy(update={"model": old.config})


def _first_potential(
    config: "Config", old: "Potential | None", reference: "Reference", frames: "Dataset"
) -> "Potential":
    """The potential before its first step: scaled by the data, or a trained one with atomic references for the data."""
    from dataclasses import replace

    from gmnn import training
    from gmnn.data.batches import make_buckets
    from gmnn.model.potential import Potential

    if old is None:
        potential = Potential(config.model, reference)
        systems = [bucket.systems for bucket in make_buckets(frames, potential.reference, potential.config.r_max)]
        return training.scale_features(potential, systems, config.seed)
    reset = config.start.reset if config.start else ()
    potential = training.start_from(old, reference, reset, config.seed)
    if config.data.atomic_energies is not None:
        E0 = dict(zip(potential.reference.elements, potential.reference.E0, strict=True))
        E0 |= dict(zip(reference.elements, reference.E0, strict=True))
        E0_of = tuple(E0[z] for z in potential.reference.elements)
    else:
        change = training.fit_references(potential, make_buckets(frames, potential.reference, potential.config.r_max))
        E0_of = tuple(map(float, np.asarray(potential.reference.E0) + change))
    return replace(potential, reference=replace(potential.reference, E0=E0_of))


def _started(output: Path, resume: bool) -> dict[str, Any] | None:
    """What ``split.json`` of an earlier run in this folder says; UserError if there is one and it is not resumed."""
    from gmnn.files import read_sealed

    record = output / "split.json"
    if not record.exists():
        if (output / "config.json").exists():
            raise UserError(f"{output} already holds a model; choose another output")
        return None
    if not resume:
        raise UserError(f"{output} already holds a run; add --resume to continue it, or choose another output")
    return read_sealed(record, "start again with another output")


def _begin(output: Path, started: dict[str, Any] | None, config: "Config", splits: "Splits", potential: Any) -> Any:
    """Record configuration, split and reference of a new run, or check that a resumed one has the same."""
    from dataclasses import replace

    from gmnn import files
    from gmnn.config.model import to_dict
    from gmnn.reference import reference_from_dict

    kept = config.model_dump(mode="json", exclude={"output": True, "train": {"devices"}})
    record = {"config": kept, "splits": splits.describe()}
    if started is None:
        files.write_json(output / "split.json", files.sealed({**record, "reference": to_dict(potential.reference)}))
        return potential
    here, there = _flat(record["config"]), _flat(started["config"])
    changed = [key for key in {**here, **there} if here.get(key) != there.get(key)]
    if changed:
        raise UserError(
            f"the run in {output} was started with another configuration ({', '.join(sorted(changed))} differ); "
            "resume it with the same one, or choose another output"
        )
    if started["splits"] != record["splits"]:
        raise UserError(f"the data files of the run in {output} have changed since it started; choose another output")
    return replace(potential, reference=reference_from_dict(started["reference"]))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _facts(config: "Config", splits: "Splits") -> dict[str, Any]:
    parts = splits.describe()
    data = {key: {**part, "indices": len(part["indices"])} for key, part in parts.items()}
    return {"training": config.model_dump(mode="json", exclude={"model", "output"}), "data": data}


def _calibrated(outcome: "TrainingResult", valid: "Dataset") -> "TrainingResult":
    """An ensemble with its spreads scaled to the errors of the validation frames; anything else as it is."""
    from dataclasses import replace

    from gmnn import evaluation

    potential = outcome.potential
    if potential.config.n_members == 1:
        return outcome
    found = evaluation.spreads(potential, valid)
    scale = found["energy"].scale, found["forces"].scale
    return replace(outcome, potential=replace(potential, reference=replace(potential.reference, spread_scale=scale)))


def _evaluate(config: "Config", outcome: "TrainingResult", splits: "Splits", output: Path) -> dict[str, Any]:
    """Errors of the best averaged parameters on every part, ``metrics.json`` and the figures."""
    from gmnn import evaluation, files
    from gmnn.evaluation import figures
    from gmnn.evaluation.calibration import calibrated
    from gmnn.evaluation.parity import parity

    metrics: dict[str, Any] = {}
    for part in ("train", "valid", "test"):
        frames = getattr(splits, part)
        if frames is not None:
            comparison = evaluation.compare(outcome.potential, frames)
            metrics[part] = comparison.metrics()
            parity(comparison, output / f"parity_{part}.png", f"{output.name}: {part} set")
            if outcome.potential.config.n_members > 1 and part != "train":
                target = output / f"calibration_{part}.png"
                metrics[part]["uncertainty"] = calibrated(outcome.potential, frames, target, f"{output.name}: {part}")
    metrics |= {
        "epochs": outcome.epochs,
        "best_epoch": outcome.best_epoch,
        "wall_time_s": outcome.seconds,
        "compile_time_s": outcome.compile_seconds,
        "compiled_programs": outcome.programs,
        "streamed": outcome.streamed,
        "devices": config.train.devices,
        "steps_per_s": outcome.steps / max(outcome.seconds, 1e-9),
        "head_room": evaluation.head_room(outcome.potential, splits.train),
        "repulsion": evaluation.repulsion_table(outcome.potential),
    }
    files.write_json(output / "metrics.json", metrics)
    figures.learning_curve(output / "history.csv", output / "learning_curve.png")
    return metrics


@contextlib.contextmanager
def _warnings_as_lines(shown: bool) -> Iterator[None]:
    """Our own warnings as one line each, without the source line Python adds; none if not `shown`."""
    original = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"WARNING: {message}\n" if shown else ""
    try:
        yield
    finally:
        warnings.formatwarning = original
