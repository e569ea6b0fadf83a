"""Train and scan the default and the five settings of the blog post on ethanol; make every figure and table of it.

    python benchmarks/ethanol.py [NAME ...] [--nlh FILE]   train (or resume) and scan, all or the named, then write
    python benchmarks/ethanol.py --write                   write again from the stored results

--nlh names the published coefficients (Nordlund, Lehtola, Hobler, PRA 111, 032818 (2025)) for `ethanol_nlh`, the
default with that repulsion, which is left out without them.

Writes benchmarks/results/ethanol.json (what ran where, errors, verdicts, curves), the example model in
examples/ethanol, docs/figures/{ethanol_scan,ethanol_learning_curve,ethanol_parity,seed}.png, and the tables of
docs/seed.md and docs/accuracy.md.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import pages, stored  # noqa: E402
from benchmarks.blocks.seed import RUNS  # noqa: E402

RESULTS = stored.RESULTS / "ethanol.json"
DEFAULT, NLH = "ethanol_quick", "ethanol_nlh"


def run(name: str, *overrides: str) -> dict:
    """Train and scan one configuration; its verdicts, curves and errors."""
    subprocess.run([sys.executable, "train.py", f"configs/{name}.yaml", "--resume", *overrides], cwd=ROOT, check=True)
    done = subprocess.run([sys.executable, "scan.py", f"models/{name}"], cwd=ROOT, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"the scan of {name} ended with exit code {done.returncode}")
    folder = ROOT / "models" / name
    scan = json.loads((folder / "scan" / "scan.json").read_text(encoding="utf-8"))
    description = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    curves: dict[str, list[list[float]]] = {}
    with open(folder / "scan" / "scan.csv", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["kind"] == "s0":
                curves.setdefault(row["bond"], []).append(
                    [float(row[key]) for key in ("distance_A", "energy_above_r_eq_eV")]
                )
    return {
        "title": RUNS.get(name, "the default with NLH"),
        **{key: description[key] for key in ("versions", "commit", "dirty", "device", "metrics")},
        "cpu_cores": os.cpu_count(),
        "precision": "float32 training, float64 scan",
        "scan": {"passed": scan["n_passed"], "curves": scan["curves"]},
        "s0": curves,
    }


def install_example() -> None:
    """The default model becomes the shipped example; the figures of its run go to the docs."""
    model, example, figures = ROOT / "models" / DEFAULT, ROOT / "examples" / "ethanol", ROOT / "docs" / "figures"
    shutil.rmtree(example, ignore_errors=True)
    example.mkdir(parents=True)
    for name in ("config.json", "metrics.json", "history.csv"):
        shutil.copy(model / name, example / name)
    shutil.copytree(model / "params", example / "params")
    shutil.copy(model / "scan" / "panels.png", figures / "ethanol_scan.png")
    shutil.copy(model / "learning_curve.png", figures / "ethanol_learning_curve.png")
    shutil.copy(model / "parity_test.png", figures / "ethanol_parity.png")


def main() -> None:
    """Run what is asked for and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join([*RUNS, NLH])}; all by default")
    parser.add_argument("--nlh", metavar="FILE", help="published coefficients of NLH")
    parser.add_argument("--write", action="store_true", help="only write again")
    arguments = parser.parse_args()
    results = stored.read("ethanol")
    if not arguments.write:
        overrides = {NLH: [f"data.nlh_coefficients={arguments.nlh}"]}
        for name in arguments.names or [*RUNS, *([NLH] if arguments.nlh else [])]:
            results[name] = run(name, *overrides.get(name, []))
            RESULTS.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            if name == DEFAULT:
                install_example()
    pages.write("docs/seed.md", "docs/accuracy.md")


if __name__ == "__main__":
    main()
