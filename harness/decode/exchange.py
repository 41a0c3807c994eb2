"""Decodes the raw reads of one exchange into a record: HTTP framing, then server-sent events, then tokens.

Runs after the clock has stopped. A token's arrival is that of the read that completed its event's line."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from harness.adapter import Parse
from harness.decode.body import Body, Malformed, beginning, body_of, quote
from harness.decode.pieces import pieces
from harness.decode.said import text_of
from harness.decode.stream import Stream
from harness.driver.clock import EARLY, arrival, is_early
from harness.driver.head import Head
from harness.driver.job import Replayed
from harness.driver.refusal import message_in, refusal
from harness.driver.spool import Exchange, Read
from harness.records.request import ERROR_SHOWN, TEXT_SHOWN, RequestRecord
from harness.redact import NO_SECRET, Secret
from harness.visible import visible
from harness.workload.kept import kept
from harness.workload.schedule import Request, Schedule

_STARS = re.compile(r"\*{4,}")  # of any length, they would tell how long the key is
_USUAL = frozenset({"length", "stop", "tool_calls", "eos_token", "stop_sequence"})  # finish reasons


def decode(
    replayed: Iterable[Replayed], schedule: Schedule, parse: Parse, key: str | None = None, keep_text: bool = False
) -> Iterator[RequestRecord]:
    """One record for each request that was sent, in the order in which they ended. `key`: the API key, which is in no
    text of a record although a server may have echoed it. `keep_text`: of the answers whose ids are kept, also their
    text."""
    secret = Secret(key)
    requests, keep = {request.index: request for request in schedule.requests}, kept(schedule)
    texts = keep if keep_text else range(0)
    for part in replayed:
        for exchange in part.spool:
            request = requests[exchange.index]
            record = decode_exchange(
                exchange, request, parse, part.start_ns, part.steps_ns, request.index in keep, secret
            )
            if request.index in texts and record.status == "ok":
                record = replace(record, output_text=visible(secret.hide(text_of(exchange.reads)), TEXT_SHOWN))
            yield record


def arrival_of(read: Read, steps_ns: Sequence[int] = ()) -> int | None:
    """When the kernel received the read's last bytes, on the monotonic clock; None if not known.

    `steps_ns`: when a step of the realtime clock was noticed. The kernel stamps with that clock, so the stamp of a
    read that arrived before the last step would be off by the step."""
    at = arrival(read.stamp, read.lead_ns, read.read_ns)
    if at is not None and steps_ns and (n := bisect_right(steps_ns, read.read_ns)) and at < steps_ns[n - 1]:
        return None
    return at


def _read_stream(reads: Sequence[Read], exchange: Exchange, stream: Stream) -> tuple[int | None, str | None]:
    """Reads every event into `stream`; returns the HTTP status and the error, if any."""
    status: int | None = None
    error = None if exchange.fault is None else visible(exchange.fault)
    try:
        head, pieces = body_of(reads)
        if head is None:
            return None, error or f"no HTTP response: {quote(b''.join(r.data for r in reads))}"
        status = head.status
        if status != 200:
            said = _compressed(head).encode() if head.codings else beginning(reads)
            return status, refusal(status or 0, head.fields, said)
        if head.problem or head.codings:
            return status, head.problem or _compressed(head)
        body = Body(head)
        stream.read(pieces, body)
        stream.close()
        if body.excess:
            return status, f"bytes after the end of the response: {quote(body.excess)}"
        if exchange.cut and (stream.done or body.ended):
            error = None  # the stream is whole, although the connection ended before the response did
        elif error and stream.done:
            error = f"{error}; the stream had said that it was complete, but the response went on"
        return status, error or stream.error or _what_is_missing(head, reads, stream)
    except Malformed as problem:
        stream.close()
        return status, error or str(problem)


def _what_is_missing(head: Head, reads: Sequence[Read], stream: Stream) -> str | None:
    if not stream.events:
        kind = visible(head.fields.get("content-type", ""), 60)
        # A server that does not know `stream` answers in one JSON object.
        said = f" (it is {kind}, not a stream)" if kind and "event-stream" not in kind else ""
        return f"no event in the response{said}: {message_in(beginning(reads), kind)}"
    if not stream.ended and not stream.chunks() and stream.foreign is not None:
        return f"no event of this API in the stream; its first one: {quote(stream.foreign)}"
    return None if stream.ended else "the stream closed without its end mark"


def _compressed(head: Head) -> str:
    codings = visible(", ".join(head.codings))
    return f"the body is compressed ({codings}), which was not asked for: switch that off in the server or the proxy"


def decode_exchange(
    exchange: Exchange,
    request: Request,
    parse: Parse,
    start_ns: int,
    steps_ns: Sequence[int] = (),
    keep_ids: bool = False,
    secret: Secret = NO_SECRET,
) -> RequestRecord:
    """The record of one exchange, with the ids of the answer if they are to be kept. Never raises for what came over
    the wire: that is a failed record with a reason. `secret` is in no text of the record."""
    reads = exchange.reads
    stream = Stream(parse, keep_ids)
    status, error = _read_stream(reads, exchange, stream)
    if error:
        error = _without(secret, exchange, parse, error)
    arrivals = [arrival_of(read, steps_ns) for read in reads]
    # The end of a connection is a read without bytes and without a stamp: it would count as an unstamped read.
    brought = [at for at, read in zip(arrivals, reads, strict=True) if read.data]
    sent_ns = exchange.sent_ns
    chunks = pieces(stream.chunks(), reads, arrivals, start_ns, sent_ns)
    early = bool(brought) and is_early(brought[0], sent_ns)
    if early:  # what arrived is no answer to this request, so it has no tokens and no times
        error, chunks = EARLY, []
    elif error is None and request.output_tokens and not chunks:
        error = "the stream ended without any output"
    done_ns = exchange.done_ns
    if reads and not early and (exchange.fault is None or error is None):
        done_ns = arrivals[-1] or done_ns

    def seconds(at_ns: int | None) -> float | None:
        return None if at_ns is None else (at_ns - start_ns) / 1e9

    return RequestRecord(
        index=request.index,
        scheduled_s=request.scheduled_s,
        due_s=seconds(exchange.due_ns),
        sent_s=seconds(sent_ns),
        first_token_s=chunks[0].arrival_ns / 1e9 if chunks else None,
        last_token_s=chunks[-1].arrival_ns / 1e9 if chunks else None,
        done_s=seconds(done_ns),
        prompt_tokens=stream.prompt_tokens,
        output_tokens=sum(chunk[2] for chunk in chunks),
        finish_reason=_shown(secret, stream.finish_reason),
        status="cancelled" if exchange.cancelled else "failed" if error else "ok",
        error=None if error is None else visible(error, ERROR_SHOWN),
        http_status=status,
        uploaded_s=seconds(exchange.uploaded_ns),
        connect_s=None if exchange.connect_ns is None else exchange.connect_ns / 1e9,
        sent_tokens=len(request.prompt_ids),
        asked_tokens=request.output_tokens,
        reported_tokens=stream.reported_tokens,
        first_event_tokens=chunks[0].tokens if chunks else None,
        cached_tokens=stream.cached_tokens,
        count_source=stream.count_source,
        output_ids=stream.whole_ids(),
        reads=len(brought),
        stamped_reads=len(brought) - brought.count(None),
        chunks=tuple(chunks),
    )


def _shown(secret: Secret, reason: str | None) -> str | None:
    """A finish reason as it is stored; the usual ones are not looked at any closer."""
    return reason if reason is None or reason in _USUAL else visible(secret.hide(reason))


def _without(secret: Secret, exchange: Exchange, parse: Parse, error: str) -> str:
    """The error without the key. It is removed from the bytes, which are read again: in a message that is cut already,
    half of it could be left."""
    data = b"".join(read.data for read in exchange.reads)
    clean = secret.blank(data)
    if clean != data:
        at, reads = 0, []
        for read in exchange.reads:
            reads.append(read._replace(data=clean[at : at + len(read.data)]))
            at += len(read.data)
        error = _STARS.sub("***", _read_stream(reads, exchange, Stream(parse))[1] or error)
    return secret.hide(error)
