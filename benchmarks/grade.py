"""The grade of an atom: which number says best that its force is wrong, and what it costs.

    python benchmarks/reference/hot_molecules.py ... HOT     # in an environment with tblite
    python benchmarks/grade.py --data DIR --hot HOT [NAME ...]

DIR has ethanol_gfn2/ and periodic/, HOT what the script above writes. Every set is trained twice, as one network and as
a shallow ensemble, on few calm frames, and judged on frames that are hotter. Results in benchmarks/results/grade.json.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read, write

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from gmnn.training.run import train  # noqa: E402

KINDS: dict[str, dict] = {
    "single": {},
    "shallow": {"model": {"ensemble": "shallow"}, "train": {"loss": {"energy": {"form": "crps"}}}},
}
CRYSTAL = {"loss": {"energy": {"weight": 0.03}, "stress": {"weight": 0.03}}, "batch_size": 4}
TRAIN: dict[str, dict] = {
    "ethanol": {"epochs": 300},
    "benzene": {"epochs": 300},
    "silicon": {**CRYSTAL, "epochs": 60},
    "water": {"epochs": 60, "batch_size": 2, "learning_rate": 3e-3},
}


def by_force(frames: list[Atoms]) -> list[Atoms]:
    """Frames from the calmest to the hottest, without those at rest."""
    rms = np.array([np.sqrt(np.mean(atoms.get_forces() ** 2)) for atoms in frames])
    return [frames[k] for k in np.argsort(rms, kind="stable") if rms[k] > 1e-3]


def parts(name: str, data: Path, hot: Path) -> dict[str, list[Atoms]]:
    """Frames to train on, to validate with and to judge by."""
    rng = np.random.default_rng(0)
    if name in ("ethanol", "benzene"):
        source = data / "ethanol_gfn2" / "ethanol_gfn2_md1000.xyz" if name == "ethanol" else hot / "benzene_gfn2.xyz"
        calm = read(source, ":")
        chosen = [calm[k] for k in rng.permutation(len(calm))[:150]]
        return {"train": chosen[:100], "valid": chosen[100:], "hot": read(hot / f"{name}_hot.xyz", ":")}
    if name == "silicon":
        frames = by_force(read(data / "periodic" / "mlearn_Si.xyz", ":"))
        calm, judged = frames[: len(frames) // 3], frames[-len(frames) // 4 :]
    else:
        frames = by_force(read(data / "periodic" / "deepmd_water64_nostress.xyz", ":"))
        calm, judged = frames[: len(frames) // 10], frames[-len(frames) // 10 :]
    order, n_valid = rng.permutation(len(calm)), max(3, len(calm) // 5)
    return {
        "train": [calm[k] for k in order[n_valid:]], "valid": [calm[k] for k in order[:n_valid]], "hot": judged
    }  # fmt: skip


def trained(name: str, kind: str, work: Path, frames: dict[str, list[Atoms]]) -> Path:
    """Folder of the potential of a kind for a set, trained now if it is not there; its frames lie beside it."""
    for part, some in frames.items():
        if not (work / f"{name}_{part}.xyz").exists():
            write(work / f"{name}_{part}.xyz", some, "extxyz")
    folder = work / f"{name}_{kind}"
    if not (folder / "metrics.json").exists():
        settings: dict[str, Any] = {"output": str(folder), "data": {}, **KINDS[kind]}
        settings["data"] = {"train": str(work / f"{name}_train.xyz"), "valid": str(work / f"{name}_valid.xyz")}
        loss = {**TRAIN[name].get("loss", {})}
        for term, values in KINDS[kind].get("train", {}).get("loss", {}).items():
            loss[term] = {**loss.get(term, {}), **values}
        settings["train"] = {**TRAIN[name], "loss": loss}
        train(settings)
    return folder


def main() -> None:
    """Measure the sets that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(TRAIN)}; all by default")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--hot", type=Path, required=True)
    arguments = parser.parse_args()
    work = ROOT / "models" / "grade"
    work.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or TRAIN:
        frames = parts(name, arguments.data, arguments.hot)
        for kind in KINDS:
            print(trained(name, kind, work, frames), flush=True)


if __name__ == "__main__":
    main()
