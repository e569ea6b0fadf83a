"""The same energy faster: one implementation behind each name of a path, all equal to autodiff.

`choice.evaluator` picks one: `xla` (radial tables, adjoint written out, blocks of atoms), `cpp` (the same in C++), or
`pallas` (two fused kernels for a GPU).
"""
