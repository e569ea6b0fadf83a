"""Predicts 40 frames on N devices of the CPU in float64 by both compiled paths: sharing_worker.py N OUT.npz"""

import sys

import jax
import numpy as np

import gmnn
from gmnn.data.embedded import ethanol
from gmnn.device import compiled, on_device, reserve
from gmnn.kernels import choice
from gmnn.neighbors.host import make_system, stack
from tests.support.paths import ROOT

if __name__ == "__main__":
    reserve(int(sys.argv[1]))
    jax.config.update("jax_enable_x64", True)
    frames = on_device(
        stack([make_system(a.positions, a.numbers, a.cell.array, a.pbc, 5.0) for a in ethanol()[:40]]), "float64"
    )
    numbers: dict[str, np.ndarray] = {"devices": np.array(jax.device_count())}
    for path in ("fast", "kernel"):
        params, predict = choice.evaluator(gmnn.load(ROOT / "examples" / "ethanol"), path, "float64")
        found = compiled(predict)(params, frames)
        numbers[path] = np.concatenate([np.ravel(x) for x in (found.energy, found.forces, found.virial)])
    np.savez(sys.argv[2], **numbers)
