"""How many devices JAX makes of a CPU."""

import os
from contextlib import suppress

import jax


def reserve(n: int) -> None:
    """As many devices on the CPU of this process, to be asked for before JAX is used; without effect afterwards."""
    by_flag = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if n > 1 and not by_flag and jax.config.values.get("jax_num_cpu_devices", -1) in (None, -1):
        with suppress(RuntimeError):  # what JAX raises once its devices are made
            jax.config.update("jax_num_cpu_devices", n)
