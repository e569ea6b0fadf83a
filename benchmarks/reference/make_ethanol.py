"""Make the ethanol reference set: GFN2-xTB dynamics, MP2/def2-SVP energies and forces.

    pip install pyscf tblite ase
    python make_ethanol.py sample  frames.extxyz [n_frames]        # about 4 ms per MD step
    python make_ethanol.py label   frames.extxyz labelled.extxyz [part n_parts]
    python make_ethanol.py pack    labelled.extxyz ethanol.extxyz.xz

``sample`` runs Langevin dynamics of one ethanol molecule at 500 K from an anti and two gauche starts and keeps one
frame every 100 fs after 2 ps. ``label`` computes energy [eV] and forces [eV/Å] of each frame, appends as it goes and
skips what the output already holds, so it can be stopped and started again; several parts may run side by side, each
into its own file. ``pack`` compresses the labelled file and prints both checksums.
MP2 has analytic forces and no integration grid: the net force of a frame is below 1e-7 eV/Å (what the rounding of the
labels to 8 decimals leaves), where r2SCAN on a level-3 grid scatters by 16 meV/Å and PBE0 on level 4 by 0.15.
Atom order C C H H H H O H H (C0-C1, C0-H2/3/4, C1-H5, C1-O6, C1-H7, O6-H8).
"""

import hashlib
import lzma
import sys
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

BASIS, SCF_TOL = "def2-svp", 1e-10
TEMPERATURE_K, TIMESTEP_FS, SPACING_STEPS, WARMUP_STEPS = 500.0, 0.5, 200, 4000
FRICTION_PER_FS = 0.01
SYMBOLS = "CCHHHHOHH"
ANTI = np.array(
    [  # Å, a reasonable start; relaxed with GFN2-xTB before use
        [1.19, 0.23, 0.00],
        [-0.09, -0.55, 0.00],
        [1.22, 0.87, 0.88],
        [1.22, 0.87, -0.88],
        [2.06, -0.44, 0.00],
        [-0.13, -1.20, 0.88],
        [-1.21, 0.31, 0.00],
        [-0.13, -1.20, -0.88],
        [-2.00, -0.24, 0.00],
    ]
)


def sample(path: str, n_frames: int = 1200) -> None:
    """Write ``n_frames`` unlabelled frames, a third from each start, in one shuffled order."""
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
    from ase.optimize import BFGS
    from tblite.ase import TBLite

    frames = []
    for start, dihedral in enumerate((180.0, 60.0, -60.0)):
        rng = np.random.default_rng(start)
        atoms = Atoms(SYMBOLS, ANTI)
        atoms.set_dihedral(0, 1, 6, 8, dihedral, indices=[8])
        atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
        BFGS(atoms, logfile=None).run(fmax=0.02)
        MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURE_K, rng=rng)
        dynamics = Langevin(
            atoms, TIMESTEP_FS * units.fs, temperature_K=TEMPERATURE_K, friction=FRICTION_PER_FS / units.fs, rng=rng
        )
        dynamics.run(WARMUP_STEPS)
        for _ in range(n_frames // 3):
            dynamics.run(SPACING_STEPS)
            frame = Atoms(SYMBOLS, atoms.positions - atoms.positions.mean(0))
            frame.info["start"] = start
            frames.append(frame)
    order = np.random.default_rng(0).permutation(len(frames))  # any prefix of the file is a fair sample
    write(path, [frames[k] for k in order])


def label(source: str, target: str, part: int = 0, n_parts: int = 1) -> None:
    """Append MP2 energy [eV] and forces [eV/Å] of frames ``part::n_parts`` of ``source`` to ``target``."""
    from pyscf import gto, lib, mp, scf

    lib.num_threads(max(1, 2 // n_parts))
    frames = read(source, ":")
    done = {a.info["frame"] for a in read(target, ":")} if Path(target).exists() else set()
    for k in range(part, len(frames), n_parts):
        if k in done:
            continue
        molecule = gto.M(
            atom=list(zip(frames[k].get_chemical_symbols(), frames[k].positions, strict=True)),
            basis=BASIS,
            unit="Angstrom",
            verbose=0,
        )
        field = scf.RHF(molecule)
        field.conv_tol = SCF_TOL
        field.kernel()
        if not field.converged:
            print(f"frame {k}: SCF did not converge, left out", flush=True)
            continue
        correlation = mp.MP2(field)
        correlation.kernel()
        energy = correlation.e_tot
        gradient = correlation.nuc_grad_method().kernel()
        out = frames[k].copy()
        out.info["frame"] = k
        out.calc = SinglePointCalculator(
            out, energy=energy * units.Hartree, forces=-gradient * units.Hartree / units.Bohr
        )
        write(target, out, append=True)


def pack(source: str, target: str) -> None:
    """Compress ``source`` byte for byte; frames stay in its order."""
    content = Path(source).read_bytes()
    packed = lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
    Path(target).write_bytes(packed)
    for name, data in ((target, packed), (source, content)):
        print(f"{hashlib.sha256(data).hexdigest()}  {len(data)} bytes  {Path(name).name}")


if __name__ == "__main__":
    command, *rest = sys.argv[1:] or ["help"]
    if command == "sample":
        sample(rest[0], *(int(x) for x in rest[1:2]))
    elif command == "label":
        label(rest[0], rest[1], *(int(x) for x in rest[2:4]))
    elif command == "pack":
        pack(rest[0], rest[1])
    else:
        print(__doc__)
        sys.exit(command not in ("help", "-h", "--help"))
