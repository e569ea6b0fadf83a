"""The scan suites: the geometry of their curves, a judge that finds planted defects, relaxations, files, exit codes."""

import csv
import json
import re
from itertools import combinations, pairwise

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import covalent_radii
from ase.io import write

from gmnn.commands.scan import main
from gmnn.errors import UserError
from gmnn.scanning import (
    CURVE_SUITES,
    SUITES,
    BulkCalculator,
    Sizes,
    format_suites,
    judge,
    make_suites,
    overlapping_starts,
    relax,
    run_suites,
    summarise_suites,
    write_suite_report,
)
from gmnn.scanning import families as fam
from gmnn.scanning.bonds import find_bonds
from gmnn.scanning.judge import FINE, MAX_INSERTED, MAX_LOCATED, N_BISECTIONS, N_PLACES, N_ROUNDS
from gmnn.scanning.metrics import clopper_pearson
from gmnn.scanning.paths import bond_path, dense_nodes, third_contacts
from gmnn.scanning.scan import equilibrium_distance
from tests.support.batched import InBatches

SMALL = Sizes(directions=12, rattled=3, compressed=2, hot=2, three=20, relaxation=12)


def ethanol():
    return molecule("CH3CH2OH")


def water():
    atoms = molecule("H2O")
    atoms.positions *= 1.05  # H-H beyond 1.6 Å: no bond
    return atoms


class Pairs:
    """E = offset + Σ over pairs of V(r, Z1, Z2) -> (eV, eV/Å) on arrays [B, N, 3]; counts its calls and structures."""

    def __init__(self, potential, offset=-4200.0):
        self.potential, self.offset, self.sizes = potential, offset, []

    def __call__(self, positions, numbers):
        self.sizes.append(len(positions))
        first, second = np.triu_indices(positions.shape[1], 1)
        vectors = positions[:, second] - positions[:, first]
        r = np.linalg.norm(vectors, axis=-1)
        value, slope = self.potential(r, numbers[:, first], numbers[:, second])
        push = (slope / r)[..., None] * vectors
        forces = np.zeros_like(positions)
        for p, (i, j) in enumerate(zip(first, second, strict=True)):
            forces[:, i] += push[:, p]
            forces[:, j] -= push[:, p]
        return self.offset + value.sum(axis=1), forces


def zbl(r, z1, z2):
    """Universal ZBL and its derivative, from the published formula."""
    a = (0.46850 / (z1**0.23 + z2**0.23))[..., None]
    c, b = np.array([0.18175, 0.50986, 0.28022, 0.02817]), np.array([3.19980, 0.94229, 0.40290, 0.20162]) / a
    k, terms = 14.3996454784 * z1 * z2, c * np.exp(-b * r[..., None])
    phi = terms.sum(-1)
    return k / r * phi, -k / r * (phi / r + (b * terms).sum(-1))


def one_curve(potential, suite="bonds", **options):
    """The verdict on C-H of an isolated pair."""
    atoms = Atoms("CH", [[0.1, 0.2, 0.3], [0.1 + 0.6 * 1.09, 0.2, 0.3 + 0.8 * 1.09]])
    (made,) = make_suites([atoms], np.random.default_rng(0), names=[suite])
    return judge(made.approaches[:1], Pairs(potential), keep=True, **options)[0]


def contact(atoms_or_positions, numbers, i, j):
    return np.linalg.norm(atoms_or_positions[..., j, :] - atoms_or_positions[..., i, :], axis=-1) / (
        covalent_radii[numbers[i]] + covalent_radii[numbers[j]]
    )


def every_suite(seed=0, sizes=SMALL):
    frames = [ethanol()]
    hot = [ethanol() for _ in range(3)]
    for k, frame in enumerate(hot):
        frame.rattle(0.03, seed=k)
        frame.calc = SinglePointCalculator(frame, energy=float(k))
    suites = make_suites(frames, np.random.default_rng(seed), sizes=sizes, hot_frames=hot)
    return {suite.name: suite for suite in suites}


