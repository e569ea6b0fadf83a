"""Blocks of the documents are what the program understands; the tutorial's are run by .ci/run."""

import re
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml

from gmnn.commands import _calculators
from gmnn.config.learn import LearnConfig
from gmnn.config.md import DynamicsConfig
from gmnn.config.reading import Config
from gmnn.config.yaml12 import Yaml
from gmnn.data.embedded import ethanol
from gmnn.model import folder
from tests.support.paths import ROOT
from tests.support.processes import engine

PAGES = sorted((ROOT / "docs").glob("*.md"))
LANGUAGES = {"bash", "python", "yaml", "text"}


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and code of every block."""
    return re.findall(r"^```(\w*)[^\n]*\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M)


WITH_ENGINES = pytest.mark.slow  # whose engines the quick tests do without


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=WITH_ENGINES if page.stem == "engines" else ()) for page in PAGES],
    ids=lambda page: page.stem,
)
def test_blocks_of_the_documents(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_potential: Callable
) -> None:
    """yaml is a configuration or a part of one, or declares models; python runs, with a model where one is named."""
    for language, code in blocks(page):
        assert language in LANGUAGES, f"{page.name}: a block of {language or 'no language'}"
        if language == "yaml":
            values = yaml.load(code, Yaml)
            if "teacher" in values:
                LearnConfig.model_validate(values)
            elif "structure" in values:
                DynamicsConfig.model_validate(values)
            elif set(values) <= set(Config.model_fields):
                Config.model_validate({"output": "x", **values, "data": {"train": "x", **values.get("data", {})}})
            else:
                (tmp_path / "models.yaml").write_text(code, encoding="utf-8")
                assert _calculators.declared(str(tmp_path / "models.yaml"))
        if language == "python" and page.stem != "tutorial":
            if "openmm" in code:
                engine("openmm")
            potential, params = make_potential(ensemble="shallow", members=3)
            trained = potential.with_params(jax.tree.map(np.float32, params))
            folder.save(tmp_path / "models" / "shallow", trained, 1, {"finished": True})
            monkeypatch.chdir(tmp_path)
            exec(compile(code, page.name, "exec"), {"atoms": ethanol()[0]})


def test_every_page_is_in_the_navigation() -> None:
    """And nothing else; the tutorial is among what .ci/run executes."""
    navigation = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    assert sorted(navigation) == sorted(page.name for page in PAGES)
    assert "docs/execute.py docs/tutorial.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_what_the_site_loads_lies_in_it() -> None:
    """Scripts, styles and fonts are files of docs/, the foreign ones beside their licence."""
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    loaded = [
        name
        for line in re.findall(r"^extra_(?:css|javascript): \[(.*)\]$", settings, re.M)
        for name in line.split(", ")
    ]
    style = (ROOT / "docs/assets/katex/katex.min.css").read_text(encoding="utf-8")
    fonts = {f"assets/katex/{name}" for name in re.findall(r"url\(([^)]*)\)", style)}
    assert len(loaded) == 4
    assert len(fonts) == 20
    for name in [*loaded, *fonts, "assets/katex/LICENSE"]:
        assert (ROOT / "docs" / name).is_file(), name
    assert "docs/look.py" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
