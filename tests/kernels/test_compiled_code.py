"""Kind 4: compiled code is kept in a folder that is ours alone, with a checksum, and compiled again in any doubt."""

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gmnn.errors import UserError
from gmnn.kernels.cpp import compiler, library
from tests.support import processes

SYMBOLS = ["gmnn_float32", "gmnn_float64"]
REGISTER = "from gmnn.kernels.cpp.library import register; register('predict', 'gmnn'); print('loaded')"


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], tuple[Path, int]]:
    """Ask for a library and return it and how often it was compiled so far; the compiler writes a few bytes."""
    count = [0]

    def pretend(command: list[str], symbols: list[str]) -> bytes:
        count[0] += 1
        return b"\x7fELF library"

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    monkeypatch.setattr(library, "compiled", pretend)
    monkeypatch.setattr(library, "compiler", lambda: ["c++"])
    return lambda: (library._kept("predict", SYMBOLS), count[0])


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_kind_4_the_cache_is_ours_alone(mask: int, built: Callable, tmp_path: Path) -> None:
    """Whatever the umask; a folder of ours that others can enter is closed, and nothing is compiled twice."""
    before = os.umask(mask)
    try:
        file, count = built()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o700
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.parent.chmod(0o777)
    assert built() == (file, count)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda file: os.truncate(file, 5),
    "empty": lambda file: os.truncate(file, 0),
    "changed": lambda file: file.write_bytes(b"\x7fELF another"),
    "no checksum": lambda file: file.with_suffix(".sha256").unlink(),
    "empty checksum": lambda file: os.truncate(file.with_suffix(".sha256"), 0),
    "writable by others": lambda file: file.chmod(0o666),
    "checksum writable by others": lambda file: file.with_suffix(".sha256").chmod(0o622),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_kind_4_a_library_in_doubt_is_compiled_again(damage: str, built: Callable) -> None:
    file, count = built()
    DAMAGES[damage](file)
    assert built() == (file, count + 1)
    assert file.read_bytes() == b"\x7fELF library"
    assert built() == (file, count + 1)


def test_kind_4_a_library_that_is_a_link_is_refused(built: Callable) -> None:
    file, _ = built()
    file.rename(file.with_name("x"))
    file.symlink_to(file.with_name("x"))
    with pytest.raises(UserError, match="is a link"):
        built()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("which", ["folder", "parent", "library", "checksum"])
def test_kind_4_what_others_own_is_not_used(which: str, built: Callable, tmp_path: Path) -> None:
    """A folder of another user is refused with the way out; a file of theirs is compiled again."""
    file, count = built()
    victim = {"folder": file.parent, "parent": tmp_path / "c", "library": file, "checksum": file.with_suffix(".sha256")}
    os.chown(victim[which], 65534, 65534)
    if which in ("folder", "parent"):
        with pytest.raises(UserError, match=r"belongs to another user.*name another folder in XDG_CACHE_HOME"):
            built()
    else:
        assert built() == (file, count + 1)


def test_kind_4_a_relative_cache_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value in ("c", "./c", "~/c", ""):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert library._home() == tmp_path / "home" / ".cache" / "gmnn"
    monkeypatch.setenv("HOME", "nowhere")
    with pytest.raises(UserError, match="no home folder"):
        library._home()


def test_kind_4_a_failure_is_not_tried_again(monkeypatch: pytest.MonkeyPatch, built: Callable) -> None:
    calls = []

    def fails(command: list[str], symbols: list[str]) -> bytes:
        calls.append(command)
        raise UserError("not today")

    monkeypatch.setattr(library, "compiled", fails)
    for _ in range(3):
        with pytest.raises(UserError, match=r"does not compile it \(not today\)"):
            built()
    assert len(calls) == 1


def test_kind_4_options_in_CXX(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`ccache g++` is a program and its argument; a name with a space is one program; what is absent is said."""
    for name in ("ccache", "my g++"):
        (tmp_path / name).write_text("#!/bin/sh\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for value, words in (("ccache g++ -m64", ["ccache", "g++", "-m64"]), (str(tmp_path / "my g++"), ["my g++"]),
                         ("ccache 'a b'", ["ccache", "a b"])):  # fmt: skip
        monkeypatch.setenv("CXX", value)
        assert compiler.compiler() == [str(tmp_path / words[0]), *words[1:]]
    for value, said in (("icpc -x", "'icpc', which is not on the PATH"), ("a 'b", "which is no command")):
        monkeypatch.setenv("CXX", value)
        with pytest.raises(UserError, match=said):
            compiler.compiler()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 0", "no library"),
        ('eval "touch \\${$#}"', "no library"),
        ('eval "echo hello > \\${$#}"', "no library"),
        (f'eval "cp {sys.executable} \\${{$#}}"', "lacks gmnn_no_such_function"),
        (f'eval "head -c 4000 {sys.executable} > \\${{$#}}"', "no library"),
        ("exit 3", "exit code 3"),
    ],
)
def test_kind_4_a_broken_compiler_is_told(script: str, said: str, tmp_path: Path) -> None:
    """It reports success, but what it wrote is absent, empty, text, cut or something else."""
    broken = tmp_path / "c++"
    broken.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    broken.chmod(0o755)
    with pytest.raises(UserError, match=said):
        compiler.compiled([str(broken)], ["gmnn_no_such_function"])


def test_kind_4_half_a_library_is_seen() -> None:
    """Cut anywhere, an ELF file lacks its table of sections."""
    whole = Path(sys.executable).read_bytes()
    if whole.startswith(compiler.ELF):
        assert compiler.whole(whole)
        for part in (0.01, 0.5, 0.9, 0.9999):
            assert not compiler.whole(whole[: int(part * len(whole))])


@pytest.mark.slow
def test_kind_4_torn_and_foreign_libraries_never_run(tmp_path: Path) -> None:
    """In processes of their own, with the real compiler: compiled again, and loaded."""
    variables = {"XDG_CACHE_HOME": str(tmp_path / "c")}
    assert processes.python("-c", REGISTER, **variables).stdout == "loaded\n"
    (file,) = (tmp_path / "c" / "gmnn").glob("*.so")
    os.truncate(file, file.stat().st_size // 2)
    for _ in range(2):
        done = processes.python("-c", REGISTER, **variables)
        assert (done.returncode, done.stdout) == (0, "loaded\n"), done.stderr
    assert "compiling" not in done.stderr
