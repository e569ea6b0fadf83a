"""What a training prints before its first epoch and after its last."""

import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmnn.batches import Bucket
    from gmnn.config import Config
    from gmnn.dataset import Splits
    from gmnn.model_config import Reference
    from gmnn.training import Outcome


def describe(config: "Config", splits: "Splits", reference: "Reference") -> None:
    """Print the sizes, the labels and the atomic references of the data."""
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


def report(outcome: "Outcome", metrics: dict[str, Any], train_set: "list[Bucket]", output: Path) -> None:
    """Print the errors of a finished training, what it took and where it is."""
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
