"""A bar of progress on a terminal, also where tqdm is not installed."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(unit: str) -> Iterator[Callable[[int, int, str], None] | None]:
    """Yield a function (done, total, label) that draws a bar on stderr; None if stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        tqdm = importlib.import_module("tqdm").tqdm
    except ImportError:
        yield lambda done, total, label: print(f"\r{done} of {total} {unit}s {label:<12}", end="", file=sys.stderr)
        print(file=sys.stderr)
        return
    with tqdm(unit=unit, leave=False) as bar:

        def update(done: int, total: int, label: str) -> None:
            bar.total = total
            bar.set_postfix_str(label, refresh=False)
            bar.update(done - bar.n)

        yield update
