"""What i-PI loads as a custom PES: the driver of the installed package."""

from gmnn.engines.ipi import Driver  # noqa: F401

__DRIVER_NAME__ = "gmnn"
__DRIVER_CLASS__ = "Driver"
