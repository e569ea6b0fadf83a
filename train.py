"""Train a Gaussian-moment neural network potential and evaluate it.

    python train.py configs/ethanol_quick.yaml                     train as the file says
    python train.py configs/ethanol_quick.yaml train.epochs=500 output=runs/longer
    python train.py configs/ethanol_quick.yaml --resume            continue a run that was stopped or killed

It writes a model folder for `gmnn.Calculator(folder)` and `python scan.py FOLDER`, and prints a table of errors.
Exit code: 0 if trained, 2 for misuse, 130 if stopped, 3 if another process of a common training was lost.
"""

import sys

from gmnn.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
