"""From the raw reads of one exchange to its record: HTTP framing, server-sent events, tokens, in that order.

Runs after the clock has stopped. A token arrives when the read that completed its event's line arrived."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness.adapter import Event, Parse, error_text
from harness.measure.driver import Exchange, Read, Replayed
from harness.records import Chunk, RequestRecord
from harness.schedule import Request, Schedule

_TIMESPEC = struct.Struct("@qq")
_LONGEST_LAG_NS = 1_000_000_000  # a stamp further back than this is from before a clock step
_SHOWN = 200  # bytes of a broken stream that go into the error


class Malformed(Exception):
    """The bytes do not follow the protocol; the message quotes them."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a read arrived and when it was read, and whether the kernel said so."""

    arrival_ns: int
    read_ns: int
    kernel: bool


def decode(replayed: Replayed, schedule: Schedule, parse: Parse) -> list[RequestRecord]:
    """One record for each request of the schedule, in its order."""
    return [
        decode_exchange(exchange, request, parse, replayed.start_ns)
        for exchange, request in zip(replayed.exchanges, schedule.requests, strict=True)
    ]


def kernel_stamped_fraction(replayed: Replayed) -> float:
    """Share of reads whose arrival the kernel stamped; the others count as having arrived when read."""
    stamps = [stamp_of(read).kernel for exchange in replayed.exchanges for read in exchange.reads]
    return sum(stamps) / len(stamps) if stamps else 0.0


def stamp_of(read: Read) -> Stamp:
    """The read's arrival on the monotonic clock."""
    if read.stamp is not None and read.lead_ns is not None and len(read.stamp) >= _TIMESPEC.size:
        seconds, nanoseconds = _TIMESPEC.unpack_from(read.stamp)
        arrival = seconds * 1_000_000_000 + nanoseconds - read.lead_ns
        if seconds and 0 <= read.read_ns - arrival < _LONGEST_LAG_NS:
            return Stamp(arrival, read.read_ns, True)
    return Stamp(read.read_ns, read.read_ns, False)


def decode_exchange(exchange: Exchange, request: Request, parse: Parse, start_ns: int) -> RequestRecord:
    """Never raises for what came over the wire: that is a failed record with a reason."""
    stream = _Stream(parse)
    status: int | None = None
    error = exchange.fault
    try:
        status, body = _split_head(exchange.reads)
        pieces = _body(body, exchange.reads)
        if status is not None and status != 200:
            text = b"".join(data for data, _ in pieces)
            error = f"HTTP {status}: {_error_in(text)}"
        else:
            stream.read(pieces)
            error = error or stream.error
    except Malformed as problem:
        error = error or str(problem)
    if error is None and not stream.ended:
        error = "the stream closed without its end mark"
    done_ns = exchange.done_ns
    if exchange.reads and exchange.fault is None:
        done_ns = stamp_of(exchange.reads[-1]).arrival_ns
    chunks = tuple(Chunk(s.arrival_ns - start_ns, s.read_ns - start_ns, tokens) for s, tokens in stream.chunks)

    def seconds(at_ns: int | None) -> float | None:
        return None if at_ns is None else (at_ns - start_ns) / 1e9

    return RequestRecord(
        index=request.index,
        scheduled_s=request.scheduled_s,
        sent_s=seconds(exchange.sent_ns),
        first_token_s=chunks[0].arrival_ns / 1e9 if chunks else None,
        last_token_s=chunks[-1].arrival_ns / 1e9 if chunks else None,
        done_s=seconds(done_ns),
        prompt_tokens=stream.last.prompt_tokens,
        output_tokens=sum(c.tokens for c in chunks),
        finish_reason=stream.last.finish_reason,
        status="failed" if error else "ok",
        error=error,
        http_status=status,
        uploaded_s=seconds(exchange.uploaded_ns),
        connect_s=None if exchange.connect_ns is None else exchange.connect_ns / 1e9,
        sent_tokens=len(request.prompt_ids),
        asked_tokens=request.output_tokens,
        reported_tokens=stream.last.reported_tokens,
        first_event_tokens=chunks[0].tokens if chunks else None,
        cached_tokens=stream.last.cached_tokens,
        chunks=chunks,
    )


# -- HTTP ------------------------------------------------------------------------------------------------


def _split_head(reads: Sequence[Read]) -> tuple[int | None, tuple[bytes, int]]:
    """The status code, the head, and how many bytes it took; null where no whole head came."""
    head = b""
    for read in reads:
        head += read.data
        end = head.find(b"\r\n\r\n")
        if end >= 0:
            parts = head[:end].split(b"\r\n")[0].split()
            if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
                raise Malformed(f"no HTTP response: {head[:_SHOWN]!r}")
            return int(parts[1]), (head[:end].lower(), end + 4)
    return None, (head, len(head))


