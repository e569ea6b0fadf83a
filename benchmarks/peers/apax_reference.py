"""Small models trained with Apax 0.14 and what they give for frames they never saw: tests/golden/apax.

    python benchmarks/peers/apax_reference.py ENVIRONMENT [--water FILE]

ENVIRONMENT is a folder with bin/apax (benchmarks/peers/apax.py). Of each model config.yaml and the parameters of the
best epoch are kept in Apax's own form, without the state of the optimiser and with zeros for elements that the data
does not contain. All is computed in float64, except Apax's repulsions. FILE: liquid water with energies and forces.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import ase.io
import numpy as np
import orbax.checkpoint as ocp
from ase import Atoms

ROOT = Path(__file__).parents[2]
sys.path[0] = str(ROOT)  # in place of this folder, whose apax.py would hide the package

from benchmarks.peers.apax import Apax, write_training  # noqa: E402
from gmnn.data.embedded import ethanol  # noqa: E402
from gmnn.interfaces import apax  # noqa: E402

GOLDEN = ROOT / "tests" / "golden" / "apax"
DOUBLE = dict.fromkeys(("descriptor_dtype", "readout_dtype", "scale_shift_dtype"), "fp64")
SMALL = {"name": "gmnn", "nn": [32, 32], "basis": {"name": "bessel", "n_basis": 8, "r_max": 4.0}} | DOUBLE
ZBL = {"empirical_corrections": [{"name": "zbl", "r_max": 1.5}]}
EXPONENTIAL = {"empirical_corrections": [{"name": "exponential", "r_max": 1.5}]}
MODELS = {
    "ethanol": SMALL,
    "ethanol_zbl": SMALL | ZBL,
    "ethanol_exponential": SMALL | EXPONENTIAL | {"use_ntk": True, "n_contr": 6, "b_init": "normal", "n_radial": 4},
    "water_zbl": SMALL | ZBL,
}


def main() -> None:
    """Train, keep, predict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", type=Path)
    parser.add_argument("--water", type=Path)
    arguments = parser.parse_args()
    runner = Apax(arguments.environment.absolute())
    molecule = ethanol()
    sets = {"ethanol": (molecule[:80], molecule[80:100], _unseen(molecule[200:220]), 20)}
    if arguments.water:
        liquid = ase.io.read(arguments.water, ":16")
        sets["water"] = (liquid[:8], liquid[8:12], _unseen(liquid[12:16]), 10)
    for name, model in MODELS.items():
        if name.split("_")[0] in sets:
            train, valid, unseen, epochs = sets[name.split("_")[0]]
            with tempfile.TemporaryDirectory() as scratch:
                write_training(Path(scratch), train, valid, epochs, batch_size=4, model=model)
                runner.run(Path(scratch), "train", "train.yaml")
                print(name, (Path(scratch) / "models/run/log.csv").read_text(encoding="utf-8").splitlines()[-1])
                _keep(Path(scratch) / "models" / "run", GOLDEN / name)
                energies, forces = runner.predict(Path(scratch), unseen)
            np.savez_compressed(
                GOLDEN / name / "unseen.npz", numbers=unseen[0].numbers, positions=[a.positions for a in unseen],
                cells=[a.cell.array for a in unseen], pbc=unseen[0].pbc, energies=energies, forces=forces,
            )  # fmt: skip


def _unseen(frames: list[Atoms]) -> list[Atoms]:
    """Half of the frames as they are, the others compressed, each by 3 % more than the one before."""
    bare = [Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in frames]
    for k, atoms in enumerate(bare[len(bare) // 2 :], 1):
        atoms.set_cell(atoms.cell * (1.0 - 0.03 * k))
        atoms.positions *= 1.0 - 0.03 * k
    return bare


def _keep(run: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shutil.copy(run / "config.yaml", target)
    _, params, epoch = apax.read(run)
    network = params["energy_model"]
    scale, shift = (np.asarray(network["scale_shift"][f"{x}_per_element"]).ravel() for x in ("scale", "shift"))
    absent = np.setdiff1d(np.arange(len(scale)), apax.trained_elements(scale, shift))
    table = network["representation"]["radial_fn"]["atomic_type_embedding"]
    table[absent], table[:, absent] = 0.0, 0.0
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(
            (target / "best" / str(epoch) / "default").absolute(), {"model": {"params": {"params": params}}}
        )
    for mark in target.rglob("commit_success.txt"):
        mark.write_text("complete\n", encoding="utf-8")  # orbax writes the absolute path into it


if __name__ == "__main__":
    main()
