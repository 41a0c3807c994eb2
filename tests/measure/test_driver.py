"""The driver against scripted servers: what was sent when, what came back, and that every run ends."""

import socket
import time

import pytest

from harness.adapter import openai_completion
from harness.measure.decode import decode
from harness.measure.driver import Replayed, replay
from harness.measure.http import encode
from harness.records import RequestRecord
from harness.schedule import Request, Schedule
from tests.measure.test_decode import DONE, EVENTS
from tests.wire import END, HEAD, Script, chunked, stream, wire_server

GOOD = stream(*EVENTS, DONE)


def schedule_of(count: int, slots: int | None = None) -> Schedule:
    return Schedule(tuple(Request(i, (1, 2, 3, 4), 5) for i in range(count)), slots)


def run(
    address: tuple[str, int], schedule: Schedule, deadline_s: float = 5.0, body: bytes = b"{}"
) -> tuple[Replayed, list[RequestRecord]]:
    replayed = replay(address, schedule, [encode(address, "/x", body)] * len(schedule.requests), deadline_s)
    return replayed, decode(replayed, schedule, openai_completion)


def test_times_of_one_request_are_those_of_the_server() -> None:
    script: Script = [
        0.05,
        HEAD + chunked(EVENTS[0]),
        0.03,
        chunked(EVENTS[1]),
        chunked(EVENTS[2] + EVENTS[3]),
        chunked(DONE) + END,
    ]
    with wire_server(lambda n: script) as address:
        _, (got,) = run(address, schedule_of(1))
    assert got.error is None
    assert got.sent_s is not None and got.first_token_s is not None and got.last_token_s is not None
    assert 0.050 <= got.first_token_s - got.sent_s < 0.080
    assert 0.030 <= got.last_token_s - got.first_token_s < 0.060
    assert got.connect_s is not None and 0 < got.connect_s < 0.05
    assert all(chunk.arrival_ns <= chunk.read_ns for chunk in got.chunks)


def test_kernel_stamps_tell_arrival_from_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that is kept from reading for 40 ms must not report those 40 ms as the engine's."""
    from harness.measure import driver

    real_poll = driver.select.epoll.poll
    slept = []

    class SlowEpoll:
        def __init__(self) -> None:
            self.epoll = real_epoll()

        def __getattr__(self, name: str) -> object:
            return getattr(self.epoll, name)

        def poll(self, timeout: float) -> list[tuple[int, int]]:
            found = real_poll(self.epoll, timeout)
            if found and len(slept) < 2:  # the connection's own event, then the first bytes
                slept.append(1)
                time.sleep(0.04)
            return found

    real_epoll = driver.select.epoll
    monkeypatch.setattr(driver.select, "epoll", SlowEpoll)
    with wire_server(lambda n: [GOOD]) as address:
        _, (got,) = run(address, schedule_of(1))
    (chunk,) = got.chunks
    assert chunk.read_ns - chunk.arrival_ns > 35_000_000
    assert got.first_token_s is not None and got.sent_s is not None
    assert got.first_token_s - got.sent_s < 0.02


def test_closed_loop_never_exceeds_its_slots_and_reuses_connections() -> None:
    with wire_server(lambda n: [0.02, GOOD]) as address:
        _, records = run(address, schedule_of(12, slots=3))
    assert [r.error for r in records] == [None] * 12
    spans = [(r.sent_s, r.done_s) for r in records]
    for sent, _ in spans:
        in_flight = sum(a <= sent < b for a, b in spans if a is not None and b is not None and sent is not None)
        assert in_flight <= 3
    assert len({r.connect_s for r in records}) == 3


def test_offline_batch_sends_everything_at_once() -> None:
    with wire_server(lambda n: [0.2, GOOD]) as address:
        replayed, records = run(address, schedule_of(20))
    assert max(r.sent_s or 9 for r in records) < 0.1
    assert replayed.wall_s < 1.0


