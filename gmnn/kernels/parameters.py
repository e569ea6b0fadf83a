"""A trained potential in the form that the fast and the kernel path evaluate: tables and matrices."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from gmnn.config.coverage import ANY, Covered, uncovered
from gmnn.device import cores
from gmnn.errors import UserError
from gmnn.kernels import tables
from gmnn.model.grade import Grade
from gmnn.model.network import OUTPUT_GAIN, constants, scale_shift
from gmnn.model.potential import Potential
from gmnn.model.readout import SWISH_UNIT

YES_OR_NO = (True, False)
COVERED: Covered = {
    "r_max": ANY, "n_radial": ANY, "n_basis": ANY, "smoothness": ANY, "r_min": ANY, "hidden": ANY, "unit_offset": ANY,
    "members": ANY,
    "basis": ("bessel", "gaussian"), "cutoff": ("polynomial", "cosine"), "distance": ("identity", "agnesi"),
    "output_activation": ("swish", "identity"), "ensemble": ("none", "shallow"), "repulsion": ("zbl", "nlh", "none"),
    "zbl.strength": ANY, "zbl.trainable": YES_OR_NO, "zbl.floor": ANY, "zbl.floors": ANY, "zbl.inner": ANY,
    "zbl.outer": ANY, "zbl.r_off": ANY, "zbl.coefficients": ANY, "zbl.window": ("closest", "covalent", "cosine"),
    "core.clamp": YES_OR_NO, "core.margin": ANY, "core.width": ANY, "core.depth": ANY, "core.radii": ANY,
    "core.gate": YES_OR_NO, "core.gate_outer": ANY, "core.gate_inner": ANY, "core.bounded_moments": YES_OR_NO,
    "core.moment_room": ANY, "core.nearest_switch": (False,),
}  # fmt: skip
"""The settings that the tables and the hand-written adjoint cover; tests compare each choice with autodiff."""


class FastParams(NamedTuple):
    """All trained numbers, in the form that evaluation uses."""

    table: Any  # as tables.tabulate returns it
    kernels: tuple[Any, ...]  # [out, in], the scale of the features and the gain of the output folded in
    biases: tuple[Any, ...]  # [out, 1]
    scale: Any  # [E] sigma, eV
    shift: Any  # [E] mu, eV
    moment_bound: Any  # [E]
    grade: Grade | None = None  # None where no grades are asked for


def to_kernel_parameters(
    potential: Potential, dtype: str, intervals: int = tables.INTERVALS, grades: bool = False
) -> FastParams:
    """Return the tables and matrices of a trained potential; UserError if only the reference path evaluates it."""
    config, params = potential.config, potential.trained
    if setting := uncovered(config, COVERED):
        raise UserError(f"paths fast and kernel do not cover {setting}; use path reference or auto")
    facts, layers = constants(config, potential.reference), range(len(config.hidden) + 1)
    kernels = [np.asarray(params["readout"][f"layer_{k}"]["kernel"], float) for k in layers]
    biases = [np.asarray(params["readout"][f"layer_{k}"]["bias"], float) for k in layers]
    if len(facts.feature_scale):
        kernels[0] = kernels[0] / facts.feature_scale[:, None]
    kernels = [SWISH_UNIT * kernel if k else kernel for k, kernel in enumerate(kernels)]
    kernels[-1], biases[-1] = OUTPUT_GAIN * kernels[-1], OUTPUT_GAIN * biases[-1]
    sigma, mu = scale_shift(params)
    cast = partial(jnp.asarray, dtype=dtype)
    bound = cast(facts.moment_bound if config.core.bounded_moments else np.zeros(0))
    prepared = FastParams(
        tables.tabulate(potential, dtype, intervals), tuple(cast(kernel.T) for kernel in kernels),
        tuple(cast(bias[:, None]) for bias in biases), cast(sigma), cast(mu), bound,
        Grade(*map(cast, potential.fitted_grade)) if grades else None,
    )  # fmt: skip
    mesh = cores()
    return jax.device_put(prepared, NamedSharding(mesh, PartitionSpec())) if mesh.size > 1 else prepared
