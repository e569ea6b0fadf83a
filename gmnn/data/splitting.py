"""Training, validation and test frames as configured, with the weights of their config_type."""

import difflib
from dataclasses import replace

import numpy as np

from gmnn.config.data import DataConfig
from gmnn.config.reading import Config
from gmnn.data.frames import Dataset, Splits
from gmnn.data.reading import read_dataset
from gmnn.data.references import isolated_atoms
from gmnn.elements import SYMBOLS
from gmnn.errors import UserError


def split(config: Config) -> Splits:
    """Split frames into training, validation and test; a random split is drawn with the seed of the configuration.

    If the atomic references come from isolated atoms, the frames of these are training frames in every draw.
    """
    data = config.data
    sources = {"train": data.train, "valid": data.valid, "test": data.test, "extra": data.extra}
    datasets = {key: read_dataset(source, data) for key, source in sources.items() if source is not None}
    if data.config_type_weights is not None:
        datasets = _weighted(datasets, data.config_type_weights)
    train, extra = datasets.pop("train"), datasets.pop("extra", None)
    n_train, n_valid = _sizes(data, len(train))
    order = np.arange(len(train))
    if data.split == "random":
        order = np.random.default_rng(config.seed).permutation(len(train))
        if data.atomic_energies == "isolated":
            order = order[np.argsort(~isolated_atoms(train, config.model.r_max)[order], kind="stable")]
    valid = datasets.get("valid", train.take(order[n_train : n_train + n_valid]))
    rest = order[n_train + n_valid :] if not datasets else order[:0]
    test = datasets.get("test", train.take(rest) if len(rest) else None)
    chosen = train.take(order[:n_train])
    splits = Splits(chosen if extra is None else chosen.joined(extra), valid, test, extra)
    _check(splits)
    return splits


def _check(splits: Splits) -> None:
    train = splits.train
    if not train.present[:, :2].any():
        raise UserError(
            f"{train.name}: no training frame has an energy or forces; a potential is not trained on stress"
        )
    if not train.weights.any():
        raise UserError("data.config_type_weights gives every training frame the weight 0; give one a larger weight")
    for part in (splits.valid, splits.test):
        if part is not None and (unknown := part.elements - train.elements):
            raise UserError(
                f"{part.name} contains {', '.join(SYMBOLS[z] for z in sorted(unknown))}, but no training frame does; "
                "add frames with these elements to data.train or remove them there"
            )


def _weighted(datasets: dict[str, Dataset], weights: dict[str, float]) -> dict[str, Dataset]:
    """Multiply the weights of the frames by those of their config_type."""
    existing = sorted({name for part in datasets.values() for name in part.config_types} - {""})
    unknown = sorted(set(weights) - set(existing) - {"default"})
    if unknown:
        near = difflib.get_close_matches(unknown[0], existing, n=1)
        names = f"those of the frames are {', '.join(existing)}" if existing else "no frame has a config_type"
        raise UserError(
            f"data.config_type_weights names {', '.join(unknown)}, but {names}"
            + (f"; did you mean {near[0]}?" if near else "; correct the name or remove it")
        )
    default = weights.get("default", 1.0)
    return {
        key: replace(part, weights=part.weights * [weights.get(name, default) for name in part.config_types])
        for key, part in datasets.items()
    }


def _sizes(data: DataConfig, n: int) -> tuple[int, int]:
    split_test = data.valid is None and data.test is None
    n_valid = 0 if data.valid is not None else data.n_valid or max(1, n // 10)
    n_train = data.n_train or max(0, n - n_valid - (n // 10 if split_test else 0))
    if n_train < 1 or n_train + n_valid > n:
        raise UserError(
            f"{data.train} has {n} frames, not enough for data.n_train = {n_train} and data.n_valid = {n_valid}; "
            "lower them, leave them out (data.n_train=null) or give more frames"
        )
    return n_train, n_valid
