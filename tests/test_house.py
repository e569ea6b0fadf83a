"""The rules of the house: imports go down only, modules stay short, importing is light, commands and README work.

And of its tests: every room has quick ones, and every process that they start has one environment.
"""

import ast
import os
import re
from pathlib import Path

import pytest

from gmnn import __version__
from gmnn.__main__ import main
from gmnn.commands import COMMANDS
from gmnn.commands._frame import quiet_cache
from tests.support import processes
from tests.support.paths import ROOT

PACKAGE, TESTS = ROOT / "gmnn", ROOT / "tests"
TEXTS = {".py", ".md", ".yaml", ".yml", ".toml", ".cff", ".cpp", ".h", ".sh", ".json", ".xml"}
FLOORS = {
    "errors": 0,
    "elements": 1, "files": 1, "system": 1, "checking": 1,
    "reference": 2, "device": 2, "folders": 2, "structures": 2,
    "config": 3, "neighbors": 3,
    "data": 4, "model": 4,
    "kernels": 5,
    "evaluation": 6,
    "training": 7, "md": 7, "scanning": 7, "teaching": 7, "certificate": 7, "interfaces": 7,
    "learning": 8,
    "commands": 9,
    "__main__": 10, "__init__": 10,
}  # fmt: skip
STARTS = re.compile(r"subprocess\.(run|Popen|call|check_\w+)$")
OTHER_ENVIRONMENTS = {  # where most of the package is absent; the worker of teaching does without all of it
    "scanning": {"errors", "files", "folders", "structures"},
    "teaching": {"errors", "files", "folders", "structures", "checking"},
}


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
    for library, owner in (("flax", "network.py"), ("orbax", "trees.py")):
        users = [
            f.name
            for f in PACKAGE.rglob("*.py")
            if re.search(rf"^\s*(from|import) {library}", f.read_text(encoding="utf-8"), re.M)
        ]
        assert users == [owner]


