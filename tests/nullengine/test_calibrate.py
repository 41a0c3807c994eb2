"""The calibration: which loads it replays, and how its repeats become one floor."""

from __future__ import annotations

import gc
import warnings
from dataclasses import replace
from typing import Any

import pytest

from harness.nullengine.calibrate import (
    MOST_REQUESTS,
    OUTPUT_TOKENS,
    PACES,
    REPEAT_S,
    Pace,
    calibrate,
    combined,
    null_server,
    paces_for,
    shortened,
)
from harness.workload.lengths import Lengths
from harness.workload.loads import Batches, ClosedLoop, Load, OpenLoop
from harness.workload.schedule import build_schedule
from harness.workload.spec import Workload
from tests.invented import floor
from tests.loads import load


def workload(*loads: Load) -> Workload:
    return Workload(input_tokens=64, output_tokens=128, load=loads)


def test_the_floor_is_the_median_of_the_repeats() -> None:
    made = combined([floor("c1", tpot_error_p50_s=error, tokens_per_s=100.0 + error) for error in (3e-6, 1e-6, 2e-6)])
    assert (made.tpot_error_p50_s, made.tokens_per_s) == (2e-6, 100.0 + 2e-6)
    assert (made.repeats, made.disturbed, made.requests) == (3, (), 300)


@pytest.mark.parametrize("name", ["ttft_error_p50_s", "tpot_error_p99_s", "lag_p99_s"])
def test_a_disturbed_repeat_is_left_out_and_named(name: str) -> None:
    """Once, one such repeat made every cell of a load invalid."""
    quiet = floor("c4", ttft_error_p50_s=1e-4)
    changes: dict[str, Any] = {name: 0.031, "tokens_per_s": 1.0}
    made = combined([quiet, replace(quiet, **changes), quiet])
    assert getattr(made, name) == getattr(quiet, name)
    assert (made.repeats, made.tokens_per_s) == (2, quiet.tokens_per_s)
    (why,) = made.disturbed
    assert why.startswith("repeat 2: ") and "31 ms" in why


def test_a_machine_that_is_always_so_is_not_disturbed() -> None:
    rough = floor("c4", lag_p99_s=0.01)
    made = combined([rough, replace(rough, lag_p99_s=0.02), replace(rough, lag_p99_s=0.015)])
    assert (made.lag_p99_s, made.repeats, made.disturbed) == (0.015, 3, ())


def test_requests_that_failed_in_any_repeat_count() -> None:
    assert combined([floor(), floor(failed=2), floor()]).failed == 2


def test_a_number_that_no_repeat_has_stays_unknown() -> None:
    assert combined([floor(dispatch_delay_p99_s=None)] * 3).dispatch_delay_p99_s is None


@pytest.mark.parametrize("pace", PACES)
def test_a_closed_loop_is_as_long_at_every_pace(pace: Pace) -> None:
    shape, short = shortened(workload(), load(10_000, 4, ramp_s=30.0, duration_s=60.0), pace)
    assert isinstance(short, ClosedLoop) and (short.concurrency, short.duration_s, short.ramp_s) == (4, None, 0.0)
    seconds = (short.requests or 0) / 4 * pace.answer_s
    assert REPEAT_S <= seconds < REPEAT_S + pace.answer_s
    assert shape.output_tokens == OUTPUT_TOKENS


def test_a_wide_load_is_capped_but_fills_its_slots_twice() -> None:
    for slots in (512, 1500):
        _, short = shortened(workload(), load(100_000, slots), PACES[-1])
        assert short.requests == max(MOST_REQUESTS, 2 * slots)


def test_batches_stay_whole() -> None:
    _, short = shortened(workload(), Batches(requests=600, batch=6), PACES[0])
    assert isinstance(short, Batches) and (short.requests or 0) % 6 == 0


@pytest.mark.parametrize("tokens", [16, 128, 1024])
def test_an_open_loop_offers_a_quarter_more_tokens_than_the_load(tokens: int) -> None:
    one = load(400, rate=20.0)
    shape, short = shortened(replace(workload(one), output_tokens=tokens), one)
    schedule = build_schedule(shape, short, 1, range(8000))
    assert isinstance(short, OpenLoop) and short.rate is not None and isinstance(shape.output_tokens, int)
    assert short.rate * shape.output_tokens == pytest.approx(1.25 * 20.0 * tokens)
    assert len(schedule.requests) == pytest.approx(short.rate, abs=1)  # a second


def test_an_open_loop_has_one_pace_since_the_clock_sets_its_rate() -> None:
    assert paces_for(load(400, rate=20.0)) == PACES[:1]
    assert paces_for(load(400, 4)) == PACES


@pytest.mark.live
def test_the_client_keeps_up_with_every_pace_at_one_slot() -> None:
    """A GPU at c1 writes a token every 1.1 ms: the calibration must have been at that rate."""
    found = calibrate(workload(load(10, 1)), 1, "2026-09-01T00:00:00Z", lambda _: None)
    assert [floor.interval_s for floor in found.floors] == [pace.interval_s for pace in PACES]
    chosen = found.floor("c1", 1 / 0.0011)
    assert chosen is not None and chosen.interval_s == 0.001
    assert {floor.failed for floor in found.floors} == {0}


def test_loads_by_time_and_lengths_from_a_range_are_calibrated_without_either() -> None:
    drawn = replace(workload(), output_tokens=Lengths(64, 192))
    by_time = load(None, 4, at_least_s=20.0, at_least_requests=40, at_most_s=60.0)
    shape, short = shortened(drawn, by_time)
    assert isinstance(short, ClosedLoop)
    assert (shape.output_tokens, short.stops_after_s, short.enough) == (OUTPUT_TOKENS, None, None)
    one = load(None, rate=20.0, at_least_s=20.0, at_least_requests=40, at_most_s=60.0)
    shape, short = shortened(drawn, one)
    assert isinstance(short, OpenLoop) and (short.at_least_s, short.rate) == (None, 25.0)
    assert shape.output_tokens == pytest.approx(128, rel=0.1)  # the mean


@pytest.mark.live
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_waiting_for_the_null_server_leaves_no_socket_open() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with null_server(0.0, 0.0):
            pass
        gc.collect()
