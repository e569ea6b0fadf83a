"""Faults and odd input in large numbers: the tests of tests/reliability at nightly size.

    python benchmarks/reliability.py faults [--samples 8]      half an hour on one core
    python benchmarks/reliability.py fuzz [--cases 4000]       of every kind of input
    python benchmarks/reliability.py write                     the table of docs/reliability.md

Every case has an outcome that is asserted; what is counted are those that were right, and the failures are pytest's.
Results: benchmarks/results/reliability.json.
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

SIZE = {"faults": "GMNN_FAULTS", "fuzz": "GMNN_CASES"}


def main() -> None:
    """Run one of the two, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*SIZE, "write"])
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--cases", type=int, default=4000)
    arguments = parser.parse_args()
    if arguments.what != "write":
        run(arguments.what, arguments.samples if arguments.what == "faults" else arguments.cases)
    pages.write("docs/reliability.md")


def run(what: str, size: int) -> None:
    """Run the tests and keep the counts that they leave."""
    clock = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        counts = Path(place) / "counts"
        counts.touch()
        environment = os.environ | {SIZE[what]: str(size), "GMNN_COUNTS": str(counts)}
        file = ROOT / "tests" / "reliability" / f"test_{what}.py"
        command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-m", "", "-k", "not more_of_every_kind", str(file)]
        done = subprocess.run(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, encoding="utf-8")
        right = collections.Counter(json.loads(line)[0] for line in counts.read_text(encoding="utf-8").splitlines())
    print(done.stdout)
    if done.returncode not in (0, 1):
        raise SystemExit(f"pytest ended with {done.returncode} before all was tried; nothing is stored")
    failures = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    result = {"right": dict(right), "wrong": failures, "seconds": time.perf_counter() - clock}
    made = stored.provenance("float32")
    stored.keep("reliability", stored.read("reliability") | {what: result | made}, "float32")


if __name__ == "__main__":
    main()
