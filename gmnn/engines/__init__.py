"""Other programs' dynamics with our forces: LAMMPS, OpenMM and i-PI. The last two modules import their engine."""
