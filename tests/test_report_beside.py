"""`harness report A B` on two invented folders."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli import main
from tests.invented import ALPHA, BETA, write_comparison


def digests(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    quick = replace(ALPHA, ttft_ms=10.0, tpot_ms=2.0)
    return write_comparison(tmp_path / "one"), write_comparison(tmp_path / "other", [quick, BETA])


def test_two_folders_are_shown_and_left_as_they_were(
    two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digests(two[0]) | digests(two[1])
    out = tmp_path / "out"
    assert main(["report", str(two[0]), str(two[1]), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "Throughput at c1, c4 and offline: on A Beta leads" in " ".join(said.split())
    assert "turned round" in said and f"written {out / 'side-by-side.html'}" in said
    assert {path.name for path in out.iterdir()} == {"side-by-side.html", "side-by-side.md"}
    assert digests(two[0]) | digests(two[1]) == before


def test_without_out_they_are_written_under_results(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", *map(str, two)]) == 0
    assert (tmp_path / "results" / "side-by-side" / "side-by-side.html").is_file()


def test_out_is_for_several(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(two[0]), "--out", "x"]) == 2
    assert "--out is for several folders" in capsys.readouterr().err


def test_a_folder_that_is_no_comparison_is_named(
    two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(two[0]), str(tmp_path / "absent")]) == 2
    assert "absent: no such folder" in capsys.readouterr().err
