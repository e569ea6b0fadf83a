"""One round on disk: the frames that it learns, the potential, and what its dynamics found.

A round is a folder of the output. What is in it is never computed twice, so that a run killed anywhere goes on.
"""

import contextlib
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.jsonio import decode, encode

from gmnn.config.learn import LearnConfig
from gmnn.config.reading import Config, validated
from gmnn.errors import UserError
from gmnn.files import read_sealed, sealed, write_json, write_whole
from gmnn.model import folder
from gmnn.model.potential import Potential
from gmnn.training import train

STEPS, FURTHER = 2500, 1200  # of the training of a round: from random parameters, from the potential before
FULL = 4000  # least steps of the last training
FURTHER_RATE = 0.5  # of the learning rate, where a training goes on
GROWTH = 1.5  # of the number of labels, from which a round begins with random parameters again
VALID = 6  # every so many whole frames, one validates
HINT = "start again with another output"


class Round:
    """A round in its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.train_file, self.valid_file = path / "train.extxyz", path / "valid.extxyz"
        self.model, self.found = path / "model", path / "round.json"

    def train(
        self, config: LearnConfig, frames: Sequence[Atoms], steps: int, before: Path | None, seed: int, *,
        full: bool = False,
    ) -> Potential:  # fmt: skip
        """Train on labelled frames, go on with an interrupted training, or load the finished one.

        Every sixth frame without a broken bond validates, so that the grade is one of whole molecules. Frames that were
        written before stay. `full`: for as many epochs as the configuration says, if they are more than these steps.
        `before`: the model folder to train on from.
        KeyboardInterrupt if a signal stops the training, which has then been saved.
        """
        validates = [k for k, atoms in enumerate(frames) if not atoms.info.get("broken")][VALID - 1 :: VALID]
        valid = [frames[k] for k in validates]
        learnt = [atoms for k, atoms in enumerate(frames) if k not in validates]
        for file, part in ((self.valid_file, valid), (self.train_file, learnt)):
            if not file.exists():
                write_whole(file, part)
        settings = config.train.model_dump(mode="json")
        epochs = math.ceil(steps / math.ceil(len(learnt) / config.train.batch_size))
        settings["epochs"] = max(settings["epochs"], epochs) if full else epochs
        if before is not None:
            settings["learning_rate"] *= FURTHER_RATE
        values: dict[str, Any] = {
            "output": str(self.model), "seed": seed, "train": settings,
            "data": {"train": str(self.train_file), "valid": str(self.valid_file)},
        }  # fmt: skip
        if before is None:
            values["model"] = config.model
        else:
            values["start"] = {"model": str(before)}
        if (self.model / "config.json").exists() and folder.read_description(self.model).get("finished"):
            return folder.load(self.model)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            result = train(validated(Config, values), resume=(self.model / "split.json").exists())
        if not result.finished:
            raise KeyboardInterrupt
        return folder.load(self.model)

    def save(self, record: dict[str, Any], candidates: Sequence[Atoms]) -> None:
        """Write what the dynamics of the round found: a record, and the frames to label, with every digit."""
        write_json(self.found, sealed({"record": record, "candidates": json.loads(encode(list(candidates)))}))

    def read(self) -> tuple[dict[str, Any], list[Atoms]] | None:
        """Return what was saved; None if nothing was yet. UserError if the file is damaged."""
        if not self.found.exists():
            return None
        values = read_sealed(self.found, HINT)
        try:
            frames = list(decode(json.dumps(values["candidates"])))
        except Exception as error:  # ASE's reader raises anything
            raise UserError(f"{self.found} is damaged ({error}); {HINT}") from None
        return values["record"], frames


def diverse(features: np.ndarray, known: np.ndarray, n: int, least: float) -> list[int]:
    """Choose at most n frames, each while its variance given the others is at least `least` of the first one's."""
    from gmnn.training.selection import by_determinant

    if not len(features):
        return []
    chosen, variances = by_determinant(features, min(n, len(features)), known)
    return [int(k) for k, v in zip(chosen, variances, strict=True) if v >= least * variances[0]]