def test_scheduled_times_are_kept_whatever_the_server_does() -> None:
    times = [0.0, 0.03, 0.06, 0.09]
    requests = tuple(Request(i, (1,), 5, scheduled_s=t) for i, t in enumerate(times))
    with wire_server(lambda n: [0.2, GOOD]) as address:
        _, records = run(address, Schedule(requests, None))
    for at, record in zip(times, records, strict=True):
        assert record.sent_s is not None and 0 <= record.sent_s - at < 0.02


def test_static_batches_wait_for_the_slowest_of_the_batch_before() -> None:
    requests = tuple(Request(i, (1,), 5, batch=i // 2) for i in range(4))
    with wire_server(lambda n: [0.1 if n == 0 else 0.01, GOOD]) as address:
        _, records = run(address, Schedule(requests, None))
    first_done = max(r.done_s or 0 for r in records[:2])
    assert min(r.sent_s or 0 for r in records[2:]) >= first_done - 0.002


def test_long_prompts_are_uploaded_whole() -> None:
    with wire_server(lambda n: [GOOD]) as address:
        _, records = run(address, schedule_of(3), body=b"x" * 5_000_000)
    assert [r.error for r in records] == [None] * 3
    assert all(r.uploaded_s is not None and r.uploaded_s > (r.sent_s or 0) for r in records)


def test_text_that_looks_like_the_end_of_the_response_is_not() -> None:
    first = chunked(EVENTS[0] + b": 0\r\n\r\n")
    script: Script = [HEAD + first[:-2], 0.03, first[-2:] + b"".join(map(chunked, [*EVENTS[1:], DONE])) + END]
    assert (HEAD + first[:-2]).endswith(b"0\r\n\r\n")
    with wire_server(lambda n: script) as address:
        _, (got,) = run(address, schedule_of(1))
    assert (got.error, got.output_tokens) == (None, 5)


def close_framed(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + body


def test_a_response_may_end_with_its_connection() -> None:
    with wire_server(lambda n: [close_framed(b"".join(EVENTS) + DONE), None]) as address:
        _, records = run(address, schedule_of(4, slots=2))
    assert [(r.error, r.output_tokens) for r in records] == [(None, 5)] * 4


BAD = {
    "cut": ([HEAD + chunked(EVENTS[0]), None], "connection closed in mid-response"),
    "silent": ([9.0], "no end after 0.3 s"),
    "endless": ([HEAD + chunked(EVENTS[0]), 9.0], "no end after 0.3 s"),
    "refusing": ([b'HTTP/1.1 400 Bad\r\nContent-Length: 16\r\n\r\n{"error": "long"}'[:-1], None], "HTTP 400"),
    "babbling": ([b"not http\r\n\r\n", None], "no HTTP response"),
}


@pytest.mark.parametrize("kind", BAD)
def test_one_bad_response_fails_alone_and_the_run_ends(kind: str) -> None:
    script, said = BAD[kind]
    with wire_server(lambda n: script if n == 1 else [GOOD]) as address:
        began = time.monotonic()
        _, records = run(address, schedule_of(6, slots=1), deadline_s=0.3)
        assert time.monotonic() - began < 2.0
    failed = [r for r in records if r.status == "failed"]
    assert [r.index for r in failed] == [1]
    assert said in (failed[0].error or "")
    assert [r.output_tokens for r in records if r.status == "ok"] == [5] * 5


def test_a_request_that_met_a_closing_connection_is_sent_again_once() -> None:
    """Engines close kept connections unannounced; the request never reached them."""
    with wire_server(lambda n: [None] if n == 1 else [GOOD]) as address:
        _, records = run(address, schedule_of(4, slots=1))
    assert [r.error for r in records] == [None] * 4
    with wire_server(lambda n: [None] if n in (1, 2) else [GOOD]) as address:
        _, records = run(address, schedule_of(4, slots=1))
    assert [r.error for r in records] == [None, "connection closed in mid-response", None, None]


def test_a_refused_connection_is_a_failed_record() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    _, records = run(address, schedule_of(4, slots=2))
    assert [r.status for r in records] == ["failed"] * 4
    assert all("refused" in (r.error or "") for r in records)
    assert all(r.sent_s is None and r.first_token_s is None for r in records)
