"""Facts learnt from the training data. A model folder keeps them beside the user's choices."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gmnn.checking import check_fields, from_mapping
from gmnn.elements import SYMBOLS
from gmnn.errors import UserError, require


@dataclass(frozen=True)
class Reference:
    """Facts learnt from the training data; every list is in the order of ``elements``."""

    elements: tuple[int, ...]
    """Trained atomic numbers, ascending."""
    E0: tuple[float, ...]
    """Atomic reference energies, eV, subtracted and added in float64 outside the model."""
    scale: tuple[float, ...]
    """Initial sigma_Z of the scale-shift layer, eV."""
    shift: tuple[float, ...]
    """Initial mu_Z of the scale-shift layer, eV."""
    feature_scale: tuple[float, ...] = ()
    """Root mean square of each feature over the training data at the initial coefficients; empty means 1."""
    closest: tuple[float | None, ...] = ()
    """Smallest distance in the training data of each unordered pair of elements, Å; None = none within r_max."""
    moment_scale: tuple[float, ...] = ()
    """Largest norm of the moments of each element over the training data at the initial coefficients."""
    screening: tuple[tuple[float, ...], ...] = ()
    """NLH coefficients a1, b1, a2, b2, a3, b3 (b in 1/Å) of each unordered pair of elements, or A (eV Å^2), b (1/Å) of
    the exponential repulsion; empty without either."""
    spread_scale: tuple[float, float] = (1.0, 1.0)
    """Factors for the spreads of an ensemble's energies and forces, from the validation frames."""

    def __post_init__(self) -> None:
        check_fields(self, "reference")
        n = len(self.elements)
        pairs = n * (n + 1) // 2
        known = list(self.elements) == sorted(set(self.elements)) and all(0 < z < len(SYMBOLS) for z in self.elements)
        require(known, "reference.elements", self.elements, "ascending atomic numbers")
        for name, lengths in (
            ("E0", {n}), ("scale", {n}), ("shift", {n}), ("moment_scale", {0, n}), ("closest", {0, pairs}),
            ("screening", {0, pairs}),
        ):  # fmt: skip
            value = getattr(self, name)
            expected = " or ".join(map(str, sorted(lengths)))
            require(len(value) in lengths, f"reference.{name}", value, f"a list of {expected} entries")
        for name in ("scale", "feature_scale", "moment_scale", "closest", "spread_scale"):
            value = getattr(self, name)
            positive = all(x is None or x > 0 for x in value)
            require(positive, f"reference.{name}", value, "positive numbers")

    @property
    def element_index(self) -> np.ndarray:
        """Index among the trained elements of every atomic number; 0 for padding and untrained elements.  [119]"""
        table = np.zeros(len(SYMBOLS), np.int32)
        table[list(self.elements)] = np.arange(len(self.elements))
        return table

    def offsets(self, numbers: np.ndarray) -> np.ndarray:
        """Atomic references E0 in float64, [N] eV, 0 for padding; UserError for elements that were not trained."""
        self.require_elements(np.setdiff1d(numbers, 0))
        table = np.zeros(len(SYMBOLS))
        table[list(self.elements)] = self.E0
        return table[np.asarray(numbers)]

    def require_elements(self, numbers: np.ndarray) -> None:
        """Raise a UserError that names the elements on which this potential was not trained, if there are any.

        The numbers are those of atoms: 0, which is padding inside, is a dummy atom here.
        """
        unknown = sorted(set(np.asarray(numbers).tolist()) - set(self.elements))
        if unknown:
            names = [SYMBOLS[z] if 0 < z < len(SYMBOLS) else f"the dummy X (number {z})" for z in unknown]
            raise UserError(
                f"this potential was not trained on {', '.join(names)}; "
                f"it knows {', '.join(SYMBOLS[z] for z in self.elements)}. Train one on data that contains them"
            )


def reference_from_dict(values: dict[str, Any]) -> Reference:
    """Make the Reference from a ``config.json``; unknown keys and wrong numbers are errors."""
    return from_mapping(Reference, values, "reference")
