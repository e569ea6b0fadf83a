"""Progress of a training: one line of the run has energies per atom, stress in GPa and the time left."""

import numpy as np
import pytest
from ase.units import GPa

from gmnn.training import progress
from gmnn.training.objective import Errors


def test_lines_of_a_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of twenty epochs, eight of them done before; an epoch takes 30 s, and the last line has no time left."""
    now = iter(np.arange(100) * 30.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    errors = Errors(*(np.float32(value) for value in (1.0, 0.5, 0.0125, 0.0301, 0.04, 0.25 * GPa)))
    with progress.progress(20, 8) as report:
        for best in range(9, 21):
            report(errors, best)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[0] == "epoch 10/20: validation F 30.1 meV/Å, E 12.50 meV/atom, S 0.250 GPa, best epoch 10, 2 min left"
    assert lines[-1].endswith("best epoch 20")


def test_a_quantity_without_labels_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = np.float32(np.nan)
    with progress.progress(1, 0) as report:
        report(Errors(np.float32(1.0), nothing, nothing, np.float32(0.1), np.float32(0.1), nothing), 1)
    assert capsys.readouterr().out == "epoch 1/1: validation F 100.0 meV/Å, best epoch 1\n"


@pytest.mark.parametrize(("seconds", "words"), [(12.3, "12 s"), (99.0, "99 s"), (720.0, "12 min"), (12_000.0, "3.3 h")])
def test_durations(seconds: float, words: str) -> None:
    assert progress.duration(seconds) == words
