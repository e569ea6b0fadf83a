"""Progress of a training: ``history.csv``, a progress bar, and signals that stop the run."""

import csv
import io
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ase.units import GPa
from tqdm import tqdm

from gmnn import files
from gmnn.training.objective import Errors
from gmnn.training.state import State

COLUMNS = (
    "epoch", "learning_rate", "train_loss", "valid_loss", "valid_energy_mae_meV", "valid_energy_mae_meV_per_atom",
    "valid_forces_mae_meV_per_A", "valid_forces_rmse_meV_per_A", "valid_stress_mae_meV_per_A3", "best_epoch", "seconds",
)  # fmt: skip


class History:
    """``history.csv`` with one line per epoch, cut back to the epoch that a resumed run continues from."""

    def __init__(self, path: Path, epoch: int) -> None:
        self.path = path
        complete = [line for line in _text(path).splitlines() if line.count(",") == len(COLUMNS) - 1] if epoch else []
        rows = [line for line in complete if line.split(",")[0].isdigit() and int(line.split(",")[0]) <= epoch]
        if lost := sorted(set(range(1, epoch + 1)) - {int(line.split(",")[0]) for line in rows}):
            warnings.warn(f"{path} is damaged: it has no line of epoch {', '.join(map(str, lost))}", stacklevel=2)
        files.write_text(path, "\n".join([",".join(COLUMNS), *rows]) + "\n")

    def append(self, state: State, rate: float, train_loss: float, found: Errors) -> None:
        """Append the line of the epoch that `state` completed; `found` are its validation errors."""
        values = [
            int(state.epoch), rate, train_loss, float(found.loss), *(1e3 * float(value) for value in found[1:]),
            int(state.best_epoch), float(state.seconds),
        ]  # fmt: skip
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(f"{v:.8g}" if isinstance(v, float) else v for v in values)
        files.append_line(self.path, line.getvalue())


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return ""


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Yield a function that is true once SIGINT or SIGTERM has asked to stop. A second signal acts as usual."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    previous: dict[int, Any] = {}

    def ask(number: int, frame: object) -> None:
        asked.set()
        signal.signal(number, previous[number])

    for ending in (signal.SIGINT, signal.SIGTERM):
        previous[ending] = signal.signal(ending, ask)
    try:
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def duration(seconds: float) -> str:
    """Format a time in the unit that leaves one to three digits: 40 s, 12 min, 3.4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@contextmanager
def progress(epochs: int, done: int, shown: bool = True) -> Iterator[Callable[[Errors, int], None]]:
    """Yield a function that shows an epoch's errors: a bar on a terminal, else a line every tenth of the run.

    A line has the time left, as long as the last epochs go on. Without `shown` it shows nothing.
    """
    if not shown:
        yield lambda errors, best: None
        return
    with tqdm(total=epochs, initial=done, unit="epoch", disable=None, dynamic_ncols=True) as bar:
        count, start = done, time.monotonic()

        def report(errors: Errors, best: int) -> None:
            nonlocal count
            count += 1
            parts = (
                (1e3 * errors.forces_mae, "F {:.1f} meV/Å"), (1e3 * errors.energy_mae_per_atom, "E {:.2f} meV/atom"),
                (errors.stress_mae / GPa, "S {:.3f} GPa"),
            )  # fmt: skip
            texts = [form.format(float(value)) for value, form in parts if np.isfinite(value)]
            text = ", ".join([*texts, f"best epoch {best}"])
            bar.set_postfix_str(text)
            bar.update()
            if bar.disable and (count % max(1, epochs // 10) == 0 or count == epochs):
                left = (time.monotonic() - start) / (count - done) * (epochs - count)
                ahead = f", {duration(left)} left" if count < epochs else ""
                print(f"epoch {count}/{epochs}: validation {text}{ahead}", flush=True)

        yield report
