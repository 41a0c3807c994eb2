"""Requests without a record."""

from __future__ import annotations

import pytest

from tests.invented import ALPHA, records
from tests.invented_runs import Run
from tests.judge.checking import check
from tests.loads import load

FIXED, BY_TIME = load(200, 4), load(concurrency=4, at_least_s=10.0)


@pytest.mark.parametrize(("kept", "verdict"), [(200, "ok"), (199, "doubt"), (197, "invalid")])
def test_a_fixed_number_of_requests(run: Run, kept: int, verdict: str) -> None:
    found = check([run(load=FIXED, rows=records(ALPHA, FIXED)[:kept])], "ERROR_RATE")
    assert found.verdict == verdict
    assert ("have a record" in found.message) == (verdict != "ok")


def test_a_load_by_time_sends_fewer_than_its_schedule_holds(run: Run) -> None:
    rows = records(ALPHA, FIXED)
    made = {"load": BY_TIME, "schedule__requests": 1000}
    assert check([run(rows=rows, **made), run(round_index=2, rows=rows[:60], **made)], "ERROR_RATE").verdict == "ok"
    found = check([run(rows=rows, **made), run(round_index=2, rows=rows[::2], **made)], "ERROR_RATE")
    assert found.verdict == "invalid" and "In round 2 only 100 of 199" in found.message
