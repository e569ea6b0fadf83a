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
    lines = [[kind, f"{count:,}"] for kind, count in sorted(result["right"].items())]
    total = f"**{sum(result['right'].values()):,}**"
    return table(["what", "cases"], [*lines, [f"**all; {len(result['wrong'])} wrong outcomes**", total]])
