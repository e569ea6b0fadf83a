"""The fast path and the kernels against autodiff: invariants, adjoint, tables, predictions, batches, devices, GPU."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms

from gmnn import Calculator, neighbors
from gmnn.config.coverage import uncovered
from gmnn.config.model import CoreConfig, ModelConfig, ZBLConfig
from gmnn.device import on_device
from gmnn.errors import UserError
from gmnn.kernels import choice, invariants, parameters, tables, xla
from gmnn.kernels.cpp import predict as cpp
from gmnn.kernels.pallas import predict as pallas
from gmnn.kernels.parameters import to_kernel_parameters
from gmnn.md import Bath, Dynamics
from gmnn.md.segment import segment
from gmnn.model import descriptor
from gmnn.model.potential import Potential
from gmnn.neighbors.host import make_system, stack
from gmnn.system import Prediction, System
from tests.support import processes
from tests.support.paths import ROOT

Make = Callable[..., tuple[Any, dict]]
FINE = 8192  # intervals, so that tables are exact to 1e-8
reference = jax.jit(Potential.predict, static_argnums=0)
KINDS = {
    "plain": {},
    "core": {"core": CoreConfig()},
    "linear, no repulsion": {"output_activation": "identity", "repulsion": "none"},
    "shallow": {"ensemble": "shallow", "members": 3, "core": CoreConfig()},
    "agnesi, cosine, offset": {
        "distance": "agnesi",
        "unit_offset": 1e-3,
        "cutoff": "cosine",
        "zbl": ZBLConfig(window="cosine", r_off=3.0),
    },
    "gaussian, nlh": {"basis": "gaussian", "repulsion": "nlh", "core": CoreConfig(gate=False)},
}

QUICK = ("core", "linear, no repulsion", "gaussian, nlh")


def system_of(atoms: Atoms, r_max: float) -> System:
    return on_device(make_system(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, r_max), "float64")


@pytest.mark.parametrize("n", [1, 2, 5])
def test_invariants_and_their_adjoint(n: int) -> None:
    """Features and d(g . features)/d(moments) as autodiff of the descriptor gives them, to rounding."""
    rng = np.random.default_rng(n)
    moments = jnp.asarray(rng.normal(size=(6, n, 20)))
    cotangent = jnp.asarray(rng.normal(size=(6, descriptor.n_features(n))))
    features, vjp = jax.vjp(descriptor.invariants, moments)
    found, kept = jax.jit(invariants.invariants)(jnp.transpose(moments, (1, 2, 0)))
    np.testing.assert_allclose(found.T, features, rtol=1e-12, atol=1e-12)
    adjoint = jax.jit(invariants.pullback)(kept, cotangent.T)
    np.testing.assert_allclose(jnp.transpose(adjoint, (2, 0, 1)), vjp(cotangent)[0], rtol=1e-12, atol=1e-10)


BY_KERNEL = {"core": 0, "agnesi, cosine, offset": pallas.FEW}  # from so many atoms one warp


@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_equals_autodiff(
    make_potential: Make, structures: dict[str, Atoms], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Energies of atoms and members, forces and virial of every kind of potential, over structures of every kind.

    Among them approaches down to 0.05 Å, where the clamp holds the distance, the gate hides the direction and the
    repulsion rules. By the kernel in C++ as well; some kinds by those for a GPU, which Pallas interprets here: with
    bounded moments and without, a warp or four to a block, padding atoms and empty slots, several elements.
    """
    potential, params = make_potential(scaled=True, **KINDS[kind])
    potential, r_max = potential.with_params(params), potential.config.r_max
    chosen = [structures[name] for name in ("molecule", "crystal", "triclinic", "slab", "tiny_cell", "atom")]
    chosen += [Atoms("CHO", [[0, 0, 0], [r, 0, 0], [0.3, 1.3, 0.4]]) for r in (0.05, 0.2, 0.5, 0.75, 0.9, 1.1)]
    systems = [make_system(a.positions, a.numbers, a.cell.array, a.pbc, r_max) for a in chosen]
    batch = on_device(stack(systems), "float64")
    prepared, wanted = to_kernel_parameters(potential, "float64", FINE), reference(potential, params, batch)
    monkeypatch.setattr(pallas, "FEW", BY_KERNEL.get(kind, 0))
    paths = [(xla.predict, prepared), (cpp.predict, cpp.tiled(prepared))]
    for predict, trained in [*paths, *([(pallas.predict, prepared)] if kind in BY_KERNEL else [])]:
        found = jax.jit(partial(predict, potential))(trained, batch)
        for k in range(len(chosen)):
            one, other = (jax.tree.map(lambda field, k=k: np.asarray(field[k]), x) for x in (found, wanted))
            scale = max(1.0, np.abs(other.forces).max())
            assert one.grades is None
            for name, a, b in zip(Prediction._fields[:-1], one, other, strict=False):
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * scale, err_msg=f"{name} of structure {k}")


