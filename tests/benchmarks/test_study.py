"""The study's machinery: trainings together equal trainings alone, dynamics that conserve and thermalise, counts."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from benchmarks import stored
from benchmarks.blocks.how_much_data import total
from benchmarks.study.cells import VARIANTS, Cell, all_cells, frames
from benchmarks.study.dynamics import FUSED, maxwell, simulate
from benchmarks.study.models import Evaluator
from benchmarks.study.seeds import Member, SeedTrainer
from benchmarks.study.spectral import within
from benchmarks.study.verdicts import certified
from gmnn import Calculator
from gmnn.config.data import DataConfig
from gmnn.config.model import NO_CORE, ModelConfig
from gmnn.config.reading import Config
from gmnn.config.train import TrainConfig
from gmnn.data import fit_reference, read_dataset
from gmnn.data.batches import without_stress
from gmnn.device import on_device
from gmnn.model.potential import Potential
from gmnn.neighbors.host import make_system, stack
from gmnn.training.optimizer import learning_rate

MODEL = ModelConfig(n_radial=2, n_basis=6, hidden=(8, 8), r_max=4.0)
N_STEPS = 150
Trained = tuple[list[Potential], list[Potential], np.ndarray, TrainConfig]


@pytest.fixture(scope="module")
def trained(once_for_all: Callable[..., Path]) -> Trained:
    """Two members trained together, the second one alone as well, the losses of the first call, how it trained."""

    def build(place: Path) -> None:
        (place / "trained.pickle").write_bytes(pickle.dumps(train()))

    return pickle.loads((once_for_all("study", build) / "trained.pickle").read_bytes())


def train() -> Trained:
    """Train them on 60 frames."""
    data = read_dataset("ethanol").take(np.arange(60))
    config = Config(output="x", data=DataConfig(train="ethanol"), model=MODEL, train=TrainConfig())
    pool = on_device(
        stack([make_system(a.positions, a.numbers, a.cell.array, a.pbc, 4.0) for a in data.atoms]), "float32"
    )
    members = []
    for seed, chosen in ((0, np.arange(0, 20)), (1, np.arange(20, 60))):
        members.append(Member(fit_reference(data.take(chosen), config), chosen, seed))
    E0 = [dict(zip(m.reference.elements, m.reference.E0, strict=True)) for m in members]
    energies = [data.energies - sum(table[int(z)] for z in data.atoms[0].numbers) for table in E0]
    labels = without_stress(
        jnp.asarray(np.array(energies), "float32"),
        jnp.broadcast_to(jnp.asarray(np.stack(data.forces), "float32"), (2, 60, 9, 3)),
    )
    with jax.enable_x64(False):
        trainer = SeedTrainer(config, members[0].reference, pool, N_STEPS)
        together, losses = trainer.train(members, labels)
        alone, _ = trainer.train(members[1:] * 2, jax.tree.map(lambda leaf: leaf[jnp.array([1, 1])], labels))
    return together, alone, losses, trainer.train_config


def test_members_do_not_see_each_other(trained: tuple) -> None:
    """A member trained beside another one has the parameters it has beside itself; each learns and has its own data."""
    together, alone, losses, _ = trained
    for a, b in zip(jax.tree.leaves(together[1].params), jax.tree.leaves(alone[0].params), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-4 * max(1.0, np.abs(b).max()))  # float32 over 150 steps
    assert (losses[:, -1] < 0.5 * losses[:, 0]).all()
    assert together[0].reference.closest != together[1].reference.closest
    assert together[0].reference.feature_scale != together[1].reference.feature_scale


def test_rate_ends_at_zero(trained: tuple) -> None:
    """Warm-up over a twentieth of the steps, then a cosine to zero at the last one, however many there are."""
    rate = learning_rate(trained[3], N_STEPS)
    values = [float(rate(step)) for step in range(N_STEPS + 1)]
    assert values[0] == 0
    assert max(values) == pytest.approx(TrainConfig().learning_rate)
    assert np.argmax(values) == pytest.approx(0.05 * N_STEPS, abs=1)
    assert values[-1] < 1e-9


@pytest.mark.slow
def test_evaluator_is_the_calculator(trained: tuple) -> None:
    """The study's evaluation in float64 equals the calculator's, for molecules and for smaller structures."""
    potential = trained[0][0]
    calculator, evaluate = Calculator(potential, dtype="float64", path="reference"), Evaluator(potential)
    for atoms in (read_dataset("ethanol").atoms[3], Atoms("CO", [[0, 0, 0], [0, 0.3, 0.9]])):
        energies, forces = evaluate(atoms.positions[None], atoms.numbers[None])
        copy = Atoms(atoms.numbers, atoms.positions, calculator=calculator)
        expected = copy.get_potential_energy() - potential.offsets(atoms.numbers).sum()
        assert energies[0] == pytest.approx(expected, abs=1e-8)
        np.testing.assert_allclose(forces[0], copy.get_forces(), atol=1e-9)


@pytest.mark.slow
def test_nve_is_velocity_verlet(trained: tuple) -> None:
    """50 steps equal ASE's integrator with the calculator, and the total energy of 400 steps stays within 1 meV."""
    potential = trained[0][0]
    frame = read_dataset("ethanol").atoms[0]
    atoms = Atoms(frame.numbers, frame.positions)
    velocities = maxwell(atoms, 300.0, 2, np.random.default_rng(0))
    copies = np.repeat(atoms.positions[None], 2, axis=0)
    run = simulate(potential, atoms, copies, velocities, step=0.2, n_steps=400, segment=50, precision="float64")
    assert np.abs(run.energies - run.energies[0]).max() < 1e-3 * len(atoms)
    atoms.calc = Calculator(potential, dtype="float64", path="reference")
    atoms.set_velocities(velocities[0] / units.fs)
    VelocityVerlet(atoms, 0.2 * units.fs).run(50)
    expected = atoms.get_total_energy() - potential.offsets(atoms.numbers).sum()
    assert run.energies[0, 0] == pytest.approx(expected, abs=1e-7)


