"""The scan harness: its motion, its verdict on potentials whose answer is known, its files and exit codes."""

import importlib.resources
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from gmnn.commands._inputs import load_structure, other_frames
from gmnn.commands.scan import main
from gmnn.data.embedded import CHECKSUMS
from gmnn.data.embedded import ethanol as embedded_ethanol
from gmnn.errors import UserError
from gmnn.files import digest, sealed, write_json
from gmnn.scanning import read_reference, scan_bonds, write_report
from gmnn.scanning.bonds import bonds_of, find_bonds, roomy
from gmnn.scanning.metrics import (
    arena_metrics,
    clopper_pearson,
    energy_jump,
    outer_minima,
    scatter,
    spearman,
    spurious_minima,
    wall_distance,
    zbl_screening,
)
from gmnn.scanning.paths import bond_path, dense_nodes, outward_distances, s0_distances
from gmnn.scanning.report import format_table, summarise
from gmnn.scanning.scan import equilibrium_distance
from tests.support import processes
from tests.support.batched import InBatches
from tests.support.paths import ROOT

COULOMB = 14.3996454784  # eV Å


class Pairwise(Calculator):
    """E = offset + Σ over pairs of V(r), V(r, Z1, Z2) -> (eV, eV/Å); kind: the floating-point type of the results."""

    implemented_properties = ("energy", "forces")

    def __init__(self, potential, offset=0.0, kind=np.float64):
        super().__init__()
        self.potential, self.offset, self.kind = potential, offset, kind

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        energy, forces = self.offset, np.zeros((len(atoms), 3))
        for i in range(len(atoms)):
            for j in range(i):
                vector = atoms.positions[i] - atoms.positions[j]
                r = np.linalg.norm(vector)
                value, slope = self.potential(r, atoms.numbers[i], atoms.numbers[j])
                energy += value
                forces[i] -= slope * vector / r
                forces[j] += slope * vector / r
        self.results = {"energy": float(self.kind(energy)), "forces": forces.astype(self.kind)}


class Batched(InBatches, Pairwise):
    """The same potential behind `batch_eval`."""


def zbl(r, z1, z2):
    """Universal ZBL and its derivative, written out anew."""
    a = 0.46850 / (z1**0.23 + z2**0.23)
    c, b = np.array([0.18175, 0.50986, 0.28022, 0.02817]), np.array([3.19980, 0.94229, 0.40290, 0.20162]) / a
    k, terms = COULOMB * float(z1 * z2), c * np.exp(-b * r)
    return k / r * terms.sum(), -k / r * (terms.sum() / r + (b * terms).sum())


def dimer(symbols="CH", d=1.09):
    return Atoms(symbols, [[0.1, 0.2, 0.3], [0.1 + 0.6 * d, 0.2, 0.3 + 0.8 * d]])


OH_BONDS = [(0, 1), (0, 2)]  # of water; its H-H distance of 1.53 Å is a bond within the 1.6 Å of S0


def water():
    return molecule("H2O")


def wall_with_dip(amplitude, centre, width):
    """A wall of −60 eV/Å with a Gaussian dip of the given amplitude."""

    def potential(r, *_):
        bump = amplitude * math.exp(-((r - centre) ** 2) / (2 * width**2))
        return 60.0 * (1.5 - r) - bump, -60.0 + bump * (r - centre) / width**2

    return potential


def truth(potential, low, high):
    """(place of the minimum, depth below the barrier outside it), by brute force."""
    r = np.linspace(high, low, 400_001)
    energies = np.array([potential(x)[0] for x in r[::10]])
    turn = np.flatnonzero((np.diff(energies)[:-1] < 0) & (np.diff(energies)[1:] > 0))
    k = int(turn[0]) + 1
    return float(r[::10][k]), float(energies[:k].max() - energies[k])


def planted(depth):
    """A dip between two nodes of the scan near 0.31 Å that leaves a minimum of the given depth (eV)."""
    nodes = dense_nodes(1.07 - 0.05, 0.1)
    k = int(np.argmin(np.abs(nodes - 0.31)))
    centre, width = 0.5 * (nodes[k] + nodes[k + 1]), 0.25 * (nodes[k] - nodes[k + 1])
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        slope = np.max(np.gradient(wall_curve(middle, centre, width), LINE[1] - LINE[0]))
        got = 0.0 if slope <= 0 else well_depth(middle, centre, width)
        low, high = (middle, high) if got < depth else (low, middle)
    return wall_with_dip(high, centre, width), nodes[[k, k + 1]]


LINE = np.linspace(-8.0, 8.0, 8001)  # widths


def wall_curve(amplitude, centre, width):
    return 60.0 * (1.5 - centre - LINE * width) - amplitude * np.exp(-(LINE**2) / 2)


