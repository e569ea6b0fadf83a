"""Generated cases of places: output folders (1), inputs of runs (2), files (3), caches (4), texts (5), addresses (9).

And damaged records (17), which are read again.
"""

import gzip
import io
import json
import os
import stat
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms

from gmnn import files, folders
from gmnn.config.reading import Config, validated
from gmnn.data import read_dataset
from gmnn.errors import UserError
from gmnn.kernels.cpp import compiler, library
from gmnn.md.run import content as content_of_run
from gmnn.md.velocities import fixed_atoms
from gmnn.structures import read_structures
from gmnn.training import run as training
from gmnn.training.distributed import rendezvous
from tests.support.faults import damaged
from tests.support.kinds import changes, clear, command, content, generated
from tests.support.paths import GOLDEN

MODEL = GOLDEN / "v3" / "model"


# output folders


def furnish(out: Path, rng: np.random.Generator, kind: str, names: list[str]) -> tuple[bool, list[str]]:
    """Fill a folder at random; return whether it is new, empty or ours for these names, and what was done."""
    done, ours, allowed = [], None, True
    if rng.integers(8) == 0:
        return True, ["absent"]
    out.mkdir(parents=True)
    form = rng.integers(6)
    if form in (0, 1, 2):
        held = str(rng.choice([kind, kind, "md", "scan"]))
        ours = [name for name in [*names, "more.txt"] if rng.integers(4)]
        files.write_json(out / ".gmnn", files.sealed({"kind": held, "names": ours}))
        allowed = held == kind
        done.append(f"marker of {held}")
    elif form == 3:
        (out / ".gmnn").write_text(json.dumps({"kind": kind, "names": names, "checksum": "0"}), encoding="utf-8")
        allowed, ours = False, []
        done.append("forged marker")
    for name in [*names, "notes.txt", ".hidden", "more.txt", ".lock", "sub"]:
        if rng.integers(4):
            continue
        what = int(rng.integers(6)) if name != "sub" else 3
        done.append(f"{name} {what}")
        if what == 0:
            (out / name).symlink_to(out.parent / "elsewhere")
        elif what == 1:
            (out.parent / "elsewhere2").touch()
            os.link(out.parent / "elsewhere2", out / name)
        elif what == 2:
            os.mkfifo(out / name)
        elif what == 3:
            (out / name).mkdir()
            (out / name / "precious").write_text("precious", encoding="utf-8")
        else:
            (out / name).write_text("precious", encoding="utf-8")
        link = what == 0 and name in [*names, ".lock"]
        stranger = name in names and ours is not None and name not in ours
        mine = ours is not None and form != 3 and name not in names and not (name == ".lock" and what == 2)
        own = ours is not None and form != 3 and name in ours
        if link or stranger or not (mine or own) or (name == ".lock" and what == 3):
            allowed = False
    return allowed, done


def test_kind_1_any_folder(tmp_path: Path) -> None:
    """Written into only if new, empty or ours; in any case nothing of others is changed."""
    kinds = {
        "scan": ["scan.csv", "scan.json"],
        "export": ["potential.bin", "export.json"],
        "md": list(folders.MD_FILES),
    }
    for case in generated(1, "folders", 12, seconds=3):
        with case:
            home = tmp_path / str(case.index)
            home.mkdir()
            (home / "elsewhere").write_text("precious", encoding="utf-8")
            kind = sorted(kinds)[case.rng.integers(len(kinds))]
            out = home / "a" / "out"
            allowed, done = furnish(out, case.rng, kind, kinds[kind])
            case.about = (kind, done)
            before = content(home)
            try:
                folders.write_files(out, dict.fromkeys(kinds[kind], b"new"), kind)
            except UserError as error:
                clear(error, "out")
                assert not allowed or any(
                    word in done for word in [f"{name} {k}" for name in kinds[kind] for k in (2, 3)]
                )
                assert not [name for name in changes(before, content(home)) if not name.endswith(".gmnn")]
            else:
                assert allowed, done
                lost = [name for name in changes(before, content(home)) if not name.endswith((".gmnn", *kinds[kind]))]
                assert not lost
                assert all((out / name).read_bytes() == b"new" for name in kinds[kind])
            assert (home / "elsewhere").read_text(encoding="utf-8") == "precious"


# inputs of runs


