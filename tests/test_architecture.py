"""The shape of the code: layers, sizes, no cycles. docs/architecture.md explains the table."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "rltrain"
LAYERS = {
    "core": 0, "settings": 0, "schedules": 0, "registry": 0, "seeding": 0, "lazy": 0, "memory": 0, "compilable": 0, "jit": 0, "mdp": 0, "redaction": 0, "team": 0, "metrics": 0,
    "config": 1, "statistics": 1, "nn": 1, "encoding": 1, "hashing": 1, "sum_tree": 1, "priorities": 1, "replay": 1, "frames": 1, "array_file": 1, "rollout": 1, "selection": 1, "collective": 1,
    "exploration": 2, "intrinsic": 2, "bonuses": 2, "envs": 2,
    "moments": 1, "tabular": 3, "traces": 3, "on_policy": 3, "rollout_agent": 3, "sde": 3, "off_policy": 3, "continuous": 3, "q_settings": 3, "q_agent": 3, "agents": 3,
    "loop": 4, "evaluation": 4, "evaluator": 4, "callbacks": 4, "checkpoint": 4, "rundir": 4, "sittings": 4, "logger": 4, "diagnostics": 4,
    "exact": 4, "kernels": 4, "cluster": 4, "parallel": 4,
    "records": 5, "differences": 5, "experiment": 5, "compiling": 5, "ranks": 5, "fitting": 5,
    "saved": 6, "reproduction": 6, "pictures": 6, "launch": 6, "comparison": 6,
    "report": 7, "tuning": 7,
    "cli": 8, "__main__": 8,
}  # fmt: skip
FILES = sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Dotted rltrain modules that a file imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rltrain":
            below = [f"{node.module}.{name.name}" for name in node.names]
            found |= {name if module_path(name) else node.module for name in below}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names if name.name.split(".")[0] == "rltrain"}
    return found - {"rltrain"}


def module_path(name: str) -> Path | None:
    base = ROOT.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.exists()), None)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_imports_its_own_layer_or_a_lower_one(path):
    if path == PACKAGE / "__init__.py":
        return
    own = LAYERS[part(path)]
    for name in imports(path):
        assert LAYERS[name.split(".")[1]] <= own, f"{path} imports {name} from a higher layer"


def type_checking_only(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for inner in ast.walk(node):
                if isinstance(inner, ast.ImportFrom) and inner.module:
                    found |= {inner.module, *(f"{inner.module}.{name.name}" for name in inner.names)}
    return found


def test_there_is_no_import_cycle():
    graph = {path: {module_path(n) for n in imports(path) - type_checking_only(path)} for path in FILES}
    done, open_ = set(), []

    def visit(path):
        if path in open_:
            pytest.fail(" -> ".join(str(p.relative_to(ROOT)) for p in [*open_[open_.index(path) :], path]))
        if path not in done and path in graph:
            open_.append(path)
            for other in graph[path]:
                visit(other)
            open_.pop()
            done.add(path)

    for path in FILES:
        visit(path)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_and_functions_stay_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = len((ast.get_docstring(node, clean=False) or "").splitlines())
            assert node.end_lineno - node.lineno + 1 - doc <= 40, f"{path}: {node.name}"
    if path.name == "__init__.py":
        assert len(text.splitlines()) == 1


@pytest.mark.parametrize("path", FILES, ids=str)
def test_public_modules_classes_and_functions_say_what_they_are_for(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), path
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}: {node.name}"


def test_tabular_parts_never_load_torch_and_component_files_load_without_it():
    import subprocess
    import sys

    code = (
        "import sys\nfrom rltrain.registry import PACKAGES, find, names\n"
        "for kind in PACKAGES:\n    for name in names(kind): find(kind, name)\n"
        "import rltrain.experiment\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