def well_depth(amplitude, centre, width):
    energies = wall_curve(amplitude, centre, width)[::-1]  # inwards
    return float(np.max(np.maximum.accumulate(energies) - energies))


# --- motion ---------------------------------------------------------------------------------------------------------


def test_s0_moves_hydrogen_only_and_heavy_pairs_about_their_midpoint():
    atoms = molecule("CH3CH2OH")
    labels = []
    for i, j in find_bonds(atoms):
        path = bond_path(atoms, i, j)
        labels.append(path.label)
        distances = s0_distances(path)
        start = 2 * path.distance if atoms.numbers[j] == 1 else path.distance
        assert distances == pytest.approx([start + k / 19 * (0.1 - start) for k in range(20)], abs=1e-14)
        assert distances[-1] == 0.1
        for r in distances:
            moved = path.at(r)
            assert moved.get_distance(i, j) == pytest.approx(r, abs=1e-12)
            still = [k for k in range(len(atoms)) if k not in (i, j)]
            assert np.all(moved.positions[still] == atoms.positions[still])
            if atoms.numbers[j] == 1:
                assert np.all(moved.positions[i] == atoms.positions[i])
            else:
                assert moved.positions[[i, j]].mean(0) == pytest.approx(atoms.positions[[i, j]].mean(0), abs=1e-12)
    assert len(labels) == 8
    assert "C1-O2" in labels or "C0-O2" in labels  # the lower index first


def test_hydrogen_moves_also_where_it_has_the_lower_index_and_two_hydrogens_move_together():
    path = bond_path(dimer("HO", 0.97), 1, 0)
    assert path.label == "H0-O1"
    assert np.all(path.tangent[1] == 0)
    assert np.linalg.norm(path.tangent[0]) == pytest.approx(1.0)
    assert np.linalg.norm(bond_path(dimer("HH", 0.74), 0, 1).tangent, axis=1) == pytest.approx([0.5, 0.5])


def test_bonds_of_ethanol_are_those_of_the_published_protocol():
    """Frame 0 has the same eight bonds within 1.6 Å and by covalent radii; hotter frames by covalent radii alone."""
    frames = embedded_ethanol()
    assert find_bonds(frames[0]) == find_bonds(frames[0], 1.6)
    assert {len(find_bonds(frame)) for frame in frames[::12]} == {8}
    assert len({len(find_bonds(frame, 1.6)) for frame in frames[:100]}) > 1


@pytest.mark.parametrize(
    ("name", "bonds"), [("CH3Cl", 4), ("CH3SH", 5), ("CH3SiH3", 7), ("N2", 1), ("H2", 1), ("F2", 1)]
)
def test_bonds_follow_covalent_radii(name, bonds):
    """Bonds longer than 1.6 Å count, C-Cl (1.80 Å), C-S (1.84 Å) and Si-C (1.87 Å), and no pair of hydrogens does."""
    assert len(find_bonds(molecule(name))) == bonds


@pytest.mark.parametrize(
    ("atoms", "kinds", "distances"),
    [
        (bulk("Fe"), {"Fe-Fe"}, [2.87 * np.sqrt(0.75)]),
        (bulk("Ar", "fcc", a=5.26), {"Ar-Ar"}, [5.26 / np.sqrt(2)]),
        (bulk("MgO", "rocksalt", a=4.21), {"O-Mg"}, [4.21 / 2]),
        (bulk("Si"), {"Si-Si"}, [5.43 * np.sqrt(3) / 4]),
    ],
)
def test_bonds_of_a_crystal_are_its_nearest_neighbours(atoms, kinds, distances):
    """At most three of a pair of elements, in a cell that is so large that no atom meets its image."""
    large, copies = roomy(atoms)
    assert len(large) == np.prod(copies) * len(atoms)
    bonds = bonds_of(large)
    paths = [bond_path(large, *pair) for pair in bonds.pairs]
    assert {path.kind for path in paths} == kinds
    assert len(paths) == 3
    assert bonds.n_left_out > 0
    assert sorted({round(path.distance, 6) for path in paths}) == pytest.approx(distances, abs=1e-6)
    moved = paths[0].at(1.0)
    assert moved.get_distance(*bonds.pairs[0], mic=True) == pytest.approx(1.0, abs=1e-12)
    assert np.count_nonzero(np.any(moved.positions != large.positions, axis=1)) == 2


@pytest.mark.slow
def test_a_crystal_is_scanned_in_its_cell():
    """Lennard-Jones argon rises along all three curves, and the report says how many neighbours are left out."""
    solid, _ = roomy(bulk("Ar", "fcc", a=5.26))
    result = scan_bonds(solid, LennardJones(sigma=3.4, epsilon=0.0104, rc=5.0), n_frames=3)
    assert result.passed
    assert len(result.curves) == 3
    assert "159 more are left out" in format_table(result)


