"""Trainings whose weight matrices keep a spectral norm below a limit: a projection after every step."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

POWERS = 2  # steps of the power iteration per step of the training, which go on where the last ones ended


def within(limit: float) -> optax.GradientTransformation:
    """Scale every matrix named `kernel` back to `limit` where an update takes its largest singular value beyond.

    To be chained behind an optimiser. The singular value is that of a power iteration, a lower bound that follows the
    true one while the matrix moves slowly.
    """

    def is_kernel(path: tuple) -> bool:
        return path[-1] == jax.tree_util.DictKey("kernel")

    def init(params: Any) -> Any:
        def start(path: tuple, leaf: Any) -> Any:
            return jnp.ones(leaf.shape[-1], leaf.dtype) if is_kernel(path) else jnp.zeros((), leaf.dtype)

        return jax.tree_util.tree_map_with_path(start, params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def one(path: tuple, change: Any, vector: Any, old: Any) -> tuple[Any, Any]:
            if not is_kernel(path):
                return change, vector
            new = old + change
            for _ in range(POWERS):
                vector = vector / jnp.linalg.norm(vector)
                vector = new.T @ (new @ vector)
            norm = jnp.sqrt(jnp.linalg.norm(vector))  # vector = W^T W v of a unit v
            return new * jnp.minimum(1.0, limit / norm) - old, vector

        both = jax.tree_util.tree_map_with_path(one, updates, state, params)
        is_pair = lambda x: isinstance(x, tuple)  # noqa: E731
        return tuple(jax.tree.map(lambda pair, k=k: pair[k], both, is_leaf=is_pair) for k in (0, 1))

    return optax.GradientTransformation(init, update)
