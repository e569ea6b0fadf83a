"""Do nuclei fuse in dynamics? Langevin runs of ethanol with models of the study, and T1 at constant energy.

    python benchmarks/dynamics.py nvt [--ps 20]     none, seed, covalent, default; 300, 500, 1,000 K; 8 copies each
    python benchmarks/dynamics.py nve               hot starts and collisions with the shipped model, against r_b

`nvt` takes the models that benchmarks/how_much_data.py left in models/how_much_data, or trains them again, and goes on
where it stopped; results in benchmarks/results/dynamics.json. Fusion and loss of a bond are counted apart
(benchmarks/study/dynamics.py).
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from ase import Atoms  # noqa: E402
from ase.data import atomic_masses  # noqa: E402
from tqdm import tqdm  # noqa: E402

from benchmarks import pages, stored  # noqa: E402
from benchmarks.study.cells import MOVED, N_STEPS, Cell  # noqa: E402
from benchmarks.study.dynamics import ACCELERATION, Run, maxwell, simulate  # noqa: E402
from benchmarks.study.models import kept  # noqa: E402
from gmnn import load  # noqa: E402
from gmnn.certificate import certify  # noqa: E402
from gmnn.data.embedded import ethanol  # noqa: E402
from gmnn.elements import pair_name  # noqa: E402
from gmnn.model.potential import Potential  # noqa: E402

PRECISION = "float32 (nvt), float64 (nve)"
VARIANTS, SIZES, SEEDS = MOVED
TEMPERATURES, COPIES = (300.0, 500.0, 1000.0), 8
STEP, FRICTION = 0.5, 0.01  # fs, 1/fs
HOT_COPIES, HOT_PS, HOT_STEP = 8, 50.0, 0.25  # ps, fs
SHOTS = (5.0, 20.0, 100.0)  # eV
SHOT_PATH, SHOT_STEP = 3.0, 0.005  # Å that the slowest projectile would fly freely, Å per step of the fastest


def so_far() -> dict:
    """Results so far."""
    return {"nvt": {}, "nve": {}} | stored.read("dynamics")


def start(n: int = 0) -> Atoms:
    """A frame of the embedded set without its labels."""
    frame = ethanol()[n]
    return Atoms(frame.numbers, frame.positions)


def nvt(length: float) -> None:
    """All models, one after the other; the three temperatures of a model run together."""
    atoms, results = start(), so_far()
    for variant in VARIANTS:
        for size in SIZES:
            for seed in SEEDS:
                name = f"{variant}_16_{size}_{seed}"
                if results["nvt"].get(name, {}).get("ps", 0) >= length:
                    continue
                potential = kept(Cell(variant, 16, size), seed, N_STEPS)
                results["nvt"][name] = nvt_model(potential, name, atoms, length)
                stored.keep("dynamics", results, PRECISION)
                print(name, results["nvt"][name]["temperatures"], flush=True)


def nvt_model(potential: Potential, name: str, atoms: Atoms, length: float) -> dict:
    """Counts of fusions and lost bonds and the first times of both, by temperature."""
    rng = np.random.default_rng(0)
    velocities = np.concatenate([maxwell(atoms, t, COPIES, rng) for t in TEMPERATURES])
    bath = np.repeat(TEMPERATURES, COPIES)
    n_steps = round(1000 * length / STEP)
    clock = time.perf_counter()
    with tqdm(total=n_steps, desc=name, disable=None) as bar:
        run = simulate(
            potential, atoms, np.repeat(atoms.positions[None], len(bath), axis=0), velocities, step=STEP,
            n_steps=n_steps, temperature=bath, friction=FRICTION, report=lambda done: bar.update(done - bar.n),
        )  # fmt: skip
    seconds = time.perf_counter() - clock
    by_temperature = {}
    for temperature in TEMPERATURES:
        rows = bath == temperature
        late = run.temperature[len(run.temperature) // 4 :, rows]
        by_temperature[f"{temperature:.0f}"] = {
            "copies": COPIES, **counts(run, rows), "mean_temperature_K": finite(float(np.mean(late))),
        }  # fmt: skip
    microseconds = 1e6 * seconds / (n_steps * len(bath) * len(atoms))
    return {
        "ps": length,
        "seconds": round(seconds, 1),
        "us_per_atom_step": microseconds,
        "temperatures": by_temperature,
    }


def counts(run: Run, rows: np.ndarray) -> dict:
    """Fusions and losses among some copies, median times in ps (null: fewer than half)."""
    fused, lost = run.fused[rows], run.lost[rows]
    return {
        "fused": int(np.isfinite(fused).sum()), "bond_lost": int(np.isfinite(lost).sum()),
        "median_ps_to_fusion": finite(float(np.median(fused)) / 1000), "first_ps_to_fusion": finite(fused.min() / 1000),
        "median_ps_to_loss": finite(float(np.median(lost)) / 1000),
    }  # fmt: skip


def finite(value: float) -> float | None:
    """A number that JSON can hold."""
    return float(value) if np.isfinite(value) else None


def nve(model: str) -> None:
    """Hot starts and collisions; the certificate is for each run's own total energy."""
    potential, atoms, results = load(model), start(), so_far()
    rng = np.random.default_rng(1)
    velocities = maxwell(atoms, 1000.0, HOT_COPIES, rng)
    positions = np.repeat(atoms.positions[None], HOT_COPIES, axis=0)
    results["nve"]["hot, 1000 K"] = nve_runs(potential, atoms, positions, velocities, HOT_STEP, HOT_PS * 1000)
    for energy in SHOTS:
        positions, velocities = shots(atoms, energy, rng)
        speed = np.linalg.norm(velocities, axis=2).max(axis=1)
        step = SHOT_STEP / float(speed.max())
        key = f"collision, {energy:.0f} eV"
        results["nve"][key] = nve_runs(potential, atoms, positions, velocities, step, SHOT_PATH / float(speed.min()))
    stored.keep("dynamics", results, PRECISION)
    for key, row in results["nve"].items():
        print(key, row, flush=True)


