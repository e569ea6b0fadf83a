"""The same prediction once more, for a GPU: two kernels with the network between them, written in Pallas.

Selected by name: `path="kernel"`.
"""

from gmnn.kernels.fused import predict

__all__ = ["predict"]