def morse_with_a_dip_outside(r, *_):
    """A Morse curve of 4 eV with its minimum at 1.0 Å and, at 1.7 Å, a dip of 0.6 eV."""
    x, y = math.exp(-2.0 * (r - 1.0)), 0.6 * math.exp(-(((r - 1.7) / 0.1) ** 2))
    return 4.0 * (1 - x) ** 2 - y, 16.0 * (1 - x) * x + 2 * y * (r - 1.7) / 0.01


@pytest.mark.parametrize(("potential", "n"), [(morse_with_a_dip_outside, 1), (zbl, 1)])
def test_minima_of_a_stretched_bond_are_counted(potential, n):
    """One where it was planted; a repulsion alone falls outwards to the end. The verdict knows of neither."""
    (curve,) = scan_bonds(dimer("OH", 1.0), Pairwise(potential)).curves
    assert curve.passed
    assert curve.metrics["n_spurious_minima"] == 0
    assert curve.metrics["n_outer_minima"] == n
    (minimum,) = curve.metrics["outer_minima"]
    assert minimum["falls_to_the_end"] == (potential is zbl)
    if potential is not zbl:
        assert minimum["r"] == pytest.approx(1.68, abs=0.03)
        text = format_table(scan_bonds(dimer("OH", 1.0), Pairwise(potential)))
        assert "1 spurious minimum outside, at 1.6" in text


def test_true_curves_have_no_minimum_outside():
    """The reference curves of ethanol's bonds rise from their minimum to twice the length of the bond."""
    with importlib.resources.as_file(importlib.resources.files("gmnn") / "data/files/ethanol_curves.extxyz.xz") as path:
        curves = read_reference(path)
    assert len(curves) == 8
    for curve in curves.values():
        assert outer_minima(curve.distances, curve.rise, (curve.r_eq, curve.r_eq)) == []


def test_a_stretched_bond_stops_where_another_may_form():
    """H drawn from O towards a second O ends at contact 1.3; without it at twice the bond length."""
    alone = bond_path(dimer("OH", 1.0), 0, 1)
    assert outward_distances(alone, 1.0)[0] == pytest.approx(1.98)
    atoms = Atoms("OHO", [[0, 0, 0], [0, 0, 1.0], [0, 0, 2.8]])
    reach = outward_distances(bond_path(atoms, 0, 1), 1.0)
    assert 2.8 - reach[0] >= 1.3 * 0.97 > 2.8 - reach[0] - 0.02


@pytest.mark.parametrize("periodic", [False, True])
def test_tangent_gives_the_slope_of_the_energy(periodic):
    atoms = water()
    if periodic:  # the O-H bond crosses the boundary; a triclinic cell
        atoms.set_cell([[6, 0, 0], [1, 6, 0], [0.5, 1, 6]])
        atoms.pbc = True
        atoms.positions += [0.1, 0.3, 0.2]
        atoms.wrap()
        assert np.ptp(atoms.positions[:, 2]) > 4
    assert [bond_path(atoms, i, j).label for i, j in find_bonds(atoms)] == ["O0-H1", "O0-H2"]
    assert find_bonds(atoms, 1.6) == [(0, 1), (0, 2), (1, 2)]
    calculator = LennardJones(sigma=0.9, epsilon=0.5, rc=2.5, smooth=True)
    for j in (1, 2):
        path = bond_path(atoms, 0, j)
        assert path.at(0.7).get_distance(0, j, mic=True) == pytest.approx(0.7, abs=1e-12)

        def energy(r, path=path):
            frame = path.at(r)
            frame.calc = calculator
            return frame.get_potential_energy()

        frame = path.at(0.7)
        frame.calc = calculator
        assert (path.at(0.7001).positions - path.at(0.6999).positions) / 2e-4 == pytest.approx(path.tangent, abs=1e-9)
        slope = -np.sum(frame.get_forces() * path.tangent)
        assert slope == pytest.approx((energy(0.7 + 1e-5) - energy(0.7 - 1e-5)) / 2e-5, rel=1e-6)


def test_nodes_are_fine_near_the_bond_and_geometric_in_the_core():
    nodes = dense_nodes(1.04, 0.1)
    steps = -np.diff(nodes)
    assert len(nodes) == 201
    assert (nodes[0], nodes[-1]) == (1.04, 0.1)
    assert steps.max() < 0.007
    inner = nodes < 0.44
    assert nodes[inner][1:] / nodes[inner][:-1] == pytest.approx(np.full(inner.sum() - 1, nodes[-1] / nodes[-2]))


