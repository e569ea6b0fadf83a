"""What the benchmarks ask of a trained model: curves of the suites, errors on the test frames, certified radii."""

from pathlib import Path

import numpy as np
from ase import Atoms

from benchmarks.study.cells import Frames
from benchmarks.study.models import Evaluator
from gmnn.certificate import certify
from gmnn.certificate.barrier import above_floor
from gmnn.model.potential import Potential
from gmnn.scanning import Sizes, Suite, make_suites, read_reference

REFERENCE = Path(__file__).parents[2] / "gmnn" / "data" / "files" / "ethanol_curves.extxyz.xz"
ENERGY = 5.0  # eV above frame 0, for the barrier radii
PAIRS = ("C-H", "H-O", "C-C")


def curves(data: Frames, starts: tuple[int, ...], sizes: Sizes) -> list[Suite]:
    """The suites of these frames, the same for every model; the hot frame is the test frame of highest energy."""
    hot = [data.molecules[k] for k in data.test[1:]]
    molecules = [data.molecules[k] for k in starts]
    rng = np.random.default_rng(0)
    return make_suites(molecules, rng, sizes=sizes, reference=read_reference(REFERENCE), hot_frames=hot)


def accuracy(potential: Potential, evaluate: Evaluator, data: Frames) -> dict:
    """Mean absolute errors on the test frames."""
    molecules = [data.molecules[k] for k in data.test]
    energies, forces = evaluate(np.stack([a.positions for a in molecules]), np.stack([a.numbers for a in molecules]))
    truth = data.energies(potential.reference)[data.test]
    return {
        "forces_mae_meV_per_A": f"{1e3 * np.abs(forces - np.stack(data.data.forces)[data.test]).mean():.3f}",
        "energy_mae_meV": f"{1e3 * np.abs(energies - truth).mean():.3f}",
    }


def certified(potential: Potential, data: Frames) -> dict:
    """Barrier radii (T1, 5 eV above frame 0) and monotone radii (T2), empty where nothing is proved; A per atom."""
    atoms = Atoms(data.molecules[0].numbers, data.molecules[0].positions)
    proved, columns = certify(potential, atoms, energy=ENERGY, samples=0), {}
    if potential.config.bounded:
        columns["above_floor_eV_per_atom"] = f"{above_floor(potential, atoms) / len(atoms):.3f}"
    for key, radii, form in (("r_b", proved.barrier, ".4f"), ("r_c", proved.monotone, ".4g")):
        columns |= {f"{key}_{name}_A": "" if radii[name] is None else format(radii[name], form) for name in PAIRS}
    return columns
