"""The energy on a GPU by two fused Pallas kernels with the network between them."""
