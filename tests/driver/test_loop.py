"""The driver against scripted servers: what was sent when, and the times of what came back.

How soon something comes is asked of the soonest of several: a machine that takes its cores away for a while makes
some of them late, a fault makes all of them late. Nothing may come too early, not one."""

import itertools
import socket
import time
from dataclasses import replace
from typing import Any

import pytest

from harness.driver import connection, turns
from harness.driver import loop as driver
from harness.driver.address import local
from harness.driver.clock import clock_lead
from harness.driver.poller import PortablePoller
from harness.workload.enough import Enough
from harness.workload.schedule import Request, Schedule
from tests.decode.test_exchange import DONE, EVENTS
from tests.driver.loop_parts import GOOD, run, schedule_of, waits
from tests.wire import END, HEAD, Script, chunked, wire_server

pytestmark = pytest.mark.live


def test_requests_without_a_time_leave_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_PACE_NS", 400_000)  # ten times slower: no busy machine could do it for the driver
    with wire_server(lambda n: [GOOD]) as endpoint:
        _, records = run(endpoint, schedule_of(64, 64))
    sent = sorted(r.sent_s for r in records if r.sent_s is not None)
    # 8 may leave at once, and what falls due in half a look at 64 sockets, 64 µs.
    assert all(at - sent[0] > (k - 8) * 400e-6 - 64e-6 for k, at in enumerate(sent)), sent


def test_times_of_a_request_are_those_of_the_server() -> None:
    script: Script = [
        0.05,
        HEAD + chunked(EVENTS[0]),
        0.03,
        chunked(EVENTS[1]),
        chunked(EVENTS[2] + EVENTS[3]),
        chunked(DONE) + END,
    ]
    with wire_server(lambda n: script) as endpoint:
        _, records = run(endpoint, schedule_of(5, slots=1))
    assert [got.error for got in records] == [None] * 5
    assert 0.050 <= min(waits(records)) < 0.060
    assert 0.030 <= min((got.last_token_s or 0) - (got.first_token_s or 0) for got in records) < 0.040
    assert len({got.connect_s for got in records}) == 1 and 0 < (records[0].connect_s or 0) < 5
    assert all(chunk.arrival_ns <= chunk.read_ns for got in records for chunk in got.chunks)


def test_kernel_stamps_tell_arrival_from_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that is kept from reading for 40 ms must not report those 40 ms as the engine's."""
    real = clock_lead

    def slow() -> int:
        time.sleep(0.04)  # after each wait: what was waited for is there
        return real()

    monkeypatch.setattr(driver, "clock_lead", slow)
    script: Script = [HEAD, *(part for event in EVENTS[:4] for part in (chunked(event), 0.05)), chunked(DONE) + END]
    with wire_server(lambda n: script) as endpoint:
        _, records = run(endpoint, schedule_of(5, slots=1))
    held = [[chunk.read_ns - chunk.arrival_ns for chunk in got.chunks] for got in records]
    assert max(one[0] for one in held) > 35_000_000  # the first read
    assert max(max(one[1:]) for one in held) > 25_000_000  # those of a stream
    assert 0 < min(waits(records)) < 0.02
    assert all(got.reads == got.stamped_reads for got in records) and max(got.reads for got in records) >= 4


def test_a_clock_step_in_mid_run_bends_no_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    real = clock_lead
    calls = itertools.count()
    monkeypatch.setattr(driver, "clock_lead", lambda: real() + (0 if next(calls) < 3 else 10**10))
    script: Script = [
        HEAD + chunked(EVENTS[0]),
        *(p for e in EVENTS[1:] for p in (0.02, chunked(e))),
        chunked(DONE) + END,
    ]
    with wire_server(lambda n: script) as endpoint:
        replayed, (got,) = run(endpoint, schedule_of(1))
    assert len(replayed.steps_ns) == 1
    assert got.error is None and got.last_token_s is not None and got.first_token_s is not None
    assert 0.06 <= got.last_token_s - got.first_token_s < 5  # the step is 10 s
    assert got.stamped_reads < got.reads  # said where the kernel's time could not be used


def test_closed_loop_never_exceeds_its_slots_and_reuses_connections() -> None:
    with wire_server(lambda n: [0.02, GOOD]) as endpoint:
        _, records = run(endpoint, schedule_of(12, slots=3))
    assert [r.error for r in records] == [None] * 12
    spans = [(r.sent_s, r.done_s) for r in records]
    for sent, _ in spans:
        in_flight = sum(a <= sent < b for a, b in spans if a is not None and b is not None and sent is not None)
        assert in_flight <= 3
    assert len({r.connect_s for r in records}) == 3