# --- geometry -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CURVE_SUITES)
def test_paths_are_straight_lines_in_the_distance_and_only_members_move(name):
    suite = every_suite()[name]
    assert suite.approaches
    for one in suite.approaches:
        r = np.linspace(one.r_start, one.r_end, 7)
        x = one.positions_at(r)
        i, j = one.members[:2]
        assert np.linalg.norm(x[:, j] - x[:, i], axis=1) == pytest.approx(r, abs=1e-12)
        assert (x[1:] - x[:-1]) / np.diff(r)[:, None, None] == pytest.approx(np.array([one.tangent] * 6), abs=1e-10)
        still = [k for k in range(len(one.numbers)) if k not in one.members]
        assert np.all(x[:, still] == one.positions[still])
        assert one.suite == name
    assert len({one.label for one in suite.approaches}) == len(suite.approaches)


def test_bonds_are_those_of_the_scan():
    atoms = ethanol()
    approaches = every_suite()["bonds"].approaches
    assert [one.label for one in approaches] == [bond_path(atoms, *pair).label for pair in find_bonds(atoms)]
    for one in approaches:
        path = bond_path(atoms, *one.members)
        assert one.r_start == pytest.approx(equilibrium_distance(path, None)[0] - 0.05)
        assert one.r_end == 0.1
        assert one.positions_at(np.array([0.3]))[0] == pytest.approx(path.at(0.3).positions, abs=1e-12)


def test_starts_and_ends():
    suites = every_suite()
    for name in ("nonbonded", "directions", "dimers", "rattled", "compressed", "hot"):
        for one in suites[name].approaches:
            start = one.positions_at(np.array([one.r_start]))[0]
            # no bond of ethanol is shorter than 0.8; a dimer may be, as N2
            expected = 0.75 if name == "dimers" else 0.8
            assert contact(start, one.numbers, *one.members) == pytest.approx(expected)
            assert one.r_end == 0.1
    for name in ("three", "scaling"):
        for one in suites[name].approaches:
            start = one.positions_at(np.array([one.r_start]))[0]
            among = [contact(start, one.numbers, i, j) for i, j in combinations(one.members, 2)]
            assert min(among) == pytest.approx(0.8)
            assert contact(start, one.numbers, *one.members[:2]) == pytest.approx(0.8)
            centre = one.positions[list(one.members)].mean(0)
            moved = one.positions_at(np.array([0.2]))[0][list(one.members)] - centre
            factor = 0.2 / one.distance
            assert moved == pytest.approx(factor * (one.positions[list(one.members)] - centre), abs=1e-12)
    for one in suites["deep"].approaches:
        assert (one.r_start, one.r_end, one.n_points) == (0.30, 0.03, 30)
    assert len(suites["deep"].approaches) == 6  # every heavy atom's nearest neighbour is a hydrogen
    assert suites["scaling"].approaches[0].r_end == pytest.approx(0.1 * 0.97, abs=0.01)


def test_families_have_the_curves_they_promise():
    atoms = ethanol()
    bonds = fam.equilibrium_bonds(atoms)
    pairs = fam.nonbonded([atoms], bonds)
    assert len(pairs) == 36 - 8
    for one in pairs:
        still, mover = one.members
        assert not one.tangent[still].any()
        assert (-one.numbers[mover], mover) > (-one.numbers[still], still)  # the lighter atom, of equals the later
        assert one.positions_at(np.array([one.distance]))[0] == pytest.approx(atoms.positions)
    around = fam.directions([atoms], 50, np.random.default_rng(1))
    assert len(around) == 9 * 50
    for target in range(9):
        mine = [one for one in around if one.members[0] == target]
        assert {one.members[1] for one in mine} == set(range(9)) - {target}
        units = np.array([one.tangent[one.members[1]] for one in mine])
        assert np.linalg.norm(units, axis=1) == pytest.approx(np.ones(50))
        assert np.linalg.norm(units.mean(axis=0)) < 0.02  # evenly spread, nearest neighbours 20 to 35 degrees apart
        nearest = np.degrees(np.arccos(np.clip(np.sort(units @ units.T, axis=1)[:, -2], -1, 1)))
        assert 20 < nearest.min() <= nearest.max() < 35
    assert sorted(one.label for one in fam.dimers(atoms.numbers)) == ["C-C", "C-O", "H-C", "H-H", "H-O", "O-O"]
    triples = fam.three([atoms], bonds, 1000, np.random.default_rng(0))
    assert len(triples) == sum(
        any(pair in bonds for pair in combinations(triple, 2)) for triple in combinations(range(9), 3)
    )
    assert len(fam.three([atoms], bonds, 7, np.random.default_rng(0))) == 7
    shapes = [one.positions for one in fam.compressed([atoms], bonds, 3)[:: len(bonds)]]
    assert [np.ptp(x, axis=0)[0] / np.ptp(atoms.positions, axis=0)[0] for x in shapes] == pytest.approx([0.7, 0.8, 0.9])
    moved = [one.positions for one in fam.rattled([atoms], bonds, 40, np.random.default_rng(0))[:: len(bonds)]]
    spread = [np.std(x - atoms.positions) for x in moved]
    assert 0.05 < min(spread) < 0.15
    assert 0.25 < max(spread) < 0.4
    assert [frame.calc.results["energy"] for frame in fam.hottest(energetic(), 2)] == [3.0, 2.0]


