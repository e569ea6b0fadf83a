"""The layers of the readout on a CPU by functions in C++, with their adjoint, and the derivatives of both.

As `invariants.py` does for the invariants: `perceptron` stands for `gmnn.model.readout.perceptron` where one reverse
pass is made and then a forward one through all of it, along features and cotangents but not along the weights. Threads
meet a few times in a call and not at every product.

A training step of configs/rmd17.yaml takes 1.2 times as long by JAX's own layers with 4 frames, and 0.8 to 1.0 times
with 32 (medians of 24 to 60 pairs on two busy cores, where threads wait for each other).
"""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.custom_derivatives import SymbolicZero

from gmnn.device import cores
from gmnn.kernels.cpp.library import register
from gmnn.model import readout
from gmnn.model.readout import SWISH_UNIT, Layers

MOST_ATOMS = 128  # of a step
VALUES, VALUES_ALONG, ADJOINT, ADJOINT_ALONG = range(4)  # as readout.cpp has them


@jax.custom_jvp
def _values(layers: Layers, features: Array) -> tuple[Array, Array]:
    """[N, M], and value and slope of every hidden layer, flat."""
    found, kept, _ = _called(VALUES, layers, features)
    return found, kept


def _values_along(primals: Any, tangents: Any) -> Any:
    found, kept, curvature = _called(VALUES, *primals)
    return (found, kept), tuple(_called(VALUES_ALONG, *primals, kept, curvature, *_beyond_weights(tangents)))


@jax.custom_jvp
def _adjoint(layers: Layers, features: Array, kept: Array, by: Array) -> tuple[Layers, Array]:
    """What weights and features [N, F] get from by [N, M]."""
    return _adjoint_and_back(layers, features, kept, by)[0]


def _adjoint_along(primals: Any, tangents: Any) -> Any:
    found, back = _adjoint_and_back(*primals)
    by_features, *weights, _ = _called(ADJOINT_ALONG, *primals, back, *_beyond_weights(tangents))
    return found, (list(zip(weights[::2], weights[1::2], strict=True)), by_features)


_values.defjvp(_values_along, symbolic_zeros=True)
_adjoint.defjvp(_adjoint_along, symbolic_zeros=True)


def _beyond_weights(tangents: Any) -> list[Array]:
    """Those of all arguments but the weights; TypeError where there are some of the weights."""
    layers, *others = tangents
    if not all(isinstance(x, SymbolicZero) for layer in layers for x in layer):
        raise TypeError("the perceptron in C++ has no derivative along its weights; take that of gmnn.model.readout")
    return [jnp.zeros(x.shape, x.dtype) if isinstance(x, SymbolicZero) else x for x in others]


def _adjoint_and_back(layers: Layers, features: Array, kept: Array, by: Array) -> tuple[tuple[Layers, Array], Array]:
    by_features, back = _called(ADJOINT, layers, features, kept, by)
    pairs = zip([features, *_first(layers, kept)], [*_first(layers, back), by], strict=True)
    weights = [(jnp.matmul(x.T, y, precision="highest"), jnp.sum(y, axis=0)) for x, y in pairs]
    return (weights, by_features), back


def _first(layers: Layers, both: Array) -> list[Array]:
    """The first of the two that are kept of every hidden layer, [N, out] each."""
    widths = [len(bias) for _, bias in layers[:-1]]
    n = both.size // (2 * sum(widths))
    arrays = jnp.split(both, np.cumsum([n * width for width in widths for _ in range(2)])[:-1])
    return [array.reshape(n, -1) for array in arrays[::2]]


def _called(task: int, layers: Layers, features: Array, *arrays: Array) -> list[Array]:
    """The function in C++; what it is given and finds is written there."""
    dtype, n, flat = features.dtype, len(features), [x for layer in layers for x in layer]
    hidden = n * sum(len(bias) for _, bias in layers[:-1])
    values, weights = (n, len(layers[-1][1])), [x.shape for x in flat]
    shapes: list[tuple[int, ...]] = [
        [values, (2 * hidden,), (hidden,)],
        [values, (2 * hidden,)],
        [features.shape, (2 * hidden,)],
        [features.shape, *weights, (hidden,)],
    ][task]
    found = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    call = jax.ffi.ffi_call(f"gmnn_readout_{dtype}", found, vmap_method="sequential")
    return list(call(
        features, *flat, *arrays, task=np.int64(task), n_layers=np.int64(len(layers)), gain=np.float64(SWISH_UNIT),
        one_core=cores().size > 1,
    ))  # fmt: skip


def perceptron(layers: Layers, features: Array) -> Array:
    """The numbers of `gmnn.model.readout.perceptron`, [N, F] -> [N, M]. `registered` must be called first.

    JAX's own layers do it for more than MOST_ATOMS, where C++ gains nothing.
    """
    if len(features) > MOST_ATOMS:
        return readout.perceptron(layers, features)
    return _perceptron(
        [(kernel.astype(features.dtype), bias.astype(features.dtype)) for kernel, bias in layers], features
    )


@jax.custom_vjp
def _perceptron(layers: Layers, features: Array) -> Array:
    return _values(layers, features)[0]


def _forward(layers: Layers, features: Array) -> Any:
    found, kept = _values(layers, features)
    return found, (layers, features, kept)


_perceptron.defvjp(_forward, lambda kept, by: _adjoint(*kept, by))


@cache
def registered() -> None:
    """XLA knows the functions; UserError, whose sentence goes on after "but", where they cannot be compiled."""
    register("readout", "gmnn_readout")
