"""Faults and odd input in large numbers: the tests of tests/reliability at nightly size.

    python benchmarks/reliability.py faults [--samples 8]      two hours on one core
    python benchmarks/reliability.py fuzz [--cases 150]        two hours on one core; of a generator with share 1
    python benchmarks/reliability.py write                     the table of docs/reliability.md

Every case has an outcome that is asserted; what is counted are those that were right, by kind, and the failures are
pytest's. Results of each file of tests are stored when it ends: benchmarks/results/reliability.json.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import pages, stored  # noqa: E402

FILES = {  # with the variable that sets their size, and how much of it they take
    "faults": (("faults", "GMNN_FAULTS", 1), ("kinds_of_runs", "GMNN_FAULTS", 1)),
    "fuzz": (("kinds_of_places", "GMNN_CASES", 1), ("kinds_of_settings", "GMNN_CASES", 1),
             ("kinds_of_calculators", "GMNN_CASES", 1), ("fuzz", "GMNN_CASES", 10)),
}  # fmt: skip


def main() -> None:
    """Run one of the two, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*FILES, "write"])
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--cases", type=int, default=150)
    arguments = parser.parse_args()
    if arguments.what != "write":
        run(arguments.what, arguments.samples if arguments.what == "faults" else arguments.cases)
    pages.write("docs/reliability.md")


def run(what: str, size: int) -> None:
    """Run the tests, file by file, and keep the counts that they leave."""
    clock, right, failures = time.perf_counter(), collections.Counter[str](), list[str]()
    for name, variable, factor in FILES[what]:
        counts, failed = of_file(ROOT / "tests" / "reliability" / f"test_{name}.py", {variable: str(factor * size)})
        right += counts
        failures += failed
        result = {"right": dict(right), "wrong": failures, "seconds": time.perf_counter() - clock}
        made = stored.provenance("float32")
        stored.keep("reliability", stored.read("reliability") | {what: result | made}, "float32")


def of_file(file: Path, size: dict[str, str]) -> tuple[collections.Counter[str], list[str]]:
    """Cases of a file of tests that were right, by kind, and lines about those that failed."""
    with tempfile.TemporaryDirectory() as place:
        counts = Path(place) / "counts"
        counts.touch()
        environment = os.environ | size | {"GMNN_COUNTS": str(counts)}
        command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-m", "", "-k", "not more_of_every_kind", str(file)]
        done = subprocess.run(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, encoding="utf-8")
        right = collections.Counter(json.loads(line)[0] for line in counts.read_text(encoding="utf-8").splitlines())
    print(done.stdout, flush=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"pytest ended with {done.returncode} before all was tried")
    return right, [line for line in done.stdout.splitlines() if line.startswith("FAILED")]


if __name__ == "__main__":
    main()
