"""Training from a configuration to a model folder: read and split frames, train, evaluate, save."""

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from gmnn import __version__, device, evaluation, files, folders
from gmnn.config.model import to_dict
from gmnn.config.reading import Config, read_config, validated
from gmnn.data import Dataset, Splits, fit_reference, split
from gmnn.data.batches import make_buckets, wasted
from gmnn.errors import UserError
from gmnn.evaluation import figures, zero
from gmnn.evaluation.calibration import calibrated
from gmnn.evaluation.parity import parity
from gmnn.model import folder
from gmnn.model.potential import Potential
from gmnn.reference import Reference, reference_from_dict
from gmnn.training.distributed import devices
from gmnn.training.distributed.processes import Group
from gmnn.training.finetune import energy_differences, fit_references, start_from
from gmnn.training.loop import TrainingResult, optimise
from gmnn.training.optimizer import direction
from gmnn.training.scales import scale_features

PARTS = ("train", "valid", "test")
FILES = (  # what a training writes into its folder
    *folder.FILES, "split.json", "metrics.json", "history.csv", "learning_curve.png",
    *(f"{kind}_{part}.png" for kind in ("parity", "calibration") for part in PARTS),
)  # fmt: skip

Announce = Callable[[Config, Splits, Reference], None]


def train(
    config: Config | Mapping[str, Any] | str | PathLike,
    *,
    resume: bool = False,
    group: Group | None = None,
    announce: Announce | None = None,
) -> TrainingResult:
    """Train a potential, evaluate it and write everything into the configuration's `output` folder.

    `config`: a Config, its plain values, or a YAML file. `resume` continues a run that was stopped. `group`: the
    processes of a common training, all of which call this. `announce` is called once the data are read. SIGINT ends
    the run after the epoch in progress, with `finished` false in the result. UserError for every mistake in the input.
    """
    config, group = as_config(config), group or Group()
    device.reserve(devices.share_of_process(config.train, group.size))
    device.require()
    direction(config.train.optimizer)  # reports a mistake before the data are read
    old = folder.load(config.start.model) if config.start else None
    if old is not None:
        config = _with_model_of(old, config)
    output = Path(config.output)
    with folders.output_folder(output, "model", FILES) if group.first else contextlib.nullcontext():
        started = _started(output, resume) if group.first else None
        splits = split(config)
        reference = fit_reference(splits.train, config)
        potential = _first_potential(config, old, reference, splits.train)
        devices.check_batch(config.train, len(splits.train))
        if group.first:
            potential = _begin(output, started, config, splits, potential, _inputs(config, old))
        potential = _with_broadcast_reference(group, config, potential)
        r_max = potential.config.r_max
        train_set, valid_set = (make_buckets(x, potential.reference, r_max) for x in (splits.train, splits.valid))
        if announce is not None and group.first:
            announce(config, splits, potential.reference)
        facts = _facts(config, splits, potential.reference)
        result = optimise(config, potential, train_set, valid_set, output, facts, group)
        if not (result.finished and group.first):
            return result
        result = _calibrated(result, splits.valid)
        result = replace(result, potential=evaluation.with_grades(result.potential, splits.train, splits.valid))
        metrics = _evaluated(config, result, splits, output)
        metrics["shapes"] = [list(bucket.systems.neighbors.shape) for bucket in train_set]  # frames, atoms, slots
        metrics["empty_slots"] = wasted(train_set)
        files.write_json(output / "metrics.json", metrics)
        folder.save(output, result.potential, result.epochs, {**facts, "metrics": metrics, "finished": True})
        return replace(result, metrics=metrics)


def as_config(config: Config | Mapping[str, Any] | str | PathLike) -> Config:
    """Return the configuration itself, or make one from plain values or a YAML file."""
    if isinstance(config, Config):
        return config
    if isinstance(config, Mapping):
        return validated(Config, dict(config))
    return read_config(fspath(config))


def _with_broadcast_reference(group: Group, config: Config, potential: Potential) -> Potential:
    """Take the reference that process 0 fitted or read. UserError if versions or configurations of processes differ."""
    if group.size == 1:
        return potential
    group.check_same(f"gmnn {__version__} {config.model_dump_json(exclude={'output'})}", "another configuration")
    return replace(potential, reference=reference_from_dict(group.broadcast(to_dict(potential.reference))))


def _with_model_of(old: Potential, config: Config) -> Config:
    """Take the model section from the potential to start from. UserError if the configuration has another one."""
    if "model" in config.model_fields_set and config.model != old.config:
        raise UserError(
            "the model section differs from that of the potential in start.model, which fine-tuning cannot change; "
            "leave the model section out, or train a new potential without start"
        )
    return config.model_copy(update={"model": old.config})


def _first_potential(config: Config, old: Potential | None, reference: Reference, frames: Dataset) -> Potential:
    """Potential before the first step: scaled by the data, or a trained one with atomic references for the data."""
    if old is None:
        potential = Potential(config.model, reference)
        systems = [bucket.systems for bucket in make_buckets(frames, potential.reference, potential.config.r_max)]
        return scale_features(potential, systems, config.seed)
    reset = config.start.reset if config.start else ()
    potential = start_from(old, reference, reset, config.seed)
    given = config.data.atomic_energies is not None
    if given:
        E0 = dict(zip(potential.reference.elements, potential.reference.E0, strict=True))
        E0 |= dict(zip(reference.elements, reference.E0, strict=True))
        potential = _with_references(potential, [E0[z] for z in potential.reference.elements])
    buckets = make_buckets(frames, potential.reference, potential.config.r_max)
    counts, errors = energy_differences(potential, buckets)
    if shift := zero.shift(counts, errors):
        what = "start.model with data.atomic_energies" if given else "start.model"
        remedy = "leave these out to have it moved" if given else "it is moved to theirs"
        also = (
            f"gmnn reference {config.start.model if config.start else 'MODEL'} {frames.name} moves the old potential's"
        )
        warnings.warn(f"{zero.sentence(frames.name, what, shift)}; {remedy}, and {also}", stacklevel=2)
    return (
        potential
        if given
        else _with_references(potential, np.asarray(potential.reference.E0) + fit_references(counts, errors))
    )


