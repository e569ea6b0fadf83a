"""Other programs' dynamics with our forces: OpenMM and i-PI. Each module imports its engine."""
