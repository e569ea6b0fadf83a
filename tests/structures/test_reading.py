"""Kind 3: structures are counted and checked here, and not only by ASE's readers, wherever a file is named.

Kinds 10, 12 and 16 where a file is read: pipes and devices, dummy atoms, total charges.
"""

import gzip
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import write

from gmnn.commands import select
from gmnn.commands._inputs import load_structure, other_frames
from gmnn.commands.md import structure
from gmnn.config.md import DynamicsConfig
from gmnn.data import read_dataset
from gmnn.data.embedded import ethanol
from gmnn.errors import UserError
from gmnn.scanning import read_reference
from gmnn.structures import read_structure, read_structures, split_index

CIF = """data_x
_cell_length_a 5.0
_cell_length_b 5.0
_cell_length_c 5.0
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""


def start(file: Path | str) -> Atoms:
    return structure(DynamicsConfig(model="m", structure=str(file), output="o", steps=100))


READERS: dict[str, Callable[[Path], object]] = {
    "read_structures": read_structures,
    "train and eval": lambda file: read_dataset(str(file)),
    "select": lambda file: select._frames(str(file)),
    "md": start,
    "scan and certify": lambda file: load_structure(str(file)),
    "suites": lambda file: other_frames(str(file), molecule("H2O")),
    "reference curves": read_reference,
}


@pytest.fixture
def two(tmp_path: Path) -> str:
    """Text of two frames with energies and forces."""
    write(tmp_path / "two.extxyz", ethanol()[:2])
    return (tmp_path / "two.extxyz").read_text(encoding="utf-8")


@pytest.mark.parametrize("gap", ["\n", "\n\n\n", "  \n", "\t\n \n", "\r\n"])
def test_kind_3_frames_after_an_empty_line(tmp_path: Path, two: str, gap: str) -> None:
    """Files put together with `cat`: all frames, for every reader, and the last one is the last one."""
    file = tmp_path / "both.extxyz"
    file.write_text(gap + two + gap + two + gap, encoding="utf-8")
    assert len(read_structures(file)) == len(read_dataset(str(file))) == len(select._frames(str(file))) == 4
    assert len(read_dataset(f"{file}@1:")) == 3
    for atoms in (start(file), load_structure(f"{file}@3")[0], read_structure(f"{file}@-3")):
        np.testing.assert_allclose(atoms.positions, ethanol()[1].positions, atol=1e-7)


def test_kind_3_frames_are_those_of_ase(tmp_path: Path, two: str) -> None:
    """Where nothing is wrong, every frame, label and array is what ASE reads; compressed files, too."""
    import ase.io

    frames = [*ethanol()[:3], bulk("SiC", "zincblende", a=4.36), molecule("H2O")]
    frames[3].set_array("tags", np.array([1, 2]))
    frames[4].set_masses([16.0, 2.0, 2.0])
    write(tmp_path / "a.extxyz", frames)
    (tmp_path / "a.xyz.gz").write_bytes(gzip.compress((tmp_path / "a.extxyz").read_bytes()))
    for name in ("a.extxyz", "a.xyz.gz"):
        for index in (":", "0", "-1", "2", "1:3", "::2", "-2:", "::-1"):
            ours = read_structures(tmp_path / name, index)
            theirs = ase.io.read(tmp_path / "a.extxyz", index)
            theirs = theirs if isinstance(theirs, list) else [theirs]
            assert ours == theirs
            for one_frame, other in zip(ours, theirs, strict=True):
                assert repr(one_frame.info) == repr(other.info)
                assert one_frame.arrays.keys() == other.arrays.keys()
                assert (one_frame.calc and repr(one_frame.calc.results)) == (other.calc and repr(other.calc.results))


@pytest.mark.parametrize("cut", range(2, 9))
@pytest.mark.parametrize("name", READERS)
def test_kind_3_cut_inside_the_last_number(tmp_path: Path, two: str, cut: int, name: str) -> None:
    """-0.47704702 that became -0.477047 is not taken for a number."""
    file = tmp_path / "cut.extxyz"
    file.write_text(two[:-cut], encoding="utf-8")
    with pytest.raises(UserError, match=rf"line {two.count(chr(10))} of .*(cut|mistake)|frame that begins"):
        READERS[name](file)


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("2\n\nH 0.00 0.00 0.00\nH 0.00 0.00 1.1", True),
        ("2\n\nH 0 0 0.0\nH 0 0 1.1", False),
        ("1\n\nH 0 0 1.1", False),
        ("1\n\nH 0.0000 0.0000 1.1", True),
        ("2\nProperties=species:S:1:pos:R:3:tag:I:1\nH 0 0 0 12\nH 0 0 1 1", False),
        ("2\n\nH 0 0 0.0e+00\nH 0 0 1.1e+0", True),
    ],
)
def test_kind_3_last_line_without_an_end(tmp_path: Path, text: str, refused: bool) -> None:
    """Refused where the digits tell that it was cut, else one warning."""
    file = tmp_path / "a.xyz"
    file.write_text(text, encoding="utf-8")
    if refused:
        with pytest.raises(UserError, match="no line end, and its last number"):
            read_structures(file)
    else:
        with pytest.warns(UserWarning, match="no line end: if the file was cut there") as record:
            read_structures(file)
        assert len(record) == 1
    file.write_text(text + "\n", encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        read_structures(file)


def test_kind_3_a_whole_last_line_needs_no_end(tmp_path: Path, two: str) -> None:
    file = tmp_path / "a.xyz"
    file.write_text(two.rstrip("\n"), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert len(read_structures(file)) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2\n\nH 0 0 0\nH 0 0\n", "line 4 of .* has 3 columns, but it must have 4"),
        ("2\n\nH 0 0 0\nH 0 0 1 1\n", "line 4 of .* has 5 columns"),
        ("1\nProperties=species:S:1:pos:R:3:forces:R:3\nH 0 0 0 1 1\n", "line 3 of .* its Properties declare 7"),
        ("1\nProperties=species:S:1:pos:R:3\nH 0 0 0 1\n", "line 3 of .* has 5 columns"),
        ("1\nProperties=species:S:1:pos:R\nH 0 0 0\n", "NAME:TYPE:COLUMNS"),
        ("1\n\nH 0 0 1_0\n", "underscore"),
        ("1\n\nH 0 0 1,5\n", "begins in line 1 has a mistake"),
        ("1\n\nH 0 0 0\nend\n", "line 4 of .* 'end'"),
        ("1\n\nH 0 0 0\n\n3\n\nH 0 0 0\n", "line 5 of .* says that 3 atoms"),
        ("-1\n\nH 0 0 0\n", "line 1 of"),
        ("1_0\n\nH 0 0 0\n", "line 1 of"),
        ("1\nProperties=pos:R:3\n0 0 1\n", "atomic number outside"),
        ("1\nProperties=Z:I:1:pos:R:3\n119 0 0 1\n", "cannot be read|atomic number outside"),
    ],
)
def test_kind_3_lines_that_do_not_fit(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.xyz").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=words):
        read_structures(tmp_path / "a.xyz")


@pytest.mark.parametrize("symbol", ["D", "T", "H1", "Xx", "6", "Ow", "C_a", "X", "Hw1"])
@pytest.mark.parametrize("name", READERS)
def test_kinds_3_and_12_species_that_are_no_elements(tmp_path: Path, symbol: str, name: str) -> None:
    """One sentence that names line and symbol, also of a dummy atom."""
    file = tmp_path / "a.xyz"
    file.write_text(f"2\n\nO 0 0 0\n{symbol} 0 0 1\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"line 4 of .* '{symbol}', which is no element"):
        READERS[name](file)


@pytest.mark.parametrize("ending", ["traj", "json", "db", "pdb"])
def test_kind_12_dummy_atoms_of_other_formats(tmp_path: Path, ending: str) -> None:
    write(tmp_path / f"a.{ending}", Atoms("OX", [[0, 0, 0], [0, 0, 1]]))
    for read in (READERS["select"], READERS["md"], READERS["scan and certify"]):
        with pytest.raises(UserError, match="atomic number outside 1"):
            read(tmp_path / f"a.{ending}")


@pytest.mark.parametrize("name", ["water@300K.xyz", "water@3.xyz", "water.xyz@3", "water.xyz@1:", "a@b@0.extxyz"])
def test_kind_3_a_name_that_exists_is_that_file(tmp_path: Path, two: str, name: str) -> None:
    file, before = tmp_path / name, tmp_path / name.rpartition("@")[0]
    before.write_text("1\n\nHe 0 0 0\n", encoding="utf-8")
    file.write_text(two, encoding="utf-8")
    assert split_index(file) == (file, "")
    assert len(read_dataset(str(file))) == len(select._frames(str(file))) == 2
    assert len(read_dataset(f"{file}@1:")) == len(read_dataset(f"{file}@-1")) == 1
    for atoms in (start(file), start(f"{file}@1"), load_structure(str(file))[0], load_structure(f"{file}@0")[0]):
        assert len(atoms) == 9


def test_kind_3_other_formats_with_an_at_sign(tmp_path: Path) -> None:
    write(tmp_path / "x.traj", [molecule("H2O"), molecule("CH4")])
    os.rename(tmp_path / "x.traj", tmp_path / "run@2.traj")
    assert len(start(tmp_path / "run@2.traj")) == 5
    assert len(start(f"{tmp_path}/run@2.traj@0")) == 3


def test_kind_3_an_index_that_selects_no_structure(tmp_path: Path, two: str) -> None:
    (tmp_path / "a.xyz").write_text(two, encoding="utf-8")
    for index, words in (("@2", "out of range"), ("@-3", "out of range"), ("@0:1", "names several structures")):
        with pytest.raises(UserError, match=words):
            start(f"{tmp_path}/a.xyz{index}")


@pytest.mark.parametrize(
    ("sites", "whole"),
    [
        ("Cu1 Cu 0 0 0 0.75\n", False),
        ("Cu1 Cu 0 0 0 0.5\nAg1 Ag 0 0 0 0.5\n", False),
        ("Cu1 Cu 0 0 0 0.98(1)\n", False),
        ("Cu1 Cu 0 0 0 1.0\n", True),
        ("Cu1 Cu 0 0 0 1.0(2)\n", True),
        ("Cu1 Cu 0 0 0 .\n", True),
    ],
)
def test_kind_3_partial_occupancy(tmp_path: Path, sites: str, whole: bool) -> None:
    (tmp_path / "a.cif").write_text(CIF + "Si1 Si 0.5 0.5 0.5 1.0\n" + sites, encoding="utf-8")
    if whole:
        assert len(start(tmp_path / "a.cif")) == 2
    else:
        for read in (READERS["select"], READERS["md"], READERS["scan and certify"]):
            with pytest.raises(UserError, match="partly occupied"):
                read(tmp_path / "a.cif")


@pytest.mark.parametrize(("column", "masses"), [("mass", True), ("masses", True), ("tag", False)])
def test_kind_3_columns_with_masses(tmp_path: Path, column: str, masses: bool) -> None:
    (tmp_path / "a.xyz").write_text(
        f"2\nProperties=species:S:1:pos:R:3:{column}:R:1\nH 0 0 0 2.0\nH 0 0 1 3.0\n", encoding="utf-8"
    )
    assert (start(tmp_path / "a.xyz").get_masses().tolist() == [2.0, 3.0]) is masses
    (tmp_path / "a.xyz").write_text(f"1\nProperties=species:S:1:pos:R:3:{column}:R:1\nH 0 0 0 -2.0\n", encoding="utf-8")
    if column == "mass":
        with pytest.raises(UserError, match="column mass that is not one positive number"):
            start(tmp_path / "a.xyz")


@pytest.mark.parametrize("column", ["vel", "velo", "Velocities", "v"])
def test_kind_3_columns_with_velocities(tmp_path: Path, column: str) -> None:
    """One warning for the whole file; none where ASE's momenta are there."""
    frame = f"1\nProperties=species:S:1:pos:R:3:{column}:R:3\nH 0 0 0 1 1 1\n"
    (tmp_path / "a.xyz").write_text(frame * 3, encoding="utf-8")
    with pytest.warns(UserWarning, match=f"velocities in {column} are not read") as record:
        read_structures(tmp_path / "a.xyz")
    assert len(record) == 1
    atoms = Atoms("H", momenta=[[1, 1, 1]])
    atoms.set_array(column, np.ones((1, 3)))
    write(tmp_path / "b.extxyz", atoms)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        read_structures(tmp_path / "b.extxyz")