def energetic():
    frames = [water() for _ in range(4)]
    for frame, energy in zip(frames[1:], (1.0, 3.0, 2.0), strict=True):
        frame.calc = SinglePointCalculator(frame, energy=energy)
    return frames


def test_third_contacts_leave_out_exactly_the_curves_that_have_one():
    atoms = ethanol()
    bonds = fam.equilibrium_bonds(atoms)
    approaches = fam.nonbonded([atoms], bonds) + fam.three([atoms], bonds, 30, np.random.default_rng(0))
    approaches += fam.directions([atoms], 6, np.random.default_rng(3))
    closest = third_contacts(approaches)
    for one, found in zip(approaches, closest, strict=True):
        x = one.positions_at(np.linspace(one.r_start, one.r_end, 2001))
        worst = np.inf
        for i, j in combinations(range(9), 2):
            apart = np.abs(one.tangent[i] - one.tangent[j]).max() > 0
            if apart and not (i in one.members and j in one.members):
                worst = min(worst, contact(x, one.numbers, i, j).min())
        assert found == pytest.approx(worst, abs=1e-3)
        assert found <= worst + 1e-12
    suites = every_suite()
    assert suites["directions"].n_left_out + len(suites["directions"].approaches) == 9 * 12
    assert suites["bonds"].n_left_out == suites["scaling"].n_left_out == suites["dimers"].n_left_out == 0
    for name, suite in suites.items():
        assert name == "bonds" or np.all(third_contacts(suite.approaches) >= 0.8)
    (pair,) = make_suites([water()], np.random.default_rng(0), names=["nonbonded"])
    assert len(pair.approaches) + pair.n_left_out == 1


def test_seed_fixes_a_suite_whichever_others_are_made():
    frames = [ethanol()]
    for name in ("directions", "rattled", "three"):
        sizes = Sizes(directions=5, rattled=2, three=6)
        alone, together, other = (
            make_suites(frames, np.random.default_rng(seed), names=names, sizes=sizes)[-1].approaches
            for seed, names in ((7, [name]), (7, ["bonds", "dimers", name]), (8, [name]))
        )
        assert [one.label for one in alone] == [one.label for one in together]
        for a, b in zip(alone, together, strict=True):
            assert np.array_equal(a.positions, b.positions)
            assert np.array_equal(a.tangent, b.tangent)
        assert any(
            a.label != b.label or not np.array_equal(a.positions, b.positions)
            for a, b in zip(alone, other, strict=False)
        )


def test_curves_do_not_follow_the_callers_atoms():
    atoms = ethanol()
    (suite,) = make_suites([atoms], np.random.default_rng(0), names=["bonds"])
    before = suite.approaches[0].positions.copy()
    atoms.positions += 1.0
    assert np.array_equal(suite.approaches[0].positions, before)


@pytest.mark.parametrize(
    ("frames", "names", "message"),
    [
        ([ethanol()], ["bonds", "bounds"], "no such suite, got 'bounds'"),
        ([ethanol()], [], "no such suite"),
        ([ethanol(), water()], ["bonds"], "Frame 1 of the suites is H2O"),
        ([Atoms("H")], ["dimers"], "at least two atoms"),
        ([Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], cell=[5, 5, 5], pbc=True)], ["bonds"], "isolated molecules"),
        ([], ["bonds"], "no structure"),
    ],
)
def test_misuse_is_explained(frames, names, message):
    with pytest.raises(UserError, match=message):
        make_suites(frames, np.random.default_rng(0), names=names)


