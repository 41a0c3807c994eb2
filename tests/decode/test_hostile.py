"""Streams as the standards allow them, and answers as nobody should send them."""

from __future__ import annotations

import pytest

from harness.redact import Secret
from tests.decode.test_counts import BODY, MS, PIECES, timed
from tests.decode.test_exchange import DONE, EVENTS, event, plain_event, record
from tests.wire import END, HEAD, chunked, stream


def sse(*lines: bytes, end: bytes = b"\n") -> bytes:
    return HEAD + chunked(b"".join(line + end for line in lines)) + END


DATA = [e.strip() for e in EVENTS]


@pytest.mark.parametrize(
    "data",
    [
        sse(*(part for d in DATA for part in (b"data:", b"", d, b"")), b"data: [DONE]", b""),
        sse(
            *(part for d in DATA for part in (b"event: ping", b'data: {"type": "ping"}', b"", d, b"")),
            b"data: [DONE]",
            b"",
        ),
        sse(
            b"data: {}",
            b"",
            b"event: heartbeat",
            b"data: 12:00",
            b"",
            *(p for d in DATA for p in (d, b"")),
            b"data: [DONE]",
            b"",
        ),
        sse(
            b":",
            b": hi",
            b"id: 7",
            b"retry: 10",
            b"data",
            b"",
            *(p for d in DATA for p in (d, b"")),
            b"data: [DONE]",
            b"",
        ),
        sse(*(p for d in DATA for p in (d, b"")), b"data: [DONE]", b"", end=b"\r"),
        sse(b"\xef\xbb\xbf" + DATA[0], b"", *(p for d in DATA[1:] for p in (d, b"")), b"data: [DONE]", b""),
        sse(*(p for d in DATA for p in (b"event: message", d, b"")))[: -len(END)] + chunked(b"data: [DONE]") + END,
        HEAD + b"".join(PIECES) + chunked(DONE)[:-2] + b"\r\n0;last\r\nX-Sum: 1\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.0 100 Continue\n\n"
        + HEAD
        + b"".join(PIECES)
        + chunked(DONE)
        + END,
    ],
    ids=["empty data", "ping", "no data", "fields", "CR", "BOM", "no line end", "trailer", "interim"],
)
@pytest.mark.parametrize("step", [1, 3, 1 << 20])
def test_streams_as_the_standards_allow_them(data: bytes, step: int) -> None:
    got = record([data[i : i + step] for i in range(0, len(data), step)])
    assert (got.error, got.output_tokens, got.finish_reason) == (None, 5, "length")


@pytest.mark.parametrize("cut", [True, False])
def test_a_stream_that_said_done_is_whole_although_its_connection_ended(cut: bool) -> None:
    fault = "connection closed in mid-response"
    sent = [HEAD, *PIECES, chunked(DONE)]
    got = timed([(p, (i + 1) * MS) for i, p in enumerate(sent)], fault=fault, cut=cut)
    assert (got.status, got.output_tokens, got.done_s) == ("ok" if cut else "failed", 5, 0.006 if cut else got.done_s)
    left = timed([(p, (i + 1) * MS) for i, p in enumerate([HEAD, *PIECES[:3]])], fault=fault, cut=cut)
    assert (left.status, left.error) == ("failed", fault)


