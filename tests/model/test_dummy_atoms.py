"""Kind 12: the dummy atom X, number 0, is refused like any unknown element; padding inside stays possible."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from gmnn import Calculator, md
from gmnn.certificate.barrier import barrier_radii
from gmnn.data import Dataset
from gmnn.errors import UserError
from gmnn.evaluation import compare
from gmnn.neighbors.host import make_system
from gmnn.training import selection

Make = Callable[..., tuple[Any, dict]]


@pytest.mark.parametrize("path", ["reference", "fast", "kernel"])
@pytest.mark.parametrize("number", [0, 2, 118])
def test_kind_12_calculator(make_potential: Make, structures: dict[str, Atoms], path: str, number: int) -> None:
    """On every path, on a new list and on a kept one, alone and in a batch."""
    potential, params = make_potential()
    calculator = Calculator(potential.with_params(params), dtype="float64", path=path)
    atoms = structures["crystal"]
    atoms.calc = calculator
    before = atoms.get_potential_energy()
    was, atoms.numbers[3] = atoms.numbers[3], number
    for _ in range(2):
        with pytest.raises(UserError, match="not trained on"):
            atoms.get_potential_energy()
    with pytest.raises(UserError, match="not trained on"):
        calculator.batch_eval([structures["molecule"], atoms])
    with pytest.raises(UserError, match="not trained on"):
        calculator.get_potential_energy(Atoms([number], [[0, 0, 0]]))
    atoms.numbers[3] = was
    assert atoms.get_potential_energy() == pytest.approx(before, abs=1e-12)


def test_kind_12_all_other_uses(make_potential: Make, structures: dict[str, Atoms]) -> None:
    potential, params = make_potential()
    potential = potential.with_params(params)
    atoms = structures["molecule"] + Atoms("X", [[0, 0, 5]])
    data = Dataset(
        [atoms], np.zeros(1), [np.zeros((len(atoms), 3))], np.full((1, 3, 3), np.nan), np.ones(1), "x", "", np.arange(1)
    )
    for use in (
        lambda: md.Dynamics(atoms, potential, md.Bath("nve")),
        lambda: barrier_radii(potential, atoms, 1.0),
        lambda: compare(potential, data),
        lambda: selection.frame_features(potential, [atoms]),
        lambda: potential.require_elements(atoms.numbers),
    ):
        with pytest.raises(UserError, match="dummy X"):
            use()


def test_kind_12_padding_has_no_effect(make_potential: Make, structures: dict[str, Atoms]) -> None:
    potential, params = make_potential()
    a = structures["molecule"]
    plain, padded = (
        make_system(a.positions, a.numbers, a.cell.array, a.pbc, potential.config.r_max, n, 20) for n in (0, 14)
    )
    energies = [float(potential.energy(params, system)) for system in (plain, padded)]
    assert energies[0] == pytest.approx(energies[1], abs=1e-12)
    assert potential.offsets(padded.numbers).sum() == potential.offsets(a.numbers).sum()
