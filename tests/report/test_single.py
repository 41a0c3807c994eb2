"""One run judged by itself."""

from __future__ import annotations

import pytest
from rich.console import Console

from harness.records.metrics import measure
from harness.records.run import RunResult
from harness.report.single import judge_run, single_table
from tests.invented import ALPHA, ONE, calibration, cancelled, failed, floor, open_records, records
from tests.invented_runs import Run
from tests.loads import load

OPEN_LOOP = load(5, rate=10.0)


def printed(run: RunResult, width: int = 80) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(single_table(run, *judge_run(run)))
    return capture.get()


def test_metrics_and_checks_without_rounds(run: Run) -> None:
    made = run()
    metrics, checks = judge_run(made)
    assert metrics == measure(made)
    assert [check.code for check in checks] == [
        "ERROR_RATE", "TOKEN_COUNT", "PROMPT_PARITY", "PREFIX_CACHE", "PLAUSIBLE", "CLIENT_LAG", "LITTLE",
        "TIMELINE", "STREAMED", "STEADY_STATE", "STALL", "SAME_ENGINE", "CPU_CONTENTION", "NETWORK", "LENGTH_PARITY",
    ]  # fmt: skip
    assert {check.code for check in checks if check.verdict != "ok"} == {"STEADY_STATE"}  # a note: few requests


def test_the_floor_counts(run: Run) -> None:
    _, checks = judge_run(run(), calibration(floor("c1", ttft_error_p50_s=0.05)))
    assert {check.code: check.verdict for check in checks}["CLIENT_LAG"] == "invalid"


def test_the_table_of_an_open_loop(run: Run) -> None:
    text = printed(run(load=OPEN_LOOP, rows=open_records(ALPHA, 10.0, 5, [0, 10, 20, 30, 40])))
    lines = {line[:19].strip(): line[19:].split() for line in text.splitlines()}
    assert lines["TTFT"] == ["100", "100", "100", "100", "5"]
    assert lines["TTFT from schedule"] == ["120", "120", "136", "140", "5"]
    assert lines["Dispatch delay"] == ["20.0", "20.0", "36.0", "39.6", "5"]
    assert "Offered request rate 10.0 requests/s" in text
    assert "invalid: RATE" in text and "ERROR_RATE" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


def test_a_closed_loop_has_no_rows_from_the_schedule(run: Run) -> None:
    text = printed(run())
    assert "schedule" not in text and "Dispatch" not in text and "4 ok" in text


def test_statuses_are_told(run: Run) -> None:
    rows = records(ALPHA, ONE)
    text = printed(run(rows=[cancelled(rows[0]), failed(rows[1]), *rows[2:]]))
    assert "2 ok, 1 cancelled, 1 failed" in text


@pytest.mark.parametrize("rows", [[], [failed(row) for row in records(ALPHA, ONE)]])
def test_nothing_came_back_and_still_a_table(run: Run, rows: list[object]) -> None:
    assert "TTFT" in printed(run(rows=rows))