@pytest.mark.slow
def test_langevin_has_its_temperature(trained: tuple) -> None:
    """Kinetic temperature of many pairs after 10 friction times: 400 copies x 6 degrees of freedom, 30 K is 5 sigma.

    The standard error of one snapshot is T sqrt(2 / 2400) = 3 % and several independent ones are averaged.
    """
    atoms = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]])
    bath = np.repeat([300.0, 600.0], 200)
    run = simulate(
        trained[0][0], atoms, np.repeat(atoms.positions[None], 400, axis=0), np.zeros((400, 2, 3)), step=0.5,
        n_steps=400, segment=100, temperature=bath, friction=0.1,
    )  # fmt: skip
    late = run.temperature[1:].mean(axis=0)
    for temperature in (300.0, 600.0):
        assert late[bath == temperature].mean() == pytest.approx(temperature, rel=0.1)


@pytest.mark.slow
def test_fusion_and_loss_are_noticed(trained: tuple) -> None:
    """A pair that starts inside half its covalent sum is fused from the first step; a bond pulled apart is lost."""
    atoms = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]])
    starts = np.array([[[0, 0, 0], [0, 0, r]] for r in (0.97, 0.9 * FUSED * 0.97, 1.6)])
    run = simulate(trained[0][0], atoms, starts, np.zeros((3, 2, 3)), step=0.01, n_steps=5, segment=5)
    assert np.isfinite(run.fused).tolist() == [False, True, False]
    assert np.isfinite(run.lost).tolist() == [False, False, True]
    assert run.fused[1] == pytest.approx(0.01)


@pytest.mark.slow
def test_certified_columns(trained: tuple) -> None:
    """A model with a core has both radii of every pair, inside its bonds; one that may do anything has none."""
    potential = trained[0][0]
    columns = certified(potential, frames())
    assert set(columns) <= set(stored.COLUMNS)
    assert float(columns.pop("above_floor_eV_per_atom")) > 0
    assert all(0 < float(radius) < 1.4 for radius in columns.values())
    free = replace(potential.config, output_activation="identity", core=NO_CORE)
    assert not any(certified(replace(potential, config=free), frames()).values())


def test_older_tables_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns that a table does not have yet are empty, and stay so when it is written again."""
    monkeypatch.setattr(stored, "TABLE", tmp_path / "table.csv")
    assert stored.rows() == []
    stored.TABLE.write_text("variant,n_basis,r_b_C-H_A\nnone,16,\ndefault,8,0.6\n", encoding="utf-8")
    stored.write_rows(stored.rows())
    assert [(row["variant"], row["n_basis"], row["r_b_C-H_A"], row["r_c_C-H_A"]) for row in stored.rows()] == [
        ("none", "16", "", ""), ("default", "8", "0.6", "")
    ]  # fmt: skip


def test_cells_are_what_the_study_says() -> None:
    """Every variant at three basis sets and six sizes, each once; test frames are never trained on."""
    cells = all_cells()
    assert len(cells) == len(set(cells)) == 3 * 6 * len(VARIANTS)
    data = frames()
    for cell in (Cell("default", 16, 1000), Cell("compressed", 16, 10)):
        member = data.member(cell, 3)
        assert not set(member.frames) & set(data.test)
        assert len(set(member.frames)) == cell.n_train + 48 * (cell.variant == "compressed")


def test_report_counts_what_is_stored() -> None:
    """The totals of the report add up to those of the table."""
    table = stored.rows()
    assert sum(total(r for r in table if r["variant"] == v)[1] for v in VARIANTS) == total(table)[1]


def test_spectral_norms_stay_below_their_limit() -> None:
    """Steps that push a matrix up end at the limit; one that stays below is not touched."""
    rng = np.random.default_rng(0)
    params = {"readout": {"layer_0": {"kernel": jnp.asarray(rng.normal(size=(6, 5))), "bias": jnp.ones(5)}}}
    kernel = params["readout"]["layer_0"]["kernel"]
    for limit, expected in ((2.0, 2.0), (50.0, None)):
        project = within(limit)
        state, moved = project.init(params), params
        for _ in range(60):
            push = jax.tree.map(lambda leaf: 0.05 * leaf, moved)
            change, state = project.update(push, state, moved)
            moved = jax.tree.map(jnp.add, moved, change) if expected else params
        norm = float(np.linalg.norm(moved["readout"]["layer_0"]["kernel"], 2))
        if expected:
            assert norm == pytest.approx(expected, rel=1e-4)
            assert float(moved["readout"]["layer_0"]["bias"][0]) > 2, "biases have no limit"
        else:
            np.testing.assert_allclose(change["readout"]["layer_0"]["kernel"], 0.05 * kernel, rtol=1e-12)
