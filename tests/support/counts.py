"""What the tests of reliability count for benchmarks/reliability.py: cases with the right outcome, by kind."""

import json
import os

KINDS = {
    1: "an output folder that is not ours",
    2: "inputs that change before a resume",
    3: "files that another library reads",
    4: "compiled code in a cache",
    5: "texts, locales and terminals",
    6: "numbers that become other numbers",
    7: "settings from YAML, Python and JSON",
    8: "exceptions, exits and loads during saves",
    9: "listeners, addresses and strangers",
    10: "work and memory without limit",
    11: "ordinary uses of a calculator",
    12: "atoms that are none",
    13: "state that should not be shared",
    14: "checks before the work",
    15: "paths as in a shell",
    16: "silent physics",
    17: "disks, signals, clocks, damage",
}


def record(kind: int) -> None:
    """One case of this kind with the right outcome."""
    if file := os.environ.get("GMNN_COUNTS"):
        with open(file, "a", encoding="utf-8") as counts:
            counts.write(json.dumps([KINDS[kind]]) + "\n")
