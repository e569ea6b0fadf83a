"""The kernel in C++ beside the fast path: channels, blocks, precision, bad numbers, and how it is compiled."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from gmnn.config.model import CoreConfig
from gmnn.device import on_device, precision
from gmnn.errors import UserError
from gmnn.kernels import choice, xla
from gmnn.kernels.cpp import library
from gmnn.kernels.cpp import predict as cpp
from gmnn.kernels.parameters import to_kernel_parameters
from gmnn.model.potential import Potential
from gmnn.neighbors.host import make_system, stack
from gmnn.system import System

Make = Callable[..., tuple[Any, dict]]


@pytest.fixture
def potential(make_potential: Make) -> Potential:
    made, params = make_potential(core=CoreConfig())
    return made.with_params(params)


def system_of(atoms: Atoms, r_max: float, dtype: str = "float64") -> System:
    return on_device(make_system(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, r_max), dtype)


@pytest.mark.parametrize(
    ("n", "hidden"),
    [
        (6, (7, 5)),
        pytest.param(14, (3,), marks=pytest.mark.slow),
        pytest.param(1, (4,), marks=pytest.mark.slow),
        pytest.param(7, (13,), marks=pytest.mark.slow),
    ],
)
def test_channels_and_layers(make_potential: Make, structures: dict[str, Atoms], n: int, hidden: tuple) -> None:
    """One register of channels or two, full or not; layers whose rows are no whole tiles."""
    made, params = make_potential(core=CoreConfig(), n_radial=n, hidden=hidden)
    potential = made.with_params(params)
    system, prepared = (
        system_of(structures["triclinic"], potential.config.r_max),
        to_kernel_parameters(potential, "float64"),
    )
    wanted = jax.jit(partial(xla.predict, potential))(prepared, system)
    found = jax.jit(partial(cpp.predict, potential))(cpp.tiled(prepared), system)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * max(1.0, np.abs(wanted.forces).max()))


def test_too_many_channels_are_refused(make_potential: Make) -> None:
    made, params = make_potential(n_radial=15)
    with pytest.raises(UserError, match="at most 14 radial channels on a CPU, but n_radial is 15; use path fast"):
        choice.evaluator(made.with_params(params), "kernel", "float64")


def test_blocks_and_repetition(potential: Potential, structures: dict[str, Atoms]) -> None:
    """Forty systems of several sizes, padded, with no block of their own; the same numbers each time, bit for bit."""
    names = ["molecule", "crystal", "triclinic", "dimer"] * 10
    systems = [
        make_system(a.positions, a.numbers, a.cell.array, a.pbc, potential.config.r_max)
        for a in (structures[name] for name in names)
    ]
    batch, prepared = on_device(stack(systems), "float64"), to_kernel_parameters(potential, "float64")
    predict, tiled = jax.jit(partial(cpp.predict, potential)), cpp.tiled(prepared)
    found, again = predict(tiled, batch), predict(tiled, batch)
    wanted = jax.jit(partial(xla.predict, potential))(prepared, batch)
    for a, b, c in zip(*map(jax.tree.leaves, (found, again, wanted)), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=0, atol=1e-9)


def test_single_precision(potential: Potential, structures: dict[str, Atoms]) -> None:
    """Float32 to its rounding of what float64 gives."""
    found = {}
    for dtype in ("float32", "float64"):
        with precision(dtype):
            params, predict = choice.evaluator(potential, "kernel", dtype)
            system = system_of(structures["crystal"], potential.config.r_max, dtype)
            one = jax.jit(predict)(params, system)
            assert one.forces.dtype == dtype
            found[dtype] = [np.asarray(x, float) for x in (one.energies, one.forces, one.virial)]
    for single, double in zip(found["float32"], found["float64"], strict=True):
        np.testing.assert_allclose(single, double, rtol=0, atol=1e-5 * max(1.0, np.abs(double).max()))


def test_forces_are_the_slope_of_the_energy(potential: Potential, structures: dict[str, Atoms]) -> None:
    """Central differences of 1e-5 Å, with coarse tables too."""
    params = cpp.tiled(to_kernel_parameters(potential, "float64", 64))
    predict, h = jax.jit(partial(cpp.predict, potential)), 1e-5
    system = system_of(structures["triclinic"], potential.config.r_max)
    forces = predict(params, system).forces
    for i, a in ((0, 0), (1, 1), (2, 2)):
        moved = [system._replace(positions=system.positions.at[i, a].add(s * h)) for s in (1, -1)]
        plus, minus = (float(predict(params, one).energy) for one in moved)
        assert (minus - plus) / (2 * h) == pytest.approx(float(forces[i, a]), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_numbers_are_seen(potential: Potential, bad: float) -> None:
    """A position that is no number, or infinite, gives an energy that is none: no slot of such an atom is dropped."""
    atoms = molecule("CH3CH2OH")
    system = system_of(atoms, potential.config.r_max)
    system = system._replace(positions=jnp.asarray(system.positions).at[0, 1].set(bad))
    params, predict = choice.evaluator(potential, "kernel", "float64")
    assert not np.isfinite(jax.jit(predict)(params, system).energy)


def test_a_part_of_the_atoms(potential: Potential) -> None:
    """Energies, forces on all and virials of the first atoms are those of the fast path; a padding atom has none."""
    atoms = molecule("CH3CH2OH")
    system = system_of(atoms, potential.config.r_max)
    numbers, neighbors = jnp.asarray(system.numbers).at[3].set(0), jnp.asarray(system.neighbors)
    neighbors = jnp.where(neighbors == 3, len(atoms), neighbors)
    part = system._replace(numbers=numbers, neighbors=neighbors[:5], shifts=system.shifts[:5])
    prepared = to_kernel_parameters(potential, "float64")
    wanted = jax.jit(partial(xla.predict_part, potential))(prepared, part)
    found = jax.jit(partial(cpp.predict_part, potential))(cpp.tiled(prepared), part)
    assert float(found[0][3]) == 0.0
    assert np.abs(found[1]).max() > 0.1
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One sentence each where there is no compiler, no folder to write into, or the compiler fails; no file is left."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    register = cpp.registered.__wrapped__
    with pytest.raises(UserError, match=r"but there is no C\+\+ compiler on the PATH.*or use path fast"):
        register()
    failing = tmp_path / "c++"
    failing.write_text("#!/bin/sh\necho 'error: not today' >&2\nexit 1\n", encoding="utf-8")
    failing.chmod(0o755)
    with pytest.raises(UserError, match=r"does not compile it \(error: not today\).*use path fast"):
        register()
    assert not list((tmp_path / "gmnn").iterdir())
    (tmp_path / "file").touch()
    with monkeypatch.context() as patch:
        patch.setattr(library, "_kept", lambda *_: tmp_path / "file")
        with pytest.raises(UserError, match=r"cannot be loaded.*delete .*file, or name a folder.*or use path fast"):
            register()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be written.*name another folder in XDG_CACHE_HOME; or use path fast"):
        register()
