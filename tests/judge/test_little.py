"""LITTLE against the engine's own gauges of running and waiting requests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from harness.records.run import RunResult
from harness.records.samples import write_samples
from harness.workload.loads import Load
from tests.judge.checking import check
from tests.judge.serving import length_s, serve, write_rounds
from tests.loads import load

C8, RATE = load(160, 8), load(200, rate=20.0)


def gauged(
    folder: Path, point: Load, running: float = 1.0, waiting: float = 0.0, every_s: float = 1.0
) -> Sequence[RunResult]:
    """Three rounds whose engine says that it runs `running` times as many requests as the client has in flight, and
    `waiting` of them wait."""
    rounds = [serve(point, seed) for seed in (1, 2, 3)]
    runs = write_rounds(folder, point, rounds)
    for run, rows in zip(runs, rounds, strict=True):
        samples: list[tuple[float, str, float]] = [(0.0, "engine_cpu_s", 1.0)]
        for at in np.arange(0.1, length_s(rows), every_s):
            mine = sum((row.sent_s or 0) <= at < (row.done_s or 0) for row in rows)
            samples += [(at, "engine_running", mine * running), (at, "engine_waiting", mine * waiting)]
        write_samples(run.folder, samples)
    return runs


@pytest.mark.parametrize("point", [C8, RATE], ids=["c8", "r20"])
def test_they_agree(point: Load, tmp_path: Path) -> None:
    found = check(gauged(tmp_path, point, 0.75, 0.25), "LITTLE")
    assert found.verdict == "ok" and "by the engine's own gauges" in found.message
    assert found.numbers["engine_in_flight"] == pytest.approx(found.numbers["client_in_flight"])
    assert found.numbers["readings"] >= 10


@pytest.mark.parametrize(("running", "said"), [(1.5, "other clients"), (0.7, "before the engine's scheduler")])
def test_they_differ(running: float, said: str, tmp_path: Path) -> None:
    found = check(gauged(tmp_path, C8, running), "LITTLE")
    assert found.verdict == "doubt" and said in found.message
    assert found.numbers["engine_in_flight"] == pytest.approx(8 * running, rel=0.05)


def test_a_batch_that_drains_is_not_held_against_its_gauges(tmp_path: Path) -> None:
    found = check(gauged(tmp_path, load(64), 0.5, every_s=0.1), "LITTLE")
    assert found.verdict == "ok" and "readings" not in found.numbers


def test_a_request_more_or_less_is_no_fault(tmp_path: Path) -> None:
    assert check(gauged(tmp_path, load(40, 1), 1.9), "LITTLE").verdict == "ok"


def test_few_readings_and_none_leave_the_slots(tmp_path: Path) -> None:
    for every_s in (1000.0, 3.0):
        found = check(gauged(tmp_path / f"{every_s:g}", C8, 5.0, every_s=every_s), "LITTLE")
        assert "readings" not in found.numbers if every_s > 100 else found.verdict == "doubt"
    runs = write_rounds(tmp_path / "none", C8, [serve(C8, 1)])
    assert check(runs, "LITTLE").verdict == "ok"
