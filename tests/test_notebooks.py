"""The notebooks: that they hold no data, import only the judging side, and say what the records say."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest

import engines
from harness.report.page import write_report
from tests.invented import ALPHA, BETA, write_comparison

FOLDER = Path(__file__).parent.parent / "notebooks"
SAMPLE = FOLDER / "sample"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
OURS = ("harness.judge", "harness.records", "harness.report", "harness.workload", "harness.errors", "show")
OTHERS = {"msgspec", "numpy", "scipy", "matplotlib", "IPython"}
MOST_NUMBERS = 8  # in one list, tuple, set or table: more is data that belongs into a results folder

notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def sources(path: Path, kind: str) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def tree(path: Path) -> ast.Module:
    """All code of a notebook, or of a Python file."""
    text = path.read_text(encoding="utf-8") if path.suffix == ".py" else "\n\n".join(sources(path, "code"))
    return ast.parse(text)


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def numbers_in(node: ast.AST) -> int:
    constants = (n.value for n in ast.walk(node) if isinstance(n, ast.Constant))
    return sum(isinstance(value, int | float) and not isinstance(value, bool) for value in constants)


def said(path: Path) -> Iterator[str]:
    """Every piece of text that a reader is told: Markdown cells and the strings handed to say(), to the
    pictures and to the tables, without what the f-strings put in."""
    yield from sources(path, "markdown")
    code = tree(path)
    formats = {id(n.format_spec) for n in ast.walk(code) if isinstance(n, ast.FormattedValue)}
    for node in ast.walk(code):
        if isinstance(node, ast.JoinedStr) and id(node) not in formats:
            values = (part.value for part in node.values if isinstance(part, ast.Constant))
            yield from (value for value in values if isinstance(value, str))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.value


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@notebooks
def test_committed_without_outputs(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert [i for i, cell in enumerate(cells, 1) if cell.get("outputs") or cell.get("execution_count")] == []


@notebooks
def test_the_first_code_cell_names_the_folder(path: Path) -> None:
    assert 'Path(os.environ.get("RESULTS", "sample"))' in sources(path, "code")[0]


@pytest.mark.parametrize("path", [*NOTEBOOKS, FOLDER / "show.py"], ids=lambda path: path.name)
def test_imports_only_the_judging_side(path: Path) -> None:
    def allowed(name: str) -> bool:
        root = name.split(".")[0]
        return name == "harness" or name.startswith(OURS) or root in OTHERS or root in sys.stdlib_module_names

    assert [name for name in imported(path) if not allowed(name)] == []


@notebooks
def test_no_cell_is_a_table_of_numbers(path: Path) -> None:
    literals = [n for n in ast.walk(tree(path)) if isinstance(n, ast.List | ast.Tuple | ast.Set | ast.Dict)]
    assert [ast.unparse(n) for n in literals if numbers_in(n) > MOST_NUMBERS] == []


@notebooks
def test_no_number_in_the_text_is_typed_by_hand(path: Path) -> None:
    typed = re.compile(r"(?<![A-Za-z0-9_])\d+")  # the digits of p50 and E2E belong to a word
    assert [text for text in said(path) if typed.search(text)] == []


@notebooks
def test_no_engine_is_named(path: Path) -> None:
    text = path.read_text(encoding="utf-8").lower()
    assert [e.title for e in engines.load().values() if not e.null and e.title.lower() in text] == []


def export(*arguments: object, cwd: Path, script: Path = FOLDER / "export.py") -> subprocess.CompletedProcess[str]:
    """The program as `make notebooks` runs it, with a home and a temporary folder of its own."""
    for name in ("home", "tmp"):
        (cwd / name).mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "HOME": str(cwd / "home"), "TMPDIR": str(cwd / "tmp")},
        capture_output=True,
        text=True,
        check=False,
    )


def invented(folder: Path, engines: Sequence[Any] = (ALPHA, BETA), rounds: int = 3) -> Path:
    write_report(write_comparison(folder, engines, rounds))
    return folder


@pytest.mark.live
def test_a_folder_that_is_no_comparison_is_one_line(tmp_path: Path) -> None:
    done = export(tmp_path / "nothing", cwd=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "nothing" in done.stderr
    assert "campaign.json" in done.stderr


@pytest.mark.slow
def test_a_comparison_without_a_report_is_one_line(tmp_path: Path) -> None:
    done = export(write_comparison(tmp_path / "made"), cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "comparison.json" in done.stderr


@pytest.mark.slow
def test_a_comparison_of_another_version_is_one_line(tmp_path: Path) -> None:
    made = invented(tmp_path / "made", [ALPHA], rounds=1)
    (made / "comparison.json").write_text('{"schema": 0}')
    done = export(made, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "its schema is 0" in done.stderr


@pytest.mark.live
def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    done = export("--fast", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("usage:")


@pytest.mark.slow
def test_a_failing_cell_is_one_line_and_leaves_no_page(tmp_path: Path) -> None:
    made = invented(tmp_path / "made", [ALPHA], rounds=1)
    for name in ("export.py", "page.html.j2"):
        shutil.copy(FOLDER / name, tmp_path)
    cells = [nbformat.v4.new_markdown_cell("# Broken"), nbformat.v4.new_code_cell('print("on the way")\nint("ten")')]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "broken.ipynb")
    done = export(made, cwd=tmp_path, script=tmp_path / "export.py")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("broken.ipynb, cell 2: ValueError: invalid literal")
    assert not (made / "notebooks").exists()


def pages(folder: Path) -> list[str]:
    found = sorted(folder.glob("*.html"))
    assert [page.stem for page in found] == [path.stem for path in NOTEBOOKS]
    return [page.read_text(encoding="utf-8") for page in found]


def assert_needs_nothing_else(page: str) -> None:
    for pattern in (r"<script", r"https?://", r"@import", r'(?:src|href)="(?!data:image/png;base64,)'):
        assert re.search(pattern, page) is None, pattern


@pytest.mark.slow
def test_two_engines_are_written_up_as_measured(tmp_path: Path) -> None:
    made = invented(tmp_path / "made")
    done = export(made, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "".join(f"page    {made}/notebooks/{path.stem}.html\n" for path in NOTEBOOKS)
    for page in pages(made / "notebooks"):
        assert_needs_nothing_else(page)
        assert 'src="data:image/png;base64,' in page
        assert "No description has been provided" not in page  # what nbconvert writes where there is no alt text
    essay = (made / "notebooks" / "latency-and-throughput.html").read_text(encoding="utf-8")
    # Alpha alone: 100 ms to the first token, four more every 20 ms, in rounds of 1, 1.01 and 0.99 times that.
    row = ("Alpha, concurrency 1", "100", "–", "20.0")  # 12 requests have no p99
    assert re.search(r"\s*".join(f"<td[^>]*>{re.escape(text)}</td>" for text in row), essay)
    assert "Beta" in essay
    assert "For one user (c1) Beta is the fastest" in essay
    assert "found equal to" in essay
    assert list((tmp_path / "tmp").iterdir()) == []
    assert [p.name for p in (tmp_path / "home").iterdir() if p.name in (".ipython", ".jupyter", ".local")] == []


def one_engine(folder: Path) -> None:
    write_comparison(folder, [ALPHA])


def one_round(folder: Path) -> None:
    write_comparison(folder, rounds=1)


def only_the_offline_batch(folder: Path) -> None:
    write_comparison(folder, skipped={"gamma": "needs a <GPU> | and *there* is none"})
    for point in ("c1", "c4"):
        for engine in ("alpha", "beta"):
            shutil.rmtree(folder / "runs" / engine / point)


def points_missing(folder: Path) -> None:
    write_comparison(folder)
    for missing in ("alpha/offline", "beta/c1", "alpha/c4/round-2"):
        shutil.rmtree(folder / "runs" / missing)


def null_engine(folder: Path) -> None:
    write_comparison(folder, [ALPHA])
    for path in folder.glob("runs/*/*/*/manifest.json"):
        manifest = json.loads(path.read_text())
        manifest["candidate"]["null"] = True
        path.write_text(json.dumps(manifest))


@pytest.mark.slow
@pytest.mark.parametrize("make", [one_engine, one_round, only_the_offline_batch, points_missing, null_engine])
def test_every_shape_of_a_comparison_can_be_written_up(tmp_path: Path, make: Any) -> None:
    made = tmp_path / "made"
    make(made)
    write_report(made)
    done = export(made, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for page in pages(made / "notebooks"):
        assert_needs_nothing_else(page)
        assert "nan" not in re.sub(r"base64,[^\"]*|<code>.*?</code>", "", page).split()


@pytest.mark.slow
def test_a_stored_number_that_the_records_do_not_give_stops_the_page(tmp_path: Path) -> None:
    made = invented(tmp_path / "made", [ALPHA], rounds=2)
    stored = json.loads((made / "comparison.json").read_text())
    stored["cells"][0]["metrics"]["tpot_p50"]["per_round"][1] *= 1.001
    (made / "comparison.json").write_text(json.dumps(stored))
    done = export(made, cwd=tmp_path)
    assert done.returncode == 1
    assert re.match(r"latency-and-throughput.ipynb, cell \d+: ValueError: tpot_p50 of .*round-2", done.stderr)


@pytest.mark.slow
def test_the_committed_sample_is_written_up_outside_of_itself(tmp_path: Path) -> None:
    before = sorted(SAMPLE.rglob("*"))
    done = export(cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for page in pages(tmp_path / "results" / "notebooks"):
        assert_needs_nothing_else(page)
    assert sorted(SAMPLE.rglob("*")) == before
