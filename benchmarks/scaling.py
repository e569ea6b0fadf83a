"""How large systems scale over many devices: a model of one step, calibrated, and its predictions.

    python benchmarks/pages.py docs/scaling.md        the tables and the figure

A step of a domain of n atoms: fixed time of launches, n times the time of an atom, its share of making lists, and the
halo. Ghosts lie within cutoff and skin of the domain; their positions come in and their forces go back, once a step
each, in six messages a time, one per face of the box (the plan of LAMMPS). The page says where the numbers are from.
"""

from dataclasses import dataclass

from matplotlib.figure import Figure

from benchmarks.blocks import table
from benchmarks.stored import ROOT

DENSITY = 0.1003  # atoms/Å^3, water at 1 g/cm^3
STEP_FS = 0.5
MESSAGES = 12  # six faces, positions in and forces back
NUMBERS = 6  # of a ghost: three of its position and three of its force


@dataclass(frozen=True)
class Machine:
    """What one device and its network take."""

    atom_us: float  # evaluation and integration of an atom in a large system
    fixed_us: float  # of a step, whatever its size
    list_us: float  # of an atom, each time lists are made
    steps_per_list: float
    reach: float  # cutoff and skin, Å
    number_bytes: int
    message_us: float
    bandwidth: float  # GB/s of a device to its neighbours
    atom_bytes: float  # of memory
    memory: float  # GB

    def step_us(self, atoms: float, devices: int) -> float:
        """Wall time of a step."""
        local = atoms / devices
        inside = self.fixed_us + local * (self.atom_us + self.list_us / self.steps_per_list)
        return inside + (self.halo_us(local) if devices > 1 else 0.0)

    def halo_us(self, local: float) -> float:
        """The share of a step that ghosts take."""
        moved = ghosts(local, self.reach) * NUMBERS * self.number_bytes
        return MESSAGES * self.message_us + moved / (1e3 * self.bandwidth)

    def devices_for(self, atoms: float) -> int:
        """The fewest whose memory holds them, ghosts included."""
        n = 1
        while (atoms / n + ghosts(atoms / n, self.reach)) * self.atom_bytes > 0.8e9 * self.memory:
            n *= 2
        return n


def ghosts(local: float, reach: float, density: float = DENSITY) -> float:
    """Atoms within `reach` (Å) of a cube that holds `local` atoms, outside it."""
    edge = (local / density) ** (1 / 3)
    return density * ((edge + 2 * reach) ** 3 - edge**3)


# The kernel path as docs/md.md predicts it for one H200 (never run); NDR InfiniBand, one port of 400 Gbit/s a device
H200 = Machine(
    atom_us=0.034, fixed_us=130.0, list_us=0.15, steps_per_list=12.0, reach=5.4, number_bytes=4,
    message_us=10.0, bandwidth=40.0, atom_bytes=25e3, memory=139.0,
)  # fmt: skip
SIZES, DEVICES = (1e5, 1e6, 1e7, 1e8, 1e9), (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def weak() -> str:
    """Atoms of a device fixed."""
    rows = []
    for local in (1e3, 1e4, 1e5, 1e6, 3e6):
        alone = H200.step_us(local, 1)
        together = H200.step_us(8 * local, 8)
        rows.append([
            f"{local:,.0f}", f"{ghosts(local, H200.reach) / local:.2f}", f"{alone / 1e3:.2f}", f"{together / 1e3:.2f}",
            f"{alone / together:.0%}", f"{together / local:.3f}", f"{local * 1000:.0e}",
        ])  # fmt: skip
    head = ["atoms of a GPU", "ghosts per atom", "step alone, ms", "step of eight or more, ms", "efficiency",
            "µs per own atom", "atoms on 1,000 GPUs"]  # fmt: skip
    return table(head, rows)


def strong() -> str:
    """Atoms of all devices fixed: nanoseconds a day."""
    rows = []
    for atoms in SIZES:
        least = H200.devices_for(atoms)
        cells = [f"{per_day(atoms, n):.3g}" if n >= least else "-" for n in DEVICES]
        rows.append([f"{atoms:.0e}", *cells])
    return table(["atoms", *(f"{n:,}" for n in DEVICES)], rows)


def per_day(atoms: float, devices: int) -> float:
    """Nanoseconds of dynamics in a day."""
    return 86400e6 / H200.step_us(atoms, devices) * STEP_FS * 1e-6


def draw() -> None:
    """Speed over devices: docs/figures/scaling.png."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for atoms in SIZES:
        least = H200.devices_for(atoms)
        shown = [n for n in DEVICES if n >= least]
        (line,) = axes.loglog(shown, [per_day(atoms, n) for n in shown], "o-", ms=3, label=f"{atoms:.0e} atoms")
        ideal = [per_day(atoms, shown[0]) * n / shown[0] for n in shown]
        axes.loglog(shown, ideal, ":", lw=1, color=line.get_color())
    axes.set(xlabel="GPUs", ylabel="ns per day", title="Predicted, not measured; dotted: no loss", ylim=(0.1, 1e3))
    axes.legend(fontsize=8)
    figure.savefig(ROOT / "docs" / "figures" / "scaling.png", dpi=150)
