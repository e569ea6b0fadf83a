"""Generated blocks of the documents: one module per page, one function per block, from stored results alone."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [head, *rows]
    text = ["|" + "|".join(map(str, line)) + "|" for line in lines]
    return "\n".join([text[0], "|---" * len(head) + "|", *text[1:]])


def number(value: float | None, form: str) -> str:
    """A number in this format, or - where there is none."""
    return "-" if value is None else format(value, form)


def percent(part: int, whole: int, digits: int = 1) -> str:
    """The share in per cent, or - of nothing."""
    return f"{100 * part / whole:.{digits}f} %" if whole else "-"


def median(values: Any, digits: int = 1) -> str:
    """The median."""
    return f"{np.median(values):.{digits}f}"


def mean_and_spread(values: Any, digits: int = 2) -> str:
    """Mean ± standard deviation of a sample."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"
