"""Accuracy on rMD17, official split 1: what helps, how far one configuration gets, and the direct peer at equal time.

    python benchmarks/rmd17.py ladder --data FILE               one change at a time: short runs from the defaults,
                                                                longer ones from the configuration (an hour)
    python benchmarks/rmd17.py long ethanol --data FILE         the configuration as it is (resumable)
    python benchmarks/rmd17.py long benzene --data FILE         the same for another molecule
    python benchmarks/rmd17.py speed --data FILE --apax DIR     steps per second beside Apax, in turns
    python benchmarks/rmd17.py peer --data FILE --apax DIR      Apax in its own environment, five minutes each
    python benchmarks/rmd17.py write                            docs/accuracy.md and its figures from the results

FILE holds the 1,000 training frames of the split and test frames behind them. Results in benchmarks/results/rmd17.json.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import json  # noqa: E402

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks import pages, stored  # noqa: E402
from benchmarks.peers.apax import Apax, errors  # noqa: E402
from benchmarks.peers.frames import split_frames  # noqa: E402
from gmnn import evaluation, training  # noqa: E402
from gmnn.config.reading import Config, read_config  # noqa: E402
from gmnn.data import Dataset, fit_reference, split  # noqa: E402
from gmnn.data.batches import make_buckets  # noqa: E402
from gmnn.model import radial  # noqa: E402
from gmnn.model.potential import Potential  # noqa: E402

CONFIG = ROOT / "configs" / "rmd17.yaml"
LADDER_EPOCHS = 30
LONG_EPOCHS = 300
DEFAULTS = [
    "model.r_max=5",
    "model.n_radial=5",
    "train.batch_size=8",
    "train.learning_rate=6e-3",
    "train.clip_norm=null",
    "train.schedule.warmup_epochs=1",
]
RUNGS: dict[str, list[str]] = {
    "the defaults": [],
    "amplitudes of Kocer et al.": [],
    "features not normalised": [],
    "cosine cutoff": ["model.cutoff=cosine"],
    "r_max 4 Å": ["model.r_max=4"],
    "r_max 6 Å": ["model.r_max=6"],
    "3 radial channels": ["model.n_radial=3"],
    "7 radial channels": ["model.n_radial=7"],
    "8 basis functions": ["model.n_basis=8"],
    "24 basis functions": ["model.n_basis=24"],
    "hidden 128 x 128": ["model.hidden=[128, 128]"],
    "hidden 512 x 512": ["model.hidden=[512, 512]"],
    "energy weight 0.3": ["train.loss.energy.weight=0.3"],
    "energy weight 30": ["train.loss.energy.weight=30"],
    "energy weight 0.3, then 30": ["train.loss.energy.weight=0.3", "train.loss.energy.final_weight=30"],
    "Huber loss of forces": ["train.loss.forces.form=huber", "train.loss.forces.delta=0.02"],
    "constant rate": ["train.schedule.form=constant"],
    "exponential rate": ["train.schedule.form=exponential"],
    "learning rate 2e-3": ["train.learning_rate=2e-3"],
    "learning rate 1.2e-2": ["train.learning_rate=1.2e-2"],
    "no average": ["train.averaging.form=none"],
    "batches of 4": ["train.batch_size=4"],
    "batches of 16": ["train.batch_size=16"],
    "gradient clipped at 1": ["train.clip_norm=1"],
    "rate 2e-3, clipped, batches of 4": ["train.learning_rate=2e-3", "train.clip_norm=1", "train.batch_size=4"],
    "the same, 6 Å, 7 channels": [
        "train.learning_rate=2e-3",
        "train.clip_norm=1",
        "train.batch_size=4",
        "model.r_max=6",
        "model.n_radial=7",
    ],
}
LONG_RUNGS: dict[str, list[str]] = {
    "the configuration: smoothness 1, r_max 6 Å": [],
    "smoothness 0 (equal amplitudes)": ["model.smoothness=0"],
    "smoothness 0.5": ["model.smoothness=0.5"],
    "smoothness 1.5": ["model.smoothness=1.5"],
    "r_max 5 Å": ["model.r_max=5"],
    "smoothness 0, 8 basis functions": ["model.smoothness=0", "model.n_basis=8"],
    "smoothness 0, weight decay 0.1": ["model.smoothness=0", "train.weight_decay=0.1"],
    "smoothness 0, weight decay 1": ["model.smoothness=0", "train.weight_decay=1"],
}
PEER_SECONDS = 300.0
RATE_EPOCHS = 10  # of a short run that says how many epochs fit
TURNS = 2


@contextmanager
def amplitudes_of_kocer(on: bool):
    """The published normalisation (n + 1)(n + 2) / sqrt((n + 1)^2 + (n + 2)^2) in place of equal amplitudes."""
    ours: Callable[..., Any] = radial.bessel_basis

    def theirs(r: Any, r_max: float, n_basis: int, smoothness: float) -> Any:
        n = np.arange(n_basis)
        factor = (n + 1) * (n + 2) / np.sqrt((n + 1) ** 2 + (n + 2) ** 2)
        shape = (1,) * r.ndim + (-1,)
        return ours(r, r_max, n_basis, smoothness) * jnp.asarray(factor, r.dtype).reshape(shape)

    radial.bessel_basis = theirs if on else ours
    try:
        yield
    finally:
        radial.bessel_basis = ours


def rung(name: str, data: str, epochs: int, overrides: list[str]) -> dict:
    """One training and its errors on the test frames and on the training frames, which show how much it overfits."""
    config = read_config(str(CONFIG), [f"data.train={data}", f"train.epochs={epochs}", *overrides])
    with amplitudes_of_kocer(name == "amplitudes of Kocer et al."), tempfile.TemporaryDirectory() as folder:
        splits = split(config)
        potential = prepared(config, splits.train)
        if name == "features not normalised":
            potential = replace(potential, reference=replace(potential.reference, feature_scale=()))
        sets = [
            make_buckets(part, potential.reference, potential.config.r_max) for part in (splits.train, splits.valid)
        ]
        outcome = training.optimise(config, potential, *sets, Path(folder), {})
        tested = evaluation.compare(outcome.potential, splits.test).metrics()
        learnt = evaluation.compare(outcome.potential, splits.train).metrics()
    return {
        "overrides": overrides, "epochs": epochs, "steps": outcome.steps, "seconds": outcome.seconds,
        "forces_mae_meV_per_A": tested["forces_mae_meV_per_A"], "energy_mae_meV": tested["energy_mae_meV"],
        "forces_rmse_meV_per_A": tested["forces_rmse_meV_per_A"],
        "learnt_forces_mae_meV_per_A": learnt["forces_mae_meV_per_A"],
    }  # fmt: skip


def prepared(config: Config, frames: Dataset) -> Potential:
    """The untrained potential of a configuration, as the command `train` makes it."""
    potential = Potential(config.model, fit_reference(frames, config))
    return training.scale_features(
        potential, [b.systems for b in make_buckets(frames, potential.reference, potential.config.r_max)], config.seed
    )


def ladder(data: str) -> None:
    """All rungs that are not stored yet."""
    results = stored.read("rmd17")
    both = ("ladder", LADDER_EPOCHS, RUNGS, DEFAULTS), ("long_ladder", LONG_EPOCHS, LONG_RUNGS, [])
    for kind, epochs, changes, base in both:
        rungs = results.setdefault(kind, {})
        for name, change in changes.items():
            overrides = [*base, *change]
            if rungs.get(name, {}).get("epochs") != epochs or rungs[name]["overrides"] != overrides:
                rungs[name] = rung(name, data, epochs, overrides)
                stored.keep("rmd17", results, "float32")
            print(name, {k: v for k, v in rungs[name].items() if k != "overrides"}, flush=True)


def command(output: Path, data: str, *overrides: str) -> dict:
    """`train.py configs/rmd17.yaml` in a process of its own; its metrics, and the wall time in all."""
    clock = time.perf_counter()
    arguments = [sys.executable, "train.py", str(CONFIG), "--resume", f"output={output}", f"data.train={data}"]
    subprocess.run([*arguments, *overrides], cwd=ROOT, check=True)
    return {**json.loads((output / "metrics.json").read_text(encoding="utf-8")), "wall_s": time.perf_counter() - clock}


def long(molecule: str, data: str, overrides: list[str]) -> None:
    """The configuration from start to end; errors, learning curve."""
    output = ROOT / "models" / f"rmd17_{molecule}"
    metrics = command(output, data, *overrides)
    results = stored.read("rmd17")
    history = np.genfromtxt(output / "history.csv", delimiter=",", names=True)
    every = np.unique(np.geomspace(1, len(history), 60).astype(int)) - 1
    kept = ("test", "valid", "epochs", "best_epoch", "wall_time_s", "steps_per_s")
    results.setdefault("long", {})[molecule] = {
        "metrics": {key: metrics[key] for key in kept}, "cores": len(os.sched_getaffinity(0)),
        "compile_time_s": metrics["compile_time_s"], "head_room": metrics["head_room"], "overrides": overrides,
        "curve": {
            "seconds": history["seconds"][every].round(1).tolist(),
            "forces_mae_meV_per_A": history["valid_forces_mae_meV_per_A"][every].round(3).tolist(),
            "energy_mae_meV": history["valid_energy_mae_meV"][every].round(3).tolist(),
        },
    }  # fmt: skip
    stored.keep("rmd17", results, "float32")
    print(molecule, results["long"][molecule]["metrics"]["test"])


def speed(data: str, environment: Path) -> None:
    """Steps per second at batches of 4 and 32 of the same model, Apax and gmnn in turns."""
    apax, work = Apax(environment), Path(tempfile.mkdtemp())
    train, valid, _ = split_frames(CONFIG, f"data.train={data}")
    rates: dict[str, list[float]] = {}
    for size, epochs in ((4, 3), (32, 8)):
        for turn in range(TURNS):
            name = f"{size}_{turn}"
            theirs = apax.train(work / f"apax_{name}", train, valid, epochs=epochs, batch_size=size)
            ours = command(
                work / f"gmnn_{name}", data, *DEFAULTS, f"train.epochs={4 * epochs}", f"train.batch_size={size}"
            )
            rates.setdefault(f"apax {size}", []).append(theirs["steps_per_s"])
            rates.setdefault(f"gmnn {size}", []).append(ours["steps_per_s"])
            print(size, turn, theirs["steps_per_s"], ours["steps_per_s"], flush=True)
    ratios = {
        size: [a / b for a, b in zip(rates[f"gmnn {size}"], rates[f"apax {size}"], strict=True)] for size in (4, 32)
    }
    results = stored.read("rmd17")
    results["speed"] = {
        "version": apax.version(), "cores": os.cpu_count(), "steps_per_s": rates,
        "ratio": {str(size): float(np.median(values)) for size, values in ratios.items()},
    }  # fmt: skip
    stored.keep("rmd17", results, "float32")
    print(results["speed"])


def peer(data: str, environment: Path) -> None:
    """Both for five minutes of wall time: as many epochs as fit, start and compilation included. After `speed`."""
    apax, work, results = Apax(environment), Path(tempfile.mkdtemp()), stored.read("rmd17")
    train, valid, test = split_frames(CONFIG, f"data.train={data}")
    start = 30.0
    epochs = int(
        (PEER_SECONDS - start) * float(np.median(results["speed"]["steps_per_s"]["apax 4"])) / (len(train) // 4)
    )
    theirs = apax.train(work / "apax_long", train, valid, epochs=epochs, seconds=PEER_SECONDS + 60)
    runs = {"apax": {**theirs, "of_epochs": epochs, **errors(test, *apax.predict(work / "apax_long", test))}}
    rate = command(work / "gmnn_short", data, f"train.epochs={RATE_EPOCHS}")["steps_per_s"]
    epochs = int((PEER_SECONDS - start) * rate / -(-len(train) // read_config(str(CONFIG)).train.batch_size))
    ours = command(work / "gmnn_long", data, f"train.epochs={epochs}")
    runs["gmnn"] = {
        "wall_s": ours["wall_s"], "epochs": ours["epochs"], "steps_per_s": ours["steps_per_s"],
        **{key: ours["test"][key] for key in ("energy_mae_meV", "energy_mae_meV_per_atom", "forces_mae_meV_per_A")},
    }  # fmt: skip
    results["peer"] = {"version": apax.version(), **runs}
    stored.keep("rmd17", results, "float32")
    print(runs)


def main() -> None:
    """Dispatch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("ladder", "long", "speed", "peer", "write"))
    parser.add_argument("molecule", nargs="?", default="ethanol")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    parser.add_argument("--data", help="the file of the split")
    parser.add_argument("--apax", type=Path, help="environment in which Apax is installed")
    arguments = parser.parse_args()
    data = str(Path(arguments.data).resolve()) if arguments.data else ""
    if arguments.what == "ladder":
        ladder(data)
    elif arguments.what == "long":
        long(arguments.molecule, data, arguments.overrides)
    elif arguments.what in ("speed", "peer"):
        (speed if arguments.what == "speed" else peer)(data, arguments.apax.resolve())
    pages.write("docs/accuracy.md", "README.md")


if __name__ == "__main__":
    main()
