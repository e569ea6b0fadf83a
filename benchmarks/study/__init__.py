"""How much data does it take to stabilise a potential? Cells, trainings, verdicts and dynamics of the study."""
