"""The same prediction once more by kernels of our own: in Pallas for a GPU, in C++ for a CPU.

Selected by name: `path="kernel"`. And invariants and readout in C++, for training.
"""
