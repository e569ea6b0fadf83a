"""The layers of the readout, as a pure function of their weights."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from gmnn.model.descriptor import HIGHEST

SWISH_UNIT = 1.6765  # swish times this has unit second moment for a unit Gaussian input

Layers = list[tuple[Array, Array]]  # kernel [in, out] and bias [out] of each layer
Perceptron = Callable[[Layers, Array], Array]


def perceptron(layers: Layers, features: Array) -> Array:
    """Apply dense layers with SWISH_UNIT swish between them.  [N, F] -> [N, M]"""
    h = features
    for k, (kernel, bias) in enumerate(layers):
        h = jnp.matmul(SWISH_UNIT * jax.nn.swish(h) if k else h, kernel, precision=HIGHEST) + bias[None]
    return h
