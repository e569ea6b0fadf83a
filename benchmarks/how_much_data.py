"""How much data does it take to stabilise a potential? The study: train, drive atoms together, count the failures.

    python benchmarks/how_much_data.py [--steps 1000] [--cells N]     run, or go on where it stopped
    python benchmarks/how_much_data_report.py                         figure, table and page from the stored results

Every cell (variant, number of basis functions, number of training frames) is five trainings of equally many optimiser
steps, compiled and run together. Each model is judged by all suites of `gmnn.scanning` in float64, the same curves for
every model. One row per model and suite goes into benchmarks/results/how_much_data.csv after every cell, so the run can
be killed at any time. Models that the dynamics need are kept in models/how_much_data.
"""

import argparse
import csv
import io
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import jax.numpy as jnp  # noqa: E402
from tqdm import tqdm  # noqa: E402

from benchmarks.study.cells import N_STEPS, SEEDS, Cell, Frames, all_cells, frames  # noqa: E402
from benchmarks.study.models import CellTrainer, Evaluator, keep  # noqa: E402
from gmnn import folder, repulsion  # noqa: E402
from gmnn.core import pair_tables  # noqa: E402
from gmnn.elements import pair_name  # noqa: E402
from gmnn.model import strengths  # noqa: E402
from gmnn.model_config import SWISH_FLOOR  # noqa: E402
from gmnn.potential import Potential  # noqa: E402
from gmnn.scanning import Sizes, Suite, judge, make_suites, overlapping_starts, read_reference, relax  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "how_much_data.csv"
SIZES = Sizes(frames=1, directions=6, rattled=1, compressed=1, hot=1, three=10)
RELAXED, RELAXATION_STEPS = 32, 200  # starts and steps of the relaxation suite, for 16 basis functions only
N_NODES, N_ROUNDS = 48, 5
ENERGY = 5.0  # eV above the start frame, for the barrier radii
KEPT = {"none", "seed", "default"}, {50, 1000}, {0, 1}  # variants, training sizes, seeds of the dynamics
COLUMNS = (
    "variant", "n_basis", "seed", "n_train", "suite", "n_curves", "n_failed", "n_left_out", "worst_drop_eV",
    "worst_r_A", "worst_label", "least_push_eV_per_A", "forces_mae_meV_per_A", "energy_mae_meV",
    "above_floor_eV_per_atom", "r_b_C-H_A", "r_b_H-O_A", "r_b_C-C_A", "train_s", "judge_s", "steps",
)  # fmt: skip


def curves(data: Frames) -> list[Suite]:
    """The suites, the same for every model; the hot frame is the test frame of highest energy."""
    reference = read_reference(ROOT / "gmnn" / "data" / "ethanol_curves.extxyz.xz")
    test = [data.molecules[k] for k in data.test]
    rng = np.random.default_rng(0)
    return make_suites([data.molecules[0]], rng, sizes=SIZES, reference=reference, hot_frames=test[1:])


def run_cell(cell: Cell, trainer: CellTrainer, suites: list[Suite], data: Frames) -> list[dict]:
    """Rows of one cell."""
    clock = time.perf_counter()
    potentials = trainer.train(cell)
    train_s = (time.perf_counter() - clock) / len(potentials)
    rows = []
    for seed, potential in zip(SEEDS, potentials, strict=True):
        wanted = cell.variant in KEPT[0] and cell.n_train in KEPT[1] and seed in KEPT[2]
        if wanted and cell.n_basis == 16:
            keep(cell, seed, potential)
        evaluate = Evaluator(potential)
        clock = time.perf_counter()
        model = {
            "variant": cell.variant, "n_basis": cell.n_basis, "seed": seed, "n_train": cell.n_train,
            **accuracy(potential, evaluate, data), **barrier(potential, evaluate, data),
            "train_s": round(train_s, 2), "steps": trainer.n_steps,
        }  # fmt: skip
        found = [judged(suite, evaluate) for suite in suites]
        if cell.n_basis == 16:
            found.append(relaxed(evaluate, data))
        judge_s = round(time.perf_counter() - clock, 2)
        rows += [{**model, **one, "judge_s": judge_s} for one in found]
    return rows


def judged(suite: Suite, evaluate: Evaluator) -> dict:
    """Counts of one suite and its worst curve."""
    verdicts = judge(suite.approaches, evaluate, n_nodes=N_NODES, n_rounds=N_ROUNDS)
    worst = max(verdicts, key=lambda v: (v.worst_drop, -np.nan_to_num(v.least_push, nan=-np.inf)))
    return {
        "suite": suite.name, "n_curves": len(verdicts), "n_failed": sum(not v.passed for v in verdicts),
        "n_left_out": suite.n_left_out, "worst_drop_eV": f"{worst.worst_drop:.4g}", "worst_r_A": f"{worst.worst_r:.4f}",
        "worst_label": worst.label, "least_push_eV_per_A": f"{min(v.least_push for v in verdicts):.4g}",
    }  # fmt: skip


