"""From bytes to tokens: any split of the bytes gives the same tokens at the right reads."""

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.adapter import openai_stream
from harness.decode.exchange import arrival_of, decode_exchange
from harness.driver.spool import Exchange, Read
from harness.records.request import RequestRecord
from harness.workload.kept import kept
from harness.workload.schedule import Request, Schedule
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
    reads = [Read(0, (i + 1) * 1_000_000, 0, None, piece) for i, piece in enumerate(pieces)]
    exchange = Exchange(0, connect_ns=7, sent_ns=0, uploaded_ns=0, reads=reads, fault=fault)
    exchange.done_ns = len(reads) * 1_000_000
    return decode_exchange(exchange, ASKED, openai_stream, 0)


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


def kept_ids(events: list[bytes], keep: bool = True) -> tuple[int, ...]:
    reads = [Read(0, 1_000_000, 0, None, HEAD + b"".join(map(chunked, [*events, DONE])) + END)]
    exchange = Exchange(0, connect_ns=7, sent_ns=0, uploaded_ns=0, reads=reads, fault=None)
    return decode_exchange(exchange, ASKED, openai_stream, 0, keep_ids=keep).output_ids


def test_ids_are_kept_where_asked_for_and_only_if_none_is_missing() -> None:
    assert kept_ids(EVENTS) == (11, 12, 13, 14, 15)
    assert kept_ids(EVENTS, keep=False) == ()
    silent = event([], 5, "length").replace(b'"token_ids": [], ', b"")
    assert kept_ids([*EVENTS[:3], silent]) == ()


