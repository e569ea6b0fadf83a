"""How this process uses JAX: precision, arrays on the device, cores of the CPU, compilation."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from gmnn.errors import UserError, reason
from gmnn.system import System

_forked = False


def _after_fork() -> None:
    """Remember in a forked process that JAX was in use before, whose threads are not there any more."""
    global _forked
    from jax._src import xla_bridge  # only this asks without making the backends

    _forked = bool(getattr(xla_bridge, "_backends", True))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def forked() -> bool:
    """Whether this process was forked after JAX was used, so that JAX may hang in it."""
    return _forked


def require_not_forked() -> None:
    """Raise UserError in a process that was forked after JAX was used."""
    if _forked:
        raise UserError(
            "this process was forked after JAX was used, and JAX cannot compute in it; start processes with "
            'multiprocessing.get_context("spawn") or "forkserver", or fork before the first calculation'
        )


def on_device(system: System, dtype: str) -> System:
    """Move a system or a batch to the device, with its real numbers as `dtype`."""
    return jax.tree.map(lambda x: jnp.asarray(x, dtype if np.issubdtype(x.dtype, np.floating) else x.dtype), system)


def precision(dtype: str) -> AbstractContextManager:
    """Context in which JAX computes in this precision; UserError for any but float32 and float64, or after a fork."""
    require_not_forked()
    if dtype not in ("float32", "float64"):
        raise UserError(f"dtype is {dtype!r}, but must be 'float32' or 'float64'")
    return jax.enable_x64(dtype == "float64")


@contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """Run what is within: UserError where memory does not do for `what`."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            f"there is not enough memory for {what} ({reason(error, 120)}); take fewer of them, or path fast or kernel"
        ) from None


def cores() -> Mesh:
    """Mesh of the devices that share the blocks of a computation: all of the CPU, or one on any other platform."""
    devices = jax.local_devices()
    return Mesh(np.array(devices if jax.default_backend() == "cpu" else devices[:1]), ("core",))


def compiled(function: Callable[..., Any], one_core: bool = False) -> Callable[..., Any]:
    """Compile a function with `jax.jit`.

    If the CPU has several devices, or there are several processes (`one_core`), every device of the CPU computes on one
    core, so that they do not get in each other's way. Other platforms need nothing else.
    """
    single = {"xla_cpu_multi_thread_eigen": False} if one_core or cores().size > 1 else None
    return jax.jit(function, compiler_options=single)


def reserve(n: int) -> None:
    """Ask JAX for `n` CPU devices. Call before JAX is first used; later calls do nothing."""
    by_flag = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if n > 1 and not by_flag and jax.config.values.get("jax_num_cpu_devices", -1) in (None, -1):
        with suppress(RuntimeError):  # JAX raises it once its devices are made
            jax.config.update("jax_num_cpu_devices", n)


def require() -> None:
    """Raise UserError if JAX finds no device of the platform that it is told to use."""
    try:
        jax.devices()
    except RuntimeError as error:
        raise UserError(
            f"JAX has no device to compute on ({reason(error, 200)}); correct JAX_PLATFORMS, or install JAX for that "
            "platform"
        ) from None


def computed_once(true: Array, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return function(*arguments), computed once and not again in each loop that uses it.

    On a CPU, XLA removes its own barrier before it fuses loops. There the call is a branch that is always taken: `true`
    must be true, but XLA must not be able to know it.
    """
    if jax.default_backend() != "cpu":
        return jax.lax.optimization_barrier(function(*arguments))
    like = jax.eval_shape(function, *arguments)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    return jax.lax.cond(true, function, lambda *_: nothing, *arguments)
