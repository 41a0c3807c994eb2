"""Every file and every program's output is read and written in a named encoding, never in that of the locale: under
LC_ALL=C a result would fail after minutes of measuring, or be read as other text."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RUNS = {"run", "Popen", "check_output", "check_call", "call"}
NO_TEXT = {"os.open", "tarfile.open", "archive.open", "lane.open"}
TEMPORARY = {"NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile"}


def unnamed(source: str) -> list[int]:
    """The lines on which text is read or written without an encoding."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if _is_text(call) and "encoding" not in {k.arg for k in call.keywords}]


def _is_text(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    words = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant)]
    if name in ("read_text", "write_text"):
        return True
    if name in ("open", "fdopen") and ast.unparse(call.func) not in NO_TEXT:
        modes = [word for word in words if isinstance(word, str) and set(word) <= set("rwaxbt+") and word]
        return not any("b" in mode for mode in modes)
    if name in RUNS:
        return any(k.arg in ("text", "universal_newlines") for k in call.keywords)
    return name in TEMPORARY and any(isinstance(word, str) and "w" in word and "b" not in word for word in words)


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("path.read_text()", [1]),
        ("path.write_text(x, encoding='utf-8')", []),
        ("path.open()", [1]),
        ("\nopen(path, 'w')", [2]),
        ("path.open('rb')", []),
        ("os.fdopen(3, 'r+b')", []),
        ("subprocess.run(words, text=True)", [1]),
        ("subprocess.run(words, encoding='utf-8')", []),
    ],
)
def test_the_rule_sees(source: str, lines: list[int]) -> None:
    assert unnamed(source) == lines


def test_every_text_has_an_encoding() -> None:
    files = [path for folder in ("harness", "engines") for path in (ROOT / folder).rglob("*.py")]
    assert files
    found = {str(path.relative_to(ROOT)): lines for path in files if (lines := unnamed(path.read_text("utf-8")))}
    assert found == {}