def test_the_answers_that_are_kept_meet_a_full_load() -> None:
    requests = tuple(Request(i, (1,), 4) for i in range(40))
    assert kept(Schedule(requests, slots=8)) == range(7, 11)
    assert kept(Schedule(requests, slots=1)) == range(4)
    assert kept(Schedule(requests, slots=None)) == range(20, 24)
    assert kept(Schedule(requests[:3], slots=8)) == range(1, 3)
    assert kept(Schedule((), slots=8)) == range(0)


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
        (stream(*EVENTS[:3]), "the stream closed without its end mark"),
        (stream(*EVENTS[:2], b'data: {"error": {"message": "out of memory"}}\n\n', DONE), "error event: out of memory"),
        (stream(b'data: {"error": "overloaded", "error_type": "x"}\n\n'), "error event: overloaded"),
        (stream(b'data: {"object": "error", "message": "no memory"}\n\n', DONE), "error event: no memory"),
        (stream(DONE), "the stream ended without any output"),
        (stream(EVENTS[0], b"data: {broken\n\n"), "no JSON in event: b'{broken'"),
        (stream(EVENTS[0], b"data: [1]\n\n"), "not an event of this engine"),
        (HEAD + b"zz\r\n", "no chunk size: b'zz'"),
        (b"SSH-2.0\r\n\r\n", "no HTTP response: b'SSH-2.0"),
        (
            b'HTTP/1.1 429 Busy\r\nContent-Length: 31\r\n\r\n{"error":{"message":"too many"}}',
            "HTTP 429: too many",
        ),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "HTTP 503: empty body"),
        (b"", "no HTTP response: b''"),
        (HEAD + b"f" * 300, "no chunk size: b'fff"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"text":"x"}', 'no event in the response: {"text":"x"}'),
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
    return struct.pack("@qq", at_ns // 10**9, at_ns % 10**9)


LEAD = 1_700_000_000_000_000_000


def stamped(arrival_ns: int, read_ns: int = 5_000_000) -> Read:
    return Read(0, read_ns, LEAD, kernel_stamp(LEAD + arrival_ns), b"x")


def test_arrival_is_the_kernels_stamp_on_the_monotonic_clock() -> None:
    assert arrival_of(stamped(3_500_000)) == 3_500_000
    # However long it lay there: a driver that was kept from reading must not blame the engine.
    assert arrival_of(stamped(1_000_000, 9_000_000_000)) == 1_000_000


def test_a_stamp_that_cannot_be_is_not_used() -> None:
    assert arrival_of(stamped(5_000_001)) is None
    assert arrival_of(Read(0, 5_000_000, LEAD, None, b"x")) is None


def test_a_clock_step_bends_no_latency() -> None:
    """The clock jumps 10 s ahead: what had arrived before would be 10 s too early by the new lead."""
    stepped = Read(0, 5_000_000, LEAD + 10**10, kernel_stamp(LEAD + 4_000_000), b"x")
    assert arrival_of(stepped, (4_500_000,)) is None
    back = Read(0, 5_000_000, LEAD - 10**10, kernel_stamp(LEAD + 4_000_000), b"x")
    assert arrival_of(back, (4_500_000,)) is None
    # What arrived after it is believed again; a later step does not concern what was read before.
    assert arrival_of(stamped(4_600_000), (4_500_000,)) == 4_600_000
    assert arrival_of(stamped(4_400_000), (5_500_000,)) == 4_400_000


def test_the_end_of_a_connection_is_no_read_without_a_stamp() -> None:
    """It has no bytes that the kernel could have stamped; counted, it would say that a stamp is missing."""
    body = b"HTTP/1.1 200 OK\r\n\r\n" + b"".join(EVENTS) + DONE
    whole = Read(0, 5_000_000, LEAD, kernel_stamp(LEAD + 4_000_000), body)
    unstamped, end = whole._replace(stamp=None), Read(0, 6_000_000, LEAD, None, b"")
    for reads, counts in (([whole, end], (1, 1)), ([whole], (1, 1)), ([unstamped, end], (1, 0)), ([end], (0, 0))):
        got = decode_exchange(Exchange(0, sent_ns=0, done_ns=6_000_000, reads=reads), ASKED, openai_stream, 0)
        assert (got.reads, got.stamped_reads) == counts


def test_due_times_count_from_the_start() -> None:
    reads = [Read(0, 5_000_000, 0, None, stream(*EVENTS, DONE))]
    for due_ns, due_s in ((4_000_000, 0.001), (None, None)):
        exchange = Exchange(0, due_ns=due_ns, sent_ns=4_500_000, done_ns=5_000_000, reads=reads)
        assert decode_exchange(exchange, ASKED, openai_stream, 3_000_000).due_s == due_s


def plain_event(text: str | None = "x", **more: object) -> bytes:
    choices = [] if text is None else [{"index": 0, "text": text, "finish_reason": None}]
    return b"data: " + json.dumps({"choices": choices, **more}).encode() + b"\n\n"


def chat_event(delta: dict[str, object], finish: str | None = None) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": delta, "finish_reason": finish}]}).encode() + b"\n\n"


FINAL = plain_event(None, usage={"prompt_tokens": 4, "completion_tokens": 5})


@pytest.mark.parametrize(
    ("events", "tokens", "source"),
    [
        ([plain_event(), plain_event(), plain_event(), FINAL, DONE], [1, 2, 2], "final usage"),
        ([plain_event()] * 5 + [FINAL, DONE], [1] * 5, "final usage"),
        ([plain_event(), plain_event(), DONE], [1, 1], "events"),
        (
            [plain_event(usage={"completion_tokens": n, "prompt_tokens": 4}) for n in (1, 3)] + [DONE],
            [1, 2],
            "running usage",
        ),
        # Says who speaks; nothing yet; thought; said; ended.
        (
            [
                chat_event({"role": "assistant", "content": ""}),
                chat_event({"reasoning_content": "hm"}),
                chat_event({"content": "x"}),
                chat_event({}, "stop"),
                DONE,
            ],
            [1, 1],
            "events",
        ),
    ],
)
def test_where_no_ids_are_sent_the_engines_own_counts_hold(events: list[bytes], tokens: list[int], source: str) -> None:
    got = record([HEAD, *(chunked(e) for e in events), END])
    assert got.error is None
    assert ([c.tokens for c in got.chunks], got.count_source) == (tokens, source)
    first = next(i for i, e in enumerate(events) if b'"x"' in e or b'"hm"' in e)
    assert got.chunks[0].arrival_ns == (first + 2) * 1_000_000


IDS = [event([11], 1), event([12], 2), event([13], 3)]


@pytest.mark.parametrize(("said", "kept"), [(5, [1, 1, 1]), (2, [1, 1, 1])])
def test_ids_that_were_seen_are_not_corrected_by_what_is_reported(said: int, kept: list[int]) -> None:
    """Else lost or doubled ids could never be told from the engine's own count."""
    final = plain_event(None, usage={"prompt_tokens": 4, "completion_tokens": said})
    got = record([HEAD, *(chunked(e) for e in IDS), chunked(final), chunked(DONE) + END])
    assert [c.tokens for c in got.chunks] == kept
    assert (got.output_tokens, got.reported_tokens, got.count_source) == (3, said, "ids")


def test_chunks_are_in_the_order_of_their_arrival() -> None:
    got = record([HEAD, chunked(plain_event()), *(chunked(e) for e in IDS), chunked(DONE) + END])
    assert [c.arrival_ns for c in got.chunks] == sorted(c.arrival_ns for c in got.chunks)
    assert got.first_token_s == 0.002


def test_trailing_fields_are_no_chunk() -> None:
    got = record(stream(*EVENTS, DONE)[: -len(END)] + b"0\r\nX-Sum: 1\r\n\r\n")
    assert (got.error, got.output_tokens) == (None, 5)


def test_a_stream_cut_in_mid_event_keeps_the_events_before_it() -> None:
    got = record([HEAD, chunked(plain_event()), chunked(plain_event()), chunked(b"data: {")], fault="cut")
    assert (got.status, got.output_tokens) == ("failed", 2)


def test_an_engine_that_says_no_done_ends_with_its_finish_reason() -> None:
    got = record(stream(*EVENTS))
    assert (got.error, got.output_tokens) == (None, 5)


def test_an_interim_response_is_not_the_response() -> None:
    got = record(b"HTTP/1.1 100 Continue\r\n\r\n" + stream(*EVENTS, DONE))
    assert (got.error, got.http_status, got.output_tokens) == (None, 200, 5)


def test_what_was_given_up_is_neither_whole_nor_failed() -> None:
    exchange = Exchange(0, sent_ns=0, reads=[Read(0, 1_000_000, 0, None, HEAD + chunked(EVENTS[0]))], cancelled=True)
    exchange.fault, exchange.done_ns = "cancelled by its user", 2_000_000
    got = decode_exchange(exchange, ASKED, openai_stream, 0)
    assert (got.status, got.output_tokens, got.done_s) == ("cancelled", 1, 0.002)
