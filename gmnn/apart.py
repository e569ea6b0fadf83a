"""Results that are computed once: XLA else repeats a computation in every loop that uses its result."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def apart(true: Array, function: Callable[..., Any], *arguments: Any) -> Any:
    """function(*arguments); on a CPU in a branch that is always taken, which XLA must not be able to know.

    There its own barrier is gone before loops are fused.
    """
    if jax.default_backend() != "cpu":
        return jax.lax.optimization_barrier(function(*arguments))
    like = jax.eval_shape(function, *arguments)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    return jax.lax.cond(true, function, lambda *_: nothing, *arguments)
