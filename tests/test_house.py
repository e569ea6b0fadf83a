"""The house: imports go down only, modules stay short, importing is quick and light, the README works."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGE = ROOT / "gmnn"
FLOORS = {
    "errors": 0,
    "elements": 1, "files": 1, "system": 1, "checking": 1,
    "reference": 2, "device": 2, "structures": 2,
    "config": 3, "neighbors": 3,
    "data": 4, "model": 4,
    "kernels": 5,
    "evaluation": 6,
    "training": 7, "md": 7, "scanning": 7, "certificate": 7, "interfaces": 7,
    "commands": 8,
    "__main__": 9, "__init__": 9,
}  # fmt: skip
OTHER_ENVIRONMENTS = {"scanning": {"errors", "files", "structures"}}  # rooms that run where most of the package cannot


def home(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules_of(tree: ast.AST) -> set[str]:
    """Modules of the package that a file imports anywhere, function bodies included, as `room` or `room.module`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "gmnn":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gmnn."):
            names |= {f"{node.module.removeprefix('gmnn.')}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name.removeprefix("gmnn.") for alias in node.names if alias.name.startswith("gmnn.")}
    return names


def rooms(file: Path) -> set[str]:
    """Rooms that a file imports; names that `import gmnn` offers stand for the room they come from."""
    import gmnn

    homes = {name: place.split(".")[0] for name, place in gmnn._HOMES.items()}
    named = {name.split(".")[0] for name in modules_of(ast.parse(file.read_text(encoding="utf-8")))}
    return {homes.get(name, name) for name in named} & set(FLOORS)


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_strictly_down(file: Path) -> None:
    """No room imports one of its own floor or above, and no module exceeds 300 lines."""
    room = home(file)
    others = rooms(file) - {room}
    for other in others:
        assert FLOORS[other] < FLOORS[room], f"{room} (floor {FLOORS[room]}) imports {other} (floor {FLOORS[other]})"
    assert others <= OTHER_ENVIRONMENTS.get(room, set(FLOORS))
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 300, "move the walls"


def test_every_room_has_a_floor() -> None:
    present = {home(file) for file in PACKAGE.rglob("*.py")}
    assert present == set(FLOORS)
    assert len([room for room in present if (PACKAGE / f"{room}.py").exists() and not room.startswith("__")]) <= 8


def test_no_circle_within_a_room() -> None:
    """Modules import each other in one direction only, also inside of a room."""
    files = {".".join(f.relative_to(PACKAGE).with_suffix("").parts): f for f in PACKAGE.rglob("*.py")}
    edges: dict[str, set[str]] = {}
    for name, file in files.items():
        imported = modules_of(ast.parse(file.read_text(encoding="utf-8")))
        targets = {known for one in imported for known in files if one == known or one.startswith(f"{known}.")}
        edges[name] = targets - {name}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in edges[name]:
                visit(other, (*path, name))
            done.add(name)

    for name in files:
        visit(name, ())


def test_only_the_model_imports_flax() -> None:
    """flax modules live in one file and orbax is called from one."""
    for library, owner in (("flax", "network.py"), ("orbax", "folder.py")):
        users = [
            f.name
            for f in PACKAGE.rglob("*.py")
            if re.search(rf"^\s*(from|import) {library}", f.read_text(encoding="utf-8"), re.M)
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


def test_map_of_the_rooms_is_complete() -> None:
    """Every room stands in the map of docs/architecture.md."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for room in FLOORS:
        if not room.startswith("__"):
            assert f"`{room}`" in page or f"`{room}/`" in page, room


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