def crystal(rng: np.random.Generator) -> Atoms:
    n = int(rng.integers(2, 6))
    atoms = Atoms(
        rng.choice([1, 6, 8], n), rng.normal(size=(n, 3)), cell=np.eye(3) * 9, pbc=rng.integers(0, 2, 3).astype(bool)
    )
    atoms.set_momenta(rng.normal(size=(n, 3)))
    return atoms


def content_of(atoms: Atoms, potential: Any) -> dict[str, str]:
    return content_of_run(SimpleNamespace(atoms=atoms, potential=potential, fixed=fixed_atoms(atoms)))  # type: ignore[arg-type]


def test_kind_2_what_a_run_takes_from_its_structure() -> None:
    """Whatever changes the dynamics changes a checksum, by the smallest step; what does not, changes none."""
    import gmnn

    potential = gmnn.load(MODEL)
    for case in generated(2, "structures", 8, seconds=5):
        with case:
            rng, atoms = case.rng, crystal(case.rng)
            other, k = atoms.copy(), int(case.rng.integers(len(atoms)))
            ways = [
                "position",
                "cell",
                "pbc",
                "number",
                "mass",
                "momentum",
                "fixed",
                "order",
                "info",
                "tags",
                "copy",
                "calc",
            ]
            way = ways[rng.integers(len(ways))]
            case.about = way
            if way == "position":
                other.positions[k, 0] = np.nextafter(other.positions[k, 0], np.inf)
            elif way == "cell":
                other.cell[1, 1] = np.nextafter(9.0, 10.0)
            elif way == "pbc":
                other.pbc = ~other.pbc
            elif way == "number":
                other.numbers[k] = 14
            elif way == "mass":
                other.set_masses(np.where(np.arange(len(other)) == k, 2.014, other.get_masses()))
            elif way == "momentum":
                other.arrays["momenta"][k, 2] += 1e-12
            elif way == "fixed":
                other.set_constraint(FixAtoms([k]))
            elif way == "order":
                other = other[::-1]
            elif way == "info":
                other.info["note"] = "x"
            elif way == "tags":
                other.set_tags(rng.integers(0, 3, len(other)))
            now, before = content_of(other, potential), content_of(atoms, potential)
            assert (now != before) == (way not in ("info", "tags", "copy", "calc"))


def test_kind_2_settings_of_a_training_that_is_resumed(tmp_path: Path) -> None:
    """A changed setting is named; `output` and the number of devices may change; a forged record is refused."""
    keys = {"seed": 5, "data.n_train": 7, "data.train": "other", "model.r_max": 4.5, "model.hidden": [8],
            "train.epochs": 9,
            "train.learning_rate": 1e-4, "train.loss.forces.weight": 2.0, "data.energy_key": "E", "train.patience": 3,
            "data.units.energy": "Ry", "train.optimizer.name": "sgd", "data.config_type_weights.bulk": 2.0,
            "train.checkpoint_seconds": 5.0, "train.devices": 2, "output": "elsewhere"}  # fmt: skip
    import gmnn

    potential, splits = gmnn.load(MODEL), SimpleNamespace(describe=dict)
    for case in generated(2, "settings", 4, seconds=5):
        with case:
            place = tmp_path / str(case.index)
            key = sorted(keys)[case.rng.integers(len(keys))]
            case.about = key
            base: dict[str, Any] = {"output": "x", "data": {"train": "y"}}
            values: dict[str, Any] = json.loads(json.dumps(base))
            *parents, last = key.split(".")
            inner = values
            for parent in parents:
                inner = inner.setdefault(parent, {})
            inner[last] = keys[key]
            training._begin(place, None, validated(Config, base), splits, potential, {})  # type: ignore[arg-type]
            started = training._started(place, resume=True)
            if key in ("train.devices", "output"):
                training._begin(place, started, validated(Config, values), splits, potential, {})  # type: ignore[arg-type]
            else:
                with pytest.raises(UserError) as caught:
                    training._begin(place, started, validated(Config, values), splits, potential, {})  # type: ignore[arg-type]
                clear(caught.value, key)


# files


def written(frames: list[Atoms], energies: list[float], rng: np.random.Generator) -> list[str]:
    """Blocks of extended xyz, by a writer of our own whose numbers are exact."""
    blocks = []
    for atoms, energy in zip(frames, energies, strict=True):
        rows = [f"{s} " + " ".join(f"{x!r}" for x in [*map(float, p), *map(float, f)])
                for s, p, f in zip(atoms.symbols, atoms.positions, atoms.arrays["f"], strict=True)]  # fmt: skip
        head = f'Properties=species:S:1:pos:R:3:forces:R:3 energy={energy!r} pbc="F F F"'
        blocks.append("\n".join([str(len(atoms)), head, *rows, ""]))
    return blocks


