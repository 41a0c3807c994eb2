"""Bytes that answer no request: left over from an earlier response, or sent before anything was asked."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from harness.driver.address import Address, local
from harness.workload.schedule import Request, Schedule
from tests.decode.test_exchange import DONE, EVENTS
from tests.driver.loop_parts import GOOD, run, schedule_of, waits
from tests.wire import HEAD, Script, chunked, read_request, wire_server

pytestmark = pytest.mark.live

EARLY = "bytes arrived before the request was sent"


@contextlib.contextmanager
def server(serve: Callable[[int, socket.socket], None]) -> Iterator[Address]:
    """Serves each connection in a thread of its own; it is the n-th, from 0."""
    listener = socket.create_server(("127.0.0.1", 0))

    def one(n: int, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            serve(n, sock)

    def accept() -> None:
        with contextlib.suppress(OSError):
            for n in range(1000):
                threading.Thread(target=one, args=(n, listener.accept()[0]), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield local(listener.getsockname()[1])
    finally:
        listener.close()


def spread(count: int) -> Schedule:
    """One request after the other, 50 ms apart."""
    return Schedule(tuple(Request(i, (1, 2, 3, 4), 5, scheduled_s=0.05 * (i + 1)) for i in range(count)), slots=1)


@pytest.mark.parametrize("more", [GOOD, b"junk", b"HTTP/1.1 200 OK\r\n\r\n", b"0\r\n\r\n"])
def test_bytes_after_the_end_fail_their_request_and_no_other(more: bytes) -> None:
    scripts: dict[int, Script] = {1: [0.02, GOOD + more]}
    with wire_server(lambda n: scripts.get(n, [0.02, GOOD])) as endpoint:
        began = time.monotonic()
        _, records = run(endpoint, schedule_of(4, slots=1))
        assert time.monotonic() - began < 3  # not until a deadline
    assert [r.status for r in records] == ["ok", "failed", "ok", "ok"]
    assert "bytes after the end of the response" in (records[1].error or "")
    assert min(waits(records)) >= 0.02


def test_an_answer_that_lies_there_before_the_request_is_none() -> None:
    """Its TTFT would be below 0, or a tenth of a millisecond."""

    def serve(n: int, sock: socket.socket) -> None:
        if n == 0:
            sock.sendall(GOOD)
        while read_request(sock):
            time.sleep(0.02)
            sock.sendall(GOOD)

    with server(serve) as endpoint:
        _, records = run(endpoint, spread(3))
    assert [r.status for r in records] == ["failed", "ok", "ok"]
    assert EARLY in (records[0].error or "")
    assert records[0].first_token_s is None and min(waits(records)) >= 0.02


def test_a_second_answer_between_two_requests_fails_the_next_one() -> None:
    def serve(n: int, sock: socket.socket) -> None:
        while read_request(sock):
            time.sleep(0.01)
            sock.sendall(GOOD)
            if n == 0:
                time.sleep(0.01)
                sock.sendall(GOOD)

    with server(serve) as endpoint:
        _, records = run(endpoint, spread(4))
    assert [r.status for r in records] == ["ok", "failed", "ok", "ok"]
    assert EARLY in (records[1].error or "")


@pytest.mark.parametrize("goodbye", [b"HTTP/1.0 408 Request Timeout\r\nConnection: close\r\n\r\n", b"\r\n", b""])
@pytest.mark.parametrize("closes", [True, False])
def test_a_goodbye_to_an_idle_connection_fails_nothing(goodbye: bytes, closes: bool) -> None:
    def serve(n: int, sock: socket.socket) -> None:
        while read_request(sock):
            time.sleep(0.01)
            sock.sendall(GOOD)
            time.sleep(0.01)
            sock.sendall(goodbye)
            if closes:
                return

    with server(serve) as endpoint:
        _, records = run(endpoint, spread(3))
    assert [r.error for r in records] == [None] * 3


def test_a_stream_that_said_done_is_whole_without_its_last_chunk() -> None:
    sent = HEAD + b"".join(map(chunked, [*EVENTS, DONE]))
    with wire_server(lambda n: [0.02, sent, None]) as endpoint:
        _, records = run(endpoint, schedule_of(3, slots=1))
    assert [(r.error, r.output_tokens) for r in records] == [(None, 5)] * 3
    assert all(r.reads == r.stamped_reads for r in records)
    with wire_server(lambda n: [sent, 9.0]) as endpoint:
        _, (held,) = run(endpoint, schedule_of(1), deadline_s=0.3)
    assert held.error is not None and held.error.startswith("no end after 0.3 s; the stream had said")
