"""How much data does it take to stabilise a potential? The study: train, drive atoms together, count the failures.

    python benchmarks/how_much_data.py [--steps 1000] [--cells N]     run, or go on where it stopped
    python benchmarks/pages.py docs/how_much_data.md README.md        figure and tables from the stored results

Every cell (variant, number of basis functions, number of training frames) is five trainings of equally many optimiser
steps, compiled and run together. Each model is judged by all suites of `gmnn.scanning` in float64, the same curves for
every model. One row per model and suite goes into benchmarks/results/how_much_data.csv after every cell, so the run can
be killed at any time. Models that the dynamics need are kept in models/how_much_data.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # eigenvalues take 100 times longer with threads on busy cores
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from tqdm import tqdm

from benchmarks import pages, stored
from benchmarks.study.cells import MOVED, N_STEPS, SEEDS, Cell, Frames, all_cells, frames
from benchmarks.study.models import CellTrainer, Evaluator, keep
from benchmarks.study.verdicts import accuracy, certified, curves
from gmnn.scanning import Sizes, Suite, judge, overlapping_starts, relax

SIZES = Sizes(frames=1, directions=6, rattled=1, compressed=1, hot=1, three=10)
RELAXED, RELAXATION_STEPS = 32, 200  # starts and steps of the relaxation suite, for 16 basis functions only
N_NODES, N_ROUNDS = 48, 5


def run_cell(cell: Cell, trainer: CellTrainer, suites: list[Suite], data: Frames) -> list[dict]:
    """Rows of one cell."""
    clock = time.perf_counter()
    potentials = trainer.train(cell)
    train_s = (time.perf_counter() - clock) / len(potentials)
    rows = []
    for seed, potential in zip(SEEDS, potentials, strict=True):
        wanted = cell.variant in MOVED[0] and cell.n_train in MOVED[1] and seed in MOVED[2]
        if wanted and cell.n_basis == 16:
            keep(cell, seed, potential)
        evaluate = Evaluator(potential)
        clock = time.perf_counter()
        model = {
            "variant": cell.variant, "n_basis": cell.n_basis, "seed": seed, "n_train": cell.n_train,
            **accuracy(potential, evaluate, data), **certified(potential, data),
            "train_s": round(train_s, 2), "steps": trainer.n_steps,
        }  # fmt: skip
        verdicts = [judged(suite, evaluate) for suite in suites]
        if cell.n_basis == 16:
            verdicts.append(relaxed(evaluate, data))
        judge_s = round(time.perf_counter() - clock, 2)
        rows += [{**model, **verdict, "judge_s": judge_s} for verdict in verdicts]
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
    closest = min(ended, key=lambda relaxation: relaxation.closest)
    return {
        "suite": "relaxation", "n_curves": len(ended),
        "n_failed": sum(relaxation.fused for relaxation in ended), "n_left_out": 0, "worst_label": closest.pair,
    }  # fmt: skip


def main() -> None:
    """Run the cells that are not stored yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=N_STEPS, help=f"optimiser steps per training ({N_STEPS})")
    parser.add_argument("--cells", type=int, default=None, help="stop after so many cells")
    parser.add_argument("--variants", nargs="*", help="only these")
    arguments = parser.parse_args()
    rows = stored.rows()
    done = {(row["variant"], int(row["n_basis"]), int(row["n_train"])) for row in rows}
    cells = [c for c in all_cells() if (c.variant, c.n_basis, c.n_train) not in done]
    cells = [c for c in cells if not arguments.variants or c.variant in arguments.variants][: arguments.cells]
    data = frames()
    suites = curves(data, (0,), SIZES)
    print(", ".join(f"{suite.name} {len(suite.approaches)}" for suite in suites), "curves per model", flush=True)
    trainer = CellTrainer(data, arguments.steps)
    for cell in tqdm(cells, disable=None):
        clock = time.perf_counter()
        new = run_cell(cell, trainer, suites, data)
        rows += new
        stored.write_rows(rows)
        failed, judged_curves = (sum(int(row[key]) for row in new) for key in ("n_failed", "n_curves"))
        print(
            f"{cell.variant} {cell.n_basis} {cell.n_train}: {failed} of {judged_curves} failed, F MAE "
            f"{np.mean([float(r['forces_mae_meV_per_A']) for r in new]):.0f} meV/Å, train {new[0]['train_s']:.1f} s, "
            f"judge {new[0]['judge_s']:.1f} s per model, cell {time.perf_counter() - clock:.0f} s",
            flush=True,
        )
    pages.write("docs/how_much_data.md", "README.md")


if __name__ == "__main__":
    main()
