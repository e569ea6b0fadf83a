"""One training on molecules, crystals and a liquid: does it converge for each of them?

    python benchmarks/mixed.py --data DIR [--epochs 60]

DIR is the folder of the public data. 300 frames of rMD17 ethanol, 150 of silicon (energies, forces, stresses) and 60 of
liquid water (192 atoms, no stress) go into one file and one model. Results in benchmarks/results/mixed.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import ase.io  # noqa: E402
import numpy as np  # noqa: E402
from ase import Atoms  # noqa: E402

from benchmarks import pages, stored  # noqa: E402
from gmnn import evaluation, load  # noqa: E402
from gmnn.config.data import DataConfig  # noqa: E402
from gmnn.data import read_dataset  # noqa: E402

SOURCES = {
    "ethanol": ("ethanol/rmd17_ethanol1.xyz", 300), "silicon": ("periodic/mlearn_Si.xyz", 150),
    "water": ("periodic/deepmd_water64_nostress.xyz", 60),
}  # fmt: skip


def frames(data: Path) -> list[Atoms]:
    """The frames of all sources, told apart by their `config_type`."""
    chosen = []
    for name, (file, n) in SOURCES.items():
        every = ase.io.read(data / file, ":")
        for k in np.random.default_rng(0).permutation(len(every))[:n]:
            atoms = Atoms(every[k].numbers, every[k].positions, cell=every[k].cell, pbc=every[k].pbc)
            atoms.calc = every[k].calc
            atoms.info["config_type"] = name
            chosen.append(atoms)
    return chosen


def main() -> None:
    """Train, compare, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp())
    ase.io.write(work / "mixed.extxyz", frames(arguments.data))
    config = (
        f"output: {work / 'model'}\ndata: {{train: {work / 'mixed.extxyz'}}}\ntrain: {{epochs: {arguments.epochs}}}\n"
    )
    (work / "mixed.yaml").write_text(config, encoding="utf-8")
    command = [sys.executable, "train.py", str(work / "mixed.yaml")]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, encoding="utf-8").stdout
    metrics = json.loads((work / "model" / "metrics.json").read_text(encoding="utf-8"))
    data = read_dataset(str(work / "mixed.extxyz"), DataConfig(train=""))
    test = json.loads((work / "model" / "split.json").read_text(encoding="utf-8"))["splits"]["test"]["indices"]
    compared = evaluation.compare(load(work / "model"), data.take(np.array(test)))
    kinds = compared.by_config_type()
    spread = {}
    for name in SOURCES:
        only = compared.of(compared.config_types == name)
        spread[name] = 1e3 * float(np.mean(np.abs(only.forces[..., 0])))
    history = np.genfromtxt(work / "model" / "history.csv", delimiter=",", names=True)
    shapes = next(line for line in printed.splitlines() if line.startswith("training frames:"))
    stored.keep("mixed", {
        "epochs": arguments.epochs, "seconds": metrics["wall_time_s"], "shapes": shapes, "test": kinds,
        "mean_force_meV_per_A": spread, "valid_loss": [float(history["valid_loss"][k]) for k in (0, -1)],
        "compiled_programs": metrics["compiled_programs"], "compile_time_s": metrics["compile_time_s"],
    }, "float32")  # fmt: skip
    print(printed)
    pages.write("docs/accuracy.md")


if __name__ == "__main__":
    main()
