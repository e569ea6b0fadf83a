"""What the study varies: potentials, basis sets, training sizes, seeds; and the frames it has."""

from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read

from benchmarks.study.seeds import Member
from gmnn.config.data import DataConfig
from gmnn.config.model import NO_CORE, CoreConfig, ModelConfig, ZBLConfig
from gmnn.config.reading import Config
from gmnn.config.train import TrainConfig
from gmnn.data import Dataset, fit_reference, read_dataset
from gmnn.reference import Reference

N_BASIS, N_TRAIN, SEEDS = (16, 8, 24), (10, 25, 50, 100, 250, 1000), (0, 1, 2, 3, 4)
N_STEPS = 1000  # of the optimiser, in every training
N_TEST = 100
MOVED = ("none", "seed", "covalent", "default"), (50, 1000), (0, 1)  # variants, sizes, seeds of the dynamics
COMPRESSED = Path(__file__).parents[1] / "data" / "ethanol_compressed.extxyz"


def _apax(strength: float) -> ZBLConfig:
    return ZBLConfig(strength=strength, floor=0.0, window="cosine", r_off=3.5)


WIDE = ZBLConfig(window="covalent", inner=0.3, outer=1.2)  # reaches over the bonds, as is usual
STEEP = CoreConfig(width=0.15, depth=1.0, gate_outer=0.9, gate_inner=0.4)
OPEN = ModelConfig(output_activation="identity", core=NO_CORE, zbl=WIDE)
VARIANTS: dict[str, tuple[str, ModelConfig]] = {
    "none": ("no repulsion, linear output", replace(OPEN, repulsion="none")),
    "zbl_weak": ("ZBL at Apax's default (0.0069 of physical), linear output", replace(OPEN, zbl=_apax(0.00694))),
    "zbl_physical": ("physical ZBL, linear output", OPEN),
    "seed": (
        "the blog post's cure: ZBL 0.0694 of physical, swish output",
        ModelConfig(core=NO_CORE, zbl=_apax(0.0694)),
    ),
    "swish_physical": ("physical ZBL, swish output", ModelConfig(core=NO_CORE, zbl=WIDE)),
    "default": ("gmnn's default: physical ZBL, swish output, full core", ModelConfig()),
    "covalent": (
        "full core with a steeper clamp, physical ZBL over the bonds",
        ModelConfig(core=STEEP, zbl=WIDE),
    ),
    "agnesi": (
        "the same with MACE's transform of the distance",
        ModelConfig(distance="agnesi", core=STEEP, zbl=WIDE),
    ),
    "compressed": ("no repulsion, linear output, 48 compressed frames added", replace(OPEN, repulsion="none")),
    "switch": (
        "physical ZBL, linear output, network off below the data (pacemaker)",
        replace(OPEN, core=replace(NO_CORE, nearest_switch=True)),
    ),
}
"""Name -> what it is, model with 16 basis functions."""


@dataclass(frozen=True)
class Cell:
    """Five trainings that differ in their seed, which draws the frames, the start and the batches."""

    variant: str
    n_basis: int
    n_train: int

    @property
    def model(self) -> ModelConfig:
        """The architecture."""
        return replace(VARIANTS[self.variant][1], n_basis=self.n_basis)

    def config(self, output: str = "study") -> Config:
        """As a training run; the number of steps is the study's."""
        train = TrainConfig(clip_norm=None)  # as when the stored results were made
        return Config(output=output, data=DataConfig(train="ethanol"), model=self.model, train=train)


ARMS = ("covalent", "agnesi", "compressed", "switch")  # alternatives, with 16 basis functions first


def all_cells() -> list[Cell]:
    """Every cell in the order of their weight, cells that share a compiled program side by side."""
    main = ["default", *(name for name in VARIANTS if name not in ("default", *ARMS))]
    groups = [(N_BASIS[:1], [*main, *ARMS]), (N_BASIS[1:], main), (N_BASIS[1:], ARMS)]
    return [Cell(v, b, n) for basis, variants in groups for b, v, n in product(basis, variants, N_TRAIN)]


@dataclass(frozen=True)
class Frames:
    """The embedded frames and the compressed ones behind them; test frames are never trained on."""

    data: Dataset
    n_embedded: int
    test: np.ndarray  # [100] indices, frame 0 among them
    rest: np.ndarray  # the other embedded frames

    def member(self, cell: Cell, seed: int) -> Member:
        """Frames of a training and what they say. Energies E0 are those of the frames that are not compressed."""
        chosen = np.random.default_rng(100 + seed).permutation(self.rest)[: cell.n_train]
        reference = fit_reference(self.data.take(chosen), cell.config())
        if cell.variant == "compressed":
            chosen = np.concatenate([chosen, np.arange(self.n_embedded, len(self.data))])
        return Member(reference, chosen, seed)

    def energies(self, reference: Reference) -> np.ndarray:
        """Energies of all frames without the atomic references, [n] eV."""
        table = dict(zip(reference.elements, reference.E0, strict=True))
        return self.data.energies - np.array([sum(table[int(z)] for z in a.numbers) for a in self.data.atoms])

    @property
    def molecules(self) -> list[Atoms]:
        """The frames as ASE has them."""
        return self.data.atoms


@cache
def frames() -> Frames:
    """The data of the study."""
    embedded = read_dataset("ethanol")
    extra: list[Atoms] = list(read(COMPRESSED, ":"))
    data = replace(
        embedded,
        atoms=[*embedded.atoms, *extra],
        energies=np.concatenate([embedded.energies, [a.get_potential_energy() for a in extra]]),
        forces=[*embedded.forces, *(a.get_forces() for a in extra)],
        stresses=np.full((len(embedded) + len(extra), 3, 3), np.nan),
        weights=np.ones(len(embedded) + len(extra)),
        indices=np.arange(len(embedded) + len(extra)),
    )
    order = 1 + np.random.default_rng(0).permutation(len(embedded) - 1)
    test = np.concatenate([[0], order[: N_TEST - 1]])
    return Frames(data, len(embedded), test, order[N_TEST - 1 :])
