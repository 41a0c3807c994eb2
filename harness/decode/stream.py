"""Collects the events of one response: tokens, counts, how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from harness.adapter import COUNT_LIMIT, Event, Parse
from harness.decode.body import Body, Malformed, Piece, quote
from harness.decode.events import PING_BYTES, Events, is_ping, one_event
from harness.driver.refusal import message_in
from harness.visible import visible

_DONE = b"[DONE]"
_NOTHING = Event()


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
        self.ended = False  # an event said that generation is over
        self.done = False  # an event said that nothing follows
        self.error: str | None = None
        self._known: dict[int, int] = {}  # read -> tokens that arrived with it
        self._uncounted: list[int] = []  # reads with output since the count last rose
        self._blind = 0  # tokens that were counted before there was any text
        self._denied = False  # the last of them came with a count that had not risen
        self._hidden = 0  # tokens of reasoning whose text was not sent
        self._reasoning = False  # there was text of reasoning
        self.foreign: bytes | None = None  # the first event that said nothing

    def read(self, body: Iterable[Piece], whole: Body) -> None:
        """Reads every event of a body. Raises Malformed for the first that is not an event."""
        unchunk, events, at = whole.unchunk, Events(), 0
        clean = unchunk is not None  # the next byte begins a chunk and an event
        for data, at in body:
            if clean and (payload := one_event(data)) is not None:
                self._understand(payload, at)
                continue
            for event in events.feed(whole.feed(data), at):
                self._understand(*event)
            clean = unchunk is not None and unchunk.clean and events.clean
        open_line = bytes(events.pending)
        for event in events.close(at):
            try:
                self._understand(*event)
            except Malformed:
                if open_line:
                    raise Malformed(f"cut in mid-event: {quote(open_line)}") from None
                raise

    def _understand(self, payload: bytes, at: int, name: bytes = b"") -> None:
        if payload == _DONE:
            self.events += 1
            self.ended = self.done = True
            return
        if (name or len(payload) < PING_BYTES) and is_ping(payload, name):
            return
        self.events += 1
        if name == b"error":
            self._fail(message_in(payload))
            return
        try:
            event = self.parse(payload)
        except msgspec.ValidationError as problem:
            raise Malformed(f"not an event of this engine: {quote(payload)} ({problem})") from None
        except ValueError:
            raise Malformed(f"no JSON in event: {quote(payload)}") from None
        except RecursionError:
            raise Malformed(f"JSON nested too deeply in event: {quote(payload)}") from None
        except (TypeError, LookupError, ArithmeticError, AttributeError) as problem:
            raise Malformed(f"not an event of this engine: {quote(payload)} ({problem})") from None
        if event.error is not None:
            self._fail(event.error)
        elif self.foreign is None and event == _NOTHING:
            self.foreign = payload
        self._take(event, at)

    def _fail(self, why: str) -> None:
        self.error = self.error or f"error event: {visible(why) or 'no reason given'}"

    def _take(self, event: Event, at: int) -> None:
        if event.finish_reason:
            self.finish_reason = event.finish_reason
            self.ended = True  # not every engine says [DONE]
        if event.end:
            self.ended = self.done = True
        # A prompt without tokens is none: some proxies send a usage of zeros.
        if event.prompt_tokens and (known := stored(event.prompt_tokens)):
            self.prompt_tokens = known
        if event.reported_tokens is not None and (known := stored(event.reported_tokens)) is not None:
            self.reported_tokens = known
        if event.cached_tokens is not None:
            self.cached_tokens = stored(event.cached_tokens)
        self._reasoning |= event.reasoning
        if event.reasoned:
            self._hidden = event.reasoned
        if self.keep_ids:
            self.ids += event.ids
        new = event.tokens
        # No ids beside text are no count, unless the stream has sent ids before: then this text belongs to those.
        if new or (new is not None and (self.count_source == "ids" or not event.content)):
            if new:
                self.total += new
                self.count_source = "ids"
                # Two events in one read arrived together: as two chunks they would add an ITL of 0.
                self._known[at] = self._known.get(at, 0) + new
            return
        self._compare(None if event.total is None else stored(event.total), event.content, at)

    def _compare(self, total: int | None, text: bool, at: int) -> None:
        """Takes an event without ids. Text has the time at which it came, whatever the count says; the tokens are those
        by which the count has risen, once it has."""
        if text:
            self._uncounted.append(at)
            self._denied = total is not None and total <= self.total
        # Ids count; the total is only compared. A count that falls says nothing about new tokens.
        if total is None or total <= self.total or self.count_source == "ids":
            return
        if not self._uncounted:
            self._uncounted = [at]
            if self._blind == self.total:
                self._blind = total
        elif len(self._uncounted) > 1:
            self._forget_blind()
        running = self._uncounted == [at] and self.count_source != "final usage"
        self._spread(total - self.total, "running usage" if running else "final usage")

    def _forget_blind(self) -> int:
        """Takes back what was counted if no text came with any of it: the text that came since has the times. Returns
        how many tokens that were."""
        blind = self._blind
        if not blind or blind != self.total:
            return 0
        self.total, self._blind, self._known = 0, 0, {}
        return blind

    def _spread(self, tokens: int, source: str) -> None:
        """Spreads a count that covers several events evenly over them."""
        self.total += tokens
        self.count_source = source
        first = not self._known
        if self._hidden and not self._reasoning and first:
            # They were generated before the first text: spread over the text, they would make TPOT too low.
            before = min(self._hidden, tokens - 1)
            self._known[self._uncounted[0]] = before
            tokens -= before
        for at, share in shares(tokens, self._uncounted, first=first):
            self._known[at] = self._known.get(at, 0) + share
        self._uncounted = []

    def close(self) -> None:
        """Counts events that no count covered as one token each."""
        if self.total or self._uncounted:
            self.reported_tokens = self.reported_tokens or None  # a count of zero beside text is none
        if not self._uncounted:
            return
        blind = self._forget_blind()
        if blind and self._denied:
            self._spread(blind, "final usage")
        # Text beside which the count did not rise was no new token, unless that is most of the text.
        elif not (self._denied and len(self._uncounted) <= self.total):
            self._spread(len(self._uncounted), "events")

    def whole_ids(self) -> tuple[int, ...]:
        """The ids that are kept; none if the stream left some out, or if they cannot be ids."""
        whole = len(self.ids) == self.total and all(type(one) is int and 0 <= one <= COUNT_LIMIT for one in self.ids)
        return tuple(self.ids) if whole else ()

    def chunks(self) -> list[tuple[int, int]]:
        """(read, tokens that arrived with it), in the order of the reads."""
        return sorted((at, tokens) for at, tokens in self._known.items() if tokens > 0)


def shares(tokens: int, times: Sequence[int], first: bool = True) -> Iterator[tuple[int, int]]:
    """`tokens` spread over the times of the events that they came with. If they are fewer than the events, the `first`
    event of the answer and the last one get one: text that is seen has a time."""
    n = len(times)
    if tokens == 1:
        times, n = times[:1] if first else times[-1:], 1
    elif tokens < n:
        times, n = [times[i * (n - 1) // (tokens - 1)] for i in range(tokens)], tokens
    return ((at, tokens * (i + 1) // n - tokens * i // n) for i, at in enumerate(times))


def stored(number: int) -> int | None:
    """A count that can be stored; None for any other number."""
    return number if 0 <= number <= COUNT_LIMIT else None
