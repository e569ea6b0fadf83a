"""Predictions of a potential for every frame of a data set, beside the labels."""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np

from gmnn.data import Dataset
from gmnn.data.batches import make_buckets
from gmnn.errors import UserError
from gmnn.evaluation.comparison import Comparison
from gmnn.model.grade import Grade
from gmnn.model.potential import Params, Potential
from gmnn.structures import has_stress
from gmnn.system import Prediction, System

CHUNK = 32  # frames evaluated at once, at most
CHUNK_SLOTS = 200_000  # neighbour slots of these, at most
PORTION = 200_000  # atoms whose neighbours are held at once


def compare(potential: Potential, dataset: Dataset) -> Comparison:
    """Energy, forces and stress of every frame beside their labels, and grades if the potential has some.

    Frames of similar size are evaluated together. Only frames with three cell vectors and a periodic direction have a
    stress; its label in any other frame is left out. UserError for elements that were not trained.
    """
    potential.require_elements(np.array(sorted(dataset.elements)))
    sizes = np.array([len(atoms) for atoms in dataset.atoms])
    ends = np.cumsum(sizes)
    volumes = np.array([a.get_volume() if has_stress(a) else np.nan for a in dataset.atoms])
    references = np.array([potential.offsets(atoms.numbers).sum() for atoms in dataset.atoms])
    energies = np.stack([dataset.energies, references], axis=-1)
    forces = np.full((ends[-1], 3, 2), np.nan)
    grades = np.full(ends[-1], np.nan)
    stresses = np.full((len(sizes), 3, 3, 2), np.nan)
    labelled = ~np.isnan(dataset.stresses).any(axis=(1, 2)) & ~np.isnan(volumes)
    stresses[labelled, ..., 0] = dataset.stresses[labelled]
    for k, frame in enumerate(dataset.forces):
        if not np.isnan(frame).any():
            forces[ends[k] - sizes[k] : ends[k], :, 0] = frame
    if np.isnan(energies[:, 0]).all() and np.isnan(forces[..., 0]).all() and not labelled.any():
        raise UserError(f"{dataset.name}: no frame has an energy, forces or a stress to compare with; name their keys")
    for portion in portions(dataset):
        for bucket in make_buckets(dataset.take(portion), potential.reference, potential.config.r_max):
            prediction = in_chunks(_predict(potential), bucket.systems)
            for row, k in enumerate(portion[bucket.frames]):
                own = slice(ends[k] - sizes[k], ends[k])
                energies[k, 1] += float(prediction.energy[row])
                forces[own, :, 1] = prediction.forces[row, : sizes[k]]
                stresses[k, ..., 1] = prediction.virial[row] / volumes[k]
                if prediction.grades is not None:
                    grades[own] = prediction.grades[row, : sizes[k]]
    return Comparison(
        energies=energies,
        forces=forces,
        stresses=stresses,
        references=references,
        sizes=sizes,
        numbers=np.concatenate([atoms.numbers for atoms in dataset.atoms]),
        indices=dataset.indices,
        config_types=np.array(dataset.config_types),
        grades=grades,
    )


def portions(dataset: Dataset) -> list[np.ndarray]:
    """Places of the frames in ascending size, in portions of about PORTION atoms."""
    sizes = np.array([len(atoms) for atoms in dataset.atoms])
    order = np.argsort(sizes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(np.cumsum(sizes[order]) // PORTION)) + 1)


@lru_cache(maxsize=4)
def _predict(potential: Potential) -> Callable[[System], Prediction]:
    """Return a function for predictions of a batch; it compiles once for a potential and a shape."""

    def of_batch(params: Params, grade: Grade | None, systems: System) -> Prediction:
        return potential.predict(params, systems, grade)

    return partial(jax.jit(of_batch), potential.trained, potential.grade)


def in_chunks(evaluate: Callable[[System], Any], systems: System) -> Any:
    """Evaluate a batch a chunk at a time, the last one filled up, so that only one shape is compiled."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *chunks(evaluate, systems))


def chunks(evaluate: Callable[[System], Any], systems: System) -> Iterator[Any]:
    """Yield what `in_chunks` joins, a chunk at a time."""
    n, *shape = systems.neighbors.shape
    size = max(1, min(CHUNK, CHUNK_SLOTS // int(np.prod(shape))))
    for start in range(0, n, size):
        chosen = np.minimum(np.arange(start, start + size), n - 1)
        values = evaluate(jax.tree.map(lambda leaf: leaf[chosen], systems))  # noqa: B023
        yield jax.tree.map(lambda leaf: np.asarray(leaf)[: n - start], values)  # noqa: B023
