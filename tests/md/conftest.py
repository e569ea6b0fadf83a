"""Potentials with random parameters, for all tests of this folder."""

from collections.abc import Callable
from typing import Any

import pytest

from gmnn.model.potential import Potential

Make = Callable[..., tuple[Any, dict]]


@pytest.fixture
def potential(make_potential: Make) -> Potential:
    potential, params = make_potential()
    return potential.with_params(params)
