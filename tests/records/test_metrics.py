"""Every metric against numbers added up by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.records.metrics import METRICS, measure
from harness.records.request import Chunk
from harness.records.resources import RESOURCES
from tests.invented import ALPHA, FOUR, OFFLINE, ONE, cancelled, failed, open_records, records
from tests.invented_runs import Run
from tests.loads import load

# Alpha at c1: 4 requests one after another, each 100 ms + 4 x 20 ms = 180 ms; the last is sent at 540 ms, when the
# window ends.
AT_ONE = {
    **{f"ttft_p{q}": 0.100 for q in (50, 90, 95, 99)}, **{f"tpot_p{q}": 0.020 for q in (50, 90, 95, 99)},
    **{f"itl_p{q}": 0.020 for q in (50, 90, 95, 99)}, **{f"e2e_p{q}": 0.180 for q in (50, 90, 95, 99)},
    "ttft_mean": 0.100,
    "output_throughput": 15 / 0.54, "total_throughput": 63 / 0.54, "request_throughput": 3 / 0.54,
    "goodput": None, "goodput_fraction": None,
    "concurrency_mean": 1.0, "tokens_per_chunk": 1.0, "failed_fraction": 0.0, "client_lag_p99": 0.0001,
    "upload_p50": 0.0, "ttft_after_upload_p50": 0.100, "ttft_after_upload_p99": 0.100,
    **{f"{key}_scheduled_p{q}": None for key in ("ttft", "e2e") for q in (50, 90, 95, 99)},
    "output_throughput_per_gpu": None,
    "dispatch_delay_p50": None, "dispatch_delay_p99": None, "request_rate_offered": None,
    **{metric.key: None for metric in RESOURCES},  # without samples and without a price
}  # fmt: skip


def test_every_metric_of_a_run_added_up_by_hand(run: Run) -> None:
    found = measure(run())
    unknown = {key for key, value in AT_ONE.items() if value is None}
    assert {key for key, value in found.items() if value is None} == unknown
    for key in AT_ONE.keys() - unknown:
        assert found[key] == pytest.approx(AT_ONE[key], rel=1e-9, abs=1e-12), key
    assert set(AT_ONE) == {metric.key for metric in METRICS}


def test_four_slots_in_two_waves(run: Run) -> None:
    found = measure(run(load=FOUR))  # 8 requests, 2 x 180 ms
    assert found["output_throughput"] == pytest.approx(40 / 0.36)
    assert found["concurrency_mean"] == pytest.approx(4.0)


def test_the_batch_is_one_wave(run: Run) -> None:
    found = measure(run(load=OFFLINE))  # 6 requests at once, 180 ms
    assert found["request_throughput"] == pytest.approx(6 / 0.18)
    assert found["concurrency_mean"] == pytest.approx(6.0)


def test_percentiles_interpolate_linearly(run: Run) -> None:
    made = records(ALPHA, ONE)
    rows = [
        replace(row, first_token_s=(row.sent_s or 0.0) + 0.1 * (i + 1)) for i, row in enumerate(made)
    ]  # 100, 200, 300, 400 ms
    found = measure(run(rows=rows))
    assert found["ttft_p50"] == pytest.approx(0.250)
    assert found["ttft_p99"] == pytest.approx(0.397)  # 0.3 + 0.97 x 0.1
    assert found["ttft_mean"] == pytest.approx(0.250)


def test_tokens_of_the_first_event_are_not_in_tpot(run: Run) -> None:
    rows = [replace(row, first_event_tokens=3) for row in records(ALPHA, ONE)]
    assert measure(run(rows=rows))["tpot_p50"] == pytest.approx(0.080 / 2)


@pytest.mark.parametrize("first_event_tokens", [5, None])
def test_an_answer_in_one_event_has_no_tpot(run: Run, first_event_tokens: int | None) -> None:
    rows = [replace(row, first_event_tokens=first_event_tokens) for row in records(ALPHA, ONE)]
    found = measure(run(rows=rows))
    assert found["tpot_p50"] is None
    assert found["ttft_p50"] == pytest.approx(0.100)


def test_merged_chunks_show_in_tokens_per_chunk_and_not_across_requests(run: Run) -> None:
    first, second, *_ = records(ALPHA, ONE)
    rows = [
        replace(first, chunks=(Chunk(0, 0, 2), Chunk(30_000_000, 30_000_000, 3))),
        replace(second, chunks=(Chunk(500_000_000, 500_000_000, 1), Chunk(510_000_000, 510_000_000, 4))),
    ]
    found = measure(run(rows=rows))
    assert found["tokens_per_chunk"] == pytest.approx(10 / 4)
    assert found["itl_p50"] == pytest.approx(0.020)  # of 30 and 10 ms; the 470 ms between requests is none


def test_failures_are_in_no_latency_and_no_throughput(run: Run) -> None:
    rows = records(ALPHA, ONE)
    rows[3] = failed(rows[3])
    found = measure(run(rows=rows))
    assert found["failed_fraction"] == pytest.approx(0.25)
    assert found["output_throughput"] == pytest.approx(15 / 0.54)  # the window ends with the last ok one
    assert found["e2e_p99"] == pytest.approx(0.180)


def test_an_open_loop_is_measured_from_the_send_and_from_the_schedule(run: Run) -> None:
    rows = open_records(ALPHA, 10.0, 5, late_ms=[0, 10, 20, 30, 40])  # due every 100 ms
    found = measure(run(load=load(5, rate=10.0), rows=rows))
    assert found["ttft_p50"] == pytest.approx(0.100)
    assert found["ttft_scheduled_p50"] == pytest.approx(0.120)
    assert found["ttft_scheduled_p99"] == pytest.approx(0.1396)
    assert (found["e2e_p50"], found["e2e_scheduled_p50"]) == pytest.approx((0.180, 0.200))
    assert (found["dispatch_delay_p50"], found["dispatch_delay_p99"]) == pytest.approx((0.020, 0.0396))
    assert (found["upload_p50"], found["ttft_after_upload_p50"]) == pytest.approx((0.001, 0.099))
    assert found["request_rate_offered"] == pytest.approx(10.0)  # 4 intervals in 0.4 s


def test_the_delay_of_a_request_that_failed_counts(run: Run) -> None:
    rows = open_records(ALPHA, 10.0, 5, late_ms=[0, 0, 0, 0, 50])
    rows[4] = failed(rows[4])
    found = measure(run(load=load(5, rate=10.0), rows=rows))
    assert found["dispatch_delay_p99"] == pytest.approx(0.048)
    assert found["ttft_scheduled_p99"] == pytest.approx(0.100)


def test_a_request_given_up_as_planned_is_neither_ok_nor_failed(run: Run) -> None:
    rows = records(ALPHA, ONE)
    rows[3] = cancelled(rows[3])
    found = measure(run(rows=rows))
    assert found["failed_fraction"] == 0.0
    assert found["output_throughput"] == pytest.approx(15 / 0.54)
    assert found["tokens_per_chunk"] == 1.0


def test_measuring_changes_nothing_of_the_run(run: Run) -> None:
    made = run()
    assert measure(made) == measure(made)


def test_no_ok_request_is_null_not_zero(run: Run) -> None:
    found = measure(run(rows=[failed(row) for row in records(ALPHA, ONE)]))
    assert found.pop("failed_fraction") == 1.0
    assert set(found.values()) == {None}


def test_no_request_at_all_is_null(run: Run) -> None:
    assert set(measure(run(rows=[])).values()) == {None}
