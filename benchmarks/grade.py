"""The grade of an atom: which number says best that its force is wrong, and what it costs.

    python benchmarks/reference/hot_molecules.py ... HOT     # in an environment with tblite
    python benchmarks/grade.py --data DIR --hot HOT [NAME ...]

DIR has ethanol_gfn2/ and periodic/, HOT what the script above writes. Every set is trained twice, as one network and as
a shallow ensemble, on few calm frames, and judged on frames that are hotter. Results in benchmarks/results/grade.json.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms
from ase.io import read, write
from scipy.stats import rankdata

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import gmnn  # noqa: E402
from benchmarks import stored, timing  # noqa: E402
from gmnn import evaluation  # noqa: E402
from gmnn.data import Dataset, read_dataset  # noqa: E402
from gmnn.data.batches import make_buckets  # noqa: E402
from gmnn.device import on_device  # noqa: E402
from gmnn.evaluation.predict import in_chunks  # noqa: E402
from gmnn.kernels import choice  # noqa: E402
from gmnn.model.grade import LEAST  # noqa: E402
from gmnn.model.potential import Potential  # noqa: E402
from gmnn.neighbors.host import make_system  # noqa: E402
from gmnn.system import System  # noqa: E402
from gmnn.training.run import train  # noqa: E402

FACTOR = 3.0  # times the mean error of the validation frames is a wrong force
DIRECTIONS = 8  # random ones of each training frame, for the information in its forces
TURNS = {"kernel": 40, "fast": 12, "reference": 4}  # evaluations of each kind

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


def scores(potential: Potential, frames: dict[str, Dataset]) -> dict[str, dict[str, np.ndarray]]:
    """Errors of the forces, eV/Å, and every candidate's number for the atoms of the validation and the hot frames."""
    graded, found = evaluation.with_grades(potential, frames["train"], frames["valid"]), {}
    shape, spread = rigidity(potential, frames["train"]), potential.config.ensemble == "shallow"

    def of_frame(params: Any, system: System) -> dict[str, jax.Array]:
        values = {
            "forces": potential.predict(params, system).forces,
            "distance": graded.grades(params, graded.fitted_grade, system),
            "rigidity": jnp.linalg.norm(seen(potential, params, system) @ shape, axis=-1),
        }
        if spread:
            forces = jnp.std(potential.member_forces(params, system), axis=0, ddof=1)
            values["spread of forces"] = jnp.linalg.norm(forces, axis=-1)
            values["spread of energies"] = jnp.std(potential.member_energies(params, system), axis=0, ddof=1)
        return values

    evaluate = partial(jax.jit(jax.vmap(of_frame, (None, 0))), potential.trained)
    for part in ("valid", "hot"):
        rows: dict[str, list[np.ndarray]] = {}
        for bucket in make_buckets(frames[part], potential.reference, potential.config.r_max):
            values, real = in_chunks(evaluate, bucket.systems), np.asarray(bucket.systems.numbers) > 0
            values["error"] = np.linalg.norm(values.pop("forces") - np.asarray(bucket.labels.forces), axis=-1)
            for name, value in values.items():
                rows.setdefault(name, []).append(value[real].astype(float))
        found[part] = {name: np.concatenate(parts) for name, parts in rows.items()}
    return found


def seen(potential: Potential, params: Any, system: System) -> jax.Array:
    """What the weights of the last layer multiply in the energy of every atom, [N, H]."""
    sigma = jax.nn.softplus(jnp.asarray(params["scale_shift"]["scale"]))
    real = (system.numbers > 0)[:, None]
    e_i = jnp.asarray(potential.element_index)[system.numbers]
    return jnp.where(real, sigma[e_i][:, None] * potential.activations(params, system), 0.0)


def rigidity(potential: Potential, train_set: Dataset) -> np.ndarray:
    """Square root of the inverse of the last layer's information, [H, H]: from energies and forces of the training set.

    The part of the forces is J J^T, with J the derivative of `seen` by the positions, estimated by random directions.
    """

    def of_frame(params: Any, system: System, seed: jax.Array) -> jax.Array:
        def summed(positions: jax.Array) -> jax.Array:
            return jnp.sum(seen(potential, params, system._replace(positions=positions)), axis=0)

        directions = jax.random.rademacher(jax.random.key(seed), (DIRECTIONS, *system.positions.shape), "float32")
        energy, along = jax.linearize(summed, system.positions)
        slopes = jax.lax.map(along, directions)
        return jnp.outer(energy, energy) + slopes.T @ slopes / DIRECTIONS

    total = 0.0
    for bucket in make_buckets(train_set, potential.reference, potential.config.r_max):
        evaluate = jax.jit(lambda params, both: jax.lax.map(lambda x: of_frame(params, *x), both))
        seeds = jnp.arange(len(bucket.frames))
        total += np.asarray(evaluate(potential.trained, (bucket.systems, seeds)), float).sum(axis=0)
    variances, vectors = np.linalg.eigh(total)
    return (vectors / np.sqrt(np.maximum(variances, LEAST * variances.mean()))).astype(np.float32)


