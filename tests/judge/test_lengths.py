"""Answers that are not as long as asked for: whose fault it is, and which numbers still hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.judge.comparison import compare
from harness.records.request import RequestRecord
from tests.invented import ALPHA, BETA, Invented, campaign, records
from tests.invented_runs import Run
from tests.judge.checking import check
from tests.loads import load

TEN = load(10, 1)
ATTACHED: dict[str, Any] = {"endpoint__launch": "attach", "endpoint__url": "http://server.example"}


def stopping(engine: Invented, tokens: int, early: int = 10, **changes: Any) -> list[RequestRecord]:
    """Answers of 10 tokens, the first `early` of them ended by the model after fewer."""
    short = [replace(r, finish_reason="stop", **changes) for r in records(engine, TEN, tokens=tokens)]
    rows = [*short[:early], *records(engine, TEN, tokens=10)[early:]]
    return [replace(row, asked_tokens=10, index=i) for i, row in enumerate(rows)]


def test_a_single_server_that_stops_early_is_a_doubt_and_its_counts_are_right(run: Run) -> None:
    runs = [run(load=TEN, rows=stopping(ALPHA, 7, early=4), **ATTACHED)]
    found = check(runs, "LENGTH_PARITY")
    assert found.verdict == "doubt"
    assert "4 of 10 answers stopped early (finish reason: stop): 8.8 tokens on average, 10 asked for." in found.message
    assert check(runs, "TOKEN_COUNT").verdict == "ok"


def test_an_engine_that_was_started_to_force_the_length_is_invalid(run: Run) -> None:
    found = check([run(load=TEN, rows=stopping(ALPHA, 9, early=1))], "LENGTH_PARITY")
    assert found.verdict == "invalid" and "1 of 10 answers stopped early" in found.message


@pytest.mark.parametrize(
    ("mine", "other", "verdicts"),
    [(9, 10, ("doubt", "ok")), (7, 10, ("invalid", "ok")), (7, 7, ("note", "note")), (8, 7, ("doubt", "doubt"))],
    ids=["a little", "far", "alike", "both"],
)
def test_candidates_whose_lengths_are_far_apart_are_not_ranked(
    run: Run, mine: int, other: int, verdicts: tuple[str, str]
) -> None:
    runs = [
        run(load=TEN, rows=stopping(ALPHA, mine), **ATTACHED),
        run(BETA, load=TEN, rows=stopping(BETA, other), **ATTACHED),
    ]
    assert (check(runs, "LENGTH_PARITY").verdict, check(runs, "LENGTH_PARITY", "beta").verdict) == verdicts


def test_what_holds_per_token_is_compared_and_what_holds_per_request_is_not(run: Run) -> None:
    runs = []
    for r in (1, 2):
        runs.append(run(load=TEN, round_index=r, rows=stopping(ALPHA, 9), **ATTACHED))
        runs.append(run(BETA, load=TEN, round_index=r, rows=stopping(BETA, 10)))
    pairs = {pair.question: pair for pair in compare(runs, campaign()).pairs}
    assert pairs["e2e_p50"].ratio is None and pairs["e2e_p50"].verdict == "not known"
    assert pairs["e2e_p50"].reason == "alpha: answers are not as long as asked for"
    for question in ("tpot_p50", "ttft_p50", "output_throughput"):
        assert pairs[question].ratio is not None


def test_an_engine_that_cannot_go_on_says_why(run: Run) -> None:
    declared = {"end of sequence": "not held off"}
    found = check([run(load=TEN, rows=stopping(ALPHA, 7), endpoint__declared=declared)], "LENGTH_PARITY")
    assert found.verdict == "invalid" and "10 asked for. End of sequence: not held off." in found.message


def test_answers_that_are_longer_name_the_field_of_the_length(run: Run) -> None:
    found = check([run(load=TEN, rows=stopping(ALPHA, 12), **ATTACHED)], "LENGTH_PARITY")
    assert found.verdict == "doubt" and "10 of 10 answers are longer than asked for" in found.message
    assert "--length-field" in found.message


def test_events_that_hold_several_tokens_are_a_matter_of_counting(run: Run) -> None:
    """10 tokens were asked for, and the answer ended at its length with 5 events."""
    rows = [replace(row, asked_tokens=10, reported_tokens=None, count_source="events") for row in records(ALPHA, TEN)]
    runs = [run(load=TEN, rows=rows, **ATTACHED)]
    found = check(runs, "TOKEN_COUNT")
    assert found.verdict == "doubt" and "too low and TPOT too high, by about 2." in found.message
    assert check(runs, "LENGTH_PARITY").verdict == "ok"
    stopped = [replace(row, finish_reason="stop") for row in rows]
    assert check([run(load=TEN, rows=stopped, **ATTACHED)], "LENGTH_PARITY").verdict == "doubt"


def test_the_first_error_is_the_earliest(run: Run) -> None:
    """By the alphabet, and by the order of the schedule, the consequence came first."""
    consequence, cause = "connection refused", "HTTP 500: out of memory"
    rows = [replace(row, status="failed", error=consequence, done_s=2.0, chunks=()) for row in records(ALPHA, TEN)]
    rows[7] = replace(rows[7], error=cause, done_s=1.0)
    found = check([run(load=TEN, rows=rows)], "ERROR_RATE")
    assert f"First error: {cause} (1). Then: {consequence} (9)." in found.message
    assert found.numbers["errors"] == [cause, consequence] and found.numbers["error_counts"] == [1, 9]


NATURAL: dict[str, Any] = {"schedule__ends": "natural"}


@pytest.mark.parametrize(
    ("mine", "other", "changes", "verdict", "said"),
    [
        (7, 7, {}, "ok", "10 of 10 answers ended by themselves, 7 tokens on average. All candidates ended"),
        (9, 10, {}, "note", "Output lengths differ between candidates in 10 of 10 requests"),
        (10, 9, {}, "note", "Output lengths differ between candidates in 10 of 10 requests"),
        (7, 10, {}, "doubt", "tokens/s, E2E latency and goodput are those of other answers"),
        (7, 10, {"probe__prompt_as": "chat"}, "note", "Output lengths differ"),  # other prompts
        (7, 10, {"model__weights": "Q4_1"}, "note", "Output lengths differ"),
    ],
)
def test_answers_that_may_end_by_themselves_are_right_to(
    run: Run, mine: int, other: int, changes: dict[str, Any], verdict: str, said: str
) -> None:
    runs = [
        run(load=TEN, rows=stopping(ALPHA, mine), **NATURAL),
        run(BETA, load=TEN, rows=stopping(BETA, other), **NATURAL, **changes),
    ]
    found = check(runs, "LENGTH_PARITY")
    assert found.verdict == verdict and said in found.message


def test_an_answer_that_ends_early_without_saying_that_it_stopped_was_cut(run: Run) -> None:
    rows = [replace(row, finish_reason="length") for row in stopping(ALPHA, 7)]
    assert check([run(load=TEN, rows=rows, **NATURAL)], "LENGTH_PARITY").verdict == "invalid"


@pytest.mark.parametrize(
    ("tokens", "refused"),
    [(20, set()), (21, set()), (23, {"e2e_p50", "goodput"}), (30, {"e2e_p50", "goodput", "output_throughput"})],
)
def test_questions_about_whole_answers_need_answers_of_about_one_length(
    run: Run, tokens: int, refused: set[str]
) -> None:
    def rows(engine: Invented, tokens: int) -> list[RequestRecord]:
        made = records(engine, TEN, tokens=tokens)
        return [replace(row, finish_reason="stop", asked_tokens=40) for row in made]

    runs = [
        one
        for r in (1, 2)
        for one in (
            run(load=TEN, round_index=r, rows=rows(ALPHA, 20), **NATURAL),
            run(BETA, load=TEN, round_index=r, rows=rows(BETA, tokens), probe__prompt_as="chat", **NATURAL),
        )
    ]
    found = compare(runs, campaign())
    reasons = {pair.question: pair.reason or "" for pair in found.pairs}
    said = f"answers ended by themselves at other lengths: {tokens} and 20 tokens on average"
    assert {question for question, reason in reasons.items() if reason == said} == refused & reasons.keys()
    assert {"ttft_p50", "tpot_p50", "output_throughput", "e2e_p50"} <= reasons.keys()