# --- verdicts -------------------------------------------------------------------------------------------------------


def test_pure_zbl_passes_exactly_the_curves_on_which_it_rises():
    evaluate = Pairs(zbl)
    n_failed = {}
    for name, suite in every_suite().items():
        verdicts = judge(suite.approaches, evaluate)
        n_failed[name] = sum(not one.passed for one in verdicts)
        for one, verdict in zip(suite.approaches, verdicts, strict=True):
            energies, _ = evaluate(one.positions_at(np.geomspace(one.r_start, one.r_end, 200)), one.numbers[None])
            assert verdict.passed == bool(np.all(np.diff(energies) > 0)), verdict
            assert verdict.passed == (verdict.reason == "")
            assert verdict.passed == (verdict.least_push > 0)
            assert 30 <= verdict.n_points < 250
    assert not any(n_failed[name] for name in ("bonds", "dimers", "three", "scaling", "deep"))


@pytest.mark.parametrize("slope", [2.0, 4.0])
def test_narrow_dip_anywhere_is_found_where_it_is(slope):
    """0.02 eV deep, 5 mÅ wide at half its depth, always midway between two nodes; nodes alone would not see it."""
    nodes = dense_nodes(1.02, 0.1, 64)
    width = 0.005 / np.sqrt(8 * np.log(2))
    for outer, inner in list(pairwise(nodes))[::3]:
        centre = 0.5 * (outer + inner)

        def potential(r, *_, centre=centre):
            dip = 0.02 * np.exp(-0.5 * ((r - centre) / width) ** 2)
            return slope * (1.5 - r) - dip, -slope + dip * (r - centre) / width**2

        verdict = one_curve(potential)
        fine = np.linspace(centre + 0.01, max(centre - 0.01, 0.1), 8001)
        energies = potential(fine)[0]
        truth = np.maximum.accumulate(energies) - energies
        k = int(np.argmax(truth))
        assert truth[k] > 0.002
        assert not verdict.passed
        assert verdict.worst_drop == pytest.approx(truth[k], rel=0.01)
        assert verdict.worst_r == pytest.approx(fine[k], abs=2e-4)
        assert verdict.r_fail == pytest.approx(fine[np.argmax(energies[: k + 1])], abs=2e-4)
        assert verdict.ceiling == pytest.approx(slope * (1.02 - verdict.r_fail), abs=0.01)
        assert verdict.least_push < 0


def test_flat_stretches_are_looked_at_closely_and_steep_ones_are_not():
    flat = one_curve(lambda r, *_: (5.0 * (1.5 - r), np.full_like(r, -5.0)))
    steep = one_curve(lambda r, *_: (50.0 * (1.5 - r), np.full_like(r, -50.0)))
    assert flat.passed
    assert steep.passed
    assert steep.n_points == 64
    assert np.max(-np.diff(flat.points[:, 0])) <= FINE


def test_fall_at_the_very_end_is_found_by_the_deep_suite_alone():
    def potential(r, z1, z2):
        value, slope = zbl(r, z1, z2)
        inside = r < 0.05
        edge = np.full_like(r, 0.05)
        return np.where(inside, zbl(edge, z1, z2)[0] - 1e4 * (0.05 - r), value), np.where(inside, 1e4, slope)

    assert one_curve(potential).passed
    verdict = one_curve(potential, "deep")
    assert not verdict.passed
    assert verdict.r_fail == pytest.approx(0.05, abs=1e-4)
    assert verdict.worst_r == pytest.approx(0.03)
    assert verdict.worst_drop == pytest.approx(200.0, rel=0.01)
    assert "0.050 Å" in verdict.reason