# --- verdicts -------------------------------------------------------------------------------------------------------


def test_pure_zbl_passes_every_bond_and_diverges_as_zbl_does():
    result = scan_bonds(water(), Pairwise(zbl), bonds=OH_BONDS)
    assert result.passed
    assert result.n_passed == 2
    for curve in result.curves:
        numbers = curve.metrics
        assert numbers["worst_depth"] == 0
        assert numbers["energy_jump"] == 0
        assert numbers["r_fail"] is None
        assert numbers["ceiling"] is None
        assert numbers["n_points"] == 201  # nothing to refine
        assert numbers["tortuosity"] == pytest.approx(1)
        assert numbers["spearman_energy"] == pytest.approx(-1)
        assert numbers["spearman_force"] == pytest.approx(-1)
        assert numbers["smoothness"]["precision"] == "double"
        assert numbers["smoothness"]["forces_match_energy"]
        assert numbers["smoothness"]["curvature_jump"]["relative"] < 0.02
        assert [row["r"] for row in numbers["divergence"]] == [0.1, 0.05, 0.02]
        for row in numbers["divergence"]:  # apart from E(r_eq) and the other hydrogen, the ratio is φ itself
            assert row["ratio"] == pytest.approx(row["zbl"], rel=0.01)


@pytest.mark.parametrize(
    ("calculator", "symbols", "d"),
    [
        (MorsePotential(epsilon=4.5, r0=0.6, rho0=1.2, rcut1=5.0, rcut2=6.0), "HH", 0.74),  # 15 eV at contact: soft
        (LennardJones(sigma=0.6, epsilon=4.5, rc=20.0), "HH", 0.74),
    ],
)
def test_ase_calculators_with_a_core_pass(calculator, symbols, d):
    result = scan_bonds(dimer(symbols, d), calculator)
    assert result.passed, result.curves[0].reason
    assert result.curves[0].metrics["smoothness"]["forces_match_energy"]
    assert result.curves[0].metrics["smoothness"]["precision"] == "double"


@pytest.mark.parametrize(("depth", "listed"), [(0.030, 1), (0.002, 0)])
def test_minimum_hidden_between_two_nodes_is_found_measured_and_failed(depth, listed):
    potential, (outer, inner) = planted(depth)
    assert potential(inner)[0] > potential(outer)[0]  # the nodes alone look perfect
    assert potential(inner)[1] < 0 > potential(outer)[1]
    place, exact = truth(potential, inner, outer)
    assert exact == pytest.approx(depth, rel=1e-3)
    curve = scan_bonds(dimer(), Pairwise(potential, offset=-4200.0)).curves[0]
    assert not curve.passed
    numbers = curve.metrics
    assert numbers["worst_depth"] == pytest.approx(depth, rel=2e-3)
    assert numbers["r_fail"] == pytest.approx(place, abs=0.004)
    assert numbers["r_fail"] > place
    assert numbers["ceiling"] == pytest.approx(60 * (1.07 - 0.31), rel=0.02)
    assert numbers["n_spurious_minima"] == listed
    for minimum in numbers["spurious_minima"]:
        assert minimum["r"] == pytest.approx(place, abs=1e-5)
        assert minimum["depth"] == minimum["prominence"] == pytest.approx(depth, rel=2e-3)


def test_curve_that_turns_down_and_never_rises_again():
    def potential(r, *_):
        return 20.0 - 400.0 * (r - 0.4) ** 2, -800.0 * (r - 0.4)

    curve = scan_bonds(dimer(), Pairwise(potential)).curves[0]
    numbers = curve.metrics
    assert not curve.passed
    assert numbers["r_fail"] == pytest.approx(0.4, abs=1e-6)
    assert numbers["worst_depth"] == pytest.approx(400 * 0.09, rel=1e-9)
    assert numbers["spurious_minima"][0]["falls_to_the_end"]
    assert numbers["spurious_minima"][0]["r"] == 0.1
    assert numbers["ceiling"] == pytest.approx(400 * 0.67**2)
    assert "0.400 Å" in curve.reason


def test_models_own_minimum_does_not_move_the_start():
    curve = scan_bonds(dimer(d=1.3), Pairwise(lambda r, *_: (50 * (r - 0.6) ** 2, 100 * (r - 0.6)))).curves[0]
    assert curve.r_eq == pytest.approx(1.07)  # the covalent sum of C and H: a stretched frame does not count either
    assert curve.r_eq_source == "covalent radii"
    assert not curve.passed
    assert curve.metrics["r_fail"] == pytest.approx(1.02)
    triple = bond_path(dimer("NN", 1.10), 0, 1)
    assert equilibrium_distance(triple, None) == (pytest.approx(1.10), "bond length of the structure")
    assert equilibrium_distance(bond_path(dimer("CC", 0.5), 0, 1), None)[0] == pytest.approx(0.75 * 1.52)


