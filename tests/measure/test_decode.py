"""From bytes to tokens: any split of the bytes gives the same tokens at the right reads."""

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.adapter import openai_completion
from harness.measure.decode import decode_exchange, stamp_of
from harness.measure.driver import Exchange, Read
from harness.records import RequestRecord
from harness.schedule import Request
from tests.wire import END, HEAD, chunked, stream

ASKED = Request(index=0, prompt_ids=(1, 2, 3, 4), output_tokens=5)
DONE = b"data: [DONE]\n\n"


def event(ids: list[int], total: int, finish: str | None = None) -> bytes:
    usage = {"prompt_tokens": 4, "completion_tokens": total, "prompt_tokens_details": {"cached_tokens": 0}}
    choice = {"text": "x", "token_ids": ids, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], "usage": usage}).encode() + b"\n\n"


EVENTS = [event([11], 1), event([12, 13], 3), event([14], 4), event([15], 5, "length")]


def record(data: bytes | list[bytes], fault: str | None = None) -> RequestRecord:
    """Decodes reads that come 1 ms apart, the request having been sent at 0."""
    pieces = [data] if isinstance(data, bytes) else data
    reads = [Read((i + 1) * 1_000_000, 0, None, piece) for i, piece in enumerate(pieces)]
    exchange = Exchange(0, connect_ns=7, sent_ns=0, uploaded_ns=0, reads=reads, fault=fault)
    exchange.done_ns = len(reads) * 1_000_000
    return decode_exchange(exchange, ASKED, openai_completion, 0)


def test_counts_ids_and_not_events() -> None:
    got = record([HEAD, *(chunked(e) for e in EVENTS), chunked(DONE) + END])
    assert (got.status, got.error, got.http_status) == ("ok", None, 200)
    assert (got.output_tokens, got.reported_tokens, got.prompt_tokens, got.cached_tokens) == (5, 5, 4, 0)
    assert [(c.arrival_ns, c.tokens) for c in got.chunks] == [
        (2_000_000, 1),
        (3_000_000, 2),
        (4_000_000, 1),
        (5_000_000, 1),
    ]
    assert (got.first_token_s, got.last_token_s, got.done_s) == (0.002, 0.005, 0.006)
    assert (got.first_event_tokens, got.finish_reason) == (1, "length")


def test_events_of_one_read_are_one_chunk() -> None:
    got = record([HEAD + chunked(EVENTS[0]), b"".join(chunked(e) for e in [*EVENTS[1:], DONE]) + END])
    assert [(c.arrival_ns, c.tokens) for c in got.chunks] == [(1_000_000, 1), (2_000_000, 4)]


@settings(max_examples=300, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 2000)),
    pings=st.lists(st.integers(0, 4), max_size=6),
    crlf=st.booleans(),
    spaced=st.booleans(),
    together=st.booleans(),
)
def test_any_split_comment_and_line_end_gives_the_same_tokens(
    cuts: list[int], pings: list[int], crlf: bool, spaced: bool, together: bool
) -> None:
    events = [*EVENTS, DONE]
    for at in sorted(pings, reverse=True):
        events.insert(at, b":\n\n")
    if not spaced:
        events = [e.replace(b"data: ", b"data:", 1) for e in events]
    if crlf:
        events = [e.replace(b"\n", b"\r\n") for e in events]
    whole = stream(b"".join(events)) if together else stream(*events)
    bounds = sorted({0, len(whole), *(c % len(whole) for c in cuts)})
    pieces = [whole[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
    got = record(pieces)
    assert (got.error, got.output_tokens, got.reported_tokens, got.finish_reason) == (None, 5, 5, "length")
    assert sum(c.tokens for c in got.chunks) == 5
    # A token arrives with the read that holds the end of its line, neither earlier nor later.
    line_end = b"\r\n" if crlf else b"\n"
    at, expected = 0, []
    for e in EVENTS:
        body = e if spaced else e.replace(b"data: ", b"data:", 1)
        body = body.rstrip(b"\n") + line_end
        at = whole.index(body, at) + len(body)
        # The read that brings the line feed itself.
        expected.append(next(i for i, b in enumerate(bounds[1:]) if b >= at) + 1)
    assert [c.arrival_ns // 1_000_000 for c in got.chunks] == sorted(set(expected))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (stream(*EVENTS), "the stream closed without its end mark"),
        (stream(*EVENTS[:2], b'data: {"error": {"message": "out of memory"}}\n\n', DONE), "error event: out of memory"),
        (stream(b'data: {"error": "overloaded", "error_type": "x"}\n\n'), "error event: overloaded"),
        (stream(EVENTS[0], b"data: {broken\n\n"), "no JSON in event: b'{broken'"),
        (stream(EVENTS[0], b"data: [1]\n\n"), "no object in event"),
        (HEAD + b"zz\r\n", "no chunk size: b'zz'"),
        (b"SSH-2.0\r\n\r\n", "no HTTP response: b'SSH-2.0"),
        (
            b'HTTP/1.1 429 Busy\r\nContent-Length: 31\r\n\r\n{"error":{"message":"too many"}}',
            "HTTP 429: too many",
        ),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "HTTP 503: empty body"),
        (b"", "the stream closed without its end mark"),
    ],
)
def test_what_goes_wrong_is_a_failed_record_with_its_reason(data: bytes, said: str) -> None:
    got = record(data)
    assert got.status == "failed"
    assert got.error is not None and said in got.error


def test_a_fault_of_the_connection_keeps_what_came_before_it() -> None:
    got = record([HEAD, chunked(EVENTS[0]), chunked(EVENTS[1])[:-20]], fault="connection closed in mid-response")
    assert (got.status, got.error) == ("failed", "connection closed in mid-response")
    assert got.output_tokens == 1


def test_several_done_marks_and_null_usage_are_harmless() -> None:
    nothing = b'data: {"choices": [], "usage": null}\n\n'
    got = record(stream(*EVENTS, nothing, DONE, DONE))
    assert (got.error, got.output_tokens) == (None, 5)


def kernel_stamp(at_ns: int) -> bytes:
    return struct.pack("@qqqqqq", at_ns // 10**9, at_ns % 10**9, 0, 0, 0, 0)


def test_arrival_is_the_kernels_stamp_on_the_monotonic_clock() -> None:
    lead = 1_700_000_000_000_000_000
    read = Read(read_ns=5_000_000, lead_ns=lead, stamp=kernel_stamp(lead + 3_500_000), data=b"x")
    stamp = stamp_of(read)
    assert (stamp.arrival_ns, stamp.read_ns, stamp.kernel) == (3_500_000, 5_000_000, True)


@pytest.mark.parametrize("arrival_ns", [5_000_001, -1_000_000_000])
def test_a_stamp_that_cannot_be_is_not_used(arrival_ns: int) -> None:
    lead = 1_700_000_000_000_000_000
    read = Read(5_000_000, lead, kernel_stamp(lead + arrival_ns), b"x")
    assert stamp_of(read).kernel is False
    assert stamp_of(read).arrival_ns == 5_000_000


def test_a_stamp_from_the_moment_of_a_clock_step_is_not_used() -> None:
    assert stamp_of(replace_lead(None)).arrival_ns == 5_000_000


def replace_lead(lead: int | None) -> Read:
    return Read(5_000_000, lead, kernel_stamp(1_700_000_000_000_000_000), b"x")
