"""Grades of a trained potential: fitted to its training frames, scaled by its validation frames, kept in its folder."""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gmnn import files
from gmnn.config.data import LabelsConfig
from gmnn.data import Dataset, read_dataset
from gmnn.data.batches import in_groups
from gmnn.evaluation.predict import chunks, portions
from gmnn.model import folder
from gmnn.model.grade import Grade, Moments, scaled
from gmnn.model.potential import Potential
from gmnn.system import System

SOFTEST = 1e-6  # largest distance in the validation frames, below which all of them are the same


def with_grades(potential: Potential, train: Dataset, valid: Dataset) -> Potential:
    """Return the potential with grades, 1 for the largest atom of the validation frames.

    Only the structures count, not their labels. The grade of a full ensemble is the mean over its members.
    """
    members = [_moments(member, train) for member in potential.member_potentials]
    fitted = [moments.grade() for moments in members]
    whole = Grade(*map(np.stack, zip(*fitted, strict=True))) if potential.config.ensemble == "full" else fitted[0]
    graded = replace(potential, grade=_float32(whole))
    evaluate = partial(jax.jit(potential.grades), potential.trained, graded.grade)
    largest = max(
        float(np.max(grades, where=np.isfinite(grades), initial=0.0))
        for batch in _batches(potential, valid)
        for grades in chunks(evaluate, batch)
    )
    return replace(potential, grade=_float32(scaled(whole, max(largest, SOFTEST))))


def add_grades(model: str | os.PathLike, train: str, valid: str, labels: LabelsConfig | None = None) -> Potential:
    """Fit grades for a model folder from two files of frames, store them there and return the potential.

    Name the frames that it was trained on and validated with; `FILE@SLICE` takes some of a file. UserError for what is
    no model folder, or for elements that it does not know.
    """
    path = Path(files.expanded(os.fspath(model)))
    potential = folder.load(path)
    frames = [read_dataset(file, labels) for file in (train, valid)]
    for dataset in frames:
        potential.require_elements(np.array(sorted(dataset.elements)))
    graded = with_grades(potential, *frames)
    folder.add_grade(path, graded.fitted_grade)
    return graded


def _moments(member: Potential, train: Dataset) -> Moments:
    """Moments of the activations of one member over the training atoms."""
    moments = Moments(len(member.reference.elements), member.config.hidden[-1])

    def of_batch(params: Any, systems: System) -> tuple[jax.Array, jax.Array]:
        return member.activations(params, systems), systems.numbers

    for batch in _batches(member, train):
        for activations, numbers in chunks(partial(jax.jit(of_batch), member.trained), batch):
            real = numbers > 0
            moments.add(activations[real], member.element_index[numbers[real]])
    return moments


def _batches(potential: Potential, dataset: Dataset) -> Iterator[System]:
    """Yield the structures in batches of one shape each, float32."""
    for portion in portions(dataset):
        for systems, _ in in_groups([dataset.atoms[k] for k in portion], potential.config.r_max):
            yield jax.tree.map(lambda x: x.astype(np.float32) if np.issubdtype(x.dtype, np.floating) else x, systems)


def _float32(grade: Grade) -> Grade:
    return Grade(*(np.asarray(x, np.float32) for x in grade))