def test_not_a_number_fails_and_is_reported():
    def potential(r, *_):
        return (math.nan, math.nan) if r < 0.3 else zbl(r, 6, 1)

    result = scan_bonds(dimer(), Pairwise(potential))
    assert not result.passed
    assert "not finite at 0.300 Å" in result.curves[0].reason
    assert result.curves[0].metrics["r_fail"] == pytest.approx(0.3, abs=1e-5)
    assert result.curves[0].metrics["ceiling"] is None
    text = json.dumps(summarise(result, model="m", structure="s"), allow_nan=False)
    assert json.loads(text)["curves"][0]["rise_at_r_min"] is None
    format_table(result)


def test_exception_for_close_atoms_fails_the_curve_with_its_message():
    def potential(r, *_):
        if r < 0.5:
            raise RuntimeError("SCF did not converge")
        return zbl(r, 6, 1)

    result = scan_bonds(dimer(), Pairwise(potential))
    assert not result.passed
    assert result.curves[0].reason == "RuntimeError: SCF did not converge at 0.500 Å"
    batched = scan_bonds(dimer(), Batched(potential))  # a batch that raises is done point by point
    assert batched.curves[0].reason == result.curves[0].reason


def test_batches_give_the_same_curves_in_one_call_per_bond():
    calculator = Batched(zbl)
    batched, single = (
        scan_bonds(water(), calculator, bonds=OH_BONDS),
        scan_bonds(water(), Pairwise(zbl), bonds=OH_BONDS),
    )
    assert calculator.n_calls == 1 + 2  # the structure itself, then two curves
    for a, b in zip(batched.curves, single.curves, strict=True):
        assert np.array_equal(a.strict.energies, b.strict.energies)
        assert np.array_equal(a.s0.slopes, b.s0.slopes)


def test_single_precision_is_recognised_and_does_not_fail_a_good_curve():
    curve = scan_bonds(dimer(), Pairwise(zbl, offset=-4200.0, kind=np.float32)).curves[0]
    assert curve.passed, curve.reason
    smooth = curve.metrics["smoothness"]
    assert smooth["precision"] == "single"
    assert smooth["forces_match_energy"]
    assert 1e-4 < smooth["energy_rounding"] < 1e-2  # eV; the spacing of float32 at 4200 is 5e-4


@pytest.mark.parametrize("trouble", ["step", "force"])
def test_forces_that_are_not_the_derivative_are_flagged(trouble):
    def potential(r, z1, z2):
        energy, slope = zbl(r, z1, z2)
        return (energy + (1.0 if r < 0.4 else 0.0), slope) if trouble == "step" else (energy, 1.02 * slope)

    result = scan_bonds(dimer(), Pairwise(potential))
    assert result.passed  # a step up is no minimum
    assert not result.curves[0].metrics["smoothness"]["forces_match_energy"]
    assert "not the derivative" in format_table(result)
    if trouble == "step":
        assert result.curves[0].metrics["smoothness"]["work_error_r"] == pytest.approx(0.4, abs=0.01)


def test_misuse_is_one_sentence():
    for atoms, options in [
        (Atoms("C"), {}),
        (dimer(d=3.0), {}),
        (dimer(), {"n_frames": 1}),
        (dimer(), {"r_min": 0.9}),
        (dimer(), {"bonds": [(0, 5)]}),
    ]:
        with pytest.raises(UserError, match=r"^[A-Z].*got.*;.*;.*\.$") as caught:
            scan_bonds(atoms, Pairwise(zbl), **options)
        assert "\n" not in str(caught.value)


# --- metrics --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("z1", "z2", "at_005", "at_01"),
    [
        (1, 1, 228.34442251, 93.476133211),
        (6, 1, 1298.5443722, 511.11957521),
        (8, 1, 1713.0978534, 669.20552172),
        (6, 6, 7398.5419968, 2808.2046997),
        (74, 74, 903789.84605, 296530.33668),
    ],
)
def test_zbl_screening_against_tabulated_energies(z1, z2, at_005, at_01):
    r = np.array([0.05, 0.1])
    assert COULOMB * z1 * z2 / r * zbl_screening(r, z1, z2) == pytest.approx([at_005, at_01], rel=1e-10)
    assert zbl_screening(np.zeros(1), z1, z2) == pytest.approx(1.0, abs=1e-12)


