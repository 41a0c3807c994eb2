"""The arrows between the layers, read from the import statements, and the lengths of files and functions."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMAND_LINE = ("harness/cli.py", "harness/commands/")
SHARED = {
    "console",
    "environment",
    "errors",
    "machine",
    "paths",
    "progress",
    "redact",
    "secret_names",
    "pip",
    "steps",
    "visible",
    "__version__",
}
# Layer -> the layers that it may import, beside itself and the modules in SHARED.
ALLOWED = {
    "workload": set[str](),
    "adapter": {"workload"},
    "records": {"workload"},
    "model": {"records"},
    "driver": {"workload", "adapter"},
    "launch": {"workload", "adapter", "records", "driver"},
    "decode": {"workload", "adapter", "records", "driver"},
    "nullengine": {"workload", "adapter", "records", "driver", "decode"},
    "campaign": {"workload", "adapter", "records", "driver", "decode", "launch"},
    "judge": {"workload", "records"},
    "report": {"workload", "records", "judge"},
}
FILE_LINES, FUNCTION_LINES = 400, 60
SHOWING = {"records", "judge", "report", "workload"}  # what notebooks may import


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layers_in(path: Path) -> set[str]:
    """The parts of harness/ that a file imports."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("harness.")}


def python_files(folder: str) -> list[Path]:
    files = [p for p in (ROOT / folder).rglob("*.py") if not str(p.relative_to(ROOT)).startswith(COMMAND_LINE)]
    assert files
    return files


def functions(path: Path) -> list[tuple[str, int]]:
    """The functions in a file, each with its lines."""
    nodes = ast.walk(ast.parse(path.read_text()))
    found = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [(n.name, (n.end_lineno or 0) - n.lineno + 1) for n in found]


@pytest.mark.parametrize("layer", ALLOWED)
def test_arrow(layer: str) -> None:
    allowed = {*ALLOWED[layer], layer, *SHARED}
    offenders = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in python_files(f"harness/{layer}")
        for name in layers_in(path) - allowed
    }
    assert offenders == set()


def test_every_folder_is_a_layer() -> None:
    folders = {p.name for p in (ROOT / "harness").iterdir() if p.is_dir() and not p.name.startswith("__")}
    assert folders == {*ALLOWED, "commands", "presets"}


def test_shared_modules_depend_on_no_layer() -> None:
    for path in (ROOT / "harness").glob("*.py"):
        if path.name not in ("cli.py", "__init__.py"):  # which hands on the public names when they are asked for
            assert layers_in(path) <= SHARED, path.name


def test_the_package_itself_loads_no_layer_before_it_is_asked_for_something() -> None:
    """It hands on what notebooks use; a driver must not load the judging side with it."""
    tree = ast.parse((ROOT / "harness" / "__init__.py").read_text())
    loaded = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert loaded == {"__future__", "importlib", "typing"}
    assert not any(isinstance(node, ast.Import) for node in tree.body)


def test_notebooks_import_no_measuring() -> None:
    for path in python_files("notebooks"):
        assert layers_in(path) <= {*SHOWING, *SHARED}, path.name
        assert not any(name.split(".")[0] == "engines" for name in imports(path)), path.name


def test_harness_imports_no_engine_outside_the_command_line() -> None:
    for path in python_files("harness"):
        assert not any(name.split(".")[0] == "engines" for name in imports(path)), path.name


def test_engine_files_import_only_the_adapter_types() -> None:
    for path in python_files("engines"):
        ours = {name for name in imports(path) if name.startswith("harness")}
        assert all(name.startswith(("harness.adapter", "harness.__version__")) for name in ours), path.name


def test_harness_names_no_engine() -> None:
    import engines

    names = {engine.name for engine in engines.load().values() if not engine.null}
    for path in python_files("harness"):
        if path.name == "vllm_bench.py":  # a file format of that name
            continue
        words = {w.value for w in ast.walk(ast.parse(path.read_text())) if isinstance(w, ast.Constant)}
        assert not names & {w for w in words if isinstance(w, str)}, path.name


def test_files_and_functions_stay_small() -> None:
    files = [path for folder in ("harness", "engines", "notebooks", "tests") for path in (ROOT / folder).rglob("*.py")]
    assert files
    long = [(path, "file", lines) for path in files if (lines := len(path.read_text().splitlines())) > FILE_LINES]
    long += [(path, name, lines) for path in files for name, lines in functions(path) if lines > FUNCTION_LINES]
    offenders = [f"{path.relative_to(ROOT)} {name} {lines}" for path, name, lines in long]
    assert not offenders, "\n".join(offenders)
