"""Times and counts of tokens where the stream's own count is odd, late or missing, or where it came in one piece."""

from __future__ import annotations

from typing import Any

import pytest

from harness.adapter import openai_stream
from harness.decode.exchange import decode_exchange
from harness.driver.spool import Exchange, Read
from harness.records.request import RequestRecord
from tests.decode.test_exchange import ASKED, DONE, EVENTS, LEAD, chat_event, event, kernel_stamp, plain_event, record
from tests.wire import END, HEAD, chunked, stream


def timed(sent: list[tuple[bytes, int]], sent_ns: int = 0, **more: Any) -> RequestRecord:
    """Decodes reads with the kernel's arrival times (ns), each read 10 µs later."""
    reads = [Read(0, at + 10_000, LEAD, kernel_stamp(LEAD + at), data) for data, at in sent]
    exchange = Exchange(0, sent_ns=sent_ns, done_ns=reads[-1].read_ns, reads=reads)
    for name in ("fault", "cut"):
        setattr(exchange, name, more.pop(name, getattr(exchange, name)))
    return decode_exchange(exchange, ASKED, openai_stream, 0, **more)


MS = 1_000_000


def running(*totals: int | None, text: str = "x") -> list[bytes]:
    """Events with text whose usage says so many tokens so far; None: without usage."""
    return [plain_event(text, **({} if n is None else {"usage": {"completion_tokens": n}})) for n in totals]


def total(tokens: object, prompt: object = 4) -> bytes:
    return plain_event(None, usage={"prompt_tokens": prompt, "completion_tokens": tokens})