def test_clopper_pearson():
    assert clopper_pearson(0, 10) == pytest.approx((0, 0.3085), abs=5e-5)
    assert clopper_pearson(120, 120) == pytest.approx((0.9697, 1), abs=5e-5)
    assert clopper_pearson(0, 0) == (0, 1)
    from scipy.stats import beta

    for passed, n in [(3, 8), (7, 8), (1, 1), (199, 200), (50, 1000)]:
        exact = beta.ppf(0.025, passed, n - passed + 1), beta.ppf(0.975, passed + 1, n - passed) if passed < n else 1
        assert clopper_pearson(passed, n) == pytest.approx(exact, abs=1e-10)


def test_shape_of_a_curve_with_one_well_and_of_a_wiggle():
    r = np.linspace(3.0, 0.4, 500)
    well = arena_metrics(r, (1 - np.exp(1 - r)) ** 2, 2 * (1 - np.exp(1 - r)) * np.exp(1 - r))
    assert well["tortuosity"] == pytest.approx(1)
    assert well["force_flips"] == 1
    assert well["spearman_energy"] == pytest.approx(-1)
    assert well["spearman_energy_attraction"] == pytest.approx(1)
    wiggle = arena_metrics(r, np.sin(5 * r), 5 * np.cos(5 * r))
    assert wiggle["tortuosity"] > 2
    assert wiggle["force_flips"] == 4
    assert energy_jump(np.array([0.0, 1.0, 3.0, 2.0, 5.0])) == pytest.approx((2 + 1) + (1 + 3))
    assert spearman(np.array([1.0, 2, 2, 3]), np.array([1.0, 5, 4, 9])) == pytest.approx(0.9486832980505138)


def test_minima_prominence_and_depth():
    r = np.arange(7, 0, -1.0)
    found = spurious_minima(r, np.array([0.0, 5.0, 3.0, 4.0, 3.5, 3.505, 9.0]))
    assert [(m["r"], m["depth"], m["prominence"]) for m in found] == [(5, 2, 2), (3, 1.5, 0.5)]
    assert spurious_minima(r, np.arange(7.0)) == []


def test_wall_distance_and_rounding():
    r = np.linspace(1.0, 0.1, 40)
    assert wall_distance(r, 1 / r - 1, -1 / r**2, 3.0) == pytest.approx(0.25, abs=1e-4)
    assert math.isnan(wall_distance(r, 1 / r - 1, -1 / r**2, 100.0))
    noise = 1e-6 * np.random.default_rng(0).standard_normal((200, 5))
    assert np.sqrt(np.mean(scatter(noise) ** 2)) == pytest.approx(1e-6, rel=0.2)


# --- reference ------------------------------------------------------------------------------------------------------


def bonded(r, z1, z2):
    """A bond of 0.95 Å for O-H and a core; other pairs ZBL only."""
    value, slope = zbl(r, z1, z2)
    if z1 * z2 == 8:
        value, slope = 0.2 * value - 15 * math.exp(-1.5 * r), 0.2 * slope + 22.5 * math.exp(-1.5 * r)
    return value, slope


@pytest.fixture
def reference_file(tmp_path):
    """Curves of water's two bonds by `bonded`, compressed, with an unreliable core."""
    frames = []
    for i, j in OH_BONDS:
        path = bond_path(water(), i, j)
        fine = np.linspace(1.5, 0.6, 4001)
        r_eq = float(fine[np.argmin([sum(pair_energies(path.at(r))) for r in fine])])
        grids = {"s0": s0_distances(path), "geometric": np.geomspace(0.1, 1.3, 24), "minimum": [r_eq]}
        for grid, distances in grids.items():
            for r in distances:
                frame = path.at(float(r))
                frame.calc = Pairwise(bonded)
                energy, forces = frame.get_potential_energy(), frame.get_forces()
                frame.info = {
                    "bond": path.label, "i": i, "j": j, "grid": grid, "distance": float(r), "r_eq": r_eq,
                    "dEdr": float(-np.sum(forces * path.tangent)), "reliable": bool(r > 0.15),
                }  # fmt: skip
                frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
                frames.append(frame)
    file = tmp_path / "curves.extxyz.xz"
    write(file, frames, format="extxyz")
    return file


def pair_energies(atoms):
    return [bonded(atoms.get_distance(i, j), *atoms.numbers[[i, j]])[0] for i, j in [(0, 1), (0, 2), (1, 2)]]


