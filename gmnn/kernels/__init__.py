"""The same prediction once more by kernels of our own: in Pallas for a GPU, in C++ for a CPU.

Selected by name: `path="kernel"`.
"""

from gmnn.kernels import fused, native

__all__ = ["fused", "native"]
