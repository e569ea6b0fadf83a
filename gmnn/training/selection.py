"""Selection of the frames to compute next: batches by largest distance or determinant in last-layer features.

Zaverkin, Holzmüller, Steinwart, Kästner, Digital Discovery 1, 605 (2022): features are the derivatives of the energy
with respect to the weights of the last layer. Two frames with equal features teach the last layer the same.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms

from gmnn.data.batches import in_groups
from gmnn.device import on_device
from gmnn.evaluation.predict import in_chunks
from gmnn.model.potential import Params, Potential
from gmnn.system import System

CHUNK = 32  # frames evaluated at once
NOISE = 1e-6  # share of the mean square length of the features, added to the diagonal of their kernel


def frame_features(potential: Potential, frames: Sequence[Atoms]) -> np.ndarray:
    """dE / d(weights of the last layer), per atom, of every frame.  [n, D]; UserError for unknown elements.

    D is the width of the last hidden layer, times the number of members of an ensemble.
    """
    for atoms in frames:
        potential.require_elements(atoms.numbers)
    last = f"layer_{len(potential.config.hidden)}"

    def energy(member: Potential, kernel: jax.Array, params: Params, system: System) -> jax.Array:
        readout = {**params["readout"], last: {**params["readout"][last], "kernel": kernel}}
        return member.energy({**params, "readout": readout}, system)

    slopes = [
        jax.jit(jax.vmap(jax.grad(partial(energy, member)), (None, None, 0))) for member in potential.member_potentials
    ]
    rows_of_frames: list[np.ndarray] = [np.empty(0)] * len(frames)
    for systems, places in in_groups(frames, potential.config.r_max):
        for start in range(0, len(places), CHUNK):
            rows = np.minimum(np.arange(start, start + CHUNK), len(places) - 1)  # repeats the last frame: one shape
            chunk = on_device(jax.tree.map(lambda leaf, rows=rows: leaf[rows], systems), "float32")
            parts = [
                np.asarray(slope(member.trained["readout"][last]["kernel"], member.trained, chunk), float)
                for slope, member in zip(slopes, potential.member_potentials, strict=True)
            ]
            features = np.concatenate([part.reshape(CHUNK, -1) for part in parts], axis=1)
            for row, k in enumerate(places[start : start + CHUNK]):
                rows_of_frames[k] = features[row] / len(frames[k])
    return np.stack(rows_of_frames)


def extremes(potential: Potential, frames: Sequence[Atoms], grades: bool = False) -> np.ndarray:
    """Predicted energy above E0 per atom, longest force and largest grade of every frame.  [n, 3] eV, eV/Å, 1

    The grade is NaN unless `grades`. UserError for unknown elements and for a potential without the grades asked for.
    """
    for atoms in frames:
        potential.require_elements(atoms.numbers)
    grade = potential.fitted_grade if grades else None

    def of_frame(params: Params, system: System) -> tuple[jax.Array, jax.Array, jax.Array]:
        prediction = potential.predict(params, system, grade)
        real = system.numbers > 0
        longest = jnp.max(jnp.linalg.norm(prediction.forces, axis=-1), where=real, initial=0.0)
        largest = jnp.nan if prediction.grades is None else jnp.max(prediction.grades, where=real, initial=0.0)
        return prediction.energy / jnp.sum(real), longest, jnp.asarray(largest)

    evaluate = partial(jax.jit(jax.vmap(of_frame, (None, 0))), potential.trained)
    found = np.empty((len(frames), 3))
    for systems, places in in_groups(frames, potential.config.r_max):
        batch = jax.tree.map(lambda x: x.astype(np.float32) if np.issubdtype(x.dtype, np.floating) else x, systems)
        found[places] = np.stack(in_chunks(evaluate, batch), axis=1)
    return found


def by_distance(features: np.ndarray, n: int, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose by MaxDist: each time the frame furthest from all that are known or chosen.  [n], [n] distances

    `known` [m, D]: features of the frames trained on. Without any, the first choice is furthest from the mean.
    """
    centres = known if len(known) else features.mean(axis=0, keepdims=True)
    nearest = np.min(_square_distances(features, centres), axis=1)
    chosen: list[int] = []
    distances: list[float] = []
    for _ in range(n):
        k = int(np.argmax(nearest))
        chosen.append(k)
        distances.append(np.sqrt(nearest[k]))
        to_new = _square_distances(features, features[[k]])[:, 0]
        nearest = to_new if len(chosen) == 1 and not len(known) else np.minimum(nearest, to_new)
        nearest[chosen] = -np.inf
    return np.array(chosen), np.array(distances)


def by_determinant(features: np.ndarray, n: int, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose by MaxDet: each time the frame that raises the determinant of the kernel matrix most.  [n], [n] variances

    The kernel matrix is that of all known and chosen frames. In its pivoted Cholesky decomposition, the remainder of
    the diagonal is the variance of a frame given the others.
    """
    noise = NOISE * float(np.mean(np.sum(features**2, axis=1)))
    precision = known.T @ known + noise * np.eye(features.shape[1])  # of a linear model of the known frames
    left = np.linalg.solve(np.linalg.cholesky(precision), features.T) * np.sqrt(noise)  # [D, N]
    variance = np.sum(left**2, axis=0) + noise
    factors = np.zeros((0, len(features)))
    chosen: list[int] = []
    variances: list[float] = []
    for _ in range(n):
        open_to = np.where(np.isin(np.arange(len(features)), chosen), -np.inf, variance)
        k = int(np.argmax(open_to))
        row = (left[:, k] @ left + noise * (np.arange(len(features)) == k) - factors[:, k] @ factors) / np.sqrt(
            variance[k]
        )
        factors = np.vstack([factors, row])
        chosen.append(k)
        variances.append(variance[k])
        variance = variance - factors[-1] ** 2
    return np.array(chosen), np.array(variances)


def _square_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[n, D], [m, D] -> [n, m]"""
    square = np.sum(a**2, axis=1)[:, None] - 2.0 * a @ b.T + np.sum(b**2, axis=1)
    return np.maximum(square, 0.0)
