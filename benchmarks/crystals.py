"""Crystals with stress: errors beside Apax on the same splits, elastic constants of silicon, stress after training.

    python benchmarks/crystals.py --data DIR [--apax DIR] [--seconds 300] [NAME ...]

DIR/mlearn_{Si,Ge,Li}.xyz and DIR/snap_MoTa_SS.xyz. Each set is split 80/10/10 with a seed; both programs train side by
side, one core each, for the same wall time (epochs are set from a short run before). Apax learns energies and forces.
Without --apax its stored results stay. Results in benchmarks/results/crystals.json; sets that are named are repeated.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from ase import Atoms, units  # noqa: E402
from ase.build import bulk  # noqa: E402
from ase.calculators.fd import calculate_numerical_stress  # noqa: E402

from benchmarks import pages, stored  # noqa: E402
from benchmarks.peers.apax import Apax, errors  # noqa: E402
from benchmarks.peers.frames import split_frames  # noqa: E402
from examples.elastic import elastic  # noqa: E402
from gmnn import Calculator  # noqa: E402

CONFIG = ROOT / "configs" / "crystal.yaml"
OVERRIDES = {  # the default weights: in its cells of 16 atoms those of the configuration trade energies for forces
    "MoTa": ["train.loss.energy.weight=3", "train.loss.stress.weight=1"],
}
FILES = {"Si": "mlearn_Si.xyz", "Ge": "mlearn_Ge.xyz", "Li": "mlearn_Li.xyz", "MoTa": "snap_MoTa_SS.xyz"}
PROBE = 3  # epochs of the short run
START = 40.0  # s of a run that are not training: imports, neighbours, compilation


def gmnn(folder: Path, data: str, epochs: int, overrides: list[str]) -> dict:
    """`train.py` on core 0; its metrics."""
    arguments = [
        "taskset",
        "-c",
        "0",
        sys.executable,
        "train.py",
        str(CONFIG),
        f"output={folder}",
        f"data.train={data}",
    ]
    clock = time.perf_counter()
    subprocess.run([*arguments, f"train.epochs={epochs}", *overrides], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return {**json.loads((folder / "metrics.json").read_text(encoding="utf-8")), "wall_s": time.perf_counter() - clock}


def theirs(apax: Apax, work: Path, frames: tuple[list[Atoms], ...], seconds: float) -> dict:
    """Apax on core 1: its speed and its errors on the test frames."""
    train, valid, test = frames
    probe = apax.train(work / "probe", train, valid, epochs=PROBE, core=1)
    epochs = int((seconds - START) * probe["steps_per_s"] / (len(train) // 4))
    run = apax.train(work / "apax", train, valid, epochs=epochs, core=1)
    return {**run, **errors(test, *apax.predict(work / "apax", test))}


def side_by_side(name: str, data: str, apax: Apax | None, seconds: float, before: dict) -> dict:
    """Train both, or gmnn alone, and compare them on the test frames."""
    work, results = Path(tempfile.mkdtemp()), dict(before)
    frames = split_frames(CONFIG, f"data.train={data}")
    other = None
    if apax is not None:
        other = threading.Thread(target=lambda: results.update(apax=theirs(apax, work, frames, seconds)))
        other.start()
    overrides = OVERRIDES.get(name, [])
    probe = gmnn(work / "probe_gmnn", data, PROBE, overrides)
    steps = -(-len(frames[0]) // 4)
    model = ROOT / "models" / f"crystal_{name}"
    ours = gmnn(model, data, int((seconds - START) * probe["steps_per_s"] / steps), overrides)
    if other is not None:
        other.join()
    return {
        **results,
        "frames": dict(zip(("train", "valid", "test"), map(len, frames), strict=True)),
        "gmnn": {
            "wall_s": ours["wall_s"], "epochs": ours["epochs"], "steps_per_s": ours["steps_per_s"], **ours["test"],
            "strengths": {row["pair"]: row["strength"] for row in ours["repulsion"]},
        },
        "stress_by_differences": stress_after_training(str(model), frames[2]),
    }  # fmt: skip


def stress_after_training(model: str, frames: list[Atoms]) -> dict:
    """The calculator's stress in float64 against differences of its energy, in three cells."""
    atoms = Atoms(frames[0].numbers, frames[0].positions, cell=frames[0].cell, pbc=True)
    strained = atoms.copy()
    strained.set_cell(atoms.cell @ np.array([[1.03, 0.02, 0.0], [0.0, 0.98, 0.01], [0.0, 0.0, 1.01]]), True)
    sheared = atoms[: len(atoms) // 4]  # fewer atoms in a thin triclinic cell: images of images are neighbours
    sheared.set_cell(atoms.cell @ np.array([[0.8, 0.0, 0.0], [0.2, 0.9, 0.0], [-0.15, 0.25, 0.9]]), True)
    rows = {}
    for name, cell in (("test frame", atoms), ("strained", strained), ("triclinic", sheared)):
        cell.calc = Calculator(model, dtype="float64", path="reference")
        got = cell.get_stress(voigt=False)
        numeric = calculate_numerical_stress(cell, eps=1e-4, voigt=False)
        rows[name] = {"largest_GPa": _GPa(np.abs(got).max()), "difference_GPa": _GPa(np.abs(got - numeric).max())}
    return rows


def silicon(model: str) -> dict:
    """Lattice constant, bulk modulus and cubic elastic constants, atoms relaxed in every strained cell."""
    atoms = bulk("Si", "diamond", a=5.47, cubic=True)
    atoms.calc = Calculator(model, dtype="float64", path="reference")
    return elastic(atoms)


def _GPa(value: float) -> float:
    return float(value / units.GPa)


def main() -> None:
    """The sets that are named, or those that are not stored."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(FILES)}; by default those that are not stored")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--apax", type=Path)
    parser.add_argument("--seconds", type=float, default=300.0)
    arguments = parser.parse_args()
    results = stored.read("crystals")
    sets, apax = results.setdefault("sets", {}), Apax(arguments.apax.resolve()) if arguments.apax else None
    for name in arguments.names or [name for name in FILES if name not in sets]:
        data = str((arguments.data / FILES[name]).resolve())
        sets[name] = side_by_side(name, data, apax, arguments.seconds, sets.get(name, {}))
        if apax is not None:
            results["apax"] = apax.version()
        if name == "Si":
            results["silicon"] = silicon(str(ROOT / "models" / "crystal_Si"))
        stored.keep("crystals", results, "float32 training, float64 stress and elastic constants")
        print(name, sets[name], flush=True)
    pages.write("docs/accuracy.md")


if __name__ == "__main__":
    main()
