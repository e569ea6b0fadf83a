"""A trained potential as StableHLO: a program that computes energies and forces without this package.

`jax.export` writes it for any number of atoms and neighbour slots, parameters included. Running it needs only JAX
(`examples/exported.py`) or any other reader of StableHLO.
"""

import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gmnn.device import precision
from gmnn.elements import SYMBOLS
from gmnn.files import write_bytes, write_json
from gmnn.model.folder import UNITS, provenance
from gmnn.model.potential import Potential
from gmnn.system import Prediction, System

FORMAT_VERSION = 1
PROGRAM, DESCRIPTION = "potential.bin", "export.json"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
ARGUMENTS = {
    "positions": "[n, 3] Å",
    "numbers": "[n] int32, atomic numbers; 0 = padding",
    "cell": "[3, 3] Å, vectors as rows; zeros where there is no cell",
    "neighbors": "[n, k] int32, every atom within r_max and every image of it in a slot of its own; n = empty slot",
    "shifts": "[n, k, 3] int32, cell vectors added to the atom in the slot",
}
RESULTS = {
    "energy": "[] eV, without the atomic references",
    "energies": "[n] eV",
    "forces": "[n, 3] eV/Å",
    "virial": "[3, 3] eV; divided by the volume the stress in ASE's sign",
}


def export(potential: Potential, path: Path, dtype: str = "float32") -> dict[str, Any]:
    """Write potential.bin and export.json into a folder, and return the content of the latter.

    The program takes the fields of `gmnn.System` in their order and returns energy, energies, forces and virial. An
    atom of an untrained element makes energy, energies and forces NaN.
    """
    known = np.zeros(len(SYMBOLS), bool)
    known[[0, *potential.reference.elements]] = True

    def program(*fields: jax.Array) -> tuple[jax.Array, ...]:
        system = System(*fields)
        prediction: Prediction = potential.predict(params, system)
        fine = jnp.all(jnp.asarray(known)[system.numbers])
        return *(
            jnp.where(fine, value, jnp.nan) for value in (prediction.energy, prediction.energies, prediction.forces)
        ), prediction.virial

    with precision(dtype):
        params = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), potential.trained)
        n, k = jax.export.symbolic_shape("n, k")
        shapes = {"positions": (n, 3), "numbers": (n,), "cell": (3, 3), "neighbors": (n, k), "shifts": (n, k, 3)}
        kinds = [dtype if name in ("positions", "cell") else "int32" for name in shapes]
        arguments = [jax.ShapeDtypeStruct(shape, kind) for shape, kind in zip(shapes.values(), kinds, strict=True)]
        exported = jax.export.export(jax.jit(program), platforms=PLATFORMS)(*arguments)
    data = bytes(exported.serialize())
    description = {
        "format_version": FORMAT_VERSION,
        "program": PROGRAM,
        "sha256": hashlib.sha256(data).hexdigest(),
        "calling_convention_version": exported.calling_convention_version,
        "platforms": PLATFORMS,
        "dtype": dtype,
        "r_max": potential.config.r_max,
        "atomic_references": {
            SYMBOLS[z]: e0 for z, e0 in zip(potential.reference.elements, potential.reference.E0, strict=True)
        },
        "arguments": ARGUMENTS,
        "results": RESULTS,
        "units": UNITS,
        **provenance(),
    }
    write_bytes(path / PROGRAM, data)
    write_json(path / DESCRIPTION, description)
    return description
