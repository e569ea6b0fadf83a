"""Training from a trained potential: the parameters that are kept, and the start of new elements."""

from dataclasses import replace

import jax
import numpy as np

from gmnn.data.batches import Bucket
from gmnn.model.potential import Params, Potential
from gmnn.model.repulsion import element_pairs
from gmnn.reference import Reference


def start_from(old: Potential, data: Reference, reset: tuple[str, ...], seed: int) -> Potential:
    """Extend the potential `old` to the elements of the new data, with parameters to start from.

    Groups in `reset` and the rows of elements that `old` does not know start as in a new potential. Scales of the
    features and bounds of the moments stay, so that the readout sees the features that it was trained on.
    """
    reference = merged(old.reference, data)
    potential = Potential(old.config, reference)
    params = jax.tree.map(np.array, potential.init(seed))
    for group, tree in old.trained.items():
        if group not in reset:
            params[group] = _kept(group, tree, params[group], old.reference, reference)
    return potential.with_params(params)


def merged(old: Reference, new: Reference) -> Reference:
    """Merge two references. Facts from the old data stay; a smallest distance is the smaller of the two."""
    elements = tuple(sorted({*old.elements, *new.elements}))

    def of(field: str) -> tuple[float, ...]:
        tables = [dict(zip(r.elements, getattr(r, field), strict=True)) for r in (new, old)]  # old values win
        return tuple(({**tables[0], **tables[1]})[z] for z in elements)

    def pairs(reference: Reference, values: tuple) -> dict[tuple[int, int], float | None]:
        n = len(reference.elements)
        keys = [(reference.elements[e], reference.elements[f]) for e, f in zip(*np.triu_indices(n), strict=True)]
        return dict(zip(keys, values, strict=True))

    closest: tuple[float | None, ...] = ()
    if old.closest:
        tables = pairs(old, old.closest), pairs(new, new.closest)
        all_pairs = [(elements[e], elements[f]) for e, f in zip(*np.triu_indices(len(elements)), strict=True)]
        by_pair = [[table[pair] for table in tables if table.get(pair) is not None] for pair in all_pairs]
        closest = tuple(min(values) if values else None for values in by_pair)  # type: ignore[type-var]
    bound = dict(zip(old.elements, old.moment_scale, strict=True)) if old.moment_scale else {}
    return replace(
        old,
        elements=elements,
        E0=of("E0"),
        scale=of("scale"),
        shift=of("shift"),
        closest=closest,
        moment_scale=tuple(bound.get(z, max(bound.values())) for z in elements) if bound else (),
        screening=old.screening if elements == old.elements else new.screening,
    )


def _kept(group: str, old: Params, start: Params, before: Reference, now: Reference) -> Params:
    """Copy the old parameters of a group to the places of their elements among the new ones."""
    places = np.array([now.elements.index(z) for z in before.elements])
    if group == "readout":
        return jax.tree.map(np.array, old)
    params = jax.tree.map(np.copy, start)
    for name, values in old.items():
        if group == "radial":
            params[name][np.ix_(places, places)] = values
        elif group == "scale_shift":
            params[name][places] = values
        else:
            upper = np.triu_indices(len(places))
            params[name][element_pairs(len(now.elements))[places[upper[0]], places[upper[1]]]] = values
    return params


def energy_differences(potential: Potential, buckets: list[Bucket]) -> tuple[np.ndarray, np.ndarray]:
    """Atoms of each element [n, E] and label minus prediction [n] eV of the frames that have an energy."""
    elements = np.array(potential.reference.elements)
    rows, rest = [], []
    predict = jax.jit(potential.energy)
    for bucket in buckets:
        present = np.asarray(bucket.labels.weights)[:, 0] > 0
        error = np.asarray(bucket.labels.energy, float) - np.asarray(predict(potential.trained, bucket.systems), float)
        numbers = np.asarray(bucket.systems.numbers)[present]
        rows.append((numbers[:, :, None] == elements).sum(axis=1).astype(float))
        rest.append(error[present])
    return np.concatenate(rows), np.concatenate(rest)


def fit_references(composition: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Change of E0 that brings energies into line with their labels on average, from their differences.  [E] eV

    It is the smallest least-squares solution: zero where the potential is right, and the difference between the two
    methods where the new data come from another method.
    """
    return np.linalg.lstsq(composition, errors, rcond=1e-8)[0] if len(errors) else np.zeros(composition.shape[1])