def _body(head: tuple[bytes, int], reads: Sequence[Read]) -> Iterator[tuple[bytes, Stamp]]:
    """The body as it came, each piece with the stamp of its read."""
    fields, skip = head
    unchunk = _Unchunk() if b"transfer-encoding: chunked" in fields else None
    for read in reads:
        data = read.data[skip:]
        skip = max(0, skip - len(read.data))
        if data:
            yield (unchunk.feed(data) if unchunk else data), stamp_of(read)


class _Unchunk:
    """Takes the chunk framing out of bytes that may be split anywhere."""

    def __init__(self) -> None:
        self.pending = b""
        self.left = 0  # bytes of the current chunk, its closing CR LF included, still to come

    def feed(self, data: bytes) -> bytes:
        data = self.pending + data
        self.pending = b""
        out = []
        at = 0
        while at < len(data):
            if self.left:
                take = min(self.left, len(data) - at)
                out.append(data[at : at + min(take, max(0, self.left - 2))])
                self.left -= take
                at += take
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                self.pending = data[at:]
                break
            line = data[at:end].split(b";")[0]
            at = end + 2
            if not line:
                continue  # the blank line after the last chunk
            try:
                size = int(line, 16)
            except ValueError:
                raise Malformed(f"no chunk size: {line[:_SHOWN]!r}") from None
            self.left = size + 2 if size else 0
        return b"".join(out)


def _error_in(body: bytes) -> str:
    """What an error body says, in one line."""
    try:
        payload = json.loads(body)
        if isinstance(payload, dict):
            return error_text(payload.get("error") or payload.get("message") or payload)[:_SHOWN]
    except ValueError:
        pass
    return body[:_SHOWN].decode(errors="replace").strip() or "empty body"


# -- server-sent events -----------------------------------------------------------------------------------


class _Stream:
    """Collects what the events of one response said."""

    def __init__(self, parse: Parse) -> None:
        self.parse = parse
        self.last = Event()  # the newest word on each fact
        self.chunks: list[tuple[Stamp, int]] = []
        self.total = 0
        self.ended = False
        self.error: str | None = None

    def read(self, pieces: Iterator[tuple[bytes, Stamp]]) -> None:
        for payload, stamp in events(pieces):
            if payload == b"[DONE]":
                self.ended = True
                continue
            try:
                parsed = json.loads(payload)
            except ValueError:
                raise Malformed(f"no JSON in event: {payload[:_SHOWN]!r}") from None
            if not isinstance(parsed, dict):
                raise Malformed(f"no object in event: {payload[:_SHOWN]!r}")
            try:
                event = self.parse(parsed)
            except (LookupError, TypeError, ValueError, AttributeError):
                raise Malformed(f"not an event of this engine: {payload[:_SHOWN]!r}") from None
            self._take(event, stamp)

    def _take(self, event: Event, stamp: Stamp) -> None:
        if event.error is not None and self.error is None:
            self.error = f"error event: {event.error}"
        self.ended = self.ended or event.end
        new = event.tokens if event.tokens is not None else (event.total or self.total) - self.total
        self.total += new
        if new and self.chunks and self.chunks[-1][0] is stamp:
            # Two events in one read arrived together; a gap of zero between them would be an invention.
            self.chunks[-1] = (stamp, self.chunks[-1][1] + new)
        elif new:
            self.chunks.append((stamp, new))
        kept = ("finish_reason", "prompt_tokens", "reported_tokens", "cached_tokens")
        said = {name: getattr(event, name) for name in kept if getattr(event, name) is not None}
        self.last = replace(self.last, **said)


def events(pieces: Iterator[tuple[bytes, Stamp]]) -> Iterator[tuple[bytes, Stamp]]:
    """The payload of each event and the stamp of the read that completed its last data line.

    WHATWG HTML, section 9.2: lines end in LF or CR LF, `data:` with or without a space, several data lines
    are one payload, a colon first is a comment, a blank line ends the event; so does the end of the stream,
    which the standard would discard but engines use."""
    pending = b""
    data: list[bytes] = []
    completed: Stamp | None = None
    for piece, stamp in pieces:
        lines = (pending + piece).split(b"\n")
        pending = lines.pop()
        for line in lines:
            line = line.rstrip(b"\r")
            if not line:
                if completed is not None:
                    yield b"\n".join(data).strip(), completed
                data, completed = [], None
            elif line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
                completed = stamp
    if pending.startswith(b"data:"):
        raise Malformed(f"cut in mid-event: {pending[:_SHOWN]!r}")
    if completed is not None:
        yield b"\n".join(data).strip(), completed
