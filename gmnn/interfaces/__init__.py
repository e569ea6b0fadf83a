"""The potential in other programs: ASE, LAMMPS, OpenMM, i-PI, StableHLO files, and potentials that Apax trained."""
