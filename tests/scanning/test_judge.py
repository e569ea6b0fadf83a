"""One judge: the scan of bonds and the suite `bonds` agree on models with known answers; rounding is measured."""

import math

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from gmnn.scanning import BulkCalculator, judge, make_suites, scan_bonds
from gmnn.scanning.metrics import standard_errors
from gmnn.scanning.paths import dense_nodes
from tests.support.batched import InBatches

D_CH = 1.09  # Å
OFFSET = -4200.0  # eV, as large as the energy of a molecule


class Pairwise(Calculator):
    """E = offset + V(r) of two atoms, V(r) -> (eV, eV/Å); kind: the floating-point type of the results."""

    implemented_properties = ("energy", "forces")

    def __init__(self, potential, kind=np.float64):
        super().__init__()
        self.potential, self.kind = potential, kind

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        vector = atoms.get_distance(0, 1, mic=True, vector=True)
        r = float(np.linalg.norm(vector))
        value, slope = self.potential(r)
        forces = np.array([slope * vector / r, -slope * vector / r])
        self.results = {"energy": float(self.kind(OFFSET + value)), "forces": forces.astype(self.kind)}


class Batched(InBatches, Pairwise):
    """The same potential behind `batch_eval`."""


def dimer():
    return Atoms("CH", [[0.1, 0.2, 0.3], [0.1 + 0.6 * D_CH, 0.2, 0.3 + 0.8 * D_CH]])


def zbl(r):
    """Universal ZBL of C-H and its derivative, from the published formula."""
    a = 0.46850 / (6**0.23 + 1)
    c, b = np.array([0.18175, 0.50986, 0.28022, 0.02817]), np.array([3.19980, 0.94229, 0.40290, 0.20162]) / a
    k, terms = 14.3996454784 * 6, c * np.exp(-b * r)
    return k / r * terms.sum(), -k / r * (terms.sum() / r + (b * terms).sum())


def gentle(r):
    return 5.0 * (1.5 - r), -5.0


def dip(depth, centre, width, slope):
    """A wall of `slope` with a Gaussian dip, σ = width."""

    def potential(r):
        bump = depth * math.exp(-0.5 * ((r - centre) / width) ** 2)
        return slope * (1.5 - r) - bump, -slope + bump * (r - centre) / width**2

    return potential


def plateau(r):
    """A wall that is flat from 0.6 to 0.5 Å."""
    return (10.0 * (1.5 - r), -10.0) if r > 0.6 else (9.0, 0.0) if r > 0.5 else (9.0 + 10.0 * (0.5 - r), -10.0)


def turning(r):
    return 20.0 - 400.0 * (r - 0.4) ** 2, -800.0 * (r - 0.4)


def jump(height, place=0.6):
    def potential(r):
        value, slope = zbl(r)
        return value + (height if r < place else 0.0), slope

    return potential


def not_a_number(r):
    return (math.nan, math.nan) if r < 0.3 else zbl(r)


def refusing(r):
    if r < 0.5:
        raise RuntimeError("SCF did not converge")
    return zbl(r)


def pulling(r):
    """The energy of ZBL with forces that pull from 0.318 to 0.302 Å."""
    value, slope = zbl(r)
    return value, -slope if abs(r - 0.31) < 0.008 else slope


def lying(r):
    """E falls inwards from 0.6 to 0.5 Å by 1e-7 eV, the forces push throughout."""
    fall = 1e-6 * min(max(0.6 - r, 0.0), 0.1)
    return 10.0 * (1.5 - r) - (10.0 * min(max(0.6 - r, 0.0), 0.1)) - fall, -10.0


FLOAT32 = np.float32
CASES = {  # potential, precision, where the failure begins (Å; None: passes), how exactly that is known (Å)
    "zbl": (zbl, np.float64, None, 0),
    "gentle wall": (gentle, np.float64, None, 0),
    "narrow dip": (dip(0.02, 0.31, 0.0021, 4.0), np.float64, "top", 2e-5),
    "plateau": (plateau, np.float64, 0.6, 2e-5),
    "turn": (turning, np.float64, 0.4, 2e-5),
    "jump down": (jump(-5.0), np.float64, 0.6, 2e-5),
    "jump up": (jump(5.0), np.float64, None, 0),
    "not a number": (not_a_number, np.float64, 0.3, 2e-5),
    "refusal": (refusing, np.float64, 0.5, 2e-5),
    "forces that pull": (pulling, np.float64, 0.318, 2e-5),
    "energy that falls": (lying, np.float64, 0.6, 0.016),
    "single precision": (zbl, FLOAT32, None, 0),
    "gentle wall in single precision": (gentle, FLOAT32, None, 0),
    "turn in single precision": (turning, FLOAT32, 0.4, 0.003),
    "jump down in single precision": (jump(-5.0), FLOAT32, 0.6, 2e-5),
}


