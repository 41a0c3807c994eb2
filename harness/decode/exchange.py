"""From the raw reads of one exchange to its record: HTTP framing, server-sent events, tokens, in that order.

Runs after the clock has stopped. A token arrives when the read that completed its event's line arrived."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from harness.adapter import Event, Parse, error_text
from harness.driver.clock import arrival
from harness.driver.job import Replayed
from harness.driver.spool import Exchange, Read
from harness.records.run import Chunk, RequestRecord
from harness.workload.schedule import Request, Schedule

_SHOWN = 200  # bytes of a broken stream that go into the error
_json = msgspec.json.Decoder().decode


class Malformed(Exception):
    """The bytes do not follow the protocol; the message quotes them."""


def decode(replayed: Iterable[Replayed], schedule: Schedule, parse: Parse) -> Iterator[RequestRecord]:
    """One record for each request that was sent, in the order in which they ended."""
    requests = {request.index: request for request in schedule.requests}
    for part in replayed:
        for exchange in part.spool:
            yield decode_exchange(exchange, requests[exchange.index], parse, part.start_ns, part.steps_ns)


def arrival_of(read: Read, steps_ns: Sequence[int] = ()) -> int | None:
    """When the kernel received the read's last bytes, on the monotonic clock; null where it did not say.

    `steps_ns`: when the realtime clock was found to have been stepped. The kernel stamps by that clock, so
    what arrived before the last step is off by it and not believed."""
    at = arrival(read.stamp, read.lead_ns, read.read_ns)
    if at is not None and steps_ns and (n := bisect_right(steps_ns, read.read_ns)) and at < steps_ns[n - 1]:
        return None
    return at


def decode_exchange(
    exchange: Exchange, request: Request, parse: Parse, start_ns: int, steps_ns: Sequence[int] = ()
) -> RequestRecord:
    """Never raises for what came over the wire: that is a failed record with a reason."""
    reads = exchange.reads
    stream = _Stream(parse)
    status: int | None = None
    error = exchange.fault
    try:
        status, chunked, body = _body(reads)
        if status is None:
            error = error or f"no HTTP response: {_quote(b''.join(r.data for r in reads))}"
        elif status != 200:
            error = f"HTTP {status}: {_error_in(_whole(body, chunked))}"
        else:
            stream.read(body, chunked)
            stream.close()
            error = error or stream.error
            if error is None and not stream.events:
                error = f"no event in the response: {_quote(_whole(_body(reads)[2], chunked))}"
            elif error is None and not stream.ended:
                error = "the stream closed without its end mark"
            elif error is None and request.output_tokens and not stream.chunks():
                error = "the stream ended without any output"
    except Malformed as problem:
        stream.close()
        error = error or str(problem)
    arrivals = [arrival_of(read, steps_ns) for read in reads]
    stamped = len(arrivals) - arrivals.count(None)
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
        reads=len(reads),
        stamped_reads=stamped,
        chunks=tuple(chunks),
    )


def _quote(data: bytes | bytearray) -> str:
    return repr(bytes(data[:_SHOWN]))


# -- HTTP ------------------------------------------------------------------------------------------------

Piece = tuple[bytes, int]  # bytes of the body, and the number of the read that brought them


def _body(reads: Sequence[Read]) -> tuple[int | None, bool, Iterator[Piece]]:
    """The status code (null: no whole head came), whether the body is chunked, and the body as it came."""
    head = b""
    for at, read in enumerate(reads):
        head += read.data
        end = head.find(b"\r\n\r\n")
        while end >= 0 and head.startswith(b"HTTP/1.1 1"):  # 100 Continue and the like
            head = head[end + 4 :]
            end = head.find(b"\r\n\r\n")
        if end >= 0:
            words = head[:end].split(b"\r\n")[0].split()
            if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
                raise Malformed(f"no HTTP response: {_quote(head)}")
            chunked = b"\r\ntransfer-encoding: chunked" in head[:end].lower()
            rest = [(head[end + 4 :], at), *((later.data, i) for i, later in enumerate(reads[at + 1 :], at + 1))]
            return int(words[1]), chunked, iter(rest)
    return None, False, iter(())


def _whole(body: Iterable[Piece], chunked: bool) -> bytes:
    feed = _Unchunk().feed if chunked else bytes
    return b"".join(feed(data) for data, _ in body)


class _Unchunk:
    """Takes the chunk framing out of bytes that may be split anywhere."""

    def __init__(self) -> None:
        self.pending = b""
        self.left = 0  # bytes of the current chunk, its closing CR LF included, still to come
        self.ended = False  # the last chunk has come

    @property
    def clean(self) -> bool:
        """What comes next begins with the size of a chunk."""
        return not self.left and not self.pending

    def feed(self, data: bytes) -> bytes:
        data, self.pending = self.pending + data, b""
        start, size = 0, len(data)
        out = []
        while start < size:
            if self.left:
                take = min(self.left, size - start)
                # The last two of `left` are the CR LF after the chunk.
                out.append(data[start : start + min(take, max(0, self.left - 2))])
                self.left -= take
                start += take
                continue
            end = data.find(b"\r\n", start)
            if end < 0:
                self.pending = data[start:]
                if len(self.pending) > _SHOWN:
                    raise Malformed(f"no chunk size: {_quote(self.pending)}")
                break
            line = data[start:end]
            start = end + 2
            if self.ended:
                continue  # trailing fields, and the blank line after them
            if line:
                try:
                    length = int(line.split(b";")[0], 16)
                except ValueError:
                    raise Malformed(f"no chunk size: {_quote(line)}") from None
                self.left = length + 2 if length else 0
                self.ended = not length
        return b"".join(out)


def _one_event(data: bytes) -> bytes | None:
    """The payload of a read that is just one chunk with just one event, as nearly all are; null of others."""
    size = data.find(b"\r\n", 0, 10)
    # Line feeds: after the size, two after the event, after the chunk.
    if size > 0 and data[-4:] == b"\n\n\r\n" and data.startswith(b"data:", size + 2) and data.count(b"\n") == 4:
        try:
            if int(data[:size], 16) == len(data) - size - 4:
                return data[size + 7 : -4].strip()
        except ValueError:
            pass
    return None


def _error_in(body: bytes) -> str:
    """What an error body says, in one line."""
    try:
        payload = _json(body)
        if isinstance(payload, dict):
            return error_text(payload.get("error") or payload.get("message") or payload)[:_SHOWN]
    except ValueError:
        pass
    return body[:_SHOWN].decode(errors="replace").strip() or "empty body"


# -- server-sent events -----------------------------------------------------------------------------------


class _Events:
    """Server-sent events out of bytes that may be split anywhere.

    WHATWG HTML, section 9.2: lines end in LF or CR LF, `data:` with or without a space, several data lines
    are one payload, a colon first is a comment, a blank line ends the event; so does the end of the stream,
    which the standard would discard but engines use."""

    def __init__(self) -> None:
        self.pending = bytearray()
        self.data: list[bytes] = []
        self.completed = 0  # the read that brought the end of the last data line

    @property
    def clean(self) -> bool:
        """What comes next begins an event."""
        return not self.pending and not self.data

    def feed(self, piece: bytes, at: int) -> list[Piece]:
        """The events that `piece` ends: payload, and the read that completed its last data line."""
        self.pending += piece
        if b"\n" not in piece:
            return []
        *lines, rest = bytes(self.pending).split(b"\n")
        self.pending = bytearray(rest)
        found: list[Piece] = []
        for line in lines:
            line = line.rstrip(b"\r")
            if not line:
                found += self.end()
            elif line.startswith(b"data:"):
                self.data.append(line[5:].removeprefix(b" "))
                self.completed = at
        return found

    def end(self) -> list[Piece]:
        """The event under way, if there is one."""
        if not self.data:
            return []
        payload, self.data = b"\n".join(self.data).strip(), []
        return [(payload, self.completed)]

    def close(self) -> list[Piece]:
        """What the end of the stream ends. Raises Malformed where it cuts an event."""
        if self.pending.startswith(b"data:"):
            raise Malformed(f"cut in mid-event: {_quote(self.pending)}")
        return self.end()


def events_of(body: bytes) -> list[bytes]:
    """The payload of every event of a whole stream, without its end mark."""
    events = _Events()
    found = [*events.feed(body, 0), *events.close()]
    return [payload for payload, _ in found if payload != b"[DONE]"]


class _Stream:
    """Collects what the events of one response said."""

    def __init__(self, parse: Parse) -> None:
        self.parse = parse
        self.finish_reason: str | None = None
        self.prompt_tokens: int | None = None
        self.reported_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.count_source = "none"
        self.total = 0
        self.events = 0
        self.ended = False
        self.error: str | None = None
        self._known: dict[int, int] = {}  # read -> tokens that arrived with it
        self._uncounted: list[int] = []  # reads of the events since the last count that said only "output"

    def read(self, body: Iterable[Piece], chunked: bool) -> None:
        """Every event of a body. Raises Malformed for the first that is none."""
        unchunk, events = _Unchunk(), _Events()
        for data, at in body:
            if chunked and unchunk.clean and events.clean and (payload := _one_event(data)) is not None:
                self._understand(payload, at)
                continue
            for payload, completed in events.feed(unchunk.feed(data) if chunked else data, at):
                self._understand(payload, completed)
        for payload, completed in events.close():
            self._understand(payload, completed)

    def _understand(self, payload: bytes, at: int) -> None:
        self.events += 1
        if payload == b"[DONE]":
            self.ended = True
            return
        try:
            event = self.parse(payload)
        except msgspec.ValidationError as problem:
            raise Malformed(f"not an event of this engine: {_quote(payload)} ({problem})") from None
        except ValueError:
            raise Malformed(f"no JSON in event: {_quote(payload)}") from None
        if event.error is not None and self.error is None:
            self.error = f"error event: {event.error}"
        self._take(event, at)

    def _take(self, event: Event, at: int) -> None:
        if event.finish_reason is not None:
            self.finish_reason = event.finish_reason
            self.ended = True  # not every engine says [DONE]
        if event.end:
            self.ended = True
        if event.prompt_tokens is not None:
            self.prompt_tokens = event.prompt_tokens
        if event.reported_tokens is not None:
            self.reported_tokens = event.reported_tokens
        if event.cached_tokens is not None:
            self.cached_tokens = event.cached_tokens
        new = event.tokens
        if new is None:
            if event.total is None or self.count_source == "ids":  # what was seen stands against what is reported
                if event.content:
                    self._uncounted.append(at)
                return
            new = event.total - self.total
            if self._uncounted:
                if event.content:
                    self._uncounted.append(at)
                self._spread(new, "final usage")
                return
            source = "running usage"
        else:
            source = "ids"
        if new:
            self.total += new
            self.count_source = source
            # Two events in one read arrived together; a gap of zero between them would be an invention.
            self._known[at] = self._known.get(at, 0) + new

    def _spread(self, tokens: int, source: str) -> None:
        """A count that covers several events: evenly over them, for want of anything better."""
        self.total += tokens
        self.count_source = source
        events = len(self._uncounted)
        for i, at in enumerate(self._uncounted):
            share = tokens * (i + 1) // events - tokens * i // events
            self._known[at] = self._known.get(at, 0) + share
        self._uncounted = []

    def close(self) -> None:
        """What no count covered, one token an event."""
        if self._uncounted:
            self._spread(len(self._uncounted), "events")

    def chunks(self) -> list[tuple[int, int]]:
        """(read, tokens that arrived with it), in their order."""
        return sorted((at, tokens) for at, tokens in self._known.items() if tokens > 0)
