"""Standard streams of any encoding, or closed; text from outside on the terminal."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from harness.cli import main
from harness.progress import Display, SafeConsole

ODD = "München ▲ 5–7 × 2 · \udcff \x1b]0;title\x07\x1b[2J [/x] :smile: \u202e"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "M\\xfcnchen ^ 5-7 x 2 | \\udcff"),
        ("latin-1", "M\xfcnchen ^ 5-7 \xd7 2 \xb7 \\udcff"),
        ("utf-8", "M\xfcnchen ▲ 5–7 × 2 · \\udcff"),
    ],
)
def test_what_an_encoding_lacks_is_printed_as_something_else(
    encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = io.BytesIO()
    with capsys.disabled():
        stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit):
            main(["--version"])
        console = SafeConsole(width=200)
        console.print(ODD)
        table = Table(ODD, title=ODD)
        table.add_row(ODD)
        console.print(table)
        with Display(console) as display:
            display.keep(ODD + "\nnext")
    said = raw.getvalue()
    assert said.count(shown.encode(encoding)) == 5  # printed, title, heading, row, kept
    assert b"\x1b" not in said and b"\x07" not in said
    assert b"\\x1b]0;title\\x1b[2J [/x] :smile: \\u202e" in said


def test_a_terminal_of_no_columns_still_gets_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in ("0", "1"):
        monkeypatch.setenv("COLUMNS", columns)
        monkeypatch.setenv("FORCE_COLOR", "1")
        assert SafeConsole().width >= 40


def test_an_error_is_one_line_without_escape_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["report", "no\x1b[2J\nsuch"])
    said = capsys.readouterr().err
    assert status == 2 and said.count("\n") == 1 and "no\\x1b[2J such" in said


@pytest.mark.live
@pytest.mark.parametrize(
    ("closing", "env"),
    [
        ("<&-", {}),
        (">&-", {}),
        ("2>&-", {}),
        ("<&- >&- 2>&-", {}),
        (">/dev/null", {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
        (">/dev/null", {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "0"}),
        (">/dev/null", {"TMPDIR": "/nowhere", "PYTHONIOENCODING": "ascii"}),
    ],
)
def test_a_command_ends_as_ever(closing: str, env: dict[str, str], tmp_path: Path) -> None:
    command = f'exec "{sys.executable}" -m harness.cli engines {closing}'
    done = subprocess.run(["sh", "-c", command], env={**os.environ, **env}, capture_output=True, check=False)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