def test_force_that_pulls_while_the_energy_rises_fails():
    def potential(r, z1, z2):
        value, slope = zbl(r, z1, z2)
        return value, np.where(np.abs(r - 0.31) < 0.008, -slope, slope)

    verdict = one_curve(potential)
    assert not verdict.passed
    assert verdict.r_fail == pytest.approx(0.318, abs=1e-3)
    assert verdict.worst_drop == 0.0
    assert verdict.least_push < -50
    assert "does not push outwards" in verdict.reason


def test_energy_that_jumps_down_while_the_force_pushes_fails():
    def potential(r, z1, z2):
        value, slope = zbl(r, z1, z2)
        return value - np.where(r < 0.6, 5.0, 0.0), slope

    verdict = one_curve(potential)
    assert not verdict.passed
    assert verdict.r_fail == pytest.approx(0.6, abs=1e-3)
    assert verdict.worst_drop == pytest.approx(5.0, abs=0.05)
    assert verdict.least_push > 0


def test_constant_energy_is_no_wall():
    verdict = one_curve(lambda r, *_: (np.zeros_like(r), np.zeros_like(r)))
    assert not verdict.passed
    assert verdict.r_fail == pytest.approx(1.02)


def test_what_is_not_a_number_fails_where_it_begins_and_says_why():
    class Failing(Pairs):
        def __call__(self, positions, numbers):
            energies, forces = super().__call__(positions, numbers)
            bad = np.linalg.norm(positions[:, 1] - positions[:, 0], axis=1) < 0.2
            self.messages = {int(k): "SCF did not converge" for k in np.flatnonzero(bad)}
            return np.where(bad, np.nan, energies), forces

    (suite,) = make_suites([water()], np.random.default_rng(0), names=["bonds"])
    verdict, other = judge(suite.approaches, Failing(zbl))
    assert not verdict.passed
    assert verdict.r_fail == pytest.approx(0.2, abs=1e-5)
    assert verdict.r_fail < 0.2
    assert verdict.ceiling is None
    assert verdict.reason == f"SCF did not converge at {verdict.r_fail:.3f} Å"
    assert other.passed  # O-H2: the distance of the first two atoms stays
    blind = judge(suite.approaches, lambda x, z: (np.full(len(x), np.nan), np.full(x.shape, np.nan)))
    assert [one.r_fail for one in blind] == [one.r_start for one in suite.approaches]
    assert all("not finite" in one.reason for one in blind)


def test_rounding_of_the_energy_alone_does_not_fail_a_curve(monkeypatch):
    """Noise of 1e-4 eV (float32 at 4200 eV) turns the energies of inserted points upside down, here and there."""

    class Noisy(Pairs):
        def __call__(self, positions, numbers):
            energies, forces = super().__call__(positions, numbers)
            return energies + 1e-4 * np.random.default_rng(0).normal(size=len(energies)), forces

    def gentle(r, *_):
        return 0.05 / r, -0.05 / r**2

    (suite,) = make_suites([water()], np.random.default_rng(0), names=["dimers"])
    assert all(one.passed for one in judge(suite.approaches, Noisy(gentle)))  # the noise is measured
    assert all(one.passed for one in judge(suite.approaches, Pairs(gentle)))
    monkeypatch.setattr("gmnn.scanning.curves.STANDARD_ERRORS", 0.0)
    assert not any(one.passed for one in judge(suite.approaches, Noisy(gentle)))


def test_bulk_is_the_same_as_one_by_one_in_a_handful_of_calls():
    def wavy(r, z1, z2):  # with turns on some curves
        value, slope = zbl(r, z1, z2)
        return value + 3 * np.sin(25 * r), slope + 75 * np.cos(25 * r)

    suites = every_suite()
    approaches = [one for name in ("dimers", "hot", "deep", "three") for one in suites[name].approaches]
    approaches += suites["dimers"].approaches  # two sizes of system, mixed
    evaluate = Pairs(wavy)
    together = judge(approaches, evaluate)
    assert len(evaluate.sizes) <= 2 * (1 + N_ROUNDS + N_BISECTIONS)
    assert sum(evaluate.sizes) == sum(one.n_points + 5 * N_PLACES for one in together)
    apart = [judge([one], Pairs(wavy))[0] for one in approaches]
    small = judge(approaches, Pairs(wavy), batch_points=500)
    assert 0 < sum(one.passed for one in together) < len(together)
    for others in (apart, small):
        for a, b in zip(together, others, strict=True):
            assert (a.label, a.suite, a.passed, a.n_points) == (b.label, b.suite, b.passed, b.n_points)
            assert a.worst_drop == pytest.approx(b.worst_drop, abs=1e-9)
            assert a.r_fail == pytest.approx(b.r_fail, abs=1e-12)