def shots(atoms: Atoms, energy: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Every atom in turn shot at every other one with this kinetic energy, the rest of the molecule at rest."""
    masses = atomic_masses[atoms.numbers]
    pairs = [(i, j) for i in range(len(atoms)) for j in range(len(atoms)) if i != j]
    positions = atoms.positions + 0.01 * rng.normal(size=(len(pairs), len(atoms), 3))
    velocities = np.zeros_like(positions)
    for k, (i, j) in enumerate(pairs):
        direction = positions[k, j] - positions[k, i]
        velocities[k, i] = np.sqrt(2 * energy * ACCELERATION / masses[i]) * direction / np.linalg.norm(direction)
    return positions, velocities


def nve_runs(
    potential, atoms: Atoms, positions: np.ndarray, velocities: np.ndarray, step: float, length: float
) -> dict:
    """Closest approach of every pair of elements against the r_b of the largest total energy; is the energy kept?"""
    masses = atomic_masses[atoms.numbers][:, None]
    kinetic = 0.5 * np.sum(masses * velocities**2, axis=(1, 2)) / ACCELERATION
    segment = 500
    n_steps = -(-round(length / step) // segment) * segment
    run = simulate(
        potential, atoms, positions, velocities, step=step, n_steps=n_steps, segment=segment, precision="float64"
    )
    total = run.energies[0]
    first = Atoms(atoms.numbers, positions[int(np.argmax(total))])
    proved = certify(potential, first, energy=float(kinetic.max()), samples=1).to_dict()["barrier_radius"]
    i, j = np.triu_indices(len(atoms), 1)
    names = np.array([pair_name(int(a), int(b)) for a, b in zip(atoms.numbers[i], atoms.numbers[j], strict=True)])
    closest = {name: float(run.closest[:, names == name].min()) for name in sorted(set(names))}
    entered = [name for name, r in closest.items() if proved.get(name) is not None and r <= proved[name]]
    return {
        "runs": len(positions), "fs": n_steps * step, "step_fs": step, "kinetic_eV": float(kinetic.max()),
        "closest_A": closest, "barrier_A": proved, "entered": entered, "fused": int(np.isfinite(run.fused).sum()),
        "largest_change_meV_per_atom": float(1e3 * np.abs(run.energies - total).max() / len(atoms)),
        **drift(1e3 * run.energies / len(atoms), segment * step / 1000),
    }  # fmt: skip


def drift(energies: np.ndarray, interval: float) -> dict:
    """Mean slope of the energies [segments, runs] and its standard error over the runs, per ps; of 1 ps and more."""
    time = interval * np.arange(len(energies))
    if time[-1] < 1.0:
        return {}
    slopes = np.polyfit(time, energies, 1)[0]
    return {
        "drift_meV_per_atom_per_ps": float(slopes.mean()),
        "drift_error_meV_per_atom_per_ps": float(slopes.std(ddof=1) / np.sqrt(len(slopes))),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("nvt", "nve"))
    parser.add_argument("--ps", type=float, default=20.0, help="length of the Langevin runs (20)")
    parser.add_argument("--model", default=str(ROOT / "examples" / "ethanol"), help="model of the NVE runs")
    arguments = parser.parse_args()
    nvt(arguments.ps) if arguments.what == "nvt" else nve(arguments.model)
    pages.write("docs/how_much_data.md")
