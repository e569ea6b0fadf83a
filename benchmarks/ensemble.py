"""A shallow ensemble on ethanol: are its spreads right, before and after calibration, and what does it cost?

    python benchmarks/ensemble.py [--epochs 120] [--members 8]

The quick configuration of the embedded set with `ensemble: shallow` and the CRPS of the energies as its loss,
beside a single model. Steps per second of both are measured in turns. Results in benchmarks/results/ensemble.json, the
figure of the test set in docs/figures/ensemble_calibration.png.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import pages, stored  # noqa: E402

KINDS = {"single": [], "shallow": ["model.ensemble=shallow", "train.loss.energy.form=crps"]}
TURNS, TURN_EPOCHS = 3, 12


def train(name: str, *overrides: str) -> dict:
    """One training from its start; its metrics."""
    folder = ROOT / "models" / f"ensemble_{name}"
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "train.py", "configs/ethanol_quick.yaml", f"output={folder}", *overrides]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def main() -> None:
    """Train, time, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--members", type=int, default=8)
    arguments = parser.parse_args()
    size = [f"model.members={arguments.members}"]
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(TURNS):
        for kind, overrides in KINDS.items():
            rates[kind].append(train(f"turn_{kind}", f"train.epochs={TURN_EPOCHS}", *overrides, *size)["steps_per_s"])
    test = {kind: train(kind, f"train.epochs={arguments.epochs}", *more, *size)["test"] for kind, more in KINDS.items()}
    shutil.copy(
        ROOT / "models" / "ensemble_shallow" / "calibration_test.png",
        ROOT / "docs" / "figures" / "ensemble_calibration.png",
    )
    cost = [a / b for a, b in zip(rates["single"], rates["shallow"], strict=True)]
    stored.keep("ensemble", {
        "epochs": arguments.epochs, "members": arguments.members, "test": test, "steps_per_s": rates,
        "cost": float(np.median(cost)),
    }, "float32")  # fmt: skip
    print(cost, test["shallow"]["uncertainty"])
    pages.write("docs/accuracy.md")


if __name__ == "__main__":
    main()