def test_halving_stops_where_forces_are_noise():
    rng = np.random.default_rng(0)
    noise = one_curve(lambda r, *_: (rng.normal(size=r.shape), rng.normal(size=r.shape)))
    assert not noise.passed
    assert noise.n_points <= 64 + MAX_INSERTED + N_BISECTIONS * MAX_LOCATED


# --- relaxation -----------------------------------------------------------------------------------------------------


def test_starts_overlap_as_promised():
    numbers = ethanol().numbers
    starts = overlapping_starts(numbers, 40, np.random.default_rng(0))
    assert starts.shape == (40, 9, 3)
    close = np.array([contact(starts, numbers, i, j) for i, j in combinations(range(9), 2)])
    assert np.all((close.min(0) > 0.2) & (close.min(0) < 0.5))
    assert np.all((close < 0.8).sum(0) >= 3)
    assert overlapping_starts(np.array([1, 8]), 3, np.random.default_rng(0)).shape == (3, 2, 3)
    assert overlapping_starts(numbers, 0, np.random.default_rng(0)).shape == (0, 9, 3)


def test_repulsion_never_fuses_and_an_attractive_core_does():
    numbers = ethanol().numbers
    starts = overlapping_starts(numbers, 20, np.random.default_rng(2))

    def with_core(r, z1, z2):
        """A wall of 20 eV, a hole of 100 eV behind it."""
        wall, hole = 20 * np.exp(-((r / 0.8) ** 2)), 100 * np.exp(-((r / 0.25) ** 2))
        return wall - hole, -2 * r / 0.8**2 * wall + 2 * r / 0.25**2 * hole

    free = relax(starts, numbers, Pairs(zbl))
    assert all(one.converged and not one.fused for one in free)
    assert min(one.closest for one in free) > 1.0
    assert all(one.force < 0.1 for one in free)
    trapped = relax(starts, numbers, Pairs(with_core))
    assert sum(one.fused for one in trapped) >= 10
    for one in trapped:
        assert one.fused == (one.closest < 0.5)
        assert one.fused == (one.reason != "")
    short = relax(starts, numbers, Pairs(zbl), n_steps=2)
    assert all(one.n_steps == 2 and not one.converged for one in short)


def test_one_step_moves_no_atom_further_than_a_tenth_of_an_angstrom():
    numbers, seen = ethanol().numbers, []

    def evaluate(positions, numbers):
        seen.append(positions.copy())
        return Pairs(zbl)(positions, numbers)

    relax(overlapping_starts(numbers, 1, np.random.default_rng(5)), numbers, evaluate)
    steps = [np.linalg.norm(b - a, axis=-1).max() for a, b in pairwise(seen)]
    assert 0.09 < max(steps) <= 0.1 + 1e-12


def test_relaxation_finds_the_minimum_of_a_bond():
    def morse(r, *_):
        e = np.exp(-2.0 * (r - 1.1))
        return 4.0 * (1 - e) ** 2, 16.0 * (1 - e) * e

    result = relax(overlapping_starts(np.array([6, 1]), 5, np.random.default_rng(0)), np.array([6, 1]), Pairs(morse))
    assert all(one.converged for one in result)
    assert [one.closest for one in result] == pytest.approx([1.1 / 1.07] * 5, abs=0.01)


def test_relaxation_that_leaves_the_numbers_counts_as_fused():
    class Lost(Pairs):
        def __call__(self, positions, numbers):
            energies, forces = super().__call__(positions, numbers)
            self.messages = {0: "out of range"} if len(self.sizes) == 4 else {}
            return np.where(len(self.sizes) == 4, np.nan, energies), forces

    starts = overlapping_starts(ethanol().numbers, 2, np.random.default_rng(0))
    first, second = relax(starts, ethanol().numbers, Lost(zbl))
    assert first.fused
    assert second.fused
    assert not first.converged
    assert first.reason == "out of range after 3 steps"
    assert second.reason == "energy or force not finite after 3 steps"