def modules_after(code: str) -> set[str]:
    done = processes.python("-c", f"{code}\nimport sys; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
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
    done = processes.python("-c", code)
    assert done.returncode == 0, done.stderr
    assert abs(float(done.stdout)) < 100


def test_readme_python_block_runs() -> None:
    """The README's Python is run as it stands there, on the shipped example model."""
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    assert block is not None
    assert len(block[1].strip().splitlines()) <= 10
    done = processes.python("-c", block[1])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_map_of_the_rooms_is_complete() -> None:
    """Every room stands in the map of docs/architecture.md."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for room in FLOORS:
        if not room.startswith("__"):
            assert f"`{room}`" in page or f"`{room}/`" in page, room


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), (["--version"], 0), (["fly"], 2), (["train"], 2), (["eval", "no", "x"], 2)]
)
def test_commands_explain_themselves(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code and a text: on stdout where it was asked for, on stderr where something is wrong."""
    try:
        found = main(arguments)
    except SystemExit as end:
        found = end.code
    assert found == code
    out, err = capsys.readouterr()
    assert bool(out) == (code == 0)
    assert bool(err) == (code == 2)


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0
        assert "usage: " in capsys.readouterr().out


def test_a_mistake_has_its_exit_code_outside() -> None:
    """The process itself: a sentence on stderr, no traceback, exit code 2."""
    done = processes.python("-m", "gmnn", "eval", "nowhere", "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("eval: ")
    assert done.stderr.count("\n") == 1


def test_cached_programs_are_read_without_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    """XLA is silent where programs are kept between runs, and only there; what the user has set stays."""
    for kept, level, expected in (("", None, None), ("a", None, "3"), ("a", "0", "0")):
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", kept)
        monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
        if level is not None:
            monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
        quiet_cache()
        assert os.environ.get("TF_CPP_MIN_LOG_LEVEL") == expected


def test_versions_agree() -> None:
    """The package, the newest release of the changelog and the citation name one version."""
    releases = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert releases[0] == __version__
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_ci_runs_what_the_readme_says() -> None:
    """The README's blocks after `<!-- main -->` and `<!-- tests -->` are commands, and .ci/run takes the tests' one."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for marker in ("main", "tests"):
        assert re.search(rf"<!-- {marker} -->\n```bash\n\S.*\n```", readme), marker
    assert "$(block tests)" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def files_of_tests(folder: Path) -> list[Path]:
    return sorted(folder.rglob("test_*.py"))


def test_every_room_has_quick_tests() -> None:
    """Folders of tests are those of rooms, and none of them has only slow tests."""
    rooms_with_files = {home(file) for file in PACKAGE.rglob("*/*.py")}
    elsewhere = {"commands"}  # tested with what they call
    folders = {path.name for path in TESTS.iterdir() if path.is_dir() and files_of_tests(path)}
    assert rooms_with_files - elsewhere <= folders
    for folder in folders:
        quick = [
            node.name
            for file in files_of_tests(TESTS / folder)
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not marked_slow(node)
        ]
        assert quick, f"tests/{folder} has only slow tests"


def marked_slow(function: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator) == "pytest.mark.slow" for decorator in function.decorator_list)


def test_tests_can_fail() -> None:
    """Every test asserts something, itself or by a function of its file, or expects an error."""
    for file in files_of_tests(TESTS):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        for name, function in functions.items():
            if name.startswith("test_"):
                assert checks(function, functions, set()), f"{file.name}: {name} asserts nothing"


def checks(function: ast.FunctionDef, functions: dict[str, ast.FunctionDef], seen: set[str]) -> bool:
    seen.add(function.name)
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if re.search(r"assert_|^pytest\.(raises|warns|fail)$", called):
                return True
            if called in functions and called not in seen and checks(functions[called], functions, seen):
                return True
        if isinstance(node, ast.Attribute) and re.search("assert_", node.attr):
            return True
    return False


def test_one_environment_for_all_processes() -> None:
    """Whoever starts a process in a test says which environment it has."""
    for file in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and re.match(
                r"subprocess\.(run|Popen|check_\w+|call)$", ast.unparse(node.func)
            ):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert re.search(r"environment\(|variables", given.get("env", "")), f"{file.name}:{node.lineno}"


def test_nothing_names_a_machine() -> None:
    """No text of the repository knows a path of somebody's machine or the host of a package registry."""
    foreign = re.compile(r"(?<![\w.])/(root|work|home)/\w|pypi\.(org|python)|pythonhosted\.org")
    named = []
    for top in ("gmnn", "docs", "tests", "benchmarks", "configs", "examples", ".ci", ".github"):
        for file in (ROOT / top).rglob("*"):
            if file.suffix in TEXTS and foreign.search(file.read_text(encoding="utf-8")):
                named.append(str(file.relative_to(ROOT)))
    for file in ROOT.iterdir():
        if file.suffix in TEXTS and file.is_file() and foreign.search(file.read_text(encoding="utf-8")):
            named.append(file.name)
    assert named in ([], ["tests/test_house.py"])


def calls(file: Path) -> list[tuple[ast.Call, str, str]]:
    """Every call in a file: the node, the whole name that is called and the last part of it."""
    nodes = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    names = [ast.unparse(node.func) for node in nodes]
    return [(node, name, name.rpartition(".")[2]) for node, name in zip(nodes, names, strict=True)]


def mode_of(node: ast.Call) -> str:
    """The mode of a call of `open`, as a function or as a method of a path."""
    given = [keyword.value for keyword in node.keywords if keyword.arg == "mode"]
    given = given or node.args[isinstance(node.func, ast.Name) :][:1]
    return str(given[0].value) if given and isinstance(given[0], ast.Constant) else ""


@pytest.mark.parametrize("top", ["gmnn", "examples", "benchmarks", "docs", "tests", "train.py", "scan.py"])
def test_kind_5_every_text_states_its_encoding(top: str) -> None:
    """A text is read and written as UTF-8 in every locale, and so is what another program prints."""
    silent = []
    for file in [ROOT / top] if top.endswith(".py") else (ROOT / top).rglob("*.py"):
        for node, name, last in calls(file):
            keys = {keyword.arg for keyword in node.keywords}
            if None in keys:  # **options
                continue
            text = last in ("read_text", "write_text") and name != "files.write_text"
            text = text or (name in ("open", "io.open", "os.fdopen") and "b" not in mode_of(node))
            text = text or (last == "open" and isinstance(node.func, ast.Attribute) and not re.match("os|io|gzip", name)
                            and "b" not in mode_of(node))  # fmt: skip
            text = text or (name.startswith("subprocess.") and bool(keys & {"text", "universal_newlines"}))
            if text and not keys & {"encoding"} and not (last == "write_text" and home_writer(node)):
                silent.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert not silent


def home_writer(node: ast.Call) -> bool:
    """Whether this is `write_text(path, text)` of gmnn.files, which writes UTF-8."""
    return isinstance(node.func, ast.Name)


WRITERS = {
    "files.py": "the place for it",
    "folders.py": "makes and locks output folders",
    "model/trees.py": "orbax writes its own folders; they are checked before, and deleted by files.remove_tree",
    "kernels/cpp/compiler.py": "a scratch folder that the compiler writes into",
    "teaching/pool.py": "scratch folders that teachers write into",
    "training/distributed/processes.py": "a nameless file for what libraries write to stderr, and os.devnull",
}
WRITING = re.compile(
    r"(os\.(replace|rename|remove|unlink|truncate|makedirs|mkdir|rmdir|open|symlink|link|chmod)|shutil\.(?!which).*"
    r"|tempfile\..*|np\.save\w*|ase\.io\.write|.*\.(write_bytes|unlink|mkdir|touch|rename|symlink_to|hardlink_to|rmdir))$"
)


def test_kind_1_only_one_module_writes() -> None:
    """Files are opened for writing, moved and deleted in gmnn/files.py and, with a reason, in a few other places."""
    writers = set()
    for file in PACKAGE.rglob("*.py"):
        for node, name, last in calls(file):
            opened = last == "open" and set(mode_of(node)) & set("wax+")
            moved = (
                last == "replace" and isinstance(node.func, ast.Attribute) and len(node.args) == 1 and not node.keywords
            )
            to_memory = name in ("ase.io.write", "np.savez") and ast.unparse(node.args[0]) in ("text", "data")
            foreign = WRITING.match(name) and not name.startswith("files.") and not to_memory
            text = last == "write_text" and isinstance(node.func, ast.Attribute) and not name.startswith("files.")
            drawn = last == "savefig" and ast.unparse(node.args[0]) not in ("image", "buffer")
            if opened or moved or foreign or text or drawn:
                writers.add(str(file.relative_to(PACKAGE)))
    assert writers <= set(WRITERS), writers - set(WRITERS)


def test_kind_8_every_blanket_except_has_its_reason() -> None:
    for file in PACKAGE.rglob("*.py"):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(r"except( \(?(Base)?Exception\b[^:]*)?:", line) and "KeyboardInterrupt" not in line:
                assert "  # " in line, f"{file}:{number} says not why"