@pytest.mark.slow
@pytest.mark.parametrize("path", [xla, pallas])
def test_forces_gathered_from_reverse_slots(make_potential: Make, structures: dict[str, Atoms], path: Any) -> None:
    """The forces that scattered additions give, of one system and of two; empty slots, atoms that see themselves."""
    potential, params = make_potential(core=CoreConfig())
    potential = potential.with_params(params)
    atoms, radius = structures["triclinic"], potential.config.r_max + 0.5
    grid = neighbors.plan(atoms.positions, atoms.cell.array, atoms.pbc, radius, slack=1.2)
    pbc, systems, reverse = tuple(map(bool, atoms.pbc)), [], []
    for positions in (atoms.positions, atoms.positions + np.diag([0.1, 0.2, 0.0])):
        x, cell = jnp.asarray(positions), jnp.asarray(atoms.cell.array)
        found = jax.jit(partial(neighbors.build, grid, pbc, radius))(x, cell)
        assert not found.overflow
        systems.append(System(x, jnp.asarray(atoms.numbers, jnp.int32), cell, found.neighbors, found.shifts))
        reverse.append(found.reverse)
    both = System(*(jnp.stack(fields) for fields in zip(*systems, strict=True)))
    predict, prepared = jax.jit(partial(path.predict, potential)), to_kernel_parameters(potential, "float64", 256)
    wanted, gathered = predict(prepared, both), predict(prepared, both, jnp.stack(reverse))
    np.testing.assert_allclose(gathered.forces, wanted.forces, rtol=1e-10, atol=1e-10)
    if path is xla:
        one = predict(prepared, systems[1], reverse[1])
        np.testing.assert_allclose(one.forces, wanted.forces[1], rtol=1e-10, atol=1e-10)


def lowered_for_cuda(function: Callable[..., Any], *arguments: Any) -> str:
    """The program that a GPU would be given; that of a kernel is made here, Triton's part and all."""
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.slow
@pytest.mark.parametrize("path", ["fast", "kernel"])
def test_a_segment_of_dynamics_lowers_for_a_gpu(
    make_potential: Make, structures: dict[str, Atoms], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """List, forces and integrator as one program for cuda, in float32; without scattered additions in floats.

    Only the network's products are in TF32, and only where it is asked for; all others are of the highest precision.
    """
    potential, params = make_potential(core=CoreConfig())
    atoms = structures["crystal"]
    dynamics = Dynamics(atoms, potential.with_params(params), Bath("nve"), path="fast")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for few in (0, pallas.FEW) if path == "kernel" else (0,):
        monkeypatch.setattr(pallas, "FEW", few)
        with jax.enable_x64(False):
            prepared, predict = choice.evaluator(dynamics.potential, path, "float32", tf32_network=few == 0)
            given = replace(dynamics._setting, predict=predict)
            start = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32)[None], dynamics.now.state)
            program = lowered_for_cuda(partial(segment, given, dynamics.grid), prepared, start, 0, 1)
        assert program.count("__gpu$xla.gpu.triton") == (2 if path == "kernel" else 0)
        products = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
        coarse = [line for line in products if "lhs_precision_type = tf32" in line]
        assert len(coarse) == (6 if few == 0 else 0)  # three layers, forward and back
        assert all("precision = [HIGHEST, HIGHEST]" in line for line in products if line not in coarse)
        scatters = re.findall(r'"stablehlo.scatter".*?\}\) : \(tensor<\S+?>,', program, re.S)
        assert not [one for one in scatters if "stablehlo.add" in one and one.endswith("f32>,")]


def test_forces_are_the_slope_of_the_tabulated_energy(make_potential: Make, structures: dict[str, Atoms]) -> None:
    """With coarse tables too: what a trajectory conserves. Central differences of 1e-5 Å."""
    potential, params = make_potential(core=CoreConfig())
    potential = potential.with_params(params)
    prepared = to_kernel_parameters(potential, "float64", 64)
    predict = jax.jit(partial(xla.predict, potential))
    system = system_of(structures["triclinic"], potential.config.r_max)
    forces, h = predict(prepared, system).forces, 1e-5
    for i, a in ((0, 0), (1, 1), (2, 2)):
        moved = [system._replace(positions=system.positions.at[i, a].add(s * h)) for s in (1, -1)]
        plus, minus = (float(predict(prepared, one).energy) for one in moved)
        assert (minus - plus) / (2 * h) == pytest.approx(float(forces[i, a]), rel=1e-6, abs=1e-6)


def test_errors_of_the_tables_are_stated(make_potential: Make) -> None:
    """The stated error falls with the third power of the interval or faster, and bounds random distances."""
    potential, params = make_potential(core=CoreConfig(), n_basis=8)
    potential = potential.with_params(params)
    value, slope = tables.errors(potential, 512)
    finer_value, finer_slope = tables.errors(potential, 1024)
    assert np.all(finer_value[:2] < value[:2] / 7)
    assert np.all(finer_slope[:2] < slope[:2] / 4)
    rows = np.asarray(tables.tabulate(potential, "float64", 512)).reshape(4, 4, 513, 4, -1)
    r = np.random.default_rng(0).uniform(0.2, potential.config.r_max, 200)
    row, t = np.divmod(r * 512 / potential.config.r_max, 1.0)
    c = rows[0, 1, row.astype(int)]
    found = c[:, 0] + t[:, None] * (c[:, 1] + t[:, None] * (c[:, 2] + t[:, None] * c[:, 3]))
    exact = jax.vmap(tables.channels(potential, 0, 1))(jnp.asarray(r))
    assert np.all(np.abs(found - exact).max(axis=0) <= 1.5 * value + 1e-12)


