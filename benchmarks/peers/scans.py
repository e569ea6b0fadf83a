"""The same scan for gmnn and for other potentials of ethanol: each peer in an environment of its own, results stored.

    python benchmarks/peers/scans.py gmnn
    python benchmarks/peers/scans.py gfn2-xtb                                      needs tblite
    python benchmarks/peers/scans.py apax --environment ENV --work DIR             trains there, 10 minutes on two cores
    python benchmarks/peers/scans.py mace --environment ENV --work DIR             the same, 15 minutes
    python benchmarks/peers/scans.py mace-core --environment ENV --work DIR        with ZBL and the Agnesi transform
    python benchmarks/peers/scans.py write                                         docs/peers.md and its figure

ENV: `python3.12 -m venv ENV && ENV/bin/pip install apax==0.14.0`, or `python3.11 -m venv ENV && ENV/bin/pip install
mace-torch`. The potentials learn the same frames of the embedded set as configs/ethanol_quick.yaml, 1,000 and 100 to
validate with. scan.py runs with their Python and needs ase, numpy and matplotlib of it.
Results: benchmarks/peers/scans.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import ase.io  # noqa: E402
import numpy as np  # noqa: E402
from ase import Atoms  # noqa: E402

from benchmarks import pages, stored  # noqa: E402
from benchmarks.blocks.peers import NAMES, STORED  # noqa: E402
from benchmarks.peers.apax import Apax, errors  # noqa: E402
from benchmarks.peers.frames import split_frames  # noqa: E402
from gmnn import files  # noqa: E402

CONFIG = ROOT / "configs" / "ethanol_quick.yaml"
EPOCHS = {"gmnn": 250, "apax": 250, "mace": 16, "mace-core": 16}
MACE = {
    "model": "MACE", "num_channels": 32, "max_L": 0, "r_max": 5.0, "batch_size": 10, "valid_batch_size": 50,
    "default_dtype": "float32", "device": "cpu", "E0s": "average", "energy_key": "REF_energy", "seed": 1,
    "forces_key": "REF_forces", "energy_weight": 1.0, "forces_weight": 100.0, "lr": 0.01, "scheduler_patience": 5,
    "ema_decay": 0.99, "name": "mace", "eval_interval": 2, "num_workers": 0,
}  # fmt: skip


def main() -> None:
    """Train if need be, scan, store; or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=[*NAMES, "write"])
    parser.add_argument("--environment", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/peers"))
    parser.add_argument("--epochs", type=int)
    arguments = parser.parse_args()
    if arguments.peer != "write":
        python = arguments.environment.absolute() / "bin" / "python" if arguments.environment else Path(sys.executable)
        run(arguments.peer, python, arguments.work.absolute() / arguments.peer, arguments.epochs)
    pages.write("docs/peers.md")


def run(peer: str, python: Path, work: Path, epochs: int | None) -> None:
    """Make the model of a peer unless it is there, scan with it, keep the result."""
    work.mkdir(parents=True, exist_ok=True)
    if peer == "gmnn":
        described = json.loads((ROOT / "examples" / "ethanol" / "config.json").read_text(encoding="utf-8"))["metrics"][
            "test"
        ]
        about = {key: described[key] for key in ("energy_mae_meV", "forces_mae_meV_per_A")} | {"epochs": EPOCHS[peer]}
        options = ["examples/ethanol"]
    elif peer == "gfn2-xtb":
        options, about = ["--calculator", peer], {}
    else:
        options, about = trained(peer, python, work, epochs or EPOCHS[peer])
    out = work / "scan"
    done = subprocess.run(
        [python, ROOT / "scan.py", *options, "--out", out], text=True, capture_output=True,
        cwd=ROOT if peer == "gmnn" else work,  # Apax leaves files where it runs
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}, encoding="utf-8",
    )  # fmt: skip
    print(done.stdout, done.stderr)
    if done.returncode not in (0, 1):
        raise SystemExit(done.returncode)
    kept = STORED / peer
    kept.mkdir(parents=True, exist_ok=True)
    shutil.copy(out / "scan.csv", kept)
    summary = json.loads((out / "scan.json").read_text(encoding="utf-8")) | {"model": NAMES[peer], "training": about}
    files.write_json(kept / "scan.json", summary | {"made": stored.provenance("float64")})


def trained(peer: str, python: Path, work: Path, epochs: int) -> tuple[list[str], dict]:
    """How scan.py gets the model, and its errors on the test frames."""
    train, valid, test = split_frames(CONFIG)
    mark = work / "trained.json"
    if peer == "apax":
        apax = Apax(python.parents[1])
        if not mark.is_file():
            facts = apax.train(work, train, valid, epochs=epochs)
            mark.write_text(json.dumps(facts | errors(test, *apax.predict(work, test))), encoding="utf-8")
        options = ["--calculator", "apax", "--kwargs", json.dumps({"model_dir": str(work / "models/run")})]
        return options, json.loads(mark.read_text(encoding="utf-8"))
    for name, part in (("train", train), ("valid", valid), ("test", test)):
        ase.io.write(work / f"{name}.extxyz", [relabelled(atoms) for atoms in part])
    if not mark.is_file():
        settings = MACE | {"train_file": "train.extxyz", "valid_file": "valid.extxyz", "max_num_epochs": epochs}
        command = [str(python.parent / "mace_run_train"), "--ema", "--restart_latest"]
        command += [f"--{key}={value}" for key, value in settings.items()]
        command += ["--pair_repulsion", "--distance_transform=Agnesi"] if peer == "mace-core" else []
        with open(work / "output.txt", "w", encoding="utf-8") as output:
            subprocess.run(command, cwd=work, stdout=output, stderr=output, check=True)
        facts = {"epochs": epochs, "settings": settings}
        evaluated = {"configs": "test.extxyz", "model": "mace.model", "output": "found.extxyz", "device": "cpu"}
        command = [str(python.parent / "mace_eval_configs"), "--batch_size=50", "--default_dtype=float32"]
        command += [f"--{key}={value}" for key, value in evaluated.items()]
        subprocess.run(command, cwd=work, check=True, capture_output=True)
        predicted = ase.io.read(work / "found.extxyz", ":")
        energies = np.array([atoms.info["MACE_energy"] for atoms in predicted])
        forces = np.concatenate([atoms.arrays["MACE_forces"] for atoms in predicted])
        mark.write_text(json.dumps(facts | errors(test, energies, forces)), encoding="utf-8")
    options = ["--calculator", "mace", "--kwargs", json.dumps({"model_paths": str(work / "mace.model")})]
    return options, json.loads(mark.read_text(encoding="utf-8"))


def relabelled(atoms: Atoms) -> Atoms:
    """With labels under names of their own."""
    bare = Atoms(atoms.numbers, atoms.positions)
    bare.info["REF_energy"], bare.arrays["REF_forces"] = atoms.get_potential_energy(), atoms.get_forces()
    return bare


if __name__ == "__main__":
    main()
