"""Collects the events of one response: tokens, counts, how it ended."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from harness.adapter import Event, Parse
from harness.decode.body import Malformed, Piece, Unchunk, quote
from harness.decode.events import Events, one_event


class Stream:
    """Tokens, counts and end of one response, from its events."""

    def __init__(self, parse: Parse, keep_ids: bool = False) -> None:
        self.parse, self.keep_ids = parse, keep_ids
        self.ids: list[int] = []
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
        self._uncounted: list[int] = []  # reads with output since the last count

    def read(self, body: Iterable[Piece], chunked: bool) -> None:
        """Reads every event of a body. Raises Malformed for the first that is not an event."""
        unchunk, events = Unchunk(), Events()
        for data, at in body:
            if chunked and unchunk.clean and events.clean and (payload := one_event(data)) is not None:
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
            raise Malformed(f"not an event of this engine: {quote(payload)} ({problem})") from None
        except ValueError:
            raise Malformed(f"no JSON in event: {quote(payload)}") from None
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
        if self.keep_ids:
            self.ids += event.ids
        new = event.tokens
        if new is None:
            if event.total is None or self.count_source == "ids":  # ids count; the total is only compared
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
            # Two events in one read arrived together: as two chunks they would add an ITL of 0.
            self._known[at] = self._known.get(at, 0) + new

    def _spread(self, tokens: int, source: str) -> None:
        """Spreads a count that covers several events evenly over them."""
        self.total += tokens
        self.count_source = source
        events = len(self._uncounted)
        for i, at in enumerate(self._uncounted):
            share = tokens * (i + 1) // events - tokens * i // events
            self._known[at] = self._known.get(at, 0) + share
        self._uncounted = []

    def close(self) -> None:
        """Counts events that no count covered as one token each."""
        if self._uncounted:
            self._spread(len(self._uncounted), "events")

    def whole_ids(self) -> tuple[int, ...]:
        """The ids that are kept; none if the stream left some out."""
        return tuple(self.ids) if len(self.ids) == self.total else ()

    def chunks(self) -> list[tuple[int, int]]:
        """(read, tokens that arrived with it), in the order of the reads."""
        return sorted((at, tokens) for at, tokens in self._known.items() if tokens > 0)
