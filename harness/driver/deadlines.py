"""How long each request in flight may take: its deadline, and when its user cancels it."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

from harness.driver.spool import Exchange


class Deadlines:
    """Deadlines and cancellations of the requests in flight. `deadline_s` is the same for all, so the first sent is the
    first to reach it. Times are monotonic nanoseconds."""

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s, self.deadline_ns = deadline_s, int(deadline_s * 1e9)
        self.ends: deque[tuple[int, Exchange]] = deque()
        self.cancels: list[tuple[int, int, Exchange]] = []  # a heap

    def sent(self, exchange: Exchange, now: int, cancel_after_s: float | None) -> None:
        """Registers a request that is sent now."""
        self.ends.append((now + self.deadline_ns, exchange))
        if cancel_after_s is not None:
            heapq.heappush(self.cancels, (now + int(cancel_after_s * 1e9), exchange.index, exchange))

    def next_ns(self) -> int | None:
        """When the next request in flight times out or is cancelled; None if none is in flight."""
        first = self.ends[0][0] if self.ends else None
        if not self.cancels:
            return first
        return self.cancels[0][0] if first is None else min(first, self.cancels[0][0])

    def over(self, now: int) -> Iterator[tuple[Exchange, str]]:
        """The requests that have timed out or are cancelled by now, each with its error message."""
        ends, cancels = self.ends, self.cancels
        while ends and (ends[0][0] <= now or ends[0][1].done_ns is not None):
            _, exchange = ends.popleft()
            if exchange.done_ns is None:
                yield exchange, f"no end after {self.deadline_s:g} s"
        while cancels and (cancels[0][0] <= now or cancels[0][2].done_ns is not None):
            _, _, exchange = heapq.heappop(cancels)
            if exchange.done_ns is None:
                exchange.cancelled = True
                yield exchange, "cancelled by its user"