# --- calculators, files, command ------------------------------------------------------------------------------------


class Moody(Calculator):
    """ZBL that raises when atoms 0 and 1 are closer than `limit`."""

    implemented_properties = ("energy", "forces")

    def __init__(self, limit=0.0):
        super().__init__()
        self.limit, self.pairs = limit, Pairs(zbl)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if atoms.get_distance(0, 1) < self.limit:
            raise RuntimeError("too close\nfor me")
        energies, forces = self.pairs(atoms.positions[None], atoms.numbers[None])
        self.results = {"energy": energies[0], "forces": forces[0]}


class MoodyInBatches(InBatches, Moody):
    """The same behind `batch_eval`."""


@pytest.mark.parametrize("kind", [Moody, MoodyInBatches])
def test_any_calculator_serves_and_one_that_raises_costs_one_structure(kind):
    atoms = water()
    positions = np.array([atoms.positions * factor for factor in (1.0, 0.3, 0.9, 0.2, 0.8, 0.7)])
    numbers = np.array([atoms.numbers] * 6)
    expected = Pairs(zbl)(positions, numbers)
    evaluate = BulkCalculator(kind())
    energies, forces = evaluate(positions, numbers)
    assert energies == pytest.approx(expected[0], rel=1e-12)
    assert forces == pytest.approx(expected[1], rel=1e-9, abs=1e-12)
    assert evaluate.messages == {}
    evaluate = BulkCalculator(kind(limit=0.5))
    energies, forces = evaluate(positions, numbers)
    assert list(np.flatnonzero(np.isnan(energies))) == [1, 3]
    assert np.isnan(forces[[1, 3]]).all()
    assert energies[[0, 2, 4, 5]] == pytest.approx(expected[0][[0, 2, 4, 5]], rel=1e-12)
    assert evaluate.messages == dict.fromkeys((1, 3), "RuntimeError: too close for me")
    assert evaluate(positions[:0], numbers[:0])[0].shape == (0,)


def test_batches_have_few_sizes():
    calculator = MoodyInBatches()
    evaluate = BulkCalculator(calculator)
    for n in (1, 3, 5, 17, 300):
        assert len(evaluate(np.array([water().positions] * n), np.array([water().numbers] * n))[0]) == n
    assert calculator.sizes == [4, 4, 16, 64, 1024]


def failing_oxygen(r, z1, z2):
    """ZBL, but O-H falls inside 0.5 Å and everything with two oxygen atoms is not a number."""
    value, slope = zbl(r, z1, z2)
    turned = (z1 * z2 == 8) & (r < 0.5)
    edge = zbl(np.full_like(r, 0.5), z1, z2)[0]
    value = np.where(turned, edge - 100 * (0.5 - r), value)
    return np.where(z1 * z2 == 64, np.nan, value), np.where(turned, 100.0, slope)


