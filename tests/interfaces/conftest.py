"""Potentials with random parameters, for all tests of this folder."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gmnn.model.potential import Potential

Make = Callable[..., tuple[Any, dict]]


@pytest.fixture
def potential(make_potential: Make) -> Potential:
    potential, params = make_potential()
    return potential.with_params(params)


@pytest.fixture
def ensemble(make_potential: Make) -> Potential:
    potential, _ = make_potential()
    potential = replace(potential, config=replace(potential.config, ensemble="shallow", members=3), params=None)
    return potential.with_params(potential.init(0))
