"""Train the five seeds of a cell together, and evaluate any of them on any ethanol-sized structure in float64."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.study.cells import SEEDS, Cell, Frames, frames
from benchmarks.study.seeds import SeedTrainer
from gmnn.config.model import ModelConfig
from gmnn.data.batches import without_stress
from gmnn.device import on_device
from gmnn.model import folder
from gmnn.model.network import Constants, constants
from gmnn.model.potential import Params, Potential
from gmnn.neighbors.host import make_system, stack
from gmnn.reference import Reference
from gmnn.system import System

KEPT = Path(__file__).parents[2] / "models" / "how_much_data"
N_ATOMS = 9
CHUNK = 32  # structures evaluated at once; larger chunks leave the cache, and refinements ask for few
EVERYTHING = 100.0  # Å: every pair is in the list, whichever the structure


class CellTrainer:
    """Trains cells; programs are compiled once per architecture."""

    def __init__(self, frames: Frames, n_steps: int) -> None:
        self.frames, self.n_steps = frames, n_steps
        data = frames.data
        systems = [make_system(a.positions, a.numbers, a.cell.array, a.pbc, EVERYTHING) for a in data.atoms]
        self.pool = on_device(stack(systems), "float32")
        self.forces = jnp.asarray(np.stack(data.forces), "float32")
        self._trainer: tuple[ModelConfig, SeedTrainer] | None = None

    def train(self, cell: Cell, seeds: tuple[int, ...] = SEEDS) -> list[Potential]:
        """The potentials of the cell, one per seed."""
        members = [self.frames.member(cell, seed) for seed in seeds]
        if self._trainer is None or self._trainer[0] != cell.model:
            self._trainer = cell.model, SeedTrainer(cell.config(), members[0].reference, self.pool, self.n_steps)
        energies = np.stack([self.frames.energies(m.reference) for m in members])
        labels = without_stress(
            jnp.asarray(energies, "float32"), jnp.broadcast_to(self.forces, (len(seeds), *self.forces.shape))
        )
        return self._trainer[1].train(members, labels)[0]


def keep(cell: Cell, seed: int, potential: Potential) -> Path:
    """Save a model where the dynamics look for it."""
    path = KEPT / f"{cell.variant}_{cell.n_basis}_{cell.n_train}_{seed}"
    folder.save(path, potential, 0, {"training": {"study": "how_much_data"}, "data": {}})
    return path


def kept(cell: Cell, seed: int, n_steps: int) -> Potential:
    """The model of the study, trained again (with the other seeds, as the study does) where it was not kept."""
    path = KEPT / f"{cell.variant}_{cell.n_basis}_{cell.n_train}_{seed}"
    if not path.exists():
        for other, potential in zip(SEEDS, CellTrainer(frames(), n_steps).train(cell), strict=True):
            keep(cell, other, potential)
    return folder.load(path)


class Evaluator:
    """Energy [B] eV without atomic references and forces [B, N, 3] of structures of up to 9 atoms, in float64."""

    def __init__(self, potential: Potential) -> None:
        self.potential = potential
        with jax.enable_x64(True):
            arrays = constants(potential.config, potential.reference)
            self._constants = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), arrays)
            self._params = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), potential.trained)
        self._evaluate = _compiled(potential.config, potential.reference.elements, potential.reference.screening)

    def __call__(self, positions: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[B, N, 3] Å, [B, N] -> [B], [B, N, 3]"""
        n_frames, n = numbers.shape
        full, atoms = np.zeros((n_frames, N_ATOMS, 3)), np.zeros((n_frames, N_ATOMS), np.int32)
        full[:, :n], atoms[:, :n] = positions, numbers
        energies, forces = np.zeros(n_frames), np.zeros((n_frames, n, 3))
        with jax.enable_x64(True):
            for start in range(0, n_frames, CHUNK):
                rows = np.minimum(np.arange(start, start + CHUNK), n_frames - 1)
                e, f = self._evaluate(self._constants, self._params, full[rows], atoms[rows])
                stop = min(start + CHUNK, n_frames)
                energies[start:stop] = np.asarray(e)[: stop - start]
                forces[start:stop] = np.asarray(f)[: stop - start, :n]
        return energies, forces


def open_system(positions: jax.Array, numbers: jax.Array) -> System:
    """A molecule in which every atom is listed as a neighbour of every other.  [N, 3], [N] with 0 for padding"""
    n = len(numbers)
    others = jnp.asarray([[j for j in range(n) if j != i] for i in range(n)], jnp.int32)
    neighbors = jnp.where(numbers[others] > 0, others, n)
    return System(
        positions, numbers, jnp.zeros((3, 3), positions.dtype), neighbors, jnp.zeros((n, n - 1, 3), jnp.int32)
    )


def predict(
    potential: Potential, values: Constants, params: Params, positions: jax.Array, numbers: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Energy and forces of one molecule with these constants in place of the potential's own.  -> [], [N, 3]"""
    prediction = replace(potential, constants=values).predict(params, open_system(positions, numbers))
    return prediction.energy, prediction.forces


@lru_cache(maxsize=4)
def _compiled(
    config: ModelConfig, elements: tuple[int, ...], screening: tuple
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    n = len(elements)
    template = Potential(config, Reference(elements, (0.0,) * n, (1.0,) * n, (0.0,) * n, screening=screening))
    return jax.jit(jax.vmap(partial(predict, template), (None, None, 0, 0)))