def relaxed(evaluate: Evaluator, data: Frames) -> dict:
    """Fusions after relaxation from overlapping positions."""
    numbers = data.molecules[0].numbers
    starts = overlapping_starts(numbers, RELAXED, np.random.default_rng(0))
    ended = relax(starts, numbers, evaluate, n_steps=RELAXATION_STEPS)
    closest = min(ended, key=lambda one: one.closest)
    return {
        "suite": "relaxation", "n_curves": len(ended), "n_failed": sum(one.fused for one in ended), "n_left_out": 0,
        "worst_label": closest.pair,
    }  # fmt: skip


def accuracy(potential: Potential, evaluate: Evaluator, data: Frames) -> dict:
    """Mean absolute errors on the test frames."""
    molecules = [data.molecules[k] for k in data.test]
    energies, forces = evaluate(np.stack([a.positions for a in molecules]), np.stack([a.numbers for a in molecules]))
    truth = data.energies(potential.reference)[data.test]
    return {
        "forces_mae_meV_per_A": f"{1e3 * np.abs(forces - np.stack(data.data.forces)[data.test]).mean():.3f}",
        "energy_mae_meV": f"{1e3 * np.abs(energies - truth).mean():.3f}",
    }


def barrier(potential: Potential, evaluate: Evaluator, data: Frames) -> dict:
    """T1 on frame 0, 5 eV above it, by inverting V on a grid; and how far its atoms lie above their floors."""
    if not potential.config.bounded:
        return {}
    elements, params = potential.reference.elements, potential.trained
    atoms = data.molecules[0]
    index = np.searchsorted(elements, atoms.numbers)
    sigma = np.logaddexp(0.0, np.asarray(params["scale_shift"]["scale"], float))[index]
    mu = np.asarray(params["scale_shift"]["shift"], float)[index]
    energy = evaluate(atoms.positions[None], atoms.numbers[None])[0][0]
    above = float(energy - np.sum(mu - SWISH_FLOOR * sigma))
    found: dict = {"above_floor_eV_per_atom": f"{above / len(atoms):.3f}"}
    tables = pair_tables(potential.config, potential.reference)
    strength = strengths(params, potential.config, elements)
    r = np.geomspace(1e-3, 3.0, 8000)
    for z1, z2 in ((6, 1), (8, 1), (6, 6)):
        e, f = elements.index(z1), elements.index(z2)
        shape = jnp.asarray(r)
        numbers = jnp.full(r.shape, float(z1)), jnp.full(r.shape, float(z2))
        on, off = jnp.full(r.shape, tables.r_on[e, f]), jnp.full(r.shape, tables.r_off[e, f])
        chi = repulsion.window(potential.config.zbl, shape, on, off)
        V = strength[e, f] * np.asarray(repulsion.zbl(shape, *numbers) * chi, float)
        inside = np.flatnonzero((above + ENERGY) * (1 + 1e-6) < V)
        found[f"r_b_{pair_name(z1, z2)}_A"] = f"{r[inside[-1]]:.4f}" if len(inside) else ""
    return found


def stored() -> list[dict]:
    """Rows of earlier runs."""
    if not RESULTS.exists():
        return []
    with open(RESULTS, newline="") as file:
        return list(csv.DictReader(file))


def write(rows: list[dict]) -> None:
    """All rows, in one step."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    folder.write_text(RESULTS, text.getvalue())


def main() -> None:
    """Run the cells that are not stored yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=N_STEPS, help=f"optimiser steps per training ({N_STEPS})")
    parser.add_argument("--cells", type=int, default=None, help="stop after so many cells")
    parser.add_argument("--variants", nargs="*", help="only these")
    arguments = parser.parse_args()
    rows = stored()
    done = {(row["variant"], int(row["n_basis"]), int(row["n_train"])) for row in rows}
    cells = [c for c in all_cells() if (c.variant, c.n_basis, c.n_train) not in done]
    cells = [c for c in cells if not arguments.variants or c.variant in arguments.variants][: arguments.cells]
    data = frames()
    suites = curves(data)
    print(", ".join(f"{suite.name} {len(suite.approaches)}" for suite in suites), "curves per model", flush=True)
    trainer = CellTrainer(data, arguments.steps)
    for cell in tqdm(cells, disable=None):
        clock = time.perf_counter()
        new = run_cell(cell, trainer, suites, data)
        rows += new
        write(rows)
        failed, judged_curves = (sum(int(row[key]) for row in new) for key in ("n_failed", "n_curves"))
        print(
            f"{cell.variant} {cell.n_basis} {cell.n_train}: {failed} of {judged_curves} failed, F MAE "
            f"{np.mean([float(r['forces_mae_meV_per_A']) for r in new]):.0f} meV/Å, train {new[0]['train_s']:.1f} s, "
            f"judge {new[0]['judge_s']:.1f} s per model, cell {time.perf_counter() - clock:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
