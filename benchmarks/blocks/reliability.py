"""docs/reliability.md."""

from benchmarks.blocks import table
from benchmarks.stored import read
from tests.support.counts import KINDS


def cases() -> str:
    """Cases with the right outcome, by kind: of the generated inputs, and of runs that were disturbed."""
    fuzz, faults = (read("reliability")[name] for name in ("fuzz", "faults"))
    lines = []
    for name in KINDS.values():
        lines.append([name, *(f"{one['right'].get(name, 0):,}" for one in (fuzz, faults))])
    total = [f"**{sum(one['right'].values()):,}**" for one in (fuzz, faults)]
    wrong = len(fuzz["wrong"]) + len(faults["wrong"])
    return table(["kind", "generated", "runs"], [*lines, [f"**all; {wrong} wrong outcomes**", *total]])
