"""The network of the fast paths: energies of atoms from features, with the derivative written out."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gmnn.kernels.parameters import FastParams

Precision = Any  # of jax.numpy.dot


def network(
    params: FastParams, bounded: bool, features: Array, e_i: Array, precision: Precision
) -> tuple[Array, Array, Array]:
    """Energies of atoms from their features [F, B], [B, M] eV, and the derivative of their mean, [F, B].

    The activations of the last hidden layer, [H, B], come third.
    """
    h, last_hidden, slopes = features, features, []
    for kernel, bias in zip(params.kernels, params.biases, strict=True):
        x = jnp.dot(kernel, h, precision=precision) + bias
        s = jax.nn.sigmoid(x)
        last_hidden, h = h, x * s
        slopes.append(s * (1.0 + x * (1.0 - s)))
    psi, last = (h, slopes.pop()) if bounded else (x, jnp.ones_like(slopes.pop()))
    sigma = params.scale[e_i]
    back = last * (sigma / len(psi))[None]
    for kernel, slope in zip(params.kernels[:0:-1], slopes[::-1], strict=True):
        back = slope * jnp.dot(kernel.T, back, precision=precision)
    members = (params.shift[e_i][None] + sigma[None] * psi).T
    return members, jnp.dot(params.kernels[0].T, back, precision=precision), last_hidden
