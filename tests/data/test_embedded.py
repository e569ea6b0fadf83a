"""The packaged reference data are whole, are what their data sheet says, and their forces belong to their energies."""

import hashlib
import lzma
import re
from importlib.resources import files

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list
from scipy.interpolate import CubicSpline

from gmnn.data import embedded

ORDER = ["C", "C", "H", "H", "H", "H", "O", "H", "H"]
BONDS = ["C0-C1", "C0-H2", "C0-H3", "C0-H4", "C1-H5", "C1-O6", "C1-H7", "O6-H8"]
LARGEST_NET_FORCE = 1e-6  # eV/Å; rounding nine labels to 8 decimals leaves at most 4.5e-8


@pytest.fixture(scope="module")
def frames() -> list[Atoms]:
    return embedded.ethanol()


@pytest.fixture(scope="module")
def curves() -> dict[str, list[Atoms]]:
    """The frames of each bond, outermost first, all grids together."""
    found: dict[str, list[Atoms]] = {}
    for frame in sorted(embedded.ethanol_curves(), key=lambda f: -f.info["distance"]):
        found.setdefault(frame.info["bond"], []).append(frame)
    return found


@pytest.fixture(scope="module")
def sheet() -> dict[str, str]:
    """First two columns of every table row of the data sheet."""
    text = (files("gmnn") / "data" / "files" / "DATASHEET.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0].strip("`"): row[1] for row in rows}


def number(text: str) -> float:
    return float(re.match(r"[-+0-9.e]+", text.replace(",", "")).group())


def test_the_set_has_its_frames_in_their_order(frames: list[Atoms]) -> None:
    assert len(frames) == 1200
    assert [f.info["frame"] for f in frames] == list(range(1200))
    assert np.bincount([f.info["start"] for f in frames]).tolist() == [400, 400, 400]
    assert all(f.get_chemical_symbols() == ORDER and not f.pbc.any() for f in frames)
    assert frames[0].get_potential_energy() == pytest.approx(-4202.349531763908, abs=1e-9)
    assert frames[0].get_forces()[0] == pytest.approx([0.66126896, -3.11113087, 1.26319439], abs=1e-8)


def test_any_prefix_is_a_fair_sample(frames: list[Atoms]) -> None:
    energies = np.array([f.get_potential_energy() for f in frames])
    error = energies.std() / np.sqrt(200)
    assert all(abs(part.mean() - energies.mean()) < 4 * error for part in energies.reshape(6, 200))


def test_no_net_force_in_any_frame(frames: list[Atoms], curves: dict[str, list[Atoms]]) -> None:
    for frame in [*frames, *(f for points in curves.values() for f in points)]:
        assert np.abs(frame.get_forces().sum(0)).max() < LARGEST_NET_FORCE


def test_a_damaged_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(embedded.CHECKSUMS, "ethanol.extxyz.xz", "0" * 64)
    with pytest.raises(RuntimeError, match=r"ethanol\.extxyz\.xz.*SHA-256 is e7b69c5c.*expected 0000.*reinstall"):
        embedded.ethanol()


def test_checksums_of_the_data_sheet(sheet: dict[str, str]) -> None:
    for name, expected in embedded.CHECKSUMS.items():
        packed = (files("gmnn") / "data" / "files" / name).read_bytes()
        assert hashlib.sha256(packed).hexdigest() == expected == sheet[name].strip("`")
        content = hashlib.sha256(lzma.decompress(packed)).hexdigest()
        assert content == sheet[name.removesuffix(".xz")].strip("`")


def test_numbers_of_the_data_sheet(frames: list[Atoms], sheet: dict[str, str]) -> None:
    energies = np.array([f.get_potential_energy() for f in frames])
    forces = np.array([f.get_forces() for f in frames])
    positions = np.array([f.positions for f in frames])
    symbols = np.array(ORDER)
    distances = np.linalg.norm(positions[:, :, None] - positions[:, None], axis=-1)
    distances[:, np.arange(9), np.arange(9)] = np.inf
    measured = {
        "frames": len(frames),
        "lowest energy": energies.min(),
        "highest energy": energies.max(),
        "mean energy": energies.mean(),
        "standard deviation of the energy": energies.std(),
        "force component, root mean square": np.sqrt((forces**2).mean()),
        "largest force component": np.abs(forces).max(),
        "largest force on an atom": np.linalg.norm(forces, axis=-1).max(),
        "largest net force component": np.abs(forces.sum(1)).max(),
        "largest torque component": np.abs(np.cross(positions, forces).sum(1)).max(),
    }
    for a, b in ("HH", "CH", "OH", "CC", "CO"):
        block = distances[:, symbols == a][:, :, symbols == b]
        measured[f"smallest {a}-{b} distance"] = block.min()
    for name, value in measured.items():
        assert number(sheet[name]) == pytest.approx(value, rel=2e-3 if abs(value) < 1e-3 else 0, abs=6e-4), name
    assert number(sheet["largest net force component"]) < 1e-7


def test_curves_hold_every_bond_and_grid(
    curves: dict[str, list[Atoms]], frames: list[Atoms], sheet: dict[str, str]
) -> None:
    assert sorted(curves) == sorted(BONDS)
    assert sum(map(len, curves.values())) == number(sheet["points on curves"])
    i, j = neighbor_list("ij", frames[0], 1.6)
    assert {(p[0].info["i"], p[0].info["j"]) for p in curves.values()} == set(zip(i[i < j], j[i < j], strict=True))
    for points in curves.values():
        grids = [p.info["grid"] for p in points]
        assert (grids.count("s0"), grids.count("geometric")) == (20, 32)
        assert grids.count("minimum") >= 1
        for point in points:
            assert isinstance(point.info["reliable"], bool | np.bool_)
            assert point.info["single_reference"] or not point.info["reliable"]
            length = point.get_distance(point.info["i"], point.info["j"])
            assert length == pytest.approx(point.info["distance"], abs=1e-11)


def test_s0_distances_are_those_of_the_protocol(curves: dict[str, list[Atoms]], frames: list[Atoms]) -> None:
    start = frames[0]
    for points in curves.values():
        s0 = [p for p in points if p.info["grid"] == "s0"]
        i, j = s0[0].info["i"], s0[0].info["j"]
        length = start.get_distance(i, j)
        with_h = ORDER[j] == "H"
        expected = np.linspace(2 * length if with_h else length, 0.1, 20)
        assert np.array([p.info["distance"] for p in s0]) == pytest.approx(expected, abs=1e-12)
        assert [p.get_distance(i, j) for p in s0] == pytest.approx(expected, abs=1e-11)
        for point in s0:
            still = [k for k in range(9) if k not in ((j,) if with_h else (i, j))]
            assert point.positions[still] == pytest.approx(start.positions[still], abs=1e-11)
            middle = point.positions[[i, j]].mean(0) - start.positions[[i, j]].mean(0)
            assert with_h or np.abs(middle).max() < 1e-11


def test_geometric_grid_runs_from_beyond_the_minimum_to_a_tenth(curves: dict[str, list[Atoms]]) -> None:
    for points in curves.values():
        r = [p.info["distance"] for p in points if p.info["grid"] == "geometric"]
        assert r == pytest.approx(np.geomspace(1.1 * points[0].info["r_eq"], 0.1, 32), abs=1e-9)


def test_r_eq_is_the_outermost_minimum(curves: dict[str, list[Atoms]]) -> None:
    for points in curves.values():
        r_eq = points[0].info["r_eq"]
        at = min(points, key=lambda p: abs(p.info["distance"] - r_eq))
        assert abs(at.info["distance"] - r_eq) < 1e-4
        assert abs(at.info["dEdr"]) < 5e-3
        assert all(p.info["dEdr"] > 0 for p in points if r_eq + 1e-3 < p.info["distance"] and p.info["reliable"])


def test_slopes_are_those_of_the_forces(curves: dict[str, list[Atoms]]) -> None:
    for points in curves.values():
        for p in points:
            i, j, forces = p.info["i"], p.info["j"], p.get_forces()
            vector = p.get_distance(i, j, vector=True) / p.info["distance"]
            expected = -forces[j] @ vector if ORDER[j] == "H" else 0.5 * (forces[i] - forces[j]) @ vector
            assert p.info["dEdr"] == pytest.approx(expected, rel=1e-7, abs=1e-7)


def test_slopes_are_those_of_the_energies(curves: dict[str, list[Atoms]]) -> None:
    """Between reliable neighbours E(b) - E(a) is the integral of dE/dr: r dE/dr as a cubic spline in ln r."""
    for name, points in curves.items():
        inwards = np.array([p.info["distance"] for p in points])
        points = [points[0], *(points[k] for k in np.flatnonzero(np.diff(inwards) < -2e-3) + 1)][::-1]
        r = np.array([p.info["distance"] for p in points])
        energy = np.array([p.get_potential_energy() for p in points])
        slope = np.array([p.info["dEdr"] for p in points])
        good = np.array([p.info["reliable"] for p in points])
        integral = CubicSpline(np.log(r), r * slope).antiderivative()(np.log(r))
        pair = good[1:] & good[:-1]
        assert pair.sum() > 10
        assert np.diff(energy)[pair] == pytest.approx(np.diff(integral)[pair], rel=2e-4, abs=2e-3), name


def test_energy_rises_inwards_where_reliable(curves: dict[str, list[Atoms]]) -> None:
    for points in curves.values():
        inside = [p for p in points if p.info["reliable"] and p.info["distance"] <= p.info["r_eq"] - 0.05]
        assert all(p.info["dEdr"] < 0 for p in inside)
        assert np.all(np.diff([p.get_potential_energy() for p in inside]) >= 0)
