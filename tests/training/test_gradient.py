"""The gradient of the loss, with functions in C++ and without, beside what JAX finds by two reverse passes."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms

from gmnn.config.model import CoreConfig
from gmnn.config.train import LossConfig
from gmnn.data import batches
from gmnn.kernels.cpp import invariants as cpp_invariants
from gmnn.kernels.cpp import readout as in_cpp
from gmnn.model import descriptor, readout
from gmnn.model.potential import Potential
from gmnn.training.gradient import value_and_gradient, with_fast_functions
from tests.support.autodiff import batch_loss
from tests.support.frames import labelled

Model = tuple[Potential, dict[str, Any]]
KINDS: dict[str, dict[str, Any]] = {
    "functions of JAX": {},
    "widths that fill no register": {"hidden": (13, 5, 19)},
    "linear readout": {"n_radial": 3, "output_activation": "identity"},
    "shallow ensemble": {"ensemble": "shallow", "members": 3, "core": CoreConfig()},
}
QUICK = ("widths that fill no register",)


@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_gradient_of_a_batch(make_potential: Callable[..., Model], structures: dict[str, Atoms], kind: str) -> None:
    """Of frames of several sizes with energies, forces and stresses: value and every parameter, to rounding."""
    potential, params = make_potential(scaled=True, **KINDS[kind])
    form = "crps" if "ensemble" in KINDS[kind] else "huber"
    config = LossConfig(
        energy={"form": form, "delta": 0.3}, forces={"form": "huber", "delta": 0.3}, stress={"weight": 2}
    )
    batch = batches.make_batch(labelled(structures), potential.reference, potential.config.r_max, "float64")
    wanted = jax.jit(jax.value_and_grad(partial(batch_loss, potential, config)))(params, batch)
    used = with_fast_functions(potential) if kind != "functions of JAX" else potential
    replaced = used.invariants is cpp_invariants.invariants, used.perceptron is in_cpp.perceptron
    assert replaced == (kind != "functions of JAX",) * 2
    found = jax.jit(partial(value_and_gradient, used, config))(params, batch)
    assert float(found[0]) == pytest.approx(float(wanted[0]), rel=1e-12)
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(wanted[1]))
    for a, b in zip(*map(jax.tree.leaves, (found[1], wanted[1])), strict=True):
        assert np.abs(b).max() > 0
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12 * largest)


@pytest.mark.slow
def test_side_by_side(make_potential: Callable[..., Model], structures: dict[str, Atoms]) -> None:
    """Members of a full ensemble under vmap have the gradients they have alone."""
    potential, params = make_potential()
    other = jax.tree.map(lambda leaf: 0.9 * leaf, params)
    stacked = jax.tree.map(lambda a, b: jnp.stack([a, b]), params, other)
    batch = batches.make_batch(labelled(structures), potential.reference, potential.config.r_max, "float64")
    gradient = partial(value_and_gradient, with_fast_functions(potential), LossConfig())
    together = jax.jit(jax.vmap(gradient, (0, None)))(stacked, batch)
    for k, alone in enumerate((params, other)):
        for a, b in zip(*map(jax.tree.leaves, (together, jax.jit(gradient)(alone, batch))), strict=True):
            np.testing.assert_allclose(a[k], b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("atoms", "n"), [(9, 1), (37, 7), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1, 5), (70, 2)))]
)
def test_invariants_in_cpp(atoms: int, n: int) -> None:
    """Values, adjoint, and the derivatives of both along a direction; registers full or not, on one thread or two."""
    cpp_invariants.registered()
    rng = np.random.default_rng(n)
    moments, way = (jnp.asarray(rng.normal(size=(atoms, n, 20))) for _ in range(2))
    by, by_way = (jnp.asarray(rng.normal(size=(atoms, descriptor.n_features(n)))) for _ in range(2))

    def both(function: Callable[..., Any]) -> Callable[..., Any]:
        def pulled(moments: jax.Array, by: jax.Array) -> tuple[jax.Array, jax.Array]:
            value, pullback = jax.vjp(function, moments)
            return value, pullback(by)[0]

        return jax.jit(lambda *at: jax.jvp(pulled, at[:2], at[2:]))

    found, wanted = (both(f)(moments, by, way, by_way) for f in (cpp_invariants.invariants, descriptor.invariants))
    for a, b in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11 * float(np.abs(b).max()))
    single = cpp_invariants.invariants(moments.astype("float32"))
    assert single.dtype == "float32"
    np.testing.assert_allclose(single, wanted[0][0], rtol=0, atol=1e-5 * float(np.abs(wanted[0][0]).max()))


@pytest.mark.parametrize(
    ("atoms", "widths"), [(1, (5, 3, 2)), (37, (13, 36, 31, 3)), (60, (40, 64, 1)), (100, (16, 80, 33, 5, 17))]
)
def test_perceptron_in_cpp(atoms: int, widths: tuple[int, ...]) -> None:
    """Values, adjoint by features and weights, the derivatives of both along a direction; blocks full or not."""
    in_cpp.registered()
    rng = np.random.default_rng(atoms)

    def numbers(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape))

    layers = [(numbers(i, o) / np.sqrt(i), numbers(o)) for i, o in pairwise(widths)]
    features, way, by, by_way = (numbers(atoms, size) for size in (widths[0],) * 2 + (widths[-1],) * 2)

    def both(function: Callable[..., Any]) -> Callable[..., Any]:
        def pulled(features: jax.Array, by: jax.Array) -> tuple[jax.Array, Any]:
            value, pullback = jax.vjp(function, layers, features)
            return value, pullback(by * jnp.sin(value))

        return jax.jit(lambda *at: jax.jvp(pulled, at[:2], at[2:]))

    functions = in_cpp.perceptron, readout.perceptron
    found, wanted = (both(f)(features, by, way, by_way) for f in functions)
    for a, b in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11 * float(np.abs(b).max()))
    single = functions[0](jax.tree.map(lambda x: x.astype("float32"), layers), features.astype("float32"))
    assert single.dtype == "float32"
    np.testing.assert_allclose(single, wanted[0][0], rtol=0, atol=1e-5 * float(np.abs(wanted[0][0]).max()))


def test_no_derivative_along_the_weights() -> None:
    """Refused; not a zero."""
    in_cpp.registered()
    layers, features = [(jnp.ones((3, 2)), jnp.ones(2)), (jnp.ones((2, 1)), jnp.ones(1))], jnp.ones((4, 3))
    with pytest.raises(TypeError, match="no derivative along its weights"):
        jax.jvp(lambda layers: jax.vjp(in_cpp.perceptron, layers, features)[0], (layers,), (layers,))


def test_a_second_reverse_pass_is_refused() -> None:
    """Not a wrong number: JAX raises where a gradient would be taken of the gradient."""
    cpp_invariants.registered()
    moments = jnp.ones((2, 2, 20))
    slope = jax.grad(lambda x: jnp.sum(cpp_invariants.invariants(x) ** 2))
    assert np.isfinite(slope(moments)).all()
    with pytest.raises(ValueError, match="cannot be differentiated"):
        jax.grad(lambda x: jnp.sum(slope(x) ** 2))(moments)


def test_without_a_compiler(
    make_potential: Callable[..., Model], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Training goes on with the functions of JAX, and one sentence says what would make it faster."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(cpp_invariants, "registered", cpp_invariants.registered.__wrapped__)
    potential, _ = make_potential()
    assert with_fast_functions(potential) is potential
    said = capsys.readouterr().err
    assert said.startswith("gmnn: training is faster with functions in C++, but there is no C++ compiler on the PATH")
    assert said.count("\n") == 1
