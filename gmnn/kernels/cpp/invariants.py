"""The invariants of `descriptor.py` on a CPU by functions in C++, with their adjoint and the derivatives of both.

The gradient of a loss of forces consists of these derivatives along a direction (`gmnn/training/gradient.py`).

`invariants` replaces `descriptor.invariants` where one reverse pass is made and then a forward one through all of it;
JAX refuses a second reverse pass.
"""

from functools import cache

import jax
import numpy as np
from jax import Array

from gmnn.device import cores
from gmnn.kernels.cpp.library import register
from gmnn.model.descriptor import COMPONENTS, n_features


@jax.custom_jvp
def _features(moments: Array) -> Array:
    return _called(moments)


@_features.defjvp
def _features_along(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _features(*primals), _called(*primals, *tangents, along=True)


@jax.custom_jvp
def _adjoint(moments: Array, by: Array) -> Array:
    """d(by . features) / d(moments), [N, S, 20], by [N, F]."""
    return _called(moments, by, adjoint=True)


@_adjoint.defjvp
def _adjoint_along(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return _adjoint(*primals), _called(*primals, *tangents, adjoint=True, along=True)


@jax.custom_vjp
def invariants(moments: Array) -> Array:
    """The same as `descriptor.invariants`, [N, S, 20] -> [N, F]. Call `registered` first."""
    return _features(moments)


invariants.defvjp(lambda moments: (_features(moments), moments), lambda moments, by: (_adjoint(moments, by),))


def _called(*arrays: Array, adjoint: bool = False, along: bool = False) -> Array:
    """Call the C++ function with moments, cotangents of features if `adjoint`, and directions of both if `along`."""
    *atoms, channels, _ = arrays[0].shape
    dtype, features = arrays[0].dtype, n_features(channels)
    shape = (*atoms, channels, len(COMPONENTS)) if adjoint else (*atoms, features)
    call = jax.ffi.ffi_call(f"gmnn_invariants_{dtype}", jax.ShapeDtypeStruct(shape, dtype), vmap_method="broadcast_all")
    return call(
        *arrays, channels=np.int64(channels), features=np.int64(features), adjoint=adjoint, along=along,
        one_core=cores().size > 1,
    )  # fmt: skip


@cache
def registered() -> None:
    """Make the functions known to XLA; UserError, whose text goes on after "but", if they cannot be compiled."""
    register("invariants", "gmnn_invariants")
