"""The engine's counter of generated tokens against the tokens received."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.invented import ALPHA, ONE, cancelled, failed, records
from tests.invented_runs import Run
from tests.judge.checking import check
from tests.loads import load

MANY = load(100, 1)  # 500 tokens, 5 a request


@pytest.mark.parametrize(
    ("counted", "verdict"),
    [(500, "ok"), (505, "ok"), (495, "ok"), (510, "doubt"), (490, "doubt"), (560, "invalid"), (50, "invalid")],
)
def test_one_request_and_one_per_cent_may_differ(run: Run, counted: float, verdict: str) -> None:
    found = check([run(load=MANY, counters={"output_tokens": counted})], "TOKEN_COUNT")
    assert (found.verdict, found.numbers["counter_tokens"]) == (verdict, counted)
    assert found.numbers["requests"] == 100  # the counts of the requests are there too


def test_the_worst_round_counts(run: Run) -> None:
    counts = {1: 500.0, 2: 5000.0, 3: 500.0}
    found = check(
        [run(load=MANY, round_index=r, counters={"output_tokens": n}) for r, n in counts.items()], "TOKEN_COUNT"
    )
    assert found.verdict == "invalid" and "in round 2" in found.message and "10 times as many" in found.message


def test_a_counter_that_stands_still_says_nothing_about_the_tokens(run: Run) -> None:
    found = check([run(load=MANY, counters={"output_tokens": 0.0})], "TOKEN_COUNT")
    assert found.verdict == "doubt" and "did not rise" in found.message


@pytest.mark.parametrize("counters", [{}, {"output_tokens": None}])
def test_without_a_counter_the_requests_decide(run: Run, counters: dict[str, float | None]) -> None:
    found = check([run(load=MANY, counters=counters)], "TOKEN_COUNT")
    assert found.verdict == "ok" and "counter_tokens" not in found.numbers


def test_what_was_generated_for_requests_that_ended_early_is_not_known(run: Run) -> None:
    """Of 40 cancelled requests 3 tokens each were not received, of 10 failed ones all 5."""
    rows = [cancelled(r) if r.index < 40 else failed(r) if r.index < 50 else r for r in records(ALPHA, MANY)]
    received = 40 * 2 + 50 * 5
    for more in (0, 40 * 3 + 10 * 5):
        found = check([run(load=MANY, rows=rows, counters={"output_tokens": received + more})], "TOKEN_COUNT")
        assert found.verdict == "ok"
    found = check([run(load=MANY, rows=rows, counters={"output_tokens": received + 240})], "TOKEN_COUNT")
    assert found.verdict == "invalid"


def test_both_faults_are_said(run: Run) -> None:
    rows = [replace(row, reported_tokens=4) for row in records(ALPHA, ONE)]
    found = check([run(rows=rows, counters={"output_tokens": 100.0})], "TOKEN_COUNT")
    assert found.verdict == "invalid"
    assert "are not the same" in found.message and "The engine counted 100" in found.message
