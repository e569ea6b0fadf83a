"""What i-PI loads as a custom PES: the driver of the installed package."""

from gmnn.interfaces.ipi import Driver  # noqa: F401

__DRIVER_NAME__ = "gmnn"
__DRIVER_CLASS__ = "Driver"