IN_CHOICE = plain_event().replace(
    b'"finish_reason": null', b'"finish_reason": "stop", "usage": {"completion_tokens": 5}'
)
THOUGHT = plain_event(None, usage={"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 6}})
ROLE = b'data: {"choices": [{"delta": {"role": "assistant"}}], "usage": {"completion_tokens": 1}}\n\n'


@pytest.mark.parametrize(
    ("events", "tokens", "source", "reported"),
    [
        # Zero until the end: spread over the chunks that had text.
        ([*running(0, 0, 0), total(5)], {0: 1, 1: 2, 2: 2}, "final usage", 5),
        ([*running(0, 0, 3), *running(3, 5)], {0: 1, 1: 1, 2: 1, 3: 1, 4: 1}, "final usage", 5),
        # A usage of zeros beside text is none.
        ([*running(None, None), total(0, 0)], {0: 1, 1: 1}, "events", None),
        ([*running(0, 0)], {0: 1, 1: 1}, "events", None),
        # Backwards; jumps; the tokens of each event alone, then all.
        ([*running(1, 2, 1, 3)], {0: 1, 1: 1, 2: 0, 3: 1}, "final usage", 3),
        ([*running(1, 4)], {0: 1, 1: 3}, "running usage", 4),
        ([*running(1, 1, 1), total(3)], {0: 1, 1: 1, 2: 1}, "final usage", 3),
        ([*running(1, 1, 1)], {0: 1, 1: 1, 2: 1}, "events", 1),
        # Text held back until the end is no token beyond the count.
        ([*running(1, 2, 2)], {0: 1, 1: 1}, "running usage", 2),
        # Fewer tokens than chunks with text: the first and the last text have their time.
        ([*running(*[None] * 5), total(3)], {0: 1, 2: 1, 4: 1}, "final usage", 3),
        ([*running(*[None] * 5), total(1)], {0: 1}, "final usage", 1),
        # A count before any text is no time of a token.
        ([ROLE, *running(1, 2)], {1: 1, 2: 1}, "running usage", 2),
        ([ROLE, *running(None, None), total(3)], {1: 1, 2: 2}, "final usage", 3),
        ([plain_event("", usage={"completion_tokens": 3}), *running(3, 3)], {1: 1, 2: 2}, "final usage", 3),
        ([plain_event("", usage={"completion_tokens": 1}), *running(2, 3)], {0: 1, 1: 1, 2: 1}, "running usage", 3),
        # Ids that are always empty are no count either.
        ([event([], 0) for _ in range(3)], {0: 1, 1: 1, 2: 1}, "events", None),
        ([event([], 0), event([], 0), total(4)], {0: 2, 1: 2}, "final usage", 4),
        ([*running(None, None), IN_CHOICE], {0: 1, 1: 2, 2: 2}, "final usage", 5),
        # Reasoning whose text is not sent was generated before the first text; where it is sent, it has times.
        ([*running(*[None] * 3), THOUGHT], {0: 7, 1: 1, 2: 1}, "final usage", 9),
        ([chat_event({"reasoning": "x"}), *running(None, None), THOUGHT], {0: 3, 1: 3, 2: 3}, "final usage", 9),
        # A refusal is text.
        ([*[chat_event({"refusal": "x"})] * 2, total(2)], {0: 1, 1: 1}, "final usage", 2),
        # Odd counts are none; 16.0 is 16.
        ([*running(None, None), total(2.0)], {0: 1, 1: 1}, "final usage", 2),
        *(
            ([*running(None, None), total(odd)], {0: 1, 1: 1}, "events", None)
            for odd in (2**31, -3, 1.5, True, "2", [2])
        ),
    ],
)
def test_text_has_its_time_whatever_the_count_says(
    events: list[bytes], tokens: dict[int, int], source: str, reported: int | None
) -> None:
    got = record([HEAD, *map(chunked, events), chunked(DONE) + END])
    assert got.error is None
    assert {c.arrival_ns // MS - 2: c.tokens for c in got.chunks} == {at: n for at, n in tokens.items() if n}
    assert (got.count_source, got.reported_tokens) == (source, reported)


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ([chat_event({"content": "x"}, "error")], "the server ended the answer with finish_reason error"),
        ([b'data: {"type": "message_start"}\n\n'] * 2, 'no event of this API in the stream; its first one: b\'{"type"'),
        ([*running(None, None)], "the stream closed without its end mark"),
    ],
)
def test_an_answer_that_is_none_is_named(events: list[bytes], error: str) -> None:
    got = record(stream(*events))
    assert got.status == "failed" and error in (got.error or "")


def test_a_prompt_of_zero_tokens_is_no_count() -> None:
    got = record(stream(*running(None), total(1, 0), DONE))
    assert (got.prompt_tokens, got.reported_tokens) == (None, 1)


BODY = b"".join([*EVENTS, DONE])
PIECES = [chunked(e) for e in EVENTS]


def test_an_answer_in_one_piece_has_one_time() -> None:
    """A proxy that holds the stream back sends it in one go; the reads of it are no times of tokens."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    data = head + BODY
    for step_us in (0, 12):  # one packet read in parts; several packets
        got = timed([(data[i : i + 100], 110 * MS + step_us * 1000 * (i // 100)) for i in range(0, len(data), 100)])
        assert (got.error, got.output_tokens, len(got.chunks)) == (None, 5, 1)
        assert got.first_token_s == got.last_token_s and 0.110 <= (got.first_token_s or 0) < 0.112
        assert got.first_event_tokens == 5


def test_quick_tokens_are_no_single_piece() -> None:
    first = timed([(HEAD, MS), *((p, (30 + i) * MS) for i, p in enumerate(PIECES)), (chunked(DONE) + END, 35 * MS)])
    assert len(first.chunks) == 4
    # A long prefill, then 3 ms a token.
    late = timed(
        [(HEAD, MS), *((p, (5000 + 3 * i) * MS) for i, p in enumerate(PIECES)), (chunked(DONE) + END, 5020 * MS)]
    )
    assert len(late.chunks) == 4
    # What one packet brought came together, even if it took several reads; the others keep their times.
    same = [(PIECES[0], 30 * MS), (PIECES[1][:20], 40 * MS), (PIECES[1][20:], 40 * MS), (PIECES[2], 40 * MS)]
    part = timed([(HEAD, MS), *same, (PIECES[3], 50 * MS), (chunked(DONE) + END, 51 * MS)])
    assert [(c.arrival_ns // MS, c.tokens) for c in part.chunks] == [(30, 1), (40, 3), (50, 1)]