def test_an_empty_finish_reason_is_no_end() -> None:
    got = record(stream(*(plain_event().replace(b"null}", b'""}') for _ in range(3))))
    assert (got.finish_reason, got.error) == (None, "the stream closed without its end mark")


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (sse(b"event: error", b"data: out of memory", b""), "error event: out of memory"),
        (sse(b"event: error", b'data: {"error": {"message": "no memory"}}', b""), "error event: no memory"),
        (sse(b"data: " + DEEP, b""), "JSON nested too deeply in event"),
        (sse(b'data: {"x": ' + DEEP, b""), "JSON nested too deeply in event"),
        (sse(b"data: NaN", b""), "not an event of this engine"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 100000\r\n\r\n" + DEEP, "HTTP 500: [[["),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b", "compressed (gzip)"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n", "no valid Content-Length: '1_0'"),
        (stream(*EVENTS, DONE) + stream(*EVENTS, DONE), "bytes after the end of the response: b'HTTP/1.1 200 OK"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%sx" % (len(BODY), BODY),
            "after the end of the response: b'x'",
        ),
        (HEAD + b"4\r\nabcdefg\r\n", "a chunk is longer than its size: b'efg'"),
        (b"\x15\x03\x01\x00\x02\x02", "the URL may have to begin with https"),
        (stream(b'data: {"error": "\x1b[2Jgone\\nnow"}\n\n'), r"error event: \x1b[2Jgone now"),
    ],
)
def test_hostile_answers_are_failed_records_in_one_line(data: bytes, said: str) -> None:
    got = record(data)
    assert got.status == "failed" and got.error is not None
    assert said in got.error and got.error.isprintable() and len(got.error) < 700


def test_ids_that_cannot_be_stored_are_counted_and_not_kept() -> None:
    odd = [event([2**40], 1), event([-5], 2), event([7], 3, "length"), DONE]
    got = timed([(stream(*odd), 50 * MS)], keep_ids=True)
    assert (got.error, got.output_tokens, got.output_ids) == (None, 3, ())


@pytest.mark.parametrize(("at", "fails"), [(14 * MS, True), (15 * MS - 50_000, False), (16 * MS, False)])
def test_an_answer_from_before_its_request_is_none(at: int, fails: bool) -> None:
    """Left over from an earlier response: TTFT would be below 0, or far too short."""
    got = timed([(HEAD + PIECES[0], at), (b"".join(PIECES[1:]) + chunked(DONE) + END, 40 * MS)], sent_ns=15 * MS)
    assert got.status == ("failed" if fails else "ok")
    if fails:
        assert "arrived before the request was sent" in (got.error or "")
        assert (got.first_token_s, got.output_tokens, got.chunks) == (None, 0, ()) and (got.done_s or 0) >= 0.04


KEY = "sk-Proj/0123456789abcdefghij+XYZ="


@pytest.mark.parametrize(
    "echo",
    [
        KEY.encode(),
        KEY.upper().encode(),
        KEY.encode().replace(b"/", rb"\/"),
        "".join(f"\\u{ord(c):04x}" for c in KEY).encode(),
        b"sk-Proj%2F0123456789abcdefghij%2bXYZ%3D",
        KEY[:20].encode(),  # cut off by the server
    ],
)
def test_no_text_has_the_key_however_it_is_spelled_or_cut(echo: bytes) -> None:
    body = b'{"error": {"message": "%s %s"}}' % (b"x" * 160, echo)
    error = b"data: " + body + b"\n\n"
    finish = event([1], 1, "zz").replace(b"zz", echo)
    broken = b"data: {%s\n\n" % echo
    for data in (
        b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
        b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(body[:175]) + chunked(body[175:]) + END,
        stream(error, DONE),
        stream(finish, DONE),
        stream(broken, DONE),
        b"HTTP/1.1 307 No\r\nLocation: /x?k=%s\r\n\r\n" % echo,
        echo,
    ):
        for step in (13, 1 << 20):
            got = timed([(data[i : i + step], 20 * MS) for i in range(0, len(data), step)], secret=Secret(KEY))
            text = f"{got.error} {got.finish_reason}".lower()
            assert "***" in text, text
            assert not any(part in text for part in ("sk-", "0123", "abcd", "proj", "u0073", "xyz")), text


@pytest.mark.parametrize(
    ("key", "text", "shown"),
    [
        ("e", "the server's error: Bearer e", "the server's error: Bearer ***"),
        ("EMPTY", "empty body, key EMPTY.", "empty body, key ***."),
        (None, "as it is", "as it is"),
        ("sk-12345678", "keys begin with sk-1234", "keys begin with sk-1234"),
    ],
)
def test_a_short_key_does_not_shred_every_text(key: str | None, text: str, shown: str) -> None:
    assert Secret(key).hide(text) == shown


def test_what_is_kept_of_long_errors_is_short() -> None:
    body = b'{"error": {"message": "' + b"m" * 3_000_000 + b'"}}'
    got = record(b"HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert got.error is not None and len(got.error) < 300
