"""The window of a run: what is cut, and which numbers it changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.records.metrics import measure
from harness.records.request import Chunk, RequestRecord
from harness.records.window import window_of
from harness.workload.slo import Slo
from tests.invented import ALPHA, FOUR, OFFLINE, cancelled, failed, moved, open_records, records
from tests.invented_runs import Run
from tests.loads import load

E2E = 0.180  # of Alpha: 100 ms + 4 x 20 ms
TURN = 0.181  # a slot sends 1 ms after its last answer


def staggered(waves: int = 3) -> list[RequestRecord]:
    """Four slots that open 30 ms apart, each sending its next request when its last one is done."""
    lone = records(ALPHA, load(4 * waves))  # as a batch: all sent at 0
    return [replace(moved(row, 0, TURN * (i // 4) + 0.03 * (i % 4)), scheduled_s=None) for i, row in enumerate(lone)]


def test_ramp_and_tail_of_a_closed_loop_are_cut(run: Run) -> None:
    made = run(load=load(12, 4), rows=staggered())
    window = window_of(made)
    assert window is not None and window.steady
    # The fourth slot opens at 90 ms; the last request goes out at 2 x 181 + 90 ms.
    assert (window.start_s, window.end_s) == pytest.approx((0.090, 0.452))
    assert (window.before, window.after) == (3, 4)
    found = measure(made)
    # Two whole turns of each of 4 slots, 5 tokens each, in 362 ms.
    assert found["output_throughput"] == pytest.approx(40 / 0.362)
    assert found["concurrency_mean"] == pytest.approx(4 * 180 / 181)


def test_a_slow_ramp_is_in_no_latency(run: Run) -> None:
    rows = staggered()
    # The three requests of the ramp had the engine for themselves.
    for i in range(3):
        first = rows[i].chunks[0]
        rows[i] = replace(rows[i], first_token_s=(rows[i].sent_s or 0.0) + 0.001, chunks=(first, *rows[i].chunks[1:]))
    found = measure(run(load=load(12, 4), rows=rows))
    assert found["ttft_p50"] == pytest.approx(0.100)
    assert found["ttft_mean"] == pytest.approx(0.100)


def test_the_tail_is_not_in_the_throughput(run: Run) -> None:
    rows = staggered()
    last = rows[-1]
    late = tuple(Chunk(c.arrival_ns + 10**9, c.read_ns + 10**9, c.tokens) for c in last.chunks)
    # The last answer comes a second late: alone in the engine, it says nothing about a load of four.
    rows[-1] = replace(last, chunks=late, done_s=(last.done_s or 0.0) + 1, last_token_s=(last.last_token_s or 0.0) + 1)
    assert measure(run(load=load(12, 4), rows=rows))["output_throughput"] == pytest.approx(40 / 0.362)


@pytest.mark.parametrize("rows", [4, 7])
def test_a_closed_loop_of_fewer_than_two_waves_has_no_steady_part(run: Run, rows: int) -> None:
    window = window_of(run(load=load(rows, 4), rows=records(ALPHA, load(rows, 4))))
    assert window is not None and not window.steady


def test_a_batch_is_measured_whole(run: Run) -> None:
    window = window_of(run(load=OFFLINE))
    assert window is not None and not window.steady
    assert (window.start_s, window.end_s) == pytest.approx((0.0, E2E))


def test_an_open_loop_is_steady_from_its_first_answer_to_its_last_send(run: Run) -> None:
    window = window_of(run(load=load(5, rate=10.0), rows=open_records(ALPHA, 10.0, 5)))
    assert window is not None and window.steady
    assert (window.start_s, window.end_s) == pytest.approx((E2E, 0.4))
    assert (window.before, window.after) == (0, 2)


def test_slots_whose_requests_fail_count_as_empty(run: Run) -> None:
    rows = [failed(row) if row.index < 4 else row for row in records(ALPHA, FOUR)]
    window = window_of(run(load=FOUR, rows=rows))
    # The first wave failed at once, so four answers never were in flight before the last send.
    assert window is not None and not window.steady


def test_without_an_ok_request_there_is_no_window(run: Run) -> None:
    assert window_of(run(load=FOUR, rows=[failed(row) for row in records(ALPHA, FOUR)])) is None


def test_goodput_is_a_rate_and_a_share_of_the_requests_issued(run: Run) -> None:
    rows = staggered()
    rows[5] = replace(rows[5], first_token_s=(rows[5].sent_s or 0.0) + 0.150)  # a late first token
    rows[6] = failed(rows[6])
    rows[7] = cancelled(rows[7])
    slo = Slo(ttft_s=0.120, tpot_s=0.025)
    found = measure(run(load=load(12, 4), rows=rows, slo=slo))
    # Sent in the window: 3 to 11. Request 7 was cancelled as planned; of the other 8, 5 is late and 6 failed.
    assert found["goodput_fraction"] == pytest.approx(6 / 8)
    # Ended in it: 0 to 7; of these 5 is late, 6 failed and 7 was cancelled.
    assert found["goodput"] == pytest.approx(5 / 0.362)
    assert measure(run(load=load(12, 4), rows=rows, slo=Slo(e2e_s=0.1)))["goodput"] == 0.0


def test_goodput_counts_from_the_scheduled_time(run: Run) -> None:
    rows = open_records(ALPHA, 10.0, 5, late_ms=[0, 0, 50, 0, 0])
    slo = Slo(ttft_s=0.120)
    assert measure(run(load=load(5, rate=10.0), rows=rows, slo=slo))["goodput_fraction"] == pytest.approx(4 / 5)
