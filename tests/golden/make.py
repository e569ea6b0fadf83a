"""Write the golden folder of the current format version. Run once per version, keep what it wrote for ever.

    python tests/golden/make.py

A tiny model trained for a few epochs, and the energies and forces it gives for four frames in float64.
"""

import shutil
from pathlib import Path

from ase.io import write

from gmnn import Calculator
from gmnn.commands.train import main
from gmnn.data.embedded import ethanol
from gmnn.model.folder import FORMAT_VERSION

HERE = Path(__file__).parent / f"v{FORMAT_VERSION}"
CONFIG = """
output: {output}
data: {{train: ethanol, n_train: 60, n_valid: 20}}
model: {{n_radial: 2, n_basis: 6, hidden: [12, 12], r_max: 4.0}}
train: {{epochs: 30}}
"""

if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    config = HERE / "model.yaml"
    config.write_text(CONFIG.format(output=HERE / "model"), encoding="utf-8")
    main([str(config)])
    config.unlink()
    for path in (HERE / "model").iterdir():  # what loading needs stays
        if path.is_dir() and path.name != "params":
            shutil.rmtree(path)
        elif path.is_file() and path.name != "config.json":
            path.unlink()
    frames = Calculator(HERE / "model", dtype="float64").batch_eval(ethanol()[:4])
    write(HERE / "expected.extxyz", frames)
