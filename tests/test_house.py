"""The house: imports go down only, modules stay short, importing is quick and light, the README works."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gmnn"
FLOORS = {
    "errors": 0, "elements": 0, "model_config": 0, "config": 0, "apart": 0, "cpu": 0, "xyz": 0, "compiler": 0,
    "system": 0, "neighbors": 0, "dataset": 0, "embedded": 0,
    "cell_list": 1, "radial": 1, "descriptor": 1, "contractions": 1, "repulsion": 1, "core": 1,
    "perceptron": 1,
    "model": 2,
    "potential": 3, "tables": 3, "joining": 3, "prepared": 3, "sharing": 3, "fast": 3, "kernels": 3, "apax": 3,
    "folder": 3, "batches": 3,
    "training": 4, "calculator": 4, "scanning": 4, "evaluation": 4, "certificate": 4, "selection": 4, "distortion": 4,
    "md": 4, "export": 4,
    "engines": 5, "commands": 5, "__main__": 5, "__init__": 5,
}  # fmt: skip


def home(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path) -> set[str]:
    """Parts of the package that a module imports anywhere, function bodies included."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "gmnn":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gmnn."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("gmnn.")}
    return found & set(FLOORS)


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down(file: Path) -> None:
    """No module imports from a floor above, uses of the energy do not import each other, modules stay short."""
    floor = FLOORS[home(file)]
    for other in imports(file) - {home(file)}:
        assert FLOORS[other] <= floor, f"{file.name} (floor {floor}) imports {other} (floor {FLOORS[other]})"
        if floor == 4:
            assert FLOORS[other] < 4, f"{home(file)} and {other} are siblings"
    if home(file) == "scanning":
        assert imports(file) <= {"scanning", "errors"}
    assert len(file.read_text().splitlines()) <= 300, "move the walls"


def test_only_the_model_imports_flax() -> None:
    """flax modules live in one file and orbax is called from one."""
    for library, owner in (("flax", "model.py"), ("orbax", "folder.py")):
        users = [
            f.name for f in PACKAGE.rglob("*.py") if re.search(rf"^\s*(from|import) {library}", f.read_text(), re.M)
        ]
        assert users == [owner]


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return set(done.stdout.split())


def test_importing_is_light() -> None:
    """`import gmnn` loads nothing heavy; the calculator loads jax and ase, the rest when it is needed."""
    assert not modules_after("import gmnn") & {"jax", "ase", "numpy", "flax", "orbax", "matplotlib"}
    loaded = modules_after("from gmnn import Calculator")
    assert "jax" in loaded
    assert not loaded & {"flax", "orbax", "orbax.checkpoint", "pydantic", "yaml", "matplotlib", "optax", "vesin"}
    assert not modules_after("import gmnn.scanning") & {"jax", "flax", "yaml", "pydantic"}


def test_a_model_loads_without_ase() -> None:
    """What a bare GPU machine lacks is not needed to load and evaluate: no ase, vesin or pydantic."""
    code = """
import sys
for name in ("ase", "vesin", "pydantic", "matplotlib"):
    sys.modules[name] = None
import gmnn, numpy as np
potential = gmnn.load("tests/golden/v2/model")
system = gmnn.System(np.array([[0., 0, 0], [0, 0, 1.1]], "f4"), np.array([6, 1]), np.zeros((3, 3), "f4"),
                     np.array([[1], [0]]), np.zeros((2, 1, 3), int))
print(float(potential.predict(potential.params, system).energy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert abs(float(done.stdout)) < 100


def test_readme_python_block_runs(tmp_path: Path) -> None:
    """The README's Python is run as it stands there, on the shipped example model."""
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert block is not None
    assert len(block[1].strip().splitlines()) <= 10
    done = subprocess.run([sys.executable, "-c", block[1]], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_map_of_the_modules_is_complete() -> None:
    """Every part of the package stands in the README's map."""
    readme = (ROOT / "README.md").read_text()
    for part in FLOORS:
        if not part.startswith("__"):
            assert f"`{part}`" in readme or f"`{part}/`" in readme, part


def test_commands_explain_themselves() -> None:
    for arguments, code in (
        (["--help"], 0),
        (["--version"], 0),
        (["fly"], 2),
        (["train"], 2),
        (["eval", "nowhere", "x"], 2),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "gmnn", *arguments], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout or done.stderr
