"""Kinds 13 and 14: the structure that dynamics start from, its copies, their velocities, and checks before the work."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms, FixBondLength, FixCartesian, FixedPlane, FixInternals, Hookean

from gmnn import folders
from gmnn.commands import md as md_command
from gmnn.commands.md import structure
from gmnn.config.md import DynamicsConfig
from gmnn.errors import UserError
from gmnn.md.velocities import repeated
from tests.support.paths import ROOT


def crystal(momenta: bool = True) -> Atoms:
    atoms = bulk("SiC", "zincblende", a=4.36, cubic=True)
    atoms.rattle(0.05, seed=1)
    if momenta:
        rng = np.random.default_rng(3)
        atoms.set_momenta(rng.normal(size=(8, 3)) * np.sqrt(atoms.get_masses() * units.kB * 400)[:, None])
    return atoms


def started(folder: Path, atoms: Atoms, **settings: object) -> Atoms:
    ase.io.write(folder / "start.traj", atoms)
    return structure(
        DynamicsConfig(model="m", structure=str(folder / "start.traj"), output="o", steps=100, **settings)  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("repeat", [(2, 1, 1), (1, 1, 2), (2, 2, 2)])
def test_kind_13_copies_do_not_move_as_one(
    tmp_path: Path, repeat: tuple[int, int, int], capsys: pytest.CaptureFixture
) -> None:
    """Positions repeat; velocities are new, different in every copy, at the same temperature; one line says so."""
    atoms, copies = crystal(), int(np.prod(repeat))
    big = started(tmp_path, atoms, repeat=repeat)
    np.testing.assert_allclose(big.positions, atoms.repeat(repeat).positions)
    assert big.get_kinetic_energy() == pytest.approx(copies * atoms.get_kinetic_energy(), rel=1e-12)
    assert big.get_temperature() == pytest.approx(atoms.get_temperature(), rel=1e-12)
    each = big.get_velocities().reshape(copies, 8, 3)
    for k in range(copies):
        for m in range(k):
            assert np.abs(each[k] - each[m]).max() > 1e-3
    np.testing.assert_allclose(big.get_momenta().sum(axis=0), 0.0, atol=1e-10)
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 1
    assert "new velocities at the" in said
    assert f"{atoms.get_temperature():.1f} K" in said
    np.testing.assert_array_equal(started(tmp_path, atoms, repeat=repeat).get_velocities(), big.get_velocities())
    assert (started(tmp_path, atoms, repeat=repeat, seed=1).get_velocities() != big.get_velocities()).any()


def test_kind_13_nothing_changes_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Without a repeat velocities stay; without velocities, or with zero ones, none are made here."""
    atoms = crystal()
    np.testing.assert_allclose(started(tmp_path, atoms).get_momenta(), atoms.get_momenta())
    assert not started(tmp_path, crystal(momenta=False), repeat=(2, 1, 1)).get_momenta().any()
    atoms.set_momenta(np.zeros((8, 3)))
    assert not started(tmp_path, atoms, repeat=(2, 1, 1)).get_momenta().any()
    assert capsys.readouterr().out == ""


def test_kind_13_fixed_atoms(tmp_path: Path) -> None:
    """Fixed atoms repeat as fixed and at rest; the free ones keep their kinetic energy."""
    atoms = crystal()
    atoms.set_constraint(FixAtoms([0, 3]))
    big, temperature_K = repeated(atoms, (2, 1, 1), 0)
    assert sorted(big.constraints[0].get_indices()) == [0, 3, 8, 11]
    assert not big.get_velocities()[[0, 3, 8, 11]].any()
    free = np.delete(np.arange(8), [0, 3])
    kinetic = 0.5 * (atoms.get_masses()[free, None] * atoms.get_velocities()[free] ** 2).sum()
    assert big.get_kinetic_energy() == pytest.approx(2 * kinetic, rel=1e-12)
    assert temperature_K == pytest.approx(2 * kinetic / (3 * 6 * units.kB))


CONSTRAINTS = {
    "FixBondLength": FixBondLength(0, 1),
    "FixCartesian": FixCartesian(0),
    "FixedPlane": FixedPlane(0, [0, 0, 1]),
    "Hookean": Hookean(0, 1, 1.0, 2.0),
    "FixInternals": FixInternals(bonds=[[1.9, [0, 1]]]),
}


@pytest.mark.parametrize("name", CONSTRAINTS)
@pytest.mark.parametrize("repeat", [(1, 1, 1), (2, 1, 1)])
def test_kind_14_constraints_are_looked_at_first(tmp_path: Path, name: str, repeat: tuple[int, int, int]) -> None:
    atoms = crystal()
    atoms.set_constraint(CONSTRAINTS[name])
    with pytest.raises(UserError, match=r"constraint .*; only FixAtoms can be used|cannot be read"):
        started(tmp_path, atoms, repeat=repeat)


def test_kind_14_the_command_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(md_command, "_use_all_cores", lambda: None)
    atoms = crystal()
    atoms.set_constraint(FixBondLength(0, 1))
    ase.io.write(tmp_path / "start.traj", atoms)
    (tmp_path / "md.yaml").write_text(
        f"model: examples/silicon\nstructure: {tmp_path}/start.traj\noutput: {tmp_path}/out\nsteps: 100\n"
        "repeat: [2, 1, 1]\n",
        encoding="utf-8",
    )
    assert md_command.main([str(tmp_path / "md.yaml")]) == 2
    error = capsys.readouterr().err
    assert "only FixAtoms" in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_kind_1_two_runs_in_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The second of two runs at once ends with one sentence and changes nothing that the first one wrote."""
    out, config = tmp_path / "run", tmp_path / "md.yaml"
    ase.io.write(tmp_path / "start.xyz", Atoms("OH", [[0.0, 0, 0], [0.0, 0, 0.97]]))
    config.write_text(
        f"model: {ROOT / 'examples' / 'ethanol'}\nstructure: {tmp_path / 'start.xyz'}\noutput: {out}\nsteps: 2\n"
        "every: 2\nensemble: nve\npath: kernel\n",
        encoding="utf-8",
    )
    assert md_command.main([str(config)]) == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with folders.exclusive(out):
        for arguments in ([], ["--resume"], ["--resume", "steps=4"]):
            assert md_command.main([str(config), *arguments]) == 2
            said = capsys.readouterr().err
            assert "another run is writing" in said or (not arguments and "add --resume" in said)
            assert "Traceback" not in said
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert md_command.main([str(config), "--resume", "steps=4"]) == 0