def test_offline_batch_sends_everything_at_once() -> None:
    with wire_server(lambda n: [1.0, GOOD]) as endpoint:
        replayed, records = run(endpoint, schedule_of(20))
    assert max(r.sent_s or 9 for r in records) < min(r.first_token_s or 0 for r in records)
    assert replayed.wall_s < 10  # one after the other they would take 20


def test_scheduled_times_are_kept_whatever_the_server_does() -> None:
    times = [0.0, 0.3, 0.6, 0.9]
    requests = tuple(Request(i, (1,), 5, scheduled_s=t) for i, t in enumerate(times))
    with wire_server(lambda n: [1.5, GOOD]) as endpoint:
        _, records = run(endpoint, Schedule(requests, None))
    late = [(record.sent_s or -1) - at for at, record in zip(times, records, strict=True)]
    assert min(late) >= 0 and min(late[1:]) < 0.01
    assert max(r.sent_s or 9 for r in records) < min(r.first_token_s or 0 for r in records)


def test_static_batches_wait_for_the_slowest_of_the_batch_before() -> None:
    requests = tuple(Request(i, (1,), 5, after=(0, 1) if i >= 2 else ()) for i in range(4))
    with wire_server(lambda n: [0.1 if n == 0 else 0.01, GOOD]) as endpoint:
        _, records = run(endpoint, Schedule(requests, None))
    first_done = max(r.done_s or 0 for r in records[:2])
    assert min(r.sent_s or 0 for r in records[2:]) >= first_done - 0.002
    assert [r.due_s is None for r in records] == [True, True, False, False]
    assert all((r.due_s or 0) > first_done - 1e-8 for r in records[2:])


def test_the_next_turn_leaves_its_think_time_after_the_one_before() -> None:
    session = [Request(2 * i + j, (1,), 5, after=(2 * i,) * j, think_s=0.3 * j) for i in range(5) for j in (0, 1)]
    with wire_server(lambda n: [0.02, GOOD]) as endpoint:
        replayed, records = run(endpoint, Schedule(tuple(session), 2))
    ends = {exchange.index: exchange for exchange in replayed.spool}
    assert [r.error for r in records] == [None] * 10
    late, behind = [], []
    for before, after in zip(records[::2], records[1::2], strict=True):
        assert before.due_s is None and before.done_s is not None
        assert after.due_s is not None and after.sent_s is not None
        # By the read that ended it: to the nanosecond. By when that had arrived: later by the client's own lag.
        due_ns, done_ns = ends[after.index].due_ns, ends[before.index].done_ns
        assert due_ns is not None and done_ns is not None and due_ns == done_ns + 300_000_000
        behind.append(after.due_s - (before.done_s + 0.3))
        late.append(after.sent_s - after.due_s)
    assert -1e-8 < min(behind) < 0.005
    assert 0 <= min(late) < 0.005


def test_others_go_while_one_thinks() -> None:
    requests = (Request(0, (1,), 5), Request(1, (1,), 5, after=(0,), think_s=0.6), Request(2, (1,), 5))
    with wire_server(lambda n: [0.02, GOOD]) as endpoint:
        _, (first, second, other) = run(endpoint, Schedule(requests, 1))
    assert (first.done_s or 9) <= (other.sent_s or 0) < (other.done_s or 9) < (second.sent_s or 0)
    assert (other.sent_s or 9) < 0.5


def test_due_times_are_those_of_the_schedule_or_none() -> None:
    times = [0.0, 0.05, 0.1]
    requests = tuple(Request(i, (1,), 5, scheduled_s=t) for i, t in enumerate(times))
    with wire_server(lambda n: [0.15, GOOD]) as endpoint:
        _, scheduled = run(endpoint, Schedule(requests, 1))  # due is due, however long it waits for the slot
        _, closed = run(endpoint, schedule_of(4, slots=2))
    assert [r.due_s for r in scheduled] == [r.scheduled_s for r in scheduled] == times
    assert (scheduled[2].sent_s or 0) > 0.29
    assert [r.due_s for r in closed] == [None] * 4


