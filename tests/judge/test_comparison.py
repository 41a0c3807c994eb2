"""The comparison of invented runs: order, ratios, refusals, JSON."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from harness.errors import HarnessError, NotComparable
from harness.judge.comparison import Comparison, compare
from harness.judge.loads import LoadSummary
from harness.judge.questions import QUESTIONS
from harness.records.metrics import METRICS
from harness.records.run import RunResult
from harness.workload.loads import AllAtOnce, Batches, ClosedLoop, Load, OpenLoop
from tests.invented import (
    ALPHA,
    BETA,
    FOUR,
    ONE,
    calibration,
    campaign,
    cancelled,
    failed,
    floor,
    open_records,
    records,
)
from tests.invented_runs import Run
from tests.judge.checking import check
from tests.loads import load


def test_cells_and_their_metrics(invented_runs: list[RunResult]) -> None:
    comparison = compare(invented_runs, campaign())
    assert [(c.load, c.candidate) for c in comparison.cells] == [
        (point, engine) for point in ("c1", "c4", "offline") for engine in ("alpha", "beta")
    ]
    cell = comparison.cell("alpha", "c1")
    assert cell is not None
    assert (cell.rounds, cell.requests_ok, cell.requests_failed) == ((1, 2, 3), 12, 0)
    assert cell.schedule_digests == ("c1-1", "c1-2", "c1-3")
    assert cell.output_tokens_per_request == (5,)
    ttft = cell.metrics["ttft_p50"]
    assert ttft.per_round == pytest.approx((0.100, 0.101, 0.099))
    assert ttft.mean == pytest.approx((0.100 * 0.101 * 0.099) ** (1 / 3), rel=1e-6)
    assert ttft.mean is not None and ttft.low is not None and ttft.high is not None
    assert ttft.low * ttft.high == pytest.approx(ttft.mean**2)  # multiplicative: as many times below as above
    assert comparison.cell("alpha", "c99") is None


def test_pairs_and_the_reference(invented_runs: list[RunResult]) -> None:
    comparison = compare(invented_runs, campaign())
    assert comparison.reference == "alpha"
    # Without an SLO there is no goodput, and no question about it.
    assert {pair.question for pair in comparison.pairs} == {q.key for q in QUESTIONS} - {"goodput"}
    assert len(comparison.pairs) == 3 * (len(QUESTIONS) - 1)
    for point in ("c1", "c4", "offline"):
        faster = comparison.to_reference("beta", point, "output_throughput")
        sooner = comparison.to_reference("beta", point, "ttft_p50")
        assert faster is not None and sooner is not None
        assert faster.ratio == pytest.approx(2.0) and faster.verdict == "faster"  # 180 against 90 ms
        assert sooner.ratio == pytest.approx(0.5) and sooner.verdict == "faster"
    turned = compare(invented_runs, campaign(["beta", "alpha"]))
    slower = turned.to_reference("alpha", "c1", "output_throughput")
    assert slower is not None and slower.ratio == pytest.approx(0.5) and slower.verdict == "slower"


def test_the_order_of_the_runs_does_not_matter(invented_runs: list[RunResult]) -> None:
    assert compare(invented_runs[::-1], campaign()) == compare(invented_runs, campaign())


def test_summary_and_loads(invented_runs: list[RunResult]) -> None:
    comparison = compare(invented_runs, campaign())
    alpha, beta = comparison.candidates
    assert alpha.cold_start_s == {"load": 2.0, "ready": 3.0}
    assert alpha.settings == {"prefix_cache": "false", "context_tokens": "1024", "threads": "8"}
    assert alpha.declared == {"scheduler": "Alpha's own"}
    assert alpha.answers is None and beta.answers is not None and beta.answers.leading == 1.0
    assert [p.description for p in comparison.loads] == [
        "closed loop of 1, 4 requests", "closed loop of 4, 8 requests", "offline batch, 6 requests",
    ]  # fmt: skip
    assert comparison.formulas.keys() == {metric.key for metric in METRICS}
    assert comparison.machines[0].cpu == "Invented CPU 3000"


@pytest.mark.parametrize(
    ("asked", "kind", "rate", "said"),
    [
        (load(5, rate=2.0), OpenLoop, 2.0, "Poisson arrivals at 2 requests/s, 5 requests"),
        (load(5, rate=2.0, arrivals="constant"), OpenLoop, 2.0, "even arrivals at 2 requests/s, 5 requests"),
        (load(5, rate=2.0, ramp_to=20.0), OpenLoop, 11.0, "Poisson arrivals from 2 to 20 requests/s, 5 requests"),
        (load(5, arrivals="trace"), OpenLoop, 10.0, "the trace's times (10 requests/s), 5 requests"),
        (load(5, arrivals="trace", rate=3.0), OpenLoop, 3.0,
         "the trace's times, stretched to 3 requests/s, 5 requests"),
        (load(8, batch=4), Batches, None, "static batches of 4, 8 requests"),
        (load(8, 4, ramp_s=2.0), ClosedLoop, None, "closed loop of 4 opening over 2 s, 8 requests"),
        (load(6), AllAtOnce, None, "offline batch, 6 requests"),
    ],
)  # fmt: skip
def test_kinds_of_load(run: Run, asked: Load, kind: type[Load], rate: float | None, said: str) -> None:
    rows = open_records(ALPHA, 10.0, 5) if asked.open_loop else records(ALPHA, ONE)
    (found,) = compare([run(load=asked, rows=rows)], campaign()).loads
    assert isinstance(found.load, kind) and found.description == said
    assert found.rate == (None if rate is None else pytest.approx(rate))
    assert msgspec.json.decode(msgspec.json.encode(found), type=LoadSummary) == found


def test_the_calibration_is_stored_beside_what_it_was_used_for(run: Run) -> None:
    comparison = compare([run()], campaign(), calibration(floor("c1")))
    again = msgspec.json.decode(msgspec.json.encode(comparison), type=Comparison)
    assert again.calibration is not None and again.calibration.floors[0].load == "c1"
    assert compare([run()], campaign()).calibration is None


def test_requests_given_up_are_counted_by_themselves(run: Run) -> None:
    rows = [cancelled(row) if row.index == 0 else row for row in records(ALPHA, ONE)]
    (cell,) = compare([run(rows=rows)], campaign()).cells
    assert (cell.requests_ok, cell.requests_failed, cell.requests_cancelled) == (3, 0, 1)


@pytest.mark.parametrize(("ended", "verdict"), [(4, "doubt"), (3, "ok")])
def test_a_run_in_which_every_request_was_cancelled_is_a_doubt(run: Run, ended: int, verdict: str) -> None:
    rows = [cancelled(row) if row.index < ended else row for row in records(ALPHA, ONE)]
    got = check([run(rows=rows)], "ERROR_RATE")
    assert got.verdict == verdict and f"{ended} of 4 were cancelled by their user, as planned" in got.message


def test_cold_start_weighs_rounds_alike(run: Run) -> None:
    runs = [
        run(load=ONE, round_index=1, endpoint__cold_start_s={"load": 2.0}),
        run(load=FOUR, round_index=1, endpoint__cold_start_s={"load": 2.0}),
        run(load=ONE, round_index=2, endpoint__cold_start_s={"load": 4.0}),
    ]
    assert compare(runs, campaign(["alpha"])).candidates[0].cold_start_s == {"load": 3.0}


def test_a_server_that_already_ran_has_no_cold_start(run: Run) -> None:
    attached = run(endpoint__launch="attach", endpoint__cold_start_s={"first_token": 0.02})
    assert compare([attached], campaign(["alpha"])).candidates[0].cold_start_s == {}


def test_a_long_error_keeps_what_to_do_about_it(run: Run) -> None:
    error = f"HTTP 503: {'x' * 200}... (5000 characters); it is not ready, or overloaded"
    rows = [replace(failed(row), error=error) for row in records(ALPHA, ONE)]
    assert f"First error: {error}." in check([run(rows=rows)], "ERROR_RATE").message


def test_an_invalid_cell_is_not_ranked(run: Run) -> None:
    runs = [run(round_index=r) for r in (1, 2)]
    runs += [
        run(BETA, round_index=r, rows=[failed(row) if row.index == 0 else row for row in records(BETA, ONE)])
        for r in (1, 2)
    ]
    comparison = compare(runs, campaign())
    pair = comparison.pair("beta", "alpha", "c1", "output_throughput")
    assert pair is not None
    assert (pair.ratio, pair.low, pair.verdict, pair.reason) == (None, None, "invalid", "beta: ERROR_RATE")
    assert [cell.candidate for cell in comparison.invalid_cells] == ["beta"]


def test_pairs_use_only_the_rounds_that_both_have(run: Run) -> None:
    runs = [run(round_index=r) for r in (1, 2, 3)] + [run(BETA, round_index=r) for r in (2, 3)]
    pair = compare(runs, campaign()).pair("beta", "alpha", "c1", "ttft_p50")
    assert pair is not None and pair.rounds == 2 and pair.ratio == pytest.approx(0.5)


def test_rounds_are_paired_by_number_not_by_place(run: Run) -> None:
    runs = [run(round_index=r) for r in (1, 2)] + [run(BETA, round_index=r) for r in (2, 3)]
    pair = compare(runs, campaign()).pair("beta", "alpha", "c1", "ttft_p50")
    assert pair is not None and pair.rounds == 1 and pair.ratio == pytest.approx(0.5)


def test_one_round_in_common_cannot_say(run: Run) -> None:
    pair = compare([run(), run(BETA)], campaign()).pair("beta", "alpha", "c1", "ttft_p50")
    assert pair is not None
    assert pair.verdict == "not known" and pair.low is None and pair.ratio == pytest.approx(0.5)
    assert pair.reason == "one round in common has a value, and an interval needs 2"


def test_an_engine_asked_for_without_runs_is_skipped_with_a_reason(run: Run) -> None:
    asked = campaign(["gamma", "alpha", "delta"], {"gamma": "no GPU"})
    assert compare([run()], asked).skipped == {"gamma": "no GPU", "delta": "no finished run"}
    broken_off = replace(asked, finished=False)
    assert "interrupted" in compare([run()], broken_off).skipped["delta"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schedule__digest": "other"}, "different schedules"),
        ({"schedule__whole": "other"}, "different workloads"),
        ({"model__name": "other"}, "different models"),
        ({"model__digest": "other"}, "different models"),
        ({"machine__id": "box-2"}, "different machines: the same kind, but two machines"),
        ({"machine__id": "box-2", "machine__cores": 16}, "different machines: cores 8 against 16"),
    ],
)
def test_runs_that_answer_other_questions_are_refused(run: Run, change: dict[str, Any], said: str) -> None:
    alpha, beta = run(), run(BETA, **change)
    with pytest.raises(NotComparable, match=said) as caught:
        compare([alpha, beta], campaign())
    text = str(caught.value)
    assert str(alpha.folder) in text and str(beta.folder) in text and "\n" not in text


def test_schedules_may_differ_between_rounds_and_loads(run: Run) -> None:
    compare([run(), run(round_index=2), run(load=FOUR)], campaign())


def test_a_run_given_twice_is_refused(run: Run) -> None:
    made = run()
    with pytest.raises(NotComparable, match="same run twice; move one of them"):
        compare([made, replace(made, folder=made.folder.parent / "copy")], campaign())


def test_nothing_to_compare() -> None:
    with pytest.raises(HarnessError, match="no finished run"):
        compare([], campaign())


def test_json_round_trip(invented_runs: list[RunResult]) -> None:
    comparison = compare(invented_runs, campaign())
    text = msgspec.json.encode(comparison)
    again = msgspec.json.decode(text, type=Comparison)
    assert msgspec.json.encode(again) == text
    assert again.cells[0].metrics == comparison.cells[0].metrics
    assert again.schema == 3