def test_reference_gives_r_eq_and_a_vanishing_wall_error(reference_file):
    curves = read_reference(reference_file)
    assert sorted(curves) == ["O0-H1", "O0-H2"]
    curve = curves["O0-H1"]
    assert np.all(np.diff(curve.distances) < 0)
    assert curve.rise[np.argmin(np.abs(curve.distances - curve.r_eq))] == 0
    assert not curve.reliable[-1]
    assert curve.reliable[0]
    assert curve.wall()[0].min() > 0.15
    result = scan_bonds(water(), Pairwise(bonded), curves, bonds=OH_BONDS)
    for one in result.curves:
        assert one.r_eq_source == "reference"
        assert one.r_eq == curve.r_eq
        reached = [row for row in one.metrics["wall_error"] if math.isfinite(row["error"])]
        assert [row["energy"] for row in reached][:4] == [1, 5, 10, 20]
        assert all(abs(row["error"]) < 1e-3 for row in reached)


def test_reference_of_another_geometry_is_not_used_and_the_reason_is_given(reference_file, tmp_path):
    moved = water()
    moved.positions[2] += [0.001, 0, 0]
    result = scan_bonds(moved, Pairwise(bonded), read_reference(reference_file), cutoff=1.6)
    assert result.curves[0].reference is None
    assert result.curves[0].r_eq_source != "reference"
    assert "H2 of the reference lies 0.001 Å away" in result.curves[0].reference_note
    other = scan_bonds(dimer("OH", 0.97), Pairwise(bonded), read_reference(reference_file))
    assert "other atoms" in other.curves[0].reference_note
    assert "no reference curve" in result.curves[2].reference_note  # H1-H2
    broken = water()
    broken.info = {"bond": "O0-H1"}
    write(tmp_path / "broken.extxyz", broken)
    with pytest.raises(UserError, match="lacks i, j, grid"):
        read_reference(tmp_path / "broken.extxyz")


# --- files and command ----------------------------------------------------------------------------------------------


def test_report_files(tmp_path, reference_file):
    result = scan_bonds(water(), Pairwise(bonded), read_reference(reference_file), bonds=OH_BONDS)
    files = write_report(result, tmp_path / "out", model="model", structure="water", window=(-5, 50))
    present = {path.name for path in (tmp_path / "out").iterdir()}
    assert present == {*files, ".gmnn", ".lock"}  # no temporary file stays

    def refuse(text):
        raise AssertionError(f"{text} is not JSON")

    summary = json.loads(files["scan.json"].read_text(encoding="utf-8"), parse_constant=refuse)
    assert {"passed", "n_curves", "n_passed", "pass_rate_interval", "protocol", "curves", "model", "structure"} < set(
        summary
    )
    assert summary["n_curves"] == 2
    assert {"bond", "passed", "r_eq", "r_start", "wall_error", "spurious_minima"} < set(summary["curves"][0])
    rows = files["scan.csv"].read_text(encoding="utf-8").splitlines()
    assert rows[0].startswith("bond,kind,distance")
    assert sum(row.startswith("O0-H1,s0,") for row in rows) == 20
    assert sum(row.startswith("O0-H1,strict,") for row in rows) >= 201
    for name in ("scan.png", "panels.png"):
        assert files[name].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(UserError, match="is no folder; choose another"):
        write_report(result, files["scan.csv"] / "below", model="model", structure="water")


