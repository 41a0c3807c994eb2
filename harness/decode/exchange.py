"""Decodes the raw reads of one exchange into a record: HTTP framing, then server-sent events, then tokens.

Runs after the clock has stopped. A token's arrival is that of the read that completed its event's line."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from harness.adapter import Parse
from harness.decode.body import Malformed, body_of, fields_of, quote, whole
from harness.decode.stream import Stream
from harness.driver.clock import arrival
from harness.driver.job import Replayed
from harness.driver.refusal import refusal
from harness.driver.spool import Exchange, Read
from harness.records.request import Chunk, RequestRecord
from harness.workload.kept import kept
from harness.workload.schedule import Request, Schedule


def decode(replayed: Iterable[Replayed], schedule: Schedule, parse: Parse) -> Iterator[RequestRecord]:
    """One record for each request that was sent, in the order in which they ended."""
    requests, keep = {request.index: request for request in schedule.requests}, kept(schedule)
    for part in replayed:
        for exchange in part.spool:
            request = requests[exchange.index]
            yield decode_exchange(exchange, request, parse, part.start_ns, part.steps_ns, request.index in keep)


def arrival_of(read: Read, steps_ns: Sequence[int] = ()) -> int | None:
    """When the kernel received the read's last bytes, on the monotonic clock; None if not known.

    `steps_ns`: when a step of the realtime clock was noticed. The kernel stamps with that clock, so the stamp of a
    read that arrived before the last step would be off by the step."""
    at = arrival(read.stamp, read.lead_ns, read.read_ns)
    if at is not None and steps_ns and (n := bisect_right(steps_ns, read.read_ns)) and at < steps_ns[n - 1]:
        return None
    return at


def _read_stream(exchange: Exchange, request: Request, stream: Stream) -> tuple[int | None, str | None]:
    """Reads every event into `stream`; returns the HTTP status and the error, if any."""
    reads, error = exchange.reads, exchange.fault
    status: int | None = None
    try:
        status, chunked, body = body_of(reads)
        if status is None:
            return None, error or f"no HTTP response: {quote(b''.join(r.data for r in reads))}"
        if status != 200:
            return status, refusal(status, fields_of(reads), whole(body, chunked))
        stream.read(body, chunked)
        stream.close()
        error = error or stream.error
        if error is None and not stream.events:
            error = f"no event in the response: {quote(whole(body_of(reads)[2], chunked))}"
        elif error is None and not stream.ended:
            error = "the stream closed without its end mark"
        elif error is None and request.output_tokens and not stream.chunks():
            error = "the stream ended without any output"
    except Malformed as problem:
        stream.close()
        error = error or str(problem)
    return status, error


def decode_exchange(
    exchange: Exchange,
    request: Request,
    parse: Parse,
    start_ns: int,
    steps_ns: Sequence[int] = (),
    keep_ids: bool = False,
) -> RequestRecord:
    """The record of one exchange, with the ids of the answer if they are to be kept. Never raises for what came over
    the wire: that is a failed record with a reason."""
    reads = exchange.reads
    stream = Stream(parse, keep_ids)
    status, error = _read_stream(exchange, request, stream)
    arrivals = [arrival_of(read, steps_ns) for read in reads]
    # The end of a connection is a read without bytes and without a stamp: it would count as an unstamped read.
    brought = [at for at, read in zip(arrivals, reads, strict=True) if read.data]
    done_ns = exchange.done_ns
    if reads and exchange.fault is None:
        done_ns = arrivals[-1] or done_ns
    chunks = []
    for at, tokens in stream.chunks():
        read_ns = reads[at].read_ns
        chunks.append(Chunk((arrivals[at] or read_ns) - start_ns, read_ns - start_ns, tokens))

    def seconds(at_ns: int | None) -> float | None:
        return None if at_ns is None else (at_ns - start_ns) / 1e9

    return RequestRecord(
        index=request.index,
        scheduled_s=request.scheduled_s,
        due_s=seconds(exchange.due_ns),
        sent_s=seconds(exchange.sent_ns),
        first_token_s=chunks[0].arrival_ns / 1e9 if chunks else None,
        last_token_s=chunks[-1].arrival_ns / 1e9 if chunks else None,
        done_s=seconds(done_ns),
        prompt_tokens=stream.prompt_tokens,
        output_tokens=sum(chunk[2] for chunk in chunks),
        finish_reason=stream.finish_reason,
        status="cancelled" if exchange.cancelled else "failed" if error else "ok",
        error=error,
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
