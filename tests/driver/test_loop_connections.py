"""The driver against scripted servers: uploads, ends of responses, failures and TLS, and that every run ends."""

import contextlib
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.driver import loop as driver
from harness.driver.address import local, resolve_url
from harness.driver.framing import Framing
from harness.workload.schedule import Request, Schedule
from tests.decode.test_exchange import DONE, EVENTS
from tests.driver.loop_parts import GOOD, run, schedule_of, waits
from tests.wire import END, HEAD, Script, chunked, read_request, wire_server

pytestmark = pytest.mark.live


def test_long_prompts_are_uploaded_whole() -> None:
    with wire_server(lambda n: [GOOD]) as endpoint:
        _, records = run(endpoint, schedule_of(3), body=b"x" * 5_000_000)
    assert [r.error for r in records] == [None] * 3
    assert all(r.uploaded_s is not None and r.uploaded_s > (r.sent_s or 0) for r in records)


def test_a_prompt_is_uploaded_when_it_has_left_and_not_when_the_kernel_took_it() -> None:
    """The kernel takes megabytes at once; a server that reads them 0.5 s later has waited, not thought."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)

    def serve() -> None:
        sock, _ = listener.accept()
        sock.recv(1, socket.MSG_PEEK)  # the request is on its way
        time.sleep(0.5)
        read_request(sock)
        time.sleep(0.05)
        sock.sendall(GOOD)

    threading.Thread(target=serve, daemon=True).start()
    _, (got,) = run(local(listener.getsockname()[1]), schedule_of(1), body=b"x" * 400_000)
    listener.close()
    assert got.error is None and got.first_token_s and got.uploaded_s and got.sent_s is not None
    assert got.uploaded_s - got.sent_s > 0.4
    assert got.first_token_s - got.uploaded_s > 0.04


def test_text_that_looks_like_the_end_of_the_response_is_not() -> None:
    first = chunked(EVENTS[0] + b": 0\r\n\r\n")
    script: Script = [HEAD + first[:-2], 0.03, first[-2:] + b"".join(map(chunked, [*EVENTS[1:], DONE])) + END]
    assert (HEAD + first[:-2]).endswith(b"0\r\n\r\n")
    with wire_server(lambda n: script) as endpoint:
        _, (got,) = run(endpoint, schedule_of(1))
    assert (got.error, got.output_tokens) == (None, 5)


def close_framed(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + body


def test_a_response_may_end_with_its_connection() -> None:
    with wire_server(lambda n: [close_framed(b"".join(EVENTS) + DONE), None]) as endpoint:
        _, records = run(endpoint, schedule_of(4, slots=2))
    assert [(r.error, r.output_tokens) for r in records] == [(None, 5)] * 4
    assert all(r.reads == r.stamped_reads > 0 for r in records)  # the end of a connection is no read without a stamp


def test_what_is_left_of_a_request_that_was_refused_early_is_not_the_next_one() -> None:
    """A server may answer before it has read a long prompt, and keep the connection."""
    heard: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(sock: socket.socket) -> None:
        head = sock.recv(4096)
        heard.append(head[:4])
        sock.sendall(b"HTTP/1.1 429 Busy\r\nContent-Length: 0\r\n\r\n")
        with contextlib.suppress(OSError):
            while sock.recv(1 << 20):
                time.sleep(0.01)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    _, records = run(local(listener.getsockname()[1]), schedule_of(3, slots=1), body=b"x" * 20_000_000)
    listener.close()
    assert [r.http_status for r in records] == [429] * 3
    assert [h for h in heard if h] == [b"POST"] * 3


def test_a_connection_that_ends_with_its_response_is_not_used_again() -> None:
    with wire_server(lambda n: [GOOD, None]) as endpoint:
        _, records = run(endpoint, schedule_of(6, slots=2))
    assert [(r.error, r.output_tokens) for r in records] == [(None, 5)] * 6


BAD: dict[str, tuple[Script, str]] = {
    "cut": ([HEAD + chunked(EVENTS[0]), None], "connection closed in mid-response"),
    "silent": ([9.0], "no end after 1 s"),
    "endless": ([HEAD + chunked(EVENTS[0]), 9.0], "no end after 1 s"),
    "refusing": ([b'HTTP/1.1 400 Bad\r\nContent-Length: 16\r\n\r\n{"error": "long"}'[:-1], None], "HTTP 400"),
    "babbling": ([b"not http\r\n\r\n", None], "no HTTP response"),
}


@pytest.mark.parametrize("kind", BAD)
def test_one_bad_response_fails_alone_and_the_run_ends(kind: str) -> None:
    script, said = BAD[kind]
    with wire_server(lambda n: script if n == 1 else [GOOD]) as endpoint:
        began = time.monotonic()
        _, records = run(endpoint, schedule_of(6, slots=1), deadline_s=1.0)
        assert time.monotonic() - began < 6
    failed = [r for r in records if r.status == "failed"]
    assert [r.index for r in failed] == [1]
    assert said in (failed[0].error or "")
    assert [r.output_tokens for r in records if r.status == "ok"] == [5] * 5


def test_a_request_that_met_a_closing_connection_is_sent_again_once() -> None:
    """Engines close kept connections unannounced; the request never reached them."""
    with wire_server(lambda n: [None] if n == 1 else [GOOD]) as endpoint:
        _, records = run(endpoint, schedule_of(4, slots=1))
    assert [r.error for r in records] == [None] * 4
    with wire_server(lambda n: [None] if n in (1, 2) else [GOOD]) as endpoint:
        _, records = run(endpoint, schedule_of(4, slots=1))
    assert [r.error for r in records] == [None, "connection closed without a response", None, None]


def test_a_refused_connection_is_a_failed_record() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = local(listener.getsockname()[1])
    _, records = run(endpoint, schedule_of(4, slots=2))
    assert [r.status for r in records] == ["failed"] * 4
    assert all("refused" in (r.error or "") for r in records)
    assert all(r.sent_s is None and r.first_token_s is None for r in records)


def test_a_name_that_does_not_resolve_is_a_failed_record() -> None:
    _, records = run(resolve_url("http://no-such-host.invalid:1/v1"), schedule_of(3, slots=2))
    assert [r.status for r in records] == ["failed"] * 3
    assert all("no-such-host.invalid does not resolve" in (r.error or "") for r in records)


@pytest.mark.parametrize("status", [400, 401, 404, 422, 429, 500, 503])
def test_an_http_error_is_a_failed_record_with_what_it_said(status: int) -> None:
    body = b'{"error":{"message":"no, %d"}}' % status
    answer = b"HTTP/1.1 %d No\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
    with wire_server(lambda n: [answer] if n == 1 else [GOOD]) as endpoint:
        _, records = run(endpoint, schedule_of(4, slots=1))
    assert [r.status for r in records] == ["ok", "failed", "ok", "ok"]
    assert records[1].http_status == status and (records[1].error or "").startswith(f"HTTP {status}: no, {status}")


def test_an_endless_line_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "RESPONSE_LIMIT_BYTES", 1_000_000)
    monkeypatch.setattr(driver, "_LOOK_READS", 1000)
    flood: Script = [HEAD + b"3b9aca00\r\ndata: ", *[b"x" * 65536] * 1000]
    with wire_server(lambda n: flood if n == 1 else [0.02, GOOD]) as endpoint:
        began = time.monotonic()
        _, records = run(endpoint, schedule_of(5, slots=2), deadline_s=20)
    assert time.monotonic() - began < 15
    assert sorted(r.status for r in records) == ["failed", "ok", "ok", "ok", "ok"]
    assert [r.error for r in records if r.error] == ["response longer than 0 MiB"]


def test_giving_up_tells_the_server_and_is_no_failure() -> None:
    heard: list[bytes] = []
    more: list[bytes | float] = [0.01, chunked(EVENTS[2])]
    script: Script = [HEAD + chunked(EVENTS[0]), 2.0, chunked(EVENTS[1]), *more * 50]
    schedule = Schedule((Request(0, (1,), 5, cancel_after_s=0.6), Request(1, (1,), 5)), None)
    with wire_server(lambda n: script if n == 0 else [0.3, GOOD], heard=heard) as endpoint:
        _, records = run(endpoint, Schedule(schedule.requests, 1))
    assert [r.status for r in records] == ["cancelled", "ok"]
    assert records[0].output_tokens == 1
    assert 0.6 <= (records[0].done_s or 0) - (records[0].sent_s or 0) < 1.9
    assert len([h for h in heard if h]) == 2


@contextlib.contextmanager
def https(trusted: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ssl.SSLContext]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    if trusted:
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    yield context


def test_over_tls_the_times_are_the_kernels_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script: Script = [0.05, HEAD + chunked(EVENTS[0]), 0.03, *map(chunked, [*EVENTS[1:], DONE]), END]
    with https(True, monkeypatch, tmp_path) as context, wire_server(lambda n: script, context) as plain:
        endpoint = resolve_url(f"https://localhost:{plain.port}/v1")
        _, records = run(endpoint, schedule_of(6, slots=2), body=b"x" * 1_000_000)
    assert [(r.error, r.output_tokens) for r in records] == [(None, 5)] * 6
    for got in records:
        assert got.sent_s is not None and got.uploaded_s is not None and got.uploaded_s > got.sent_s
        assert got.reads == got.stamped_reads > 0
        assert all(chunk.arrival_ns <= chunk.read_ns for chunk in got.chunks)
    assert 0.050 <= min(waits(records)) < 0.2
    assert len({r.connect_s for r in records}) == 2  # kept, the handshake outside every latency


def test_a_certificate_that_nobody_trusts_is_a_failed_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with https(False, monkeypatch, tmp_path) as context, wire_server(lambda n: [GOOD], context) as plain:
        began = time.monotonic()
        _, records = run(resolve_url(f"https://localhost:{plain.port}"), schedule_of(3, slots=2))
    assert time.monotonic() - began < 15
    assert all((r.error or "").startswith("TLS: certificate: ") for r in records)


@pytest.mark.slow
def test_tls_to_a_server_that_speaks_none_is_a_failed_record() -> None:
    with wire_server(lambda n: [GOOD]) as plain:
        began = time.monotonic()
        _, records = run(resolve_url(f"https://127.0.0.1:{plain.port}"), schedule_of(2, slots=1), deadline_s=1.0)
    assert time.monotonic() - began < 15
    assert [r.status for r in records] == ["failed"] * 2


@settings(max_examples=300, deadline=None)
@given(cuts=st.lists(st.integers(0, 5000), max_size=40), crlf=st.booleans(), zero=st.booleans(), trailer=st.booleans())
def test_a_response_ends_with_its_last_byte_however_it_is_split(
    cuts: list[int], crlf: bool, zero: bool, trailer: bool
) -> None:
    events = [*EVENTS, *([b": 0\n\n", b"retry: 10\n\n"] if zero else []), DONE]
    if crlf:
        events = [event.replace(b"\n", b"\r\n") for event in events]
    head = HEAD.replace(b"\r\n\r\n", b"\r\nTrailer: X-Sum\r\n\r\n") if trailer else HEAD
    end = b"0\r\nX-Sum: 1\r\n\r\n" if trailer else END
    whole = head + b"".join(map(chunked, events)) + end
    bounds = sorted({0, len(whole), *(c % len(whole) for c in cuts)})
    framing, ended_at, last = Framing(), None, b""
    for a, b in itertools.pairwise(bounds):
        data = whole[a:b]
        # What the hot loop shows it and what it keeps: see _Loop._replay and _look.
        before, last = last, data if len(data) > 5 else (last + data)[-6:]
        looked_at = framing.attentive or len(data) <= 5 or data[-4] == 13
        if looked_at and framing.ends(before, data):
            ended_at = b
            break
    assert ended_at == len(whole)