def test_exit_codes_of_the_script(tmp_path):
    write(tmp_path / "h2.xyz", dimer("HH", 0.74))
    write(tmp_path / "c2.xyz", dimer("CC", 1.3))

    def run(*arguments):
        return processes.python(ROOT / "scan.py", *arguments, cwd=tmp_path)

    lj = ["--calculator", "ase.calculators.lj:LennardJones", "--kwargs", '{"sigma": 0.6, "rc": 20}']
    good = run(*lj, "--structure", "h2.xyz")
    assert good.returncode == 0, good.stderr
    assert (tmp_path / "scan_LennardJones" / "scan.json").is_file()
    assert good.stderr == ""  # no progress bar where there is no terminal
    bad = run("--calculator", "ase.calculators.emt:EMT", "--structure", "c2.xyz@0", "--out", "emt")
    assert bad.returncode == 1, bad.stderr
    assert "FAIL" in bad.stdout
    misuse = run("--calculator", "ase.calculators.emt:EMT", "--structure", "nowhere.xyz")
    assert misuse.returncode == 2
    assert misuse.stderr.count("\n") == 1
    assert "Traceback" not in misuse.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--calculator", "no_such_module:X"], "cannot be imported"),
        (["--calculator", "ase.calculators.emt:Nothing"], "cannot be imported"),
        (["--calculator", "ase.calculators.emt"], "MODULE:CALLABLE"),
        (["--calculator", "ase.calculators.emt:EMT", "--kwargs", "{sigma: 1}"], "not valid JSON"),
        (["--calculator", "ase.calculators.emt:EMT", "--kwargs", "[1]"], "not a JSON object"),
        (["--calculator", "ase.calculators.singlepoint:SinglePointCalculator"], "cannot be made"),
        (["--calculator", "ase.calculators.emt:EMT", "--structure", "one.xyz"], "no bond to scan"),
        (["--calculator", "ase.calculators.emt:EMT", "--structure", "one.xyz@3"], "out of range"),
        (["--calculator", "ase.calculators.emt:EMT", "--structure", "fe.xyz"], "cannot evaluate the structure"),
        (["--calculator", "ase.calculators.emt:EMT", "--structure", "noise.xyz"], "cannot be read"),
        (["--calculator", "ase.calculators.emt:EMT", "--reference", "absent.extxyz"], "does not exist"),
        (["--calculator", "ase.calculators.emt:EMT", "--window", "5", "1"], "window is empty"),
    ],
)
def test_misuse_of_the_command_is_one_sentence(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write("one.xyz", Atoms("H", [[0, 0, 0]]))
    write("fe.xyz", Atoms("Fe2", [[0, 0, 0], [0, 0, 1.5]]))
    Path("noise.xyz").write_text("this is no structure\n", encoding="utf-8")
    assert main(arguments) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert text.startswith("scan: ")
    assert re.search(message, text)


def test_model_and_calculator_together_are_refused(capsys):
    for arguments in ([], ["model", "--calculator", "a:b"], ["model", "--kwargs", "{}"]):
        assert main(arguments) == 2
        message = capsys.readouterr().err
        assert message.startswith("scan: ")
        assert message.count("\n") == 1


def model_folder(place, source, checksum, units=None):
    """A model folder as far as its training data are named; returns its path as text."""
    place.mkdir()
    data = {"train": {"source": str(source), "sha256": checksum}}
    facts = {"format_version": 2, "data": data, "training": {"data": {"units": units or {}}}}
    (place / "config.json").write_text(json.dumps(facts), encoding="utf-8")
    return str(place)


def test_a_model_is_scanned_on_the_frames_it_was_trained_on(tmp_path, monkeypatch):
    """The first training frame with two atoms, in Å, in the order of the file; ethanol only for its own model."""
    monkeypatch.chdir(tmp_path)
    frames = [Atoms("O"), dimer("NO", 1.1), dimer("NO", 1.2), dimer("NO", 1.3)]
    for frame in frames:
        frame.positions /= 10  # nm
    write("mine.xyz", frames)
    model = model_folder(tmp_path / "model", "mine.xyz", digest(Path("mine.xyz")), {"length": "nm"})
    atoms, name = load_structure(None, model)
    assert name == "mine.xyz frame 1"
    assert atoms.get_distance(0, 1) == pytest.approx(1.1, abs=1e-6)
    split = {"splits": {"train": {"indices": [3, 0, 2]}}}
    write_json(tmp_path / "model" / "split.json", sealed(split))
    atoms, name = load_structure(None, model)
    assert name == "mine.xyz frame 2"
    (other,) = other_frames(None, atoms, model)
    assert other.get_distance(0, 1) == pytest.approx(1.3, abs=1e-6)
    assert load_structure("mine.xyz", model)[1] == "mine.xyz"
    embedded = model_folder(tmp_path / "embedded", "ethanol", CHECKSUMS["ethanol.extxyz.xz"])
    for place in (embedded, None):
        atoms, name = load_structure(None, place)
        assert name == "ethanol frame 0"
        assert np.all(atoms.positions == embedded_ethanol()[0].positions)


def test_training_data_that_are_not_there_are_one_sentence(tmp_path, capsys):
    write(tmp_path / "mine.xyz", dimer("NO", 1.1))
    unnamed = model_folder(tmp_path / "unnamed", "x", "y")
    (tmp_path / "unnamed" / "config.json").write_text('{"format_version": 2}', encoding="utf-8")
    for model, words in (
        (model_folder(tmp_path / "gone", tmp_path / "gone.xyz", "0"), "are not found, which were "),
        (model_folder(tmp_path / "changed", tmp_path / "mine.xyz", "0"), "has changed since"),
        (unnamed, "does not say which frames"),
    ):
        assert main([model]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.endswith("give a structure with --structure FILE\n")
        assert error.count("\n") == 1


def test_interrupt_ends_without_a_traceback(tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gmnn.commands.scan.scan_bonds", interrupt)
    assert main(["--calculator", "ase.calculators.emt:EMT"]) == 130
    assert capsys.readouterr().err == "scan: interrupted\n"


def test_scanning_works_without_jax():
    code = (
        "import sys, gmnn.scanning; print([m for m in ('jax', 'scipy.stats', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = processes.python("-c", code)
    assert done.stdout.strip() == "[]"
