"""Apax 0.14 as a black box in an environment of its own: train it by its command, ask its calculator for numbers.

The environment is a folder with bin/apax, made by `python3.12 -m venv DIR && DIR/bin/pip install apax==0.14.0`. Where
nothing else is said, settings are those of its own template (`apax template train --full`): 16 Bessel functions, five
radial channels, 256 x 256, Adam at 1e-3, cyclic cosine, batches of four, energy and forces weighted 1 to 4.
"""

import csv
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
import yaml
from ase import Atoms

from benchmarks.peers.environment import installed

PREDICT = Path(__file__).with_name("apax_predict.py")
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}


@dataclass(frozen=True)
class Apax:
    """The package in one environment."""

    environment: Path

    def version(self) -> str:
        """Versions of Apax and of the JAX it runs on."""
        versions = installed(self.environment)
        return f"apax {versions['apax']}, jax {versions['jax']}"

    def train(
        self,
        folder: Path,
        train: list[Atoms],
        valid: list[Atoms],
        *,
        epochs: int,
        batch_size: int = 4,
        r_max: float = 5.0,
        seconds: float | None = None,
        core: int | None = None,
    ) -> dict:
        """Train in `folder`, end after `seconds` of wall time if given, on one core or on all; what its log says."""
        write_training(folder, train, valid, epochs, batch_size, r_max=r_max)
        command = ["taskset", "-c", str(core)] if core is not None else []
        command += [str(self.environment / "bin" / "apax"), "train", "train.yaml"]
        clock = time.perf_counter()
        with open(folder / "output.txt", "w", encoding="utf-8") as output:
            process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, env=os.environ | ENVIRONMENT)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        wall = time.perf_counter() - clock
        with open(folder / "models" / "run" / "log.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        later = [float(row["epoch_time"]) for row in rows[1:]]  # the first one compiles
        steps = len(train) // batch_size
        return {
            "wall_s": wall, "epochs": len(rows), "batch_size": batch_size,
            "steps_per_s": steps / float(np.median(later)) if later else None,
            "steps_per_s_best": steps / min(later) if later else None,
        }  # fmt: skip

    def run(self, folder: Path, *arguments: str) -> None:
        """Run a command of Apax in a folder, to its end."""
        command = [self.environment / "bin" / "apax", *arguments]
        subprocess.run(command, cwd=folder, env=os.environ | ENVIRONMENT, check=True, capture_output=True)

    def predict(self, folder: Path, frames: list[Atoms]) -> tuple[np.ndarray, np.ndarray]:
        """Energies [n] eV and forces of all atoms [atoms, 3] eV/Å of the model with the lowest validation loss."""
        bare = [Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in frames]
        ase.io.write(folder / "frames.extxyz", bare)
        python = self.environment / "bin" / "python"
        subprocess.run(
            [python, "-P", PREDICT, "models/run", "frames.extxyz", "predicted.npz"],
            cwd=folder, env=os.environ | ENVIRONMENT, check=True, capture_output=True,
        )  # fmt: skip
        predicted = np.load(folder / "predicted.npz")
        return predicted["energies"], predicted["forces"]


def errors(frames: list[Atoms], energies: np.ndarray, forces: np.ndarray) -> dict[str, float]:
    """Mean absolute errors under the names of gmnn's metrics."""
    sizes = np.array([len(atoms) for atoms in frames])
    wrong = np.abs(energies - [atoms.get_potential_energy() for atoms in frames])
    return {
        "energy_mae_meV": float(1e3 * np.mean(wrong)),
        "energy_mae_meV_per_atom": float(1e3 * np.mean(wrong / sizes)),
        "forces_mae_meV_per_A": float(
            1e3 * np.mean(np.abs(forces - np.concatenate([atoms.get_forces() for atoms in frames])))
        ),
    }


def write_training(
    folder: Path,
    train: list[Atoms],
    valid: list[Atoms],
    epochs: int,
    batch_size: int,
    model: dict | None = None,
    r_max: float = 5.0,
    **settings: object,
) -> None:
    """Write the frames and `train.yaml`; `model` replaces its default model, `settings` add to the configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frames in (("train", train), ("valid", valid)):
        ase.io.write(folder / f"{name}.extxyz", frames)
    config = {
        "n_epochs": epochs,
        "seed": 1,
        "data": {
            "directory": "models/", "experiment": "run", "train_data_path": "train.extxyz",
            "val_data_path": "valid.extxyz", "batch_size": batch_size, "valid_batch_size": min(len(valid), 50),
            "pos_unit": "Ang", "energy_unit": "eV",
        },
        "model": model or {"name": "gmnn", "basis": {"name": "bessel", "n_basis": 16, "r_max": r_max}},
        "loss": [{"name": "energy", "weight": 1.0}, {"name": "forces", "weight": 4.0}],
        "metrics": [{"name": "energy", "reductions": ["mae"]}, {"name": "forces", "reductions": ["mae", "mse"]}],
        "callbacks": [{"name": "csv"}],
        **settings,
    }  # fmt: skip
    (folder / "train.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