@pytest.mark.parametrize(
    ("script", "more", "said"),
    [
        ([b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"], {}, "HTTP 500"),
        ([HEAD + chunked(EVENTS[0]), None], {}, "connection closed in mid-response"),
        ([3.0], {}, "no end after 1 s"),
        ([3.0], {"cancel_after_s": 0.2}, "cancelled by its user"),
    ],
    ids=["refused", "cut", "silent", "given up"],
)
def test_a_session_goes_on_after_a_turn_that_failed_or_was_given_up(
    script: Script, more: dict[str, Any], said: str
) -> None:
    turns = (Request(0, (1,), 5, **more), Request(1, (1,), 5, after=(0,), think_s=0.1), Request(2, (1,), 5, after=(1,)))
    with wire_server(lambda n: script if n == 0 else [GOOD]) as endpoint:
        _, (first, second, third) = run(endpoint, Schedule(turns, None), deadline_s=1.0)
    assert said in (first.error or "") and (second.error, third.error) == (None, None)
    assert (second.sent_s or 0) >= (second.due_s or 9) > (first.done_s or 9) + 0.1 - 1e-8
    assert (third.sent_s or 0) >= (third.due_s or 9) > (second.done_s or 9) - 1e-8


def test_sessions_on_a_refused_connection_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = local(listener.getsockname()[1])
    turns = (Request(0, (1,), 5), Request(1, (1,), 5, after=(0,), think_s=0.1), Request(2, (1,), 5, after=(1,)))
    _, records = run(endpoint, Schedule(turns, None))
    assert [(r.index, r.status, r.sent_s) for r in records] == [(i, "failed", None) for i in range(3)]


def test_a_session_ends_with_the_duration() -> None:
    turns = tuple(Request(i, (1,), 5, after=(i - 1,) if i else (), think_s=0.1 if i else 0.0) for i in range(50))
    with wire_server(lambda n: [0.05, GOOD]) as endpoint:
        replayed, records = run(endpoint, Schedule(turns, None, duration_s=0.4))
    assert 1 <= len(records) <= 3  # 0.15 s apart
    assert all(r.status == "ok" and (r.sent_s or 9) < 0.4 for r in records)
    assert replayed.wall_s < 2


def test_sending_stops_after_the_duration_and_what_is_in_flight_ends() -> None:
    schedule = replace(schedule_of(100, slots=2), duration_s=0.25)
    with wire_server(lambda n: [0.1, GOOD]) as endpoint:
        replayed, records = run(endpoint, schedule)
    assert len(records) <= 6
    assert all(r.status == "ok" and r.sent_s is not None and r.sent_s < 0.25 for r in records)
    slots = {r.connect_s for r in records}  # by the connection, which is a slot's own
    assert len(slots) == 2
    assert all(max(r.done_s or 0 for r in records if r.connect_s == slot) >= 0.25 for slot in slots)
    assert replayed.wall_s < 2


@pytest.mark.parametrize(
    ("enough", "cap_s", "least_s", "sent"),
    [
        (Enough(8, 0.05), None, 0.4, range(8, 10)),  # the requests take longer than the time
        (Enough(2, 0.35), None, 0.35, range(6, 9)),  # the time is longer than the requests take
        (Enough(50, 0.05), 0.25, 0.25, range(4, 7)),  # neither in time
    ],
)
def test_sending_goes_on_until_it_is_enough_and_what_is_in_flight_ends(
    enough: Enough, cap_s: float | None, least_s: float, sent: range
) -> None:
    schedule = replace(schedule_of(100, slots=2), enough=enough, duration_s=cap_s)
    with wire_server(lambda n: [0.1, GOOD]) as endpoint:
        replayed, records = run(endpoint, schedule)
    assert len(records) in sent and all(r.status == "ok" for r in records)
    assert least_s <= replayed.wall_s < least_s + 0.5


def test_a_cap_makes_requests_late_and_says_so() -> None:
    requests = tuple(Request(i, (1,), 5, scheduled_s=0.01 * i) for i in range(4))
    with wire_server(lambda n: [0.1, GOOD]) as endpoint:
        _, records = run(endpoint, Schedule(requests, 1))
    late = [(r.sent_s or 0) - (r.scheduled_s or 0) for r in records]
    assert late[3] > 0.25 and late == sorted(late)


def test_slots_open_one_after_the_other_and_each_goes_on_at_once() -> None:
    with wire_server(lambda n: [0.05, GOOD]) as endpoint:
        _, records = run(endpoint, replace(schedule_of(100, slots=4), ramp_s=2.4))
    spans = [(r.sent_s or 0, r.done_s or 0) for r in records]
    for at, most in ((0.58, 1), (1.18, 2), (1.78, 3), (2.38, 4)):
        assert sum(sent <= at < done for sent, done in spans) <= most
    # The first slot does not wait for the others to open: up to 12 requests in its first 0.6 s.
    assert sum(sent < 0.59 for sent, _ in spans) >= 2
    assert {sum(a <= at < b for a, b in spans) for at, _ in spans} == {1, 2, 3, 4}


def test_without_epoll_and_kernel_stamps_read_times_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "new_poller", PortablePoller)
    monkeypatch.setattr("sys.platform", "darwin")
    with wire_server(lambda n: [0.05, GOOD]) as endpoint:
        _, records = run(endpoint, schedule_of(6, slots=3))
    assert [(r.error, r.output_tokens) for r in records] == [(None, 5)] * 6
    assert all(r.stamped_reads == 0 and r.reads > 0 for r in records)
    assert all(r.chunks[0].arrival_ns == r.chunks[0].read_ns for r in records)
    assert 0.05 <= min(waits(records)) < 0.06
