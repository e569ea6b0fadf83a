"""docs/reliability.md."""

from benchmarks.blocks import table
from benchmarks.stored import read


def faults() -> str:
    """Faults that were injected, by kind."""
    return _counts("faults")


def fuzz() -> str:
    """Odd inputs that were tried, by kind."""
    return _counts("fuzz")


def _counts(name: str) -> str:
    result = read("reliability")[name]
    groups: dict[str, dict[str, int]] = {}
    for kind, count in sorted(result["right"].items()):  # kinds that differ in their last word share a row
        head, _, last = kind.rpartition(" during " if " during " in kind else ", a file ")
        groups.setdefault(f"{head}{kind[len(head) : len(kind) - len(last)]}" if head else "", {})[last] = count
    alone = groups.pop("", {})
    rows = {**alone, **{head + ", ".join(kinds): sum(kinds.values()) for head, kinds in groups.items()}}
    lines = [[kind, f"{count:,}"] for kind, count in sorted(rows.items())]
    total = f"**{sum(result['right'].values()):,}**"
    return table(["what", "cases"], [*lines, [f"**all; {len(result['wrong'])} wrong outcomes**", total]])
