"""What the core costs in accuracy and time, and all suites at full size, with models trained for long.

    python benchmarks/core_cost.py [--steps 12500]

Five seeds of the unconstrained network and of the default on 1,000 ethanol frames (the same frames, seeds and batches
for both), trained together; errors on the same 100 frames. Every default model is then judged by the suites of two
frames with 50 directions per atom. Results in benchmarks/results/core_cost.json.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import pages, stored
from benchmarks.study.cells import SEEDS, Cell, frames
from benchmarks.study.models import CellTrainer, Evaluator
from benchmarks.study.verdicts import accuracy, curves
from gmnn.scanning import Sizes, judge

VARIANTS = ("none", "default")
SIZES = Sizes(frames=2, directions=50, rattled=5, compressed=4, hot=5, three=100)


def run(steps: int) -> None:
    """Both variants, then the suites."""
    data = frames()
    suites = curves(data, (0, 300), SIZES)
    results = stored.read("core_cost")
    for variant in VARIANTS:
        if results.get(variant, {}).get("steps") == steps:
            continue
        trainer = CellTrainer(data, steps)
        potentials = trainer.train(Cell(variant, 16, 1000))
        rows, failures, counts = [], [], {suite.name: [0, 0, 0.0] for suite in suites}
        for seed, potential in zip(SEEDS, potentials, strict=True):
            evaluate = Evaluator(potential)
            rows.append({"seed": seed, **{k: float(v) for k, v in accuracy(potential, evaluate, data).items()}})
            for suite in suites if variant == "default" else []:
                verdicts = judge(suite.approaches, evaluate)
                count = counts[suite.name]
                count[0] += len(verdicts)
                count[1] += sum(not v.passed for v in verdicts)
                failures += [
                    {"seed": seed, "suite": v.suite, "curve": v.label, "r_A": v.r_fail, "drop_eV": v.worst_drop}
                    for v in verdicts
                    if not v.passed
                ]
                count[2] = max(count[2], *(v.worst_drop for v in verdicts))
            print(variant, rows[-1], counts, flush=True)
        results[variant] = {
            "steps": steps, "failures": failures, "models": rows,
            "suites": {name: {"curves": a, "failed": b, "worst_drop_eV": c} for name, (a, b, c) in counts.items()},
        }  # fmt: skip
        stored.keep("core_cost", results, "float32 training, float64 curves")
    pages.write("docs/how_much_data.md", "README.md")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12500, help="optimiser steps per training (12500)")
    run(parser.parse_args().steps)