def test_a_batch_is_its_members(make_potential: Make, structures: dict[str, Atoms]) -> None:
    """Systems of different sizes and cells, padded, share the blocks; 40 of them fill several."""
    potential, params = make_potential(core=CoreConfig())
    potential = potential.with_params(params)
    prepared = to_kernel_parameters(potential, "float64", 256)
    predict = jax.jit(partial(xla.predict, potential))
    names = ["molecule", "crystal", "triclinic", "dimer"] * 10
    singles = [
        make_system(a.positions, a.numbers, a.cell.array, a.pbc, 3.6) for a in (structures[name] for name in names)
    ]
    batch = predict(prepared, on_device(stack(singles), "float64"))
    for k in (2, 39):
        one = predict(prepared, on_device(singles[k], "float64"))
        n = len(singles[k].numbers)
        np.testing.assert_allclose(batch.forces[k, :n], one.forces, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(batch.virial[k], one.virial, rtol=1e-10, atol=1e-10)
        assert float(batch.energy[k]) == pytest.approx(float(one.energy), abs=1e-10)
        assert not np.any(batch.forces[k, n:])
        assert not np.any(batch.energies[k, n:])


@pytest.mark.slow
def test_devices_share_the_blocks(tmp_path: Path) -> None:
    """Two devices of the CPU give the numbers of one on both paths, in float64 to rounding."""
    worker, numbers = ROOT / "tests" / "support" / "sharing_worker.py", []
    for devices in (1, 2):
        done = processes.python(worker, str(devices), tmp_path / "numbers.npz")
        assert done.returncode == 0, done.stderr
        numbers.append(dict(np.load(tmp_path / "numbers.npz")))
        assert numbers[-1].pop("devices") == devices
    assert set(numbers[0]) == {"fast", "kernel"}
    for path in numbers[0]:
        np.testing.assert_allclose(numbers[1][path], numbers[0][path], rtol=1e-9, atol=1e-9, err_msg=path)


def test_the_calculator_takes_a_path(make_potential: Make, structures: dict[str, Atoms]) -> None:
    potential, params = make_potential(core=CoreConfig())
    potential = potential.with_params(params)
    atoms = structures["crystal"]
    found = {}
    for path in ("fast", "kernel", "reference"):
        atoms.calc = Calculator(potential, dtype="float64", path=path)
        found[path] = atoms.get_forces(), atoms.get_stress(), atoms.get_potential_energy()
    for path in ("fast", "kernel"):
        for one, other in zip(found[path], found["reference"], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)


def test_refusals(make_potential: Make) -> None:
    potential, params = make_potential()
    with pytest.raises(UserError, match="path is 'quick', but must be one of auto, reference, fast, kernel"):
        choice.evaluator(potential.with_params(params), "quick", "float64")
    with pytest.raises(UserError, match="tf32_network needs path fast or kernel, dtype float32 and a GPU"):
        choice.evaluator(potential.with_params(params), "fast", "float32", tf32_network=True)
    switched, params = make_potential(core=CoreConfig(nearest_switch=True, clamp=False, gate=False))
    with pytest.raises(UserError, match=r"do not cover model\.core\.nearest_switch: true; use path reference or auto"):
        choice.evaluator(switched.with_params(params), "fast", "float64")


def test_auto_takes_the_fastest_path_that_covers_the_potential(
    make_potential: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """C++ where it compiles, else XLA, and autodiff for what neither covers; a line says which and why."""
    potential, params = make_potential()
    potential = potential.with_params(params)
    switched, params = make_potential(core=CoreConfig(nearest_switch=True, clamp=False, gate=False))
    switched = switched.with_params(params)
    assert choice.choose(potential, "auto").path == "kernel"
    assert choice.choose(switched, "auto") == (
        "reference", "autodiff, as the faster paths do not cover model.core.nearest_switch: true"
    )  # fmt: skip

    def no_compiler(config: ModelConfig) -> None:
        raise UserError("there is no compiler")

    monkeypatch.setattr(choice.cpp, "require_available", no_compiler)
    assert choice.choose(potential, "auto") == ("fast", "XLA, as there is no compiler")
    choice.announce.cache_clear()
    capsys.readouterr()
    for _ in range(2):  # said once
        choice.evaluator(potential, "auto", "float64")
    assert capsys.readouterr().err == "gmnn: energies and forces by path fast (XLA, as there is no compiler)\n"


def test_what_is_not_listed_is_not_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting has its line in the list; without it even the default is refused."""
    assert uncovered(ModelConfig(), parameters.COVERED) is None
    for key in parameters.COVERED:
        shorter = {other: allowed for other, allowed in parameters.COVERED.items() if other != key}
        assert uncovered(ModelConfig(), shorter).startswith(f"model.{key}: ")
