"""The model of many devices: its ghosts counted, its limits."""

import numpy as np
import pytest

from benchmarks.scaling import H200, ghosts


def test_ghosts_are_those_that_are_counted() -> None:
    """Points at random in and around a cube: as many outside within reach of its faces, to five standard errors."""
    rng, edge, reach, density = np.random.default_rng(0), 30.0, 5.0, 0.4
    whole = edge + 4 * reach
    points = rng.uniform(-whole / 2, whole / 2, (round(density * whole**3), 3))
    far = np.abs(points).max(axis=1)
    counted = ((far > edge / 2) & (far < edge / 2 + reach)).sum()
    assert counted == pytest.approx(ghosts(density * edge**3, reach, density), abs=5 * np.sqrt(counted))


def test_limits_of_scaling() -> None:
    """Nothing is faster than without a halo; large domains lose nothing, small ones wait for launches and messages."""
    assert H200.step_us(8e6, 8) == pytest.approx(H200.step_us(1e6, 1), rel=0.01)
    assert H200.step_us(8e6, 8) > H200.step_us(1e6, 1)
    least = H200.fixed_us + 12 * H200.message_us
    assert least < H200.step_us(1e5, 1024) < 1.1 * least


def test_memory_decides_the_fewest_devices() -> None:
    """Atoms and ghosts fit into four fifths of the memory, and into half as many devices they do not."""
    n = H200.devices_for(1e9)

    def needed(devices: int) -> float:
        own = 1e9 / devices
        return (own + ghosts(own, H200.reach)) * H200.atom_bytes

    assert needed(n) <= 0.8e9 * H200.memory < needed(n // 2)