def judged(found: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """Area under the ROC of every candidate for an error above FACTOR times the mean one of the validation frames."""
    mean, hot = float(found["valid"]["error"].mean()), found["hot"]
    bad = hot["error"] > FACTOR * mean
    names = [name for name in hot if name != "error"]
    above = hot["distance"] > 1.0
    return {
        "valid_error_eV_per_A": mean, "hot_error_eV_per_A": float(hot["error"].mean()), "atoms": len(bad),
        "share_bad": float(bad.mean()), "auc": {name: area(hot[name], bad) for name in names},
        "bad_above_1": float(above[bad].mean()), "good_above_1": float(above[~bad].mean()),
    }  # fmt: skip


def area(score: np.ndarray, bad: np.ndarray) -> float:
    """Probability that a bad atom has a larger score than a good one."""
    ranks, n = rankdata(score), int(bad.sum())
    return float((ranks[bad].sum() - n * (n + 1) / 2) / (n * (len(bad) - n)))


def cost(model: Path, structure: str) -> dict[str, Any]:
    """Processor time with grades over that without, in turns, for a box of water; and of a spread of forces.

    The time is that of all threads of the process: other programs may share the machine.
    """
    potential, atoms = gmnn.load(model), timing.water(structure, 1536)
    if potential.grade is None:
        frames = read_dataset(structure)
        potential = evaluation.with_grades(potential, frames, frames)
    system = make_system(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, potential.config.r_max + 0.5)
    placed, results = on_device(system, "float32"), {"atoms": len(atoms)}
    for path, turns in TURNS.items():
        calls = []
        for grades in (False, True):
            params, predict = choice.evaluator(potential, path, "float32", grades=grades)
            calls.append(partial(jax.jit(predict), params, placed))
        if path == "kernel" and potential.config.ensemble == "shallow":
            calls.append(partial(jax.jit(potential.member_forces), potential.trained, placed))
        times = np.array([[processor_time(call) for call in calls] for _ in range(turns + 1)])[1:]
        results[path] = {
            "turns": turns, "ratio_of_least": float(times[:, 1].min() / times[:, 0].min()),
            "ratio_of_medians": float(np.median(times[:, 1]) / np.median(times[:, 0])),
            "least_us_per_atom": float(1e6 * times[:, 0].min() / len(atoms)),
        }  # fmt: skip
        if len(calls) > 2:
            results["spread_of_forces"] = 1.0 + float(np.median(times[:, 2]) / np.median(times[:, 0]))
    return results


def processor_time(call: Callable[[], Any]) -> float:
    """Seconds of the processor, of all threads, in one call."""
    before = time.process_time()
    jax.block_until_ready(call())
    return time.process_time() - before


def main() -> None:
    """Measure the sets that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(TRAIN)}; all by default")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--hot", type=Path, required=True)
    arguments = parser.parse_args()
    work = ROOT / "models" / "grade"
    work.mkdir(parents=True, exist_ok=True)
    results = stored.read("grade")
    sets = results.setdefault("sets", {})
    for name in arguments.names or TRAIN:
        frames = parts(name, arguments.data, arguments.hot)
        for kind in KINDS:
            potential = gmnn.load(trained(name, kind, work, frames))
            datasets = {part: read_dataset(str(work / f"{name}_{part}.xyz")) for part in frames}
            sets.setdefault(name, {"frames": {part: len(some) for part, some in frames.items()}})
            sets[name][kind] = judged(scores(potential, datasets))
            print(name, kind, sets[name][kind], flush=True)
            stored.keep("grade", results, "float32")
    if (work / "water_shallow" / "metrics.json").exists():
        results["cost"] = cost(work / "water_shallow", str(work / "water_hot.xyz"))
        print(results["cost"])
        stored.keep("grade", results, "float32")


if __name__ == "__main__":
    main()
