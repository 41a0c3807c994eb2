"""Whose turn it is, and when: with a clock that the tests turn."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.driver.turns import Ending, Pace, Turns
from harness.workload.enough import Enough
from harness.workload.schedule import Request

MS = 1_000_000
START = 5_000 * MS


def requests_of(times: Sequence[float | None], per_batch: int = 10_000) -> tuple[Request, ...]:
    """Batches of `per_batch`, the last one smaller where they do not divide."""

    def before(i: int) -> tuple[int, ...]:
        first = i // per_batch * per_batch
        return tuple(range(max(0, first - per_batch), first))

    return tuple(Request(i, (i,), 4, scheduled_s=at, after=before(i)) for i, at in enumerate(times))


def turns_of(times: Sequence[float | None], slots: int | None = None, per_batch: int = 10_000) -> Turns[Request]:
    turns = Turns(requests_of(times, per_batch), slots)
    turns.start(START)
    return turns


def sent(turns: Turns[Request], now: int = START, size: int = 0) -> list[int]:
    """Nanoseconds after the start at which each leaves that may before another ends, sent as soon as it may."""
    at = []
    while (due := turns.due_ns(now)) is not None:
        now = max(now, due)
        turns.take(now)
        if turns.pace is not None:
            turns.pace.left(now, size)
        at.append(now - START)
    return at


def test_slots_open_over_the_ramp_and_are_never_exceeded() -> None:
    turns = Turns(requests_of([None] * 9), slots=4, ramp_s=0.4)
    turns.start(START)
    assert [at // MS for at in sent(turns)] == [0, 100, 200, 300]
    turns.ended(Request(0, (0,), 4), START + 300 * MS)
    assert turns.due_ns(START + 300 * MS) is not None


def test_a_batch_waits_for_all_of_the_one_before() -> None:
    turns = turns_of([None] * 5, per_batch=2)
    (first, _), (second, _) = turns.take(START), turns.take(START)
    assert turns.due_ns(START + MS) is None
    turns.ended(second, START + MS)
    assert turns.due_ns(START + MS) is None
    turns.ended(first, START + 3 * MS)
    assert turns.due_ns(START + 3 * MS) == START + 3 * MS
    (third, third_due), (fourth, fourth_due) = turns.take(START + 4 * MS), turns.take(START + 4 * MS)
    assert (third.index, third_due) == (2, START + 3 * MS) and (fourth.index, fourth_due) == (3, START + 3 * MS)
    turns.ended(third, START + 5 * MS)
    assert turns.due_ns(START + 5 * MS) is None and turns.waiting
    turns.ended(fourth, START + 6 * MS)
    last, due = turns.take(START + 6 * MS)  # alone in its batch
    assert (last.index, due, turns.waiting) == (4, START + 6 * MS, False)


def test_a_batch_waits_for_the_last_end_whichever_is_heard_of_last() -> None:
    turns = turns_of([None] * 4, per_batch=2)
    (first, _), (second, _) = turns.take(START), turns.take(START)
    turns.ended(second, START + 3 * MS)
    turns.ended(first, START + 2 * MS)
    assert turns.due_ns(START + 3 * MS) == START + 3 * MS


def test_scheduled_times_count_from_the_start() -> None:
    turns = turns_of([0.0, 0.25])
    assert turns.due_ns(START) == START
    assert turns.take(START)[1] == START
    assert turns.due_ns(START) == START + 250 * MS


def test_nothing_is_sent_after_the_stop() -> None:
    turns = turns_of([None, None])
    turns.take(START)
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
            flying.append(turns.take(START)[0])
            seen.append(flying[-1].index)
        else:
            turns.ended(flying.pop((order.pop() if order else 0) % len(flying)), START)
        assert len({request.index // per_batch for request in flying}) <= 1
        assert turns.busy == len(flying) <= min(per_batch, slots or per_batch)
    assert seen == list(range(13))


# -- sessions -------------------------------------------------------------------------------------------------


def turn(index: int, *after: int, think_s: float = 0.0, scheduled_s: float | None = None) -> Request:
    return Request(index, (index,), 4, scheduled_s, after, think_s)


def started(*requests: Request, slots: int | None = None, pace: Pace | None = None) -> Turns[Request]:
    turns = Turns(requests, slots, pace=pace)
    turns.start(START)
    return turns


def taken(turns: Turns[Request], now: int) -> tuple[int, int | None] | None:
    """Which one leaves now, and when after the start it was due, in ms; null: none may."""
    at = turns.due_ns(now)
    if at is None or at > now:
        return None
    request, due = turns.take(now)
    return request.index, None if due is None else (due - START) // MS


def test_the_next_turn_is_due_its_think_time_after_the_one_before_has_ended() -> None:
    turns = started(turn(0), turn(1, 0, think_s=0.5), turn(2, 1))
    assert taken(turns, START) == (0, None)
    assert turns.due_ns(START + 900 * MS) is None and turns.waiting
    turns.ended(turn(0), START + 200 * MS)
    assert turns.due_ns(START + 200 * MS) == START + 700 * MS
    assert taken(turns, START + 710 * MS) == (1, 700)
    turns.ended(turn(1), START + 800 * MS)
    assert taken(turns, START + 900 * MS) == (2, 800)
    assert not turns.waiting


def test_a_request_that_is_free_goes_while_another_waits_for_its_think_time() -> None:
    turns = started(turn(0), turn(1, 0, think_s=1.0), turn(2), turn(3), slots=1)
    assert taken(turns, START) == (0, None)
    turns.ended(turn(0), START + 10 * MS)
    assert taken(turns, START + 10 * MS) == (2, None)
    assert taken(turns, START + 11 * MS) is None  # the only slot is taken
    turns.ended(turn(2), START + 20 * MS)
    assert taken(turns, START + 20 * MS) == (3, None)
    turns.ended(turn(3), START + 30 * MS)
    assert turns.due_ns(START + 30 * MS) == START + 1010 * MS
    assert taken(turns, START + 1010 * MS) == (1, 1010)


def test_who_thinks_less_goes_first_and_who_has_thought_before_who_has_not_begun() -> None:
    turns = started(turn(0), turn(1), turn(2, 0, think_s=0.5), turn(3, 1, think_s=0.2), turn(4), slots=2)
    assert [taken(turns, START) for _ in range(3)] == [(0, None), (1, None), None]
    turns.ended(turn(0), START)
    turns.ended(turn(1), START)
    assert taken(turns, START + 300 * MS) == (3, 200)
    assert taken(turns, START + 600 * MS) == (2, 500)
    turns.ended(turn(2), START + 700 * MS)
    assert taken(turns, START + 700 * MS) == (4, None)


def test_a_turn_that_waits_for_a_slot_keeps_the_time_at_which_it_was_due() -> None:
    turns = started(turn(0), turn(1, 0, think_s=0.1), turn(2), slots=1)
    assert taken(turns, START) == (0, None)
    turns.ended(turn(0), START)
    assert taken(turns, START) == (2, None)
    assert turns.due_ns(START + 400 * MS) is None
    turns.ended(turn(2), START + 500 * MS)
    assert taken(turns, START + 500 * MS) == (1, 100)


def test_sessions_that_begin_by_the_clock() -> None:
    turns = started(
        turn(0, scheduled_s=0.1), turn(1, 0, think_s=0.3), turn(2, scheduled_s=0.5), turn(3, scheduled_s=2.0), slots=1
    )
    assert turns.due_ns(START) == START + 100 * MS
    assert taken(turns, START + 100 * MS) == (0, 100)
    turns.ended(turn(0), START + 600 * MS)
    # Request 2 was due at 0.5 s, the next turn will be at 0.9 s.
    assert taken(turns, START + 950 * MS) == (2, 500)
    turns.ended(turn(2), START + 960 * MS)
    assert turns.due_ns(START + 960 * MS) == START + 900 * MS
    assert taken(turns, START + 960 * MS) == (1, 900)
    turns.ended(turn(1), START + 970 * MS)
    assert turns.due_ns(START + 970 * MS) == START + 2000 * MS


def test_the_pace_of_others_keeps_no_turn_from_its_time() -> None:
    turns = started(turn(0), turn(1, 0, think_s=0.0001), *(turn(i) for i in range(2, 40)), pace=Pace(100))
    assert turns.pace is not None
    for _ in range(8):
        assert taken(turns, START) is not None
        turns.pace.left(START, 0)
    assert turns.due_ns(START) == START + 480_000
    turns.ended(turn(0), START)
    assert turns.due_ns(START) == START + 100_000
    assert turns.take(START + 100_000) == (turn(1, 0, think_s=0.0001), START + 100_000)


def test_nothing_of_a_session_is_sent_after_the_stop() -> None:
    turns = started(turn(0), turn(1, 0), turn(2, 1), turn(3), turn(4, 3, think_s=1.0))
    assert [taken(turns, START) for _ in range(2)] == [(0, None), (3, None)]
    turns.ended(turn(3), START)  # its next turn thinks
    turns.stop()
    assert (turns.waiting, turns.busy) == (False, 1)
    turns.ended(turn(0), START + MS)
    assert turns.due_ns(START + 2000 * MS) is None
    assert (turns.waiting, turns.busy) == (False, 0)


@st.composite
def orders(draw: st.DrawFn) -> tuple[Request, ...]:
    """Requests of which some wait for earlier ones, and the others have times or have none."""
    timed = draw(st.booleans())
    found: list[Request] = []
    for i in range(draw(st.integers(1, 25))):
        after = draw(st.sets(st.integers(0, i - 1), max_size=3)) if i else set()
        think_s = draw(st.sampled_from([0.0, 0.01, 0.3])) if after else 0.0
        at = 0.05 * i if timed and not after else None
        found.append(turn(i, *sorted(after), think_s=think_s, scheduled_s=at))
    return tuple(found)


@given(requests=orders(), slots=st.none() | st.integers(1, 4), data=st.data())
def test_each_is_sent_once_when_all_that_it_waits_for_have_ended_and_a_slot_is_free(
    requests: tuple[Request, ...], slots: int | None, data: st.DataObject
) -> None:
    turns = started(*requests, slots=slots)
    now = START
    flying: list[Request] = []
    sent_at: dict[int, int] = {}
    ended_at: dict[int, int] = {}

    def own_ns(request: Request) -> int | None:
        if request.after:
            return max(ended_at[i] for i in request.after) + int(request.think_s * 1e9)
        return None if request.scheduled_s is None else START + int(request.scheduled_s * 1e9)

    def may_go(request: Request) -> bool:
        waited = request.index not in sent_at and set(request.after) <= ended_at.keys()
        return waited and (own_ns(request) or START) <= now

    while turns.waiting or turns.busy:
        due = turns.due_ns(now)
        room = slots is None or len(flying) < slots
        assert (due is not None and due <= now) == (room and any(may_go(request) for request in requests))
        if due is not None and due <= now:
            request, own = turns.take(now)
            assert request.index not in sent_at and may_go(request) and own == own_ns(request)
            sent_at[request.index] = now
            flying.append(request)
        elif flying and (due is None or data.draw(st.booleans())):
            over = flying.pop(data.draw(st.integers(0, len(flying) - 1)))
            now += data.draw(st.integers(0, 400)) * MS
            ended_at[over.index] = now
            turns.ended(over, now)
        else:
            assert due is not None  # else nothing would ever happen again
            now = due
        assert turns.busy == len(flying) <= (slots or 25)
    assert sorted(sent_at) == sorted(ended_at) == list(range(len(requests)))


# -- pace -----------------------------------------------------------------------------------------------------


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


def ended_turns(wanted: int, seconds: float, cap: float | None = None) -> Turns[Request]:
    turns = Turns(requests_of([None] * 9), 4, ending=Ending(cap, Enough(wanted, seconds)))
    turns.start(START)
    return turns


def test_it_is_enough_when_both_the_requests_and_the_time_are_reached() -> None:
    turns = ended_turns(2, 0.1)
    (first, _), (second, _) = turns.take(START), turns.take(START)
    turns.ended(first, START + MS)
    assert turns.until_ns is None  # one request is missing, however late it is
    turns.ended(second, START + 2 * MS)
    assert turns.until_ns == START + 100 * MS
    late = ended_turns(1, 0.1)
    late.ended(late.take(START)[0], START + 300 * MS)
    assert late.until_ns == START + 100 * MS  # past: to be stopped at once


def test_the_cap_holds_until_it_is_enough_and_after() -> None:
    turns = ended_turns(1, 0.1, cap=0.2)
    assert turns.until_ns == START + 200 * MS
    turns.ended(turns.take(START)[0], START + MS)
    assert turns.until_ns == START + 100 * MS
    assert ended_turns(0, 0.1, cap=0.2).until_ns == START + 100 * MS  # a worker whose share is none
    assert ended_turns(0, 0.3, cap=0.2).until_ns == START + 200 * MS
