"""What makes the certified bound of the network's force small, and what it costs.

    python benchmarks/certified_force.py [--steps 8000]

Trainings of the default with weight decay, with tighter bounds of the moments and with weight matrices of limited
spectral norm, one seed, 1,000 ethanol frames: errors on the test frames beside the certified Λ of every pair. Results
in benchmarks/results/certified_force.json; a training that is there is not repeated.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax.numpy as jnp
import numpy as np
import optax
from ase import Atoms

from benchmarks import pages, stored
from benchmarks.study.cells import Cell, frames
from benchmarks.study.models import CellTrainer, Evaluator
from benchmarks.study.seeds import SeedTrainer
from benchmarks.study.spectral import within
from benchmarks.study.verdicts import accuracy
from gmnn.certificate import certify
from gmnn.config.model import CoreConfig, ModelConfig
from gmnn.data.batches import without_stress

CHOICES: dict[str, tuple[float, float, float | None]] = {  # moment_room, weight_decay, limit of the spectral norms
    "default": (3.0, 0.0, None), "room 1.5": (1.5, 0.0, None), "decay 0.1": (3.0, 0.1, None),
    "decay 1": (3.0, 1.0, None), "norms below 4": (3.0, 0.0, 4.0), "norms below 2": (3.0, 0.0, 2.0),
    "norms below 1": (3.0, 0.0, 1.0), "room 1.5, norms below 1": (1.5, 0.0, 1.0),
}  # fmt: skip


def main() -> None:
    """Train, certify, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8000)
    steps = parser.parse_args().steps
    data, cell, choices = frames(), Cell("default", 16, 1000), stored.read("certified_force").get("choices", {})
    pool = CellTrainer(data, steps)
    member = data.member(cell, 0)
    labels = without_stress(jnp.asarray(data.energies(member.reference)[None], "float32"), pool.forces[None])
    atoms = Atoms(data.molecules[0].numbers, data.molecules[0].positions)
    for name, (room, decay, limit) in CHOICES.items():
        if choices.get(name, {}).get("steps") == steps:
            continue
        config = cell.config()
        model: ModelConfig = replace(config.model, core=CoreConfig(moment_room=room))
        train = config.train.model_copy(update={"weight_decay": decay})
        config = config.model_copy(update={"model": model, "train": train})
        trainer = SeedTrainer(config, member.reference, pool.pool, steps)
        if limit is not None:
            trainer.optimizer = optax.chain(trainer.optimizer, within(limit))
        potential = trainer.train([member], labels)[0][0]
        layers = potential.trained["readout"].values()
        proved = certify(potential, atoms, samples=0)
        choices[name] = {
            "moment_room": room, "weight_decay": decay, "norm_limit": limit, "steps": steps,
            "spectral_norms": [float(np.linalg.norm(layer["kernel"], 2)) for layer in layers],
            **{key: float(value) for key, value in accuracy(potential, Evaluator(potential), data).items()},
            "certified_eV_per_A": proved.network, "monotone_A": proved.monotone, "barrier_A": proved.barrier,
        }  # fmt: skip
        print(name, choices[name]["forces_mae_meV_per_A"], np.nanmax([v or np.nan for v in proved.network.values()]))
        stored.keep("certified_force", {"choices": choices}, "float32 training, float64 certificate")
    pages.write("docs/how_much_data.md")


if __name__ == "__main__":
    main()
