"""Whose turn it is to be sent, and when: the same for every driver, whatever it speaks.

Slots, the ramp over which they open, scheduled times, static batches, and the pace of requests that have no time of
their own. All times are monotonic nanoseconds."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

# A thousand requests in one millisecond would be read by any server over the next thirty: its backlog, not its
# work, would be the TTFT. Requests without a time of their own leave 8 at once, one every 60 µs or as many as there
# can be in flight within 54 ms, and 1 ns later for each byte.
_PACE_NS, _SPREAD_NS, _BURST = 60_000, 54_000_000, 8


class Timed(Protocol):
    """What Turns looks at in a request (see schedule.Request)."""

    @property
    def scheduled_s(self) -> float | None: ...
    @property
    def batch(self) -> int: ...


R = TypeVar("R", bound=Timed)


class Pace:
    """When the next of the requests without a time may leave. `together`: how many can be in flight; `catch_up_ns`:
    how much of what fell due while nobody looked leaves at once; `drivers`: how many replay a load in equal parts,
    which all leave as if one had it whole."""

    def __init__(self, together: int, catch_up_ns: int = 0, drivers: int = 1) -> None:
        self.step_ns = min(_PACE_NS, _SPREAD_NS // max(1, together * drivers)) * drivers
        self.ahead_ns = (max(1, _BURST // drivers) - 1) * self.step_ns
        self.catch_up_ns = catch_up_ns
        self.next_ns = 0

    def start(self, start_ns: int) -> None:
        self.next_ns = start_ns - self.ahead_ns

    def due_ns(self, now: int) -> int:
        """When one may leave: now, or so late that a whole burst may."""
        return self.next_ns + self.ahead_ns if self.next_ns > now else now

    def left(self, now: int, size: int) -> None:
        """One of `size` bytes leaves now."""
        self.next_ns = max(self.next_ns, now - self.ahead_ns - self.catch_up_ns) + self.step_ns + size


class Turns(Generic[R]):
    """Requests in sending order, the number of slots (null: no limit), and the seconds over which they open one after
    the other. Everything that takes time is done here, before the clock; `start` then sets its zero."""

    def __init__(self, requests: Sequence[R], slots: int | None, ramp_s: float = 0.0, pace: Pace | None = None) -> None:
        self.requests, self.pace = requests, pace
        self.slots = len(requests) if slots is None else slots
        self.ramp_ns = int(ramp_s * 1e9)
        self.batch_left = Counter(request.batch for request in requests)
        self.batches = deque(sorted(self.batch_left))
        self.next, self.total, self.busy = 0, len(requests), 0
        self.start_ns = 0

    def start(self, start_ns: int) -> None:
        self.start_ns = start_ns
        if self.pace is not None:
            self.pace.start(start_ns)

    def stop(self) -> None:
        """Nothing more is sent."""
        self.total = self.next

    @property
    def waiting(self) -> bool:
        """Whether any is still to be sent."""
        return self.next < self.total

    def due_ns(self, now: int) -> int | None:
        """When the next one may be sent; null: not before another has ended, or none is left."""
        if self.next >= self.total or self.busy >= self.slots:
            return None
        request = self.requests[self.next]
        if request.batch != self.batches[0]:
            return None
        due = self.start_ns
        if request.scheduled_s is not None:
            due += int(request.scheduled_s * 1e9)
        elif self.pace is not None:
            due = max(due, self.pace.due_ns(now))
        if self.busy and now < self.start_ns + self.ramp_ns:
            opened = 1 + (now - self.start_ns) * self.slots // self.ramp_ns
            if self.busy >= opened:
                due = max(due, self.start_ns + opened * self.ramp_ns // self.slots + 1)
        return due

    def take(self) -> R:
        """The next one, whose slot is taken."""
        self.next += 1
        self.busy += 1
        return self.requests[self.next - 1]

    def ended(self, request: R) -> None:
        """Its slot is free, and so is the next batch when it was the last of its own."""
        self.busy -= 1
        if len(self.batches) > 1:
            self.batch_left[request.batch] -= 1
            while len(self.batches) > 1 and not self.batch_left[self.batches[0]]:
                self.batches.popleft()