def _with_references(potential: Potential, E0: Sequence[float] | np.ndarray) -> Potential:
    """Return the potential with other atomic references, [E] eV."""
    return replace(potential, reference=replace(potential.reference, E0=tuple(map(float, E0))))


def _started(output: Path, resume: bool) -> dict[str, Any] | None:
    """Content of an earlier run's ``split.json``, None if there is none. UserError unless that run is resumed.

    UserError also for a folder that holds a model without ``split.json``.
    """
    record = output / "split.json"
    if not record.exists():
        if (output / "config.json").exists():
            raise UserError(f"{output} already holds a model; choose another output")
        return None
    if not resume:
        raise UserError(f"{output} already holds a run; add --resume to continue it, or choose another output")
    return files.read_sealed(record, "start again with another output")


def _inputs(config: Config, old: Potential | None) -> dict[str, str]:
    """Checksums of what a configuration names beside its frames, by key: the content, not the path."""
    inputs = {} if old is None else {"start.model": folder.potential_digest(old)}
    if config.model.repulsion == "nlh" and config.data.nlh_coefficients is not None:
        inputs["data.nlh_coefficients"] = files.digest(Path(config.data.nlh_coefficients))
    return inputs


def _begin(
    output: Path, started: dict[str, Any] | None, config: Config, splits: Splits, potential: Any, inputs: dict[str, str]
) -> Any:
    """Record configuration, split, other inputs and reference of a new run, or check that a resumed run has the same.

    A record of version 0.1 has no other inputs; a warning says that they are not compared.
    """
    settings = config.model_dump(mode="json", exclude={"output": True, "train": {"devices"}})
    record = {"config": settings, "splits": splits.describe(), "inputs": inputs}
    if started is None:
        files.write_json(output / "split.json", files.sealed({**record, "reference": to_dict(potential.reference)}))
        return potential
    now, before = _flat(record["config"]), _flat(started["config"])
    changed = [key for key in {**now, **before} if now.get(key) != before.get(key)]
    if changed:
        raise UserError(
            f"the run in {output} was started with another configuration ({', '.join(sorted(changed))} differ); "
            "resume it with the same one, or choose another output"
        )
    if started["splits"] != record["splits"]:
        raise UserError(f"the data files of the run in {output} have changed since it started; choose another output")
    before_inputs = started.get("inputs")
    if before_inputs is None and inputs:
        warnings.warn(
            f"the run in {output} was started by a gmnn that kept no checksum of {', '.join(inputs)}; whether it "
            "changed since is not known", stacklevel=2,
        )  # fmt: skip
    elif changed := sorted(key for key in inputs if inputs[key] != (before_inputs or {}).get(key)):
        raise UserError(
            f"the content of {' and '.join(changed)} has changed since the run in {output} was started; bring the old "
            "one back, or choose another output"
        )
    return replace(potential, reference=reference_from_dict(started["reference"]))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _facts(config: Config, splits: Splits, reference: Reference) -> dict[str, Any]:
    parts, E0 = splits.describe(), dict(zip(reference.elements, reference.E0, strict=True))
    data = {
        key: {**part, "indices": len(part["indices"]), "ranges": getattr(splits, key).ranges(E0)}
        for key, part in parts.items()
    }
    return {"training": config.model_dump(mode="json", exclude={"model", "output"}), "data": data}


def _calibrated(result: TrainingResult, valid: Dataset) -> TrainingResult:
    """Scale the spreads of an ensemble to the errors of the validation frames; return anything else as it is."""
    potential = result.potential
    if potential.config.n_members == 1:
        return result
    spreads = evaluation.spreads(potential, valid)
    scale = spreads["energy"].scale, spreads["forces"].scale
    return replace(result, potential=replace(potential, reference=replace(potential.reference, spread_scale=scale)))


def _evaluated(config: Config, result: TrainingResult, splits: Splits, output: Path) -> dict[str, Any]:
    """Compute the errors of the best averaged parameters on every part, and draw the figures."""
    metrics: dict[str, Any] = {}
    for part in PARTS:
        frames = getattr(splits, part)
        if frames is not None:
            comparison = evaluation.compare(result.potential, frames)
            metrics[part] = comparison.metrics()
            parity(comparison, output / f"parity_{part}.png", f"{output.name}: {part} set")
            if result.potential.config.n_members > 1 and part != "train":
                target = output / f"calibration_{part}.png"
                metrics[part]["uncertainty"] = calibrated(result.potential, frames, target, f"{output.name}: {part}")
    metrics |= {
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "wall_time_s": result.seconds,
        "compile_time_s": result.compile_seconds,
        "compiled_programs": result.programs,
        "streamed": result.streamed,
        "devices": config.train.devices,
        "steps_per_s": result.steps / max(result.seconds, 1e-9),
        "head_room": evaluation.head_room(result.potential, splits.train),
        "repulsion": evaluation.repulsion_table(result.potential),
    }
    figures.learning_curve(output / "history.csv", output / "learning_curve.png")
    return metrics