def test_counts_intervals_and_files(tmp_path):
    calls = []
    results = run_suites(
        [water()], Pairs(failing_oxygen), np.random.default_rng(0), names=["bonds", "dimers", "relaxation"],
        sizes=SMALL, progress=lambda *call: calls.append(call),
    )  # fmt: skip
    bonds, dimers, relaxation = results
    assert (bonds.n_curves, bonds.n_failed) == (2, 2)
    assert (dimers.n_curves, dimers.n_failed) == (3, 2)
    assert dimers.pass_rate_interval == clopper_pearson(1, 3)
    assert relaxation.n_curves == 12
    assert dimers.worst.label == "H-O"
    assert dimers.worst.worst_drop == pytest.approx(40.0, rel=0.01)
    assert calls[0] == (0, 17, "bonds")
    assert calls[-1] == (17, 17, "")
    done = [call[0] for call in calls]
    assert done == sorted(done)

    files = write_suite_report(results, tmp_path / "out", model="model", structure="water", seed=3)
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name[0] != ".") == [
        "suites.csv",
        "suites.json",
        "suites.png",
    ]
    assert files["suites.png"].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

    def refuse(text):
        raise AssertionError(f"{text} is not JSON")

    summary = json.loads(files["suites.json"].read_text(encoding="utf-8"), parse_constant=refuse)
    assert (summary["passed"], summary["seed"], summary["structure"]) == (False, 3, "water")
    one = summary["suites"][1]
    assert (one["suite"], one["n_curves"], one["n_failed"], one["n_left_out"]) == ("dimers", 3, 2, 0)
    assert one["pass_rate_interval"] == pytest.approx(clopper_pearson(1, 3))
    assert {failure["label"] for failure in one["failures"]} == {"H-O", "O-O"}
    assert len(summary["suites"][2]["relaxations"]) == 12
    rows = list(csv.DictReader(files["suites.csv"].read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 2 + 3 + 12
    assert [row["passed"] for row in rows[:5]] == ["False", "False", "True", "False", "False"]
    assert float(rows[3]["r_fail_A"]) == pytest.approx(0.5, abs=1e-3)
    assert rows[2]["r_fail_A"] == rows[2]["reason"] == ""
    assert {row["passed"] for row in rows[5:]} <= {"True", "False"}
    table = format_suites(results).splitlines()
    assert len(table) == 1 + 3 + 1
    assert re.match(r"dimers +3 +2 +0 +33\.3 % \(0\.8 to 90\.6\)  40 eV at 0\.100 Å, H-O", table[2])
    with pytest.raises(UserError, match="is no folder; choose another"):
        write_suite_report(results, files["suites.csv"] / "below", model="m", structure="s", seed=0)


def test_all_suites_of_a_good_potential_and_their_figure(tmp_path):
    results = run_suites([water()], Pairs(zbl), np.random.default_rng(0), sizes=SMALL, hot_frames=energetic())
    assert [one.name for one in results] == list(SUITES)
    assert summarise_suites(results)["passed"] == (sum(one.n_failed for one in results) == 0)
    write_suite_report(results, tmp_path, model="zbl", structure="water", seed=0)
    with pytest.raises(UserError, match="cannot evaluate the structure itself, got RuntimeError: too close"):
        run_suites([water()], BulkCalculator(Moody(limit=2.0)), np.random.default_rng(0))
    far = Atoms("He2", [[0, 0, 0], [0, 0, 3]])
    with pytest.raises(UserError, match="no curve to judge"):
        run_suites([far], Pairs(zbl), np.random.default_rng(0), names=["bonds", "hot"])


def test_exit_codes_and_messages_of_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    hydrogen = [Atoms("H2", [[0, 0, 0], [0, 0, d]]) for d in (0.74, 0.8, 0.7)]
    write("h2.extxyz", hydrogen)
    write("c2.xyz", Atoms("C2", [[0, 0, 0], [0, 0, 1.3]]))
    lj = ["--calculator", "ase.calculators.lj:LennardJones", "--kwargs", '{"sigma": 0.6, "rc": 20}']
    chosen = "dimers,deep,hot,scaling"
    assert main([*lj, "--structure", "h2.extxyz@0", "--suites", chosen, "--out", "good", "--seed", "5"]) == 0
    out = capsys.readouterr().out
    assert "h2.extxyz frame 0, seed 5" in out
    assert re.search(r"hot +2 +0 +0 +100\.0 %", out)  # the other two frames of the file
    assert json.loads((tmp_path / "good" / "suites.json").read_text(encoding="utf-8"))["seed"] == 5
    assert not (tmp_path / "good" / "scan.json").exists()
    assert main([*lj, "--structure", "c2.xyz", "--suites", "dimers,hot"]) == 1
    out = capsys.readouterr().out
    assert "The suite hot is empty" in out
    assert (tmp_path / "scan_LennardJones" / "suites.csv").is_file()
    for arguments, message in (
        (["--suites", "dimers,bounds"], "no such suite, got 'bounds'; allowed are all, bonds"),
        (["--suites", ","], "no such suite"),
        (["--suites", "dimers", "--seed", "-1"], "seed is negative"),
    ):
        assert main([*lj, "--structure", "c2.xyz", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert message in error
    assert main([*lj, "--suites", "all", "--frames", "7"]) == 2
    assert "leave them out with --suites" in capsys.readouterr().err