KEEPS = ["none", "blank lines", "crlf", "bom", "tabs", "spaces", "gz", "at", "indent", "no last end"]
BREAKS = ["cut", "count", "symbol", "dummy", "underscore", "nan", "column", "text", "isotope", "half"]


def test_kind_3_files_that_somebody_edited(tmp_path: Path) -> None:
    """Harmless changes: every frame with its numbers. Others: a sentence that names the file."""
    for case in generated(3, "edited files", 16, seconds=5):
        with case, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rng, frames, energies = case.rng, [], []
            for _ in range(rng.integers(1, 5)):
                n = int(rng.integers(1, 5))
                atoms = Atoms(rng.choice([1, 6, 8, 26], n), rng.normal(size=(n, 3)) + 3 * np.arange(n)[:, None])
                atoms.set_array("f", rng.normal(size=(n, 3)))
                frames.append(atoms)
                energies.append(float(rng.normal() * 1000))
            blocks, name = written(frames, energies, rng), "a.xyz"
            way = (KEEPS if rng.integers(2) else BREAKS)[rng.integers(10)]
            case.about = way
            k = int(rng.integers(len(blocks)))
            lines = blocks[k].split("\n")
            if way == "blank lines":
                blocks = [
                    block + "\n" * int(rng.integers(0, 4)) + " \t\n" * int(rng.integers(0, 2)) for block in blocks
                ]
            elif way == "tabs":
                blocks[k] = "\n".join([lines[0], lines[1], *(line.replace(" ", "\t") for line in lines[2:])])
            elif way == "spaces":
                blocks[k] = "\n".join(
                    [lines[0] + "  ", lines[1], *(line + "   " if line else line for line in lines[2:])]
                )
            elif way == "indent":
                blocks[k] = "\n".join(
                    [" " + lines[0], lines[1], *("  " + line if line else line for line in lines[2:])]
                )
            elif way == "count":
                blocks[k] = "\n".join([str(int(lines[0]) + int(rng.choice([-1, 1]))), *lines[1:]])
            elif way in ("symbol", "dummy", "isotope"):
                word = {"symbol": "Xy", "dummy": "X", "isotope": "D"}[way]
                blocks[k] = "\n".join([*lines[:2], word + " " + lines[2].split(" ", 1)[1], *lines[3:]])
            elif way in ("underscore", "nan", "text"):
                word = {"underscore": "1_0.5", "nan": "nan", "text": "1.2x"}[way]
                words = lines[2].split()
                words[int(rng.integers(1, 7))] = word
                blocks[k] = "\n".join([*lines[:2], " ".join(words), *lines[3:]])
            elif way == "column":
                blocks[k] = "\n".join([*lines[:2], lines[2] + " 1.0", *lines[3:]])
            text = "".join(blocks)
            if way == "cut":
                begin = len("".join(blocks[:-1])) + len(blocks[-1].split("\n")[0]) + 1
                last = text.rstrip("\n").rfind("\n")
                text = text[: int(rng.integers(begin, max(begin + 1, last)))]
            elif way == "half":
                text = text[: len(text) - len(blocks[-1]) // 2 - 2]
            elif way == "no last end":
                text = text.rstrip("\n")
            elif way == "crlf":
                text = text.replace("\n", "\r\n")
            elif way == "bom":
                text = "\ufeff" + text
            elif way == "at":
                name = "a@1.xyz"
            elif way == "gz":
                name = "a.xyz.gz"
            file = tmp_path / name
            data = text.encode()
            file.write_bytes(gzip.compress(data) if way == "gz" else data)
            refused = False
            try:
                found = read_dataset(str(file))
            except UserError as error:
                clear(error, file.name)
                refused = True
            finally:
                file.unlink()
            assert not refused or way in BREAKS or way == "no last end", way
            if refused:
                continue
            assert way in KEEPS, way
            assert len(found) == len(frames)
            assert found.energies.tolist() == energies
            for atoms, read, forces in zip(frames, found.atoms, found.forces, strict=True):
                assert (atoms.numbers == read.numbers).all()
                np.testing.assert_array_equal(atoms.positions, read.positions)
                np.testing.assert_array_equal(atoms.arrays["f"], forces)


def test_kind_3_other_formats_with_all_atoms(tmp_path: Path) -> None:
    """Every format of ASE that keeps structures: all atoms where they were, or a sentence; cut files are refused."""
    from ase.io import write

    formats = {"a.traj": 1e-9, "a.json": 1e-9, "a.db": 1e-9, "POSCAR": 1e-6, "a.cif": 1e-3, "a.xsf": 1e-6,
               "a.pdb": 2e-3,
               "a.gen": 1e-6, "a.xyz": 1e-6, "a.extxyz": 1e-6}  # fmt: skip
    for case in generated(3, "formats", 2, seconds=10):
        with case, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            name = sorted(formats)[case.index % len(formats)]
            case.about = name
            n = int(case.rng.integers(1, 6))
            numbers = np.sort(case.rng.choice([6, 8, 14], n))
            atoms = Atoms(
                numbers, case.rng.uniform(0, 1, (n, 3)) * 4 + np.arange(n)[:, None] * 0.1, cell=np.eye(3) * 12, pbc=True
            )
            file = tmp_path / name
            file.unlink(missing_ok=True)
            write(file, atoms)
            (found,) = read_structures(file)
            assert (found.numbers == numbers).all()
            np.testing.assert_allclose(found.positions, atoms.positions, atol=formats[name])
            data = file.read_bytes()
            file.write_bytes(data[: int(case.rng.integers(1, max(2, len(data) // 2)))])
            try:
                frames = read_structures(file)
            except UserError as error:
                clear(error, name)
            else:
                assert not frames or len(frames[0]) < n


# compiled code


def test_kind_4_any_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library that is loaded is the one that was compiled, in a folder that is ours alone; or a sentence."""
    monkeypatch.setattr(library, "compiled", lambda command, symbols: b"\x7fELF good")
    monkeypatch.setattr(library, "compiler", lambda: ["c++"])
    monkeypatch.setattr(library, "_failures", {})
    root = os.geteuid() == 0
    for case in generated(4, "caches", 6, seconds=5):
        with case:
            rng, home = case.rng, tmp_path / str(case.index)
            home.mkdir()
            where = ["absolute", "relative", "home", "file", "dangling", "link", "absent"][rng.integers(7)]
            monkeypatch.setenv("HOME", str(home))
            value = {"absolute": str(home / "c"), "relative": "c", "home": "", "file": str(home / "f"),
                     "link": str(home / "l"),
                     "dangling": str(home / "d"), "absent": str(home / "x" / "y")}[where]  # fmt: skip
            monkeypatch.setenv("XDG_CACHE_HOME", value)
            (home / "f").write_text("mine", encoding="utf-8")
            (home / "d").symlink_to(home / "nowhere")
            (home / "real").mkdir()
            (home / "l").symlink_to(home / "real")
            mask = os.umask(int(rng.choice([0o000, 0o022, 0o077, 0o777 if root else 0o077])))
            steps = [
                str(rng.choice(["cut", "flipped", "zeroed", "empty", "gone", "mode", "dir", "owner", "sum"]))
                for _ in range(2)
            ]
            case.about = (where, steps)
            try:
                for step in [None, *steps]:
                    file = library._kept("predict", ["a"])
                    assert file.read_bytes() == b"\x7fELF good"
                    about = file.parent.stat()
                    assert (stat.S_IMODE(about.st_mode), about.st_uid) == (0o700, os.geteuid())
                    assert not file.stat().st_mode & 0o077
                    victim = file.with_suffix(".sha256") if rng.integers(2) else file
                    if step == "mode":
                        victim.chmod(0o666)
                    elif step == "dir":
                        file.parent.chmod(0o777)
                    elif step == "owner" and root:
                        os.chown(victim, 65534, 65534)
                    elif step == "sum":
                        file.with_suffix(".sha256").write_bytes(b"0" * 64)
                    elif step in ("cut", "flipped", "zeroed", "empty", "gone"):
                        left = damaged(victim.read_bytes(), step, rng)
                        victim.unlink() if left is None else victim.write_bytes(left)
            except UserError as error:
                clear(error, "XDG_CACHE_HOME")
                assert where in ("file", "dangling", "link"), where
            finally:
                os.umask(mask)
            assert (home / "f").read_text(encoding="utf-8") == "mine"
            assert not (home / "nowhere").exists()


def test_kind_4_any_CXX(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command, words quoted as in a shell, or a sentence that names CXX; never a shell."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name in ("g++", "ccache", "my c++"):
        (bin_ / name).write_text("#!/bin/sh\n", encoding="utf-8")
        (bin_ / name).chmod(0o755)
    (bin_ / "plain").write_text("", encoding="utf-8")
    monkeypatch.setenv("PATH", str(bin_))
    good = {
        "g++": ["g++"],
        "ccache g++": ["ccache", "g++"],
        "my c++": ["my c++"],
        "g++ -m64": ["g++", "-m64"],
        "": ["g++"],
        "'my c++' -x": ["my c++", "-x"],
        "  g++  ": ["g++"],
        f"{bin_}/g++": ["g++"],
    }
    bad = ["clang", "'g++", "plain", "$(touch evil)", "`touch evil`", ";touch evil", "/nowhere/g++", "g+", "\\", "-"]
    monkeypatch.chdir(tmp_path)
    for case in generated(4, "CXX", 2, seconds=2):
        with case:
            text = str(case.rng.choice([*good, *bad]))
            case.about = text
            monkeypatch.setenv("CXX", text)
            if text in good:
                first, *more = compiler.compiler()
                assert [Path(first).name, *more] == good[text]
            else:
                with pytest.raises(UserError, match="CXX"):
                    compiler.compiler()
            assert not (tmp_path / "evil").exists()


# texts


def test_kind_5_any_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names, notes and labels of any letters come back as they were, and a poor terminal gets escapes."""
    words = [
        "ä",
        "水",
        "Å",
        "é",
        "e\u0301",
        "\u202e",
        "🧪",
        "\u00a0",
        "ß",
        "İ",
        "ı",
        "\u2028",
        "a b",
        "'",
        '"',
        "\\",
        "%s",
        "{}",
        "#",
        "\t",
    ]
    for case in generated(5, "letters", 5, seconds=5):
        with case:
            rng = case.rng
            word = "".join(rng.choice(words, rng.integers(1, 5)))
            encoding = str(rng.choice(["ascii", "latin-1", "cp1252", "utf-8", "koi8-r", "cp437", "shift_jis"]))
            case.about = (word, encoding)
            file = tmp_path / f"{word}.json"
            files.write_json(file, files.sealed({word: word}))
            assert files.read_sealed(file, "x")[word] == word
            raw = io.BytesIO()
            with monkeypatch.context() as patched:
                patched.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding=encoding, errors="strict"))
                from gmnn.__main__ import main

                code = main(["eval", str(tmp_path / word), "x"])
                sys.stderr.flush()
                said = raw.getvalue().decode(encoding)
            assert code == 2
            assert "eval:" in said
            assert "Traceback" not in said


# addresses


def test_kind_9_any_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--process` and `--coordinator`: a group that listens where it was told, or a sentence at once."""
    import jax

    begun: list[tuple] = []

    def initialize(address: str, size: int, index: int, **options: Any) -> None:
        begun.append((address, size, index, options["coordinator_bind_address"]))
        raise UserError("this is where JAX would begin to listen")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    monkeypatch.setattr(rendezvous.Group, "_catch_abort", lambda self: None)
    monkeypatch.delenv(rendezvous.ADDRESS, raising=False)
    processes = [
        "0/2",
        "1/2",
        "0/1",
        "2/2",
        "-1/2",
        "1/0",
        "a/b",
        "0/2/3",
        "",
        "0",
        "1/3",
        "٠/٢",
        "0/99999999999999999999",
        " 0/2",
    ]
    addresses = [
        None,
        "127.0.0.1:0",
        "127.0.0.1:54321",
        "localhost:54321",
        "0.0.0.0:54321",
        "[::]:54321",
        ":54321",
        "54321",
        "127.0.0.1:",
        "127.0.0.1:99999",
        "127.0.0.1:-1",
        "127.0.0.1:²",
        "nowhere.invalid:54321",
        "[::1]:54321",
        "*:5",
        "8.8.8.8:54321",
        "127.0.0.1:54321:1",
        "a" * 300 + ":5",
        "http://127.0.0.1:5",
        "127.0.0.1:1e3",
        "\0:5",
    ]
    for case in generated(9, "addresses", 5, seconds=10):
        with case:
            process, address = (str(case.rng.choice(processes)), addresses[case.rng.integers(len(addresses))])
            case.about = (process, address)
            begun.clear()
            try:
                group = rendezvous.join(process, address)
            except UserError as error:
                clear(error, "process", "coordinator", "listen")
            else:
                assert group.size == 1
            for taken, size, index, bound in begun:
                assert taken == bound == address
                assert 0 <= index < size <= 1 << 20
                assert "0.0.0.0" not in bound
                assert "::]" not in bound


# damaged records


def test_kind_17_sealed_records(tmp_path: Path) -> None:
    """A record whose bytes changed is refused, or holds the same values."""
    file = tmp_path / "r.json"
    for case in generated(17, "records", 8, seconds=3):
        with case:
            rng = case.rng
            values = {"a": float(rng.normal()), "b": [int(x) for x in rng.integers(0, 9, 5)], "é": "Å", "n": None}
            files.write_json(file, files.sealed(values))
            data = file.read_bytes()
            how = str(rng.choice(["cut", "flipped", "zeroed", "empty", "spliced", "doubled"]))
            case.about = how
            left = {"spliced": data[: len(data) // 2] + data[len(data) // 3 :], "doubled": data + data}.get(how)
            left = left if left is not None else damaged(data, how, rng)
            assert left is not None
            file.write_bytes(left)
            try:
                found = files.read_sealed(file, "start again")
            except UserError as error:
                clear(error, "r.json")
            else:
                assert {key: value for key, value in found.items() if key != files.SEAL} == values


def test_kind_17_files_that_grow(tmp_path: Path) -> None:
    """Cut to what a state recorded: exactly those bytes, or a sentence and the file as it was."""
    for case in generated(17, "growing files", 6, seconds=3):
        with case:
            rng = case.rng
            log = files.AppendOnlyFile(tmp_path / f"{case.index}.csv")
            log.empty()
            for _ in range(rng.integers(1, 5)):
                log.append("".join(rng.choice(list("0123,.\nÅ"), rng.integers(1, 40))))
            mark, whole = log.mark, log.path.read_bytes()
            log.append("written later")
            data = log.path.read_bytes()
            how = str(rng.choice(["none", "cut", "flipped", "zeroed", "empty", "gone"]))
            case.about = how
            left = data if how == "none" else damaged(data, how, rng)
            log.path.unlink() if left is None else log.path.write_bytes(left)
            again = files.AppendOnlyFile(log.path)
            try:
                again.cut(*mark)
            except UserError as error:
                clear(error, log.path.name)
                assert left is None or left[: mark[0]] != whole or len(left) < mark[0]
                assert left is None or log.path.read_bytes() == left
            else:
                assert log.path.read_bytes() == whole
                assert again.mark == mark


@pytest.mark.slow
def test_kind_17_places_of_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a home, a place for temporary files or a cache, commands work as before, or say what is missing."""
    import tempfile

    import ase.io

    from gmnn.data.embedded import ethanol

    monkeypatch.chdir(tmp_path)
    ase.io.write("f.extxyz", ethanol()[:4])
    Path("file").touch()
    commands = [
        ["select", MODEL, "f.extxyz", "-n", "2", "--out"],
        ["export", MODEL],
        ["eval", MODEL, "f.extxyz", "--out"],
        ["distort", "t.yaml", "--calculator", "ase.calculators.lj:LennardJones", "-n", "2", "--out"],
    ]
    Path("t.yaml").write_text("output: o\ndata: {train: f.extxyz, n_train: 2, n_valid: 2}\n", encoding="utf-8")
    names = [
        "HOME",
        "TMPDIR",
        "XDG_CACHE_HOME",
        "MPLCONFIGDIR",
        "LANG",
        "USER",
        "COLUMNS",
        "TERM",
        "NO_COLOR",
        "PWD",
        "SHELL",
    ]
    odd = [None, "", "nowhere", "/nowhere", "/dev/null", str(tmp_path / "file"), "~", "$X", "é", "a" * 300, "0", "-1"]
    for case in generated(17, "environments", 1, seconds=60):
        with case, monkeypatch.context() as patched:
            settings = {names[k]: odd[case.rng.integers(len(odd))] for k in case.rng.integers(0, len(names), 4)}
            for name, value in settings.items():
                patched.setenv(name, value) if value is not None else patched.delenv(name, raising=False)
            patched.setattr(tempfile, "tempdir", None)
            arguments = commands[case.index % len(commands)]
            case.about = (arguments[0], settings)
            mask = os.umask(int(case.rng.choice([0o000, 0o022, 0o077, 0o177])))
            try:
                code, _, err = command([*arguments, f"out{case.index}"], capsys)
            finally:
                os.umask(mask)
            assert code == 0, err
            assert (tmp_path / f"out{case.index}").exists()
            assert not (tmp_path / "~").exists()
