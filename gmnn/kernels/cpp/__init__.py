"""The energy on a CPU by functions in C++: prediction, invariants and readout, compiled when first used."""
