"""`train.py CONFIG`: from labelled frames to a model folder with errors and figures."""

import argparse
import contextlib
import resource
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gmnn.commands.outcome import configured, configured_exit_code
from gmnn.errors import UserError

if TYPE_CHECKING:
    from gmnn.batches import Bucket
    from gmnn.config import Config
    from gmnn.dataset import Dataset, Splits
    from gmnn.model_config import Reference
    from gmnn.potential import Potential
    from gmnn.training import Outcome

DESCRIPTION = """Train a potential as CONFIG says and evaluate it. Everything lands in the folder `output` of the
configuration: config.json and params/ (the potential), metrics.json, history.csv, split.json and figures. A run
that was stopped or killed continues with --resume and ends as if it had not been."""


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    return configured("train.py", DESCRIPTION, "train.epochs=100 output=runs/b")


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0 trained, 2 misuse, 130 stopped (continue with --resume)."""
    return configured_exit_code(parser(), argv, "configs/ethanol_quick.yaml", run)


def run(config_path: str, overrides: list[str], resume: bool) -> int:
    """Read the configuration and the frames, train, evaluate, report."""
    from gmnn import dataset, folder, training
    from gmnn.batches import make_buckets
    from gmnn.config import read_config

    config = read_config(config_path, overrides)
    training.direction(config.train.optimizer)  # names a mistake before the data are read
    old = folder.load(config.start.model) if config.start else None
    if old is not None:
        config = _with_model_of(old, config)
    output = Path(config.output)
    with _warnings_as_lines(), folder.exclusive(output):
        started = _started(output, resume)
        splits = dataset.split(config)
        reference = dataset.fit_reference(splits.train, config)
        potential = _first_potential(config, old, reference, splits.train)
        potential = _begin(output, started, config, splits, potential)
        train_set = make_buckets(splits.train, potential)
        _describe(config, splits, potential.reference)
        facts = _facts(config, splits)
        outcome = training.train(config, potential, train_set, make_buckets(splits.valid, potential), output, facts)
        if not outcome.finished:
            print(f"stopped after epoch {outcome.epochs}; the best potential so far is in {output}. Go on: --resume")
            return 130
        outcome = _calibrated(outcome, splits.valid)
        metrics = _evaluate(outcome, splits, output)
        folder.save(output, outcome.potential, outcome.epochs, {**facts, "metrics": metrics, "finished": True})
        _report(outcome, metrics, train_set, output)
    return 0


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
    from gmnn.batches import make_buckets
    from gmnn.potential import Potential

    if old is None:
        potential = Potential(config.model, reference)
        systems = [bucket.systems for bucket in make_buckets(frames, potential)]
        return training.scale_features(potential, systems, config.seed)
    reset = config.start.reset if config.start else ()
    potential = training.start_from(old, reference, reset, config.seed)
    if config.data.atomic_energies is not None:
        E0 = dict(zip(potential.reference.elements, potential.reference.E0, strict=True))
        E0 |= dict(zip(reference.elements, reference.E0, strict=True))
        E0_of = tuple(E0[z] for z in potential.reference.elements)
    else:
        change = training.fit_references(potential, make_buckets(frames, potential))
        E0_of = tuple(map(float, np.asarray(potential.reference.E0) + change))
    return replace(potential, reference=replace(potential.reference, E0=E0_of))


def _started(output: Path, resume: bool) -> dict[str, Any] | None:
    """What ``split.json`` of an earlier run in this folder says; UserError if there is one and it is not resumed."""
    from gmnn.folder import read_sealed

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

    from gmnn import folder
    from gmnn.model_config import reference_from_dict, to_dict

    record = {"config": config.model_dump(mode="json", exclude={"output"}), "splits": splits.describe()}
    if started is None:
        folder.write_json(output / "split.json", folder.sealed({**record, "reference": to_dict(potential.reference)}))
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


def _calibrated(outcome: "Outcome", valid: "Dataset") -> "Outcome":
    """An ensemble with its spreads scaled to the errors of the validation frames; anything else as it is."""
    from dataclasses import replace

    from gmnn import evaluation

    potential = outcome.potential
    if potential.config.n_members == 1:
        return outcome
    found = evaluation.spreads(potential, valid)
    scale = found["energy"].scale, found["forces"].scale
    return replace(outcome, potential=replace(potential, reference=replace(potential.reference, spread_scale=scale)))


def _evaluate(outcome: "Outcome", splits: "Splits", output: Path) -> dict[str, Any]:
    """Errors of the best averaged parameters on every part, ``metrics.json`` and the figures."""
    from gmnn import evaluation, folder
    from gmnn.commands import figures
    from gmnn.commands.calibration import calibrated
    from gmnn.commands.parity import parity

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
        "steps_per_s": outcome.steps / max(outcome.seconds, 1e-9),
        "head_room": evaluation.head_room(outcome.potential, splits.train),
        "repulsion": evaluation.repulsion_table(outcome.potential),
    }
    folder.write_json(output / "metrics.json", metrics)
    figures.learning_curve(output / "history.csv", output / "learning_curve.png")
    return metrics


def _describe(config: "Config", splits: "Splits", reference: "Reference") -> None:
    from gmnn.dataset import regression
    from gmnn.elements import SYMBOLS

    extra = f" ({len(splits.extra)} of them extra)" if splits.extra is not None else ""
    sizes = f"{len(splits.train)} training{extra}, {len(splits.valid)} validation"
    sizes += f" and {len(splits.test)} test frames" if splits.test is not None else " frames, no test frames"
    print(f"{config.data.train}: {sizes}, elements {' '.join(SYMBOLS[z] for z in reference.elements)}")
    for part in ("train", "valid", "test"):
        if (frames := getattr(splits, part)) is not None:
            print(f"labels, {part}: {frames.summary()}")
    energies = zip(reference.elements, reference.E0, strict=True)
    print("atomic references, eV: " + ", ".join(f"{SYMBOLS[z]} {energy:.3f}" for z, energy in energies), flush=True)
    found = regression(splits.train)
    if config.data.atomic_energies is None and found.undetermined:
        print(
            f"energies of {', '.join(SYMBOLS[z] for z in found.undetermined)} are not determined one by one, only in "
            f"sums as in the frames: the compositions have rank {found.rank} of {len(found.elements)}"
        )


def _report(outcome: "Outcome", metrics: dict[str, Any], train_set: "list[Bucket]", output: Path) -> None:
    from gmnn.batches import wasted
    from gmnn.commands import tables
    from gmnn.evaluation import used_up

    if metrics["repulsion"]:
        strengths = ", ".join(f"{row['pair']} {row['strength']:.3f}" for row in metrics["repulsion"])
        print(f"\nZBL strengths (1 = physical): {strengths}")
    if metrics["head_room"]:
        rooms = ", ".join(f"{symbol} {room['head_room_eV']:.2f}" for symbol, room in metrics["head_room"].items())
        print(f"head-room of the bounded readout above its floor, eV: {rooms}")
        for symbol in used_up(metrics["head_room"]):
            print(f"WARNING: {symbol} atoms sit on the floor of the bounded readout, which limits the fit")
    print(f"\n{tables.parts(metrics)}")
    for part in ("valid", "test"):
        for line in tables.uncertainty(metrics.get(part, {}).get("uncertainty", {})):
            print(f"{part}: {line}")
    print(
        f"mean absolute errors; best epoch {outcome.best_epoch} of {outcome.epochs}, {outcome.seconds:.0f} s, "
        f"{metrics['steps_per_s']:.0f} steps/s, {outcome.compile_seconds:.0f} s of compilation of "
        f"{outcome.programs} programs"
    )
    shapes = ", ".join("{} x {} atoms x {} slots".format(*bucket.systems.neighbors.shape) for bucket in train_set)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    where = "sent to the device in portions" if outcome.streamed else "held on the device"
    print(f"training frames: {shapes}, {wasted(train_set):.0%} of the slots empty, {where}")
    print(f"peak memory: {peak:.0f} MB{_device_peak()}")
    print(f"model folder: {output}")


def _device_peak() -> str:
    """What an accelerator says of its memory; nothing on a CPU."""
    import jax

    found = jax.devices()[0].memory_stats() or {}
    return f" on the host, {found['peak_bytes_in_use'] / 1e6:.0f} MB on the device" if found else ""


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Our own warnings as one line each, without the source line Python adds."""
    original = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"WARNING: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = original