def test_kind_3_columns_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(2 * "1\nwater\nH 0 0 0 0.1 0.2 0.3\n", encoding="utf-8")
    with pytest.warns(UserWarning, match="3 columns after the positions are not read") as record:
        read_structures(tmp_path / "a.xyz")
    assert len(record) == 1


@pytest.mark.parametrize("name", READERS)
def test_kind_10_pipes_devices_and_folders(tmp_path: Path, name: str) -> None:
    """Refused at once; a pipe that nobody writes into would wait for ever."""
    os.mkfifo(tmp_path / "pipe.xyz")
    for file, words in ((tmp_path / "pipe.xyz", "pipe"), (Path("/dev/zero"), "device"), (tmp_path, "folder")):
        with pytest.raises(UserError, match=words):
            READERS[name](file)


@pytest.mark.parametrize(
    ("info", "charged"),
    [
        ({"charge": 1}, True),
        ({"total_charge": -1.0}, True),
        ({"Charge": 2}, True),
        ({"qtot": "1"}, True),
        ({"charge": 0}, False),
        ({"charge": 0.0, "spin": 1}, False),
        ({"charge": "none"}, False),
        ({}, False),
    ],
)
def test_kind_16_total_charge(tmp_path: Path, info: dict, charged: bool) -> None:
    """One warning that counts the frames, wherever they are read."""
    atoms = ethanol()[0]
    atoms.info = dict(info)
    write(tmp_path / "a.extxyz", [atoms, ethanol()[1]])
    for read in (READERS["train and eval"], READERS["select"], lambda file: start(f"{file}@0")):
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always")
            read(tmp_path / "a.extxyz")
        said = [str(warning.message) for warning in record if "total charge" in str(warning.message)]
        assert len(said) == charged
        assert all("1 of " in text for text in said)
