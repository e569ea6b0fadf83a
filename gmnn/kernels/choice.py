"""Which implementation of the energy computes: its parameters and its `predict`, by the name of a path."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gmnn.errors import UserError
from gmnn.kernels.parameters import to_kernel_parameters
from gmnn.kernels.xla import predict
from gmnn.model.descriptor import HIGHEST
from gmnn.model.potential import Potential
from gmnn.system import Prediction

PATHS = ("reference", "fast", "kernel")
TF32 = jax.lax.DotAlgorithmPreset.TF32_TF32_F32


def evaluator(
    potential: Potential, path: str, dtype: str, tf32_network: bool = False
) -> tuple[Any, Callable[..., Prediction]]:
    """Parameters as `dtype` and predict(parameters, system, reverse=None) of the path.

    `reference` is autodiff, `fast` this module, `kernel` gmnn/kernels: C++ on a CPU, else Pallas. UserError for another
    name, or for what the path cannot evaluate. `tf32_network`: the network's products only, on a GPU only.
    """
    if path not in PATHS:
        raise UserError(f"path is {path!r}, but must be one of {', '.join(PATHS)}")
    if tf32_network and (path == "reference" or dtype != "float32" or jax.default_backend() == "cpu"):
        raise UserError(
            f"tf32_network needs path fast or kernel, dtype float32 and a GPU, but path is {path}, dtype {dtype} "
            f"and the device a {jax.default_backend()}; leave it out"
        )
    if path == "reference":
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), potential.trained)
        return params, lambda params, system, reverse=None: potential.predict(params, system)
    from gmnn.kernels.cpp import predict as cpp  # built on this module
    from gmnn.kernels.pallas import predict as pallas

    if path == "kernel" and jax.default_backend() == "cpu":
        return cpp.to_kernel_parameters(potential, dtype), partial(cpp.predict, potential)
    function = pallas.predict if path == "kernel" else predict
    return to_kernel_parameters(potential, dtype), partial(
        function, potential, precision=TF32 if tf32_network else HIGHEST
    )
