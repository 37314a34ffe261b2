"""Rules about the source as a whole: sizes, who reads the environment, what an import costs, what is described."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tidesight

SOURCE = Path(tidesight.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 300, 60, 6
HEAVY = {"numpy", "cv2", "onnxruntime", "openvino", "starlette", "uvicorn", "prometheus_client", "torch", "obstore"}
Function = ast.FunctionDef | ast.AsyncFunctionDef

every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(SOURCE).as_posix())


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def functions(file: Path) -> Iterator[Function]:
    return (node for node in ast.walk(tree(file)) if isinstance(node, Function))


def public(file: Path) -> Iterator[tuple[str, ast.Module | ast.ClassDef | Function]]:
    """The module, its public functions and classes, and their public methods."""
    module = tree(file)
    yield file.name, module
    pending: list[tuple[str, ast.stmt]] = [("", node) for node in module.body]
    while pending:
        prefix, node = pending.pop()
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                pending += [(f"{prefix}{node.name}.", child) for child in node.body]


@every_file
def test_files_and_functions_are_short(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES
    for function in functions(file):
        assert (function.end_lineno or 0) - function.lineno + 1 <= MAX_FUNCTION_LINES, function.name


@every_file
def test_functions_have_few_parameters(file: Path) -> None:
    if file.parent.name == "commands":
        return  # a command has as many parameters as it has options
    for function in functions(file):
        arguments = function.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        assert len([n for n in names if n not in ("self", "cls")]) <= MAX_PARAMETERS, function.name


@every_file
def test_only_the_settings_read_the_environment(file: Path) -> None:
    if file == SOURCE / "settings.py":
        return
    for node in ast.walk(tree(file)):
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        assert name not in ("environ", "environb", "getenv"), f"line {getattr(node, 'lineno', '?')}"


@every_file
def test_what_is_public_is_described(file: Path) -> None:
    for name, node in public(file):
        assert ast.get_docstring(node), name


@every_file
def test_no_file_is_a_drawer(file: Path) -> None:
    assert file.stem not in {"utils", "util", "helpers", "helper", "common", "misc", "base"}


@every_file
def test_what_is_only_for_tests_is_not_imported(file: Path) -> None:
    for node in ast.walk(tree(file)):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assert not {m.split(".")[0] for m in modules} & {"pytest", "tests", "conftest", "hypothesis"}


def test_the_package_exports_what_it_says() -> None:
    assert sorted(tidesight.__all__) == tidesight.__all__
    for name in tidesight.__all__:
        value = getattr(tidesight, name)
        assert value.__doc__, name
    assert set(tidesight._EXPORTS) | {"__version__"} == set(tidesight.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_here"):
        tidesight.nothing_here  # noqa: B018


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after a statement."""
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "statement", ["import tidesight", "import tidesight.cli", "import tidesight.errors", "import tidesight.settings"]
)
def test_an_import_is_cheap(statement: str) -> None:
    assert not loaded_by(statement) & HEAVY


def test_only_the_chosen_engine_is_imported() -> None:
    loaded = loaded_by("from tidesight.detection.detector import Detector; Detector.open('fake', engine='fake')")
    assert "numpy" in loaded
    assert not loaded & {"onnxruntime", "openvino"}