@pytest.mark.parametrize("name", CASES)
def test_scan_of_bonds_and_suite_give_the_same_verdict_and_place(name):
    potential, kind, place, tolerance = CASES[name]
    (curve,) = scan_bonds(dimer(), Pairwise(potential, kind)).curves
    (suite,) = make_suites([dimer()], np.random.default_rng(0), names=["bonds"])
    evaluate = BulkCalculator(Batched(potential, kind))
    (verdict,) = judge(suite.approaches, evaluate)
    assert curve.passed == verdict.passed == (place is None), (curve.reason, verdict.reason)
    assert (curve.metrics["r_fail"] is None) == (verdict.r_fail is None) == (place is None)
    (same,) = judge(suite.approaches, evaluate, n_nodes=201, n_places=12)  # one rule: the same points, the same numbers
    numbers = curve.metrics
    assert (same.passed, same.r_fail, same.n_points) == (curve.passed, numbers["r_fail"], numbers["n_points"])
    assert same.worst_drop == numbers["worst_depth"]
    if place is None:
        assert verdict.worst_drop == pytest.approx(numbers["worst_depth"], abs=1e-3)  # single precision of 4200 eV
        return
    assert curve.metrics["r_fail"] == pytest.approx(verdict.r_fail, abs=tolerance)
    if place == "top":
        fine = np.linspace(0.32, 0.305, 20001)
        place = fine[np.argmax([potential(r)[0] for r in fine[fine > 0.31]])]
    assert verdict.r_fail == pytest.approx(place, abs=tolerance)
    assert curve.reason.split(" Å")[0][-5:] == verdict.reason.split(" Å")[0][-5:] or tolerance > 1e-3


def test_gentle_fall_above_the_measured_rounding_is_caught():
    """Nodes that rise by 2e-6 eV, a fall of 4e-7 eV between any two of them, forces that push: 1e-10 of 4200 eV.

    A fixed relative rounding of 1e-9, 4e-6 eV, would not see it.
    """
    nodes = dense_nodes(1.02, 0.1, 64)

    def potential(r):
        k = int(np.clip(np.searchsorted(-nodes, -r) - 1, 0, len(nodes) - 2))
        within = (nodes[k] - r) / (nodes[k] - nodes[k + 1])
        return 2e-6 * (k + within) - 4e-6 * math.sin(math.pi * within) ** 2, -5.0

    (suite,) = make_suites([dimer()], np.random.default_rng(0), names=["bonds"])
    (verdict,) = judge(suite.approaches, BulkCalculator(Batched(potential)), keep=True)
    at_nodes = verdict.points[np.isin(verdict.points[:, 0], nodes)]
    assert len(at_nodes) == 64
    assert np.all(np.diff(at_nodes[:, 1]) > 0)
    assert np.all(verdict.points[:, 2] < 0)
    assert not verdict.passed
    assert 0 < verdict.worst_drop < 4e-6
    assert not scan_bonds(dimer(), Batched(potential)).passed


def test_jump_inside_of_a_stencil_does_not_hide_a_dip_beside_it(monkeypatch):
    nodes = dense_nodes(1.02, 0.1, 64)
    k = int(np.argmin(np.abs(nodes - 0.6)))
    narrow = dip(0.4, 0.5 * (nodes[k] + nodes[k + 1]), 0.004, 50.0)  # seen only by the slopes of its flanks
    place = 1.02 * (0.1 / 1.02) ** (1 / 3)  # of the four of the judge the second

    def potential(r):
        value, slope = narrow(r)
        return value + (5.0 if r < place - 1e-5 else 0.0), slope

    (suite,) = make_suites([dimer()], np.random.default_rng(0), names=["bonds"])
    (verdict,) = judge(suite.approaches, BulkCalculator(Batched(potential)))
    assert not verdict.passed
    assert abs(verdict.r_fail - 0.6) < 0.02
    monkeypatch.setattr("gmnn.scanning.metrics.OUTLIER", np.inf)
    assert judge(suite.approaches, BulkCalculator(Batched(potential)))[0].passed


def test_standard_errors_of_noise_of_a_jump_and_of_a_flat_curve():
    rng, places = np.random.default_rng(0), 12
    noise = 1e-4 * rng.normal(size=(300, places, 5))
    steep = OFFSET + 100.0 * np.linspace(0.0, 1.0, places)[:, None] + np.zeros(5)
    measured = standard_errors(noise + steep)
    assert measured.shape == (300, places)
    assert np.all((measured > 0.1e-4) & (measured < 5e-4))
    assert np.median(measured) == pytest.approx(1.3e-4, rel=0.2)  # the largest of three
    jumping = noise + steep
    jumping[:, 5, 3:] += 5.0
    assert np.all(standard_errors(jumping) < 200 * 3e-4)
    assert not np.any(standard_errors(np.full((2, 4, 5), 3.0)))
    some_missing = noise + steep
    some_missing[:, 3] = np.nan
    assert np.isfinite(standard_errors(some_missing)).all()


def test_curves_keep_the_cell_of_the_structure_and_go_to_the_calculator_whole():
    """A bond across the boundary of a periodic cell; atoms.info reaches the calculator, too."""

    class Watching(Batched):
        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            assert atoms.pbc.all()
            assert atoms.cell[2, 0] == 0.5
            assert atoms.info == {"charge": 1}
            super().calculate(atoms, properties, system_changes)

    atoms = Atoms("CH", [[0, 0, 0.2], [0, 0, 0.2 - D_CH]], cell=[[6, 0, 0], [1, 6, 0], [0.5, 1, 6]], pbc=True)
    atoms.wrap()
    atoms.info = {"charge": 1}
    assert np.ptp(atoms.positions[:, 2]) > 4
    calculator = Watching(zbl)
    (inside,) = scan_bonds(atoms, calculator).curves
    (alone,) = scan_bonds(dimer(), Pairwise(zbl)).curves
    assert calculator.sizes == [
        1,
        20 + 1 + 3 + 55 + 201 + 60,
    ]  # the structure, then everything that is known in advance
    assert inside.strict.energies == pytest.approx(alone.strict.energies, abs=1e-9)
    assert inside.passed
