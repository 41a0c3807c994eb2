"""The arrows between the layers, read from the import statements."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MEASURING = ("harness.measure", "harness.launch", "harness.model")
JUDGING = ("harness.judge",)
COMMAND_LINE = ("harness/cli.py", "harness/commands/")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def offenders(files: list[Path], forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports(path)
        if any(name == prefix or name.startswith(prefix + ".") for prefix in forbidden)
    ]


def python_files(folder: str) -> list[Path]:
    files = [p for p in (ROOT / folder).rglob("*.py") if not str(p.relative_to(ROOT)).startswith(COMMAND_LINE)]
    assert files
    return files


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("harness/judge", (*MEASURING, "engines", "httpx")),
        ("harness/measure", (*JUDGING, "engines")),
        ("harness/launch", (*JUDGING, "harness.measure", "engines")),
        ("harness/model", (*JUDGING, "harness.measure", "engines")),
        ("harness", ("engines",)),
        ("notebooks", (*MEASURING, "engines")),
    ],
)
def test_arrow(folder: str, forbidden: tuple[str, ...]) -> None:
    assert offenders(python_files(folder), forbidden) == []


def test_shared_types_depend_on_no_side() -> None:
    shared = [p for p in (ROOT / "harness").glob("*.py") if p.name != "cli.py"]
    assert offenders(shared, (*MEASURING, *JUDGING)) == []


def test_engine_files_import_only_the_adapter_types() -> None:
    allowed = ("harness.adapter", "harness.workload", "harness.__version__")
    for path in python_files("engines"):
        ours = {name for name in imports(path) if name.startswith("harness")}
        assert all(name.startswith(allowed) for name in ours), path.name


def test_harness_names_no_engine() -> None:
    import engines

    names = {engine.name for engine in engines.load().values() if not engine.null}
    for path in python_files("harness"):
        if path.name == "vllm_bench.py":  # a file format of that name
            continue
        words = {w.value for w in ast.walk(ast.parse(path.read_text())) if isinstance(w, ast.Constant)}
        assert not names & {w for w in words if isinstance(w, str)}, path.name
