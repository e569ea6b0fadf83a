"""THE energy: radial functions, descriptor, short range, repulsion, readout, network, potential and its folder."""
