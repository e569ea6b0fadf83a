"""Trains on 1, 2 and 4 devices of one process in float64; `python device_worker.py FOLDER` leaves found.json there."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gmnn import device, training
from gmnn.config.model import NO_CORE, ModelConfig
from gmnn.config.reading import Config
from gmnn.config.train import TrainConfig
from gmnn.data import Dataset, batches, read_dataset
from gmnn.errors import UserError
from gmnn.model.potential import Potential
from gmnn.reference import Reference
from gmnn.training import epochs
from gmnn.training.distributed import devices

MODEL = {"n_radial": 1, "n_basis": 4, "hidden": (4,), "core": NO_CORE, "repulsion": "none", "r_max": 4.0}


def frames(whole: Dataset, first: int, last: int, shapes: int) -> Dataset:
    """Frames of ethanol; of two shapes, two thirds of them are whole and the rest in pieces."""
    data = whole.take(np.arange(first, last))
    for k in range(0, len(data) if shapes > 1 else 0, 3):
        data.atoms[k], data.forces[k] = data.atoms[k][:4], data.forces[k][:4]
        data.energies[k] *= 4 / 9
    return data


def trained(whole: Dataset, path: Path, members: int = 1, **train: Any) -> dict[str, Any]:
    """History and parameters after two epochs, and the frames of each device; an ensemble's frames are of one shape."""
    model = ModelConfig(**MODEL, ensemble="full" if members > 1 else "none", members=max(2, members))
    config = Config(output=str(path), data={"train": "ethanol"}, model=model, train={"epochs": 2} | train)
    potential = Potential(config.model, Reference((1, 6, 8), (-467.0,) * 3, (0.5,) * 3, (0.1,) * 3))
    start = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), potential.init(1))
    parts = frames(whole, 0, 37, 2 if members == 1 else 1), frames(whole, 37, 50, 1)
    sets = [batches.make_buckets(part, potential.reference, potential.config.r_max, "float64") for part in parts]
    assert [len(s) for s in sets] == [2 if members == 1 else 1, 1]
    path.mkdir()
    outcome = training.optimise(config, potential.with_params(start), *sets, path, {})
    rows = list(csv.DictReader((path / "history.csv").open(encoding="utf-8")))
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(outcome.potential.params)])
    mesh = devices.mesh_of(config.train)
    steps, _ = next(epochs.BatchStream(config, potential, sets[0], None, mesh)(0))
    shards = [] if mesh is None else [list(one.data.shape) for one in steps.frames.addressable_shards]
    losses = [[float(row[key]) for key in ("train_loss", "valid_loss")] for row in rows]
    return {"params": flat.tolist(), "losses": losses, "streamed": outcome.streamed, "shards": shards}


def refused(**train: Any) -> str:
    """What the user is told of 50 frames."""
    config = TrainConfig(**train)
    try:
        devices.check_batch(config, 50)
        devices.mesh_of(config)
    except UserError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    folder = Path(sys.argv[1])
    device.reserve(4)
    ethanol = read_dataset("ethanol")
    found: dict[str, Any] = {}
    for n, memory in ((1, None), (2, 0.03)):
        found[str(n)] = trained(ethanol, folder / f"on{n}", devices=n, batch_size=8, device_memory_MB=memory)
    for n in (1, 4):
        found[f"members{n}"] = trained(ethanol, folder / f"members{n}", 2, devices=n, batch_size=8)
    found["too many"] = refused(devices=5, batch_size=5)
    found["uneven"] = refused(devices=4, batch_size=6)
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")
