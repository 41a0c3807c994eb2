"""The last lines of a comparison: the round that is out of line, and how to measure it again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.commands.show import outlier_line
from harness.judge.comparison import compare
from harness.judge.outlier import OutlierRound
from harness.records.run import read_run
from tests.invented import ALPHA, BETA, campaign, manifest, records, write_run


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> OutlierRound:
    one = OutlierRound("beta", 3, 0.71, ("c1", "c4"))
    monkeypatch.setattr("harness.judge.outlier.outlier_round", lambda comparison: one)
    return one


def test_it_is_named_and_offered_once(tmp_path: Path, found: OutlierRound) -> None:
    for engine in (ALPHA, BETA):
        write_run(tmp_path / engine.name, manifest(engine), records(engine, manifest(engine).load))
    comparison = compare([read_run(tmp_path / name) for name in ("alpha", "beta")], campaign())
    line = outlier_line(comparison, Path("results/x"), Path("my.toml"))
    assert line == (
        "Round 3 is out of line: Beta reached 0.71x its usual throughput there, at c1, c4. To measure this round "
        "again: harness compare my.toml --resume results/x --again 3"
    )
    assert "harness compare FILE --resume" in (outlier_line(comparison, Path("x"), None) or "")
    again = outlier_line(replace(comparison, repeated=(3,)), Path("x"), None)
    assert again is not None and again.endswith("It was measured again before and stays.") and "--again" not in again


def test_nothing_is_said_without_one(tmp_path: Path) -> None:
    write_run(tmp_path / "a", manifest(ALPHA), records(ALPHA, manifest(ALPHA).load))
    assert outlier_line(compare([read_run(tmp_path / "a")], campaign()), tmp_path, None) is None
