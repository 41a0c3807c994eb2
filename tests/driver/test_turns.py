"""Whose turn it is, and when: with a clock that the tests turn."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.driver.turns import Pace, Turns
from harness.workload.schedule import Request

MS = 1_000_000
START = 5_000 * MS


def requests_of(times: Sequence[float | None], per_batch: int = 10_000) -> tuple[Request, ...]:
    return tuple(Request(i, (i,), 4, scheduled_s=at, batch=i // per_batch) for i, at in enumerate(times))


def turns_of(times: Sequence[float | None], slots: int | None = None, per_batch: int = 10_000) -> Turns[Request]:
    turns = Turns(requests_of(times, per_batch), slots)
    turns.start(START)
    return turns


def sent(turns: Turns[Request], now: int = START, size: int = 0) -> list[int]:
    """Nanoseconds after the start at which each leaves that may before another ends, sent as soon as it may."""
    at = []
    while (due := turns.due_ns(now)) is not None:
        now = max(now, due)
        turns.take()
        if turns.pace is not None:
            turns.pace.left(now, size)
        at.append(now - START)
    return at


def test_slots_open_over_the_ramp_and_are_never_exceeded() -> None:
    turns = Turns(requests_of([None] * 9), slots=4, ramp_s=0.4)
    turns.start(START)
    assert [at // MS for at in sent(turns)] == [0, 100, 200, 300]
    turns.ended(Request(0, (0,), 4))
    assert turns.due_ns(START + 300 * MS) is not None


def test_a_batch_waits_for_all_of_the_one_before() -> None:
    turns = turns_of([None] * 4, per_batch=2)
    first, second = turns.take(), turns.take()
    assert turns.due_ns(START + MS) is None
    turns.ended(second)
    assert turns.due_ns(START + MS) is None
    turns.ended(first)
    assert turns.due_ns(START + MS) == START


def test_scheduled_times_count_from_the_start() -> None:
    turns = turns_of([0.0, 0.25])
    assert turns.due_ns(START) == START
    turns.take()
    assert turns.due_ns(START) == START + 250 * MS


def test_nothing_is_sent_after_the_stop() -> None:
    turns = turns_of([None, None])
    turns.take()
    turns.stop()
    assert turns.due_ns(START) is None and not turns.waiting and turns.busy == 1


@given(
    per_batch=st.integers(1, 5), slots=st.none() | st.integers(1, 4), order=st.lists(st.integers(0, 99), max_size=99)
)
def test_whatever_ends_first_all_are_sent_in_order_and_never_two_batches_together(
    per_batch: int, slots: int | None, order: list[int]
) -> None:
    turns = turns_of([None] * 13, slots, per_batch)
    flying: list[Request] = []
    seen = []
    while turns.busy or turns.waiting:
        if turns.due_ns(START) is not None:
            flying.append(turns.take())
            seen.append(flying[-1].index)
        else:
            turns.ended(flying.pop((order.pop() if order else 0) % len(flying)))
        assert len({request.batch for request in flying}) <= 1
        assert turns.busy == len(flying) <= min(per_batch, slots or per_batch)
    assert seen == list(range(13))


def paced(together: int, count: int, catch_up_ns: int = 0, drivers: int = 1) -> Turns[Request]:
    turns = Turns(requests_of([None] * count), None, pace=Pace(together, catch_up_ns, drivers))
    turns.start(START)
    return turns


def test_eight_leave_at_once_and_the_others_behind_each_other() -> None:
    at = sent(paced(100, 100))
    # As many as 60 µs apart are in the time, but by eights: each wake-up takes the client from reading.
    assert at == [k // 8 * 8 * 60_000 for k in range(100)]


def test_a_thousand_leave_within_54_ms() -> None:
    at = sent(paced(1024, 2048))
    assert 53 * MS < at[1023] < 54 * MS
    assert 53 * MS < at[2047] - at[1023] < 55 * MS


@pytest.mark.parametrize("drivers", [2, 3, 8, 16])
def test_several_drivers_together_are_no_faster_than_one_that_has_the_whole_load(drivers: int) -> None:
    part = 1008 // drivers
    one = sent(paced(1008, 2016))
    together = sorted(at for _ in range(drivers) for at in sent(paced(part, 2 * part, drivers=drivers)))
    assert together.count(0) == max(8 // drivers, 1) * drivers
    # A burst is at most one of each driver ahead of, or behind, what one driver would do.
    assert max(abs(a - b) for a, b in zip(one, together, strict=True)) <= 2 * drivers * 54_000


def test_each_byte_of_a_request_keeps_the_next_one_back_by_a_nanosecond() -> None:
    assert sent(paced(64, 64), size=350_000)[-1] == pytest.approx(64 * 410_000, rel=0.15)


def test_what_a_late_client_missed_is_caught_up_no_further_than_said() -> None:
    turns = paced(100, 1000, catch_up_ns=600_000)
    late = sent(turns, START + 50 * MS)
    # What has come due by now: a burst of 8, and what falls due in 0.6 ms.
    assert late.count(50 * MS) == 8 + 10


def test_nothing_leaves_before_the_start() -> None:
    assert sent(paced(100, 20), START - 100_000)[0] == 0


def test_scheduled_times_have_no_pace() -> None:
    turns = Turns(requests_of([0.001] * 100), None, pace=Pace(100))
    turns.start(START)
    assert sent(turns) == [MS] * 100
