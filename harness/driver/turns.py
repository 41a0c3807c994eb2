"""Which request is sent next, and when: the same for every driver and protocol.

Slots, the ramp over which they open, scheduled times, requests that wait for others, and the pace of requests without
a scheduled time. All times are monotonic nanoseconds."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from harness.workload.enough import Enough

# A server needs some thirty milliseconds to read a thousand requests that are sent in one: TTFT would measure that
# backlog. So requests without a scheduled time leave in a burst of 8 and then one every 60 µs (or faster, so that as
# many as can be in flight leave within 54 ms), plus 1 ns for each byte.
_PACE_NS, _SPREAD_NS, _BURST = 60_000, 54_000_000, 8


class Timed(Protocol):
    """The fields of a request that Turns uses (see schedule.Request)."""

    @property
    def index(self) -> int: ...
    @property
    def scheduled_s(self) -> float | None: ...
    @property
    def after(self) -> tuple[int, ...]: ...
    @property
    def think_s(self) -> float: ...


R = TypeVar("R", bound=Timed)


@dataclass(frozen=True, slots=True)
class Ending:
    """When sending stops before all are sent: after `duration_s`, or when `enough` is reached; None: never."""

    duration_s: float | None = None
    enough: Enough | None = None


NEVER = Ending()


class Pace:
    """When the next request without a scheduled time may leave. `together`: how many can be in flight; `catch_up_ns`:
    how much of a delay between two polls is made up at once; `drivers`: how many drivers share the load: together they
    send at the pace of one."""

    def __init__(self, together: int, catch_up_ns: int = 0, drivers: int = 1) -> None:
        self.step_ns = min(_PACE_NS, _SPREAD_NS // max(1, together * drivers)) * drivers
        self.ahead_ns = (max(1, _BURST // drivers) - 1) * self.step_ns
        self.catch_up_ns = catch_up_ns
        self.next_ns = 0

    def start(self, start_ns: int) -> None:
        self.next_ns = start_ns - self.ahead_ns

    def due_ns(self, now: int) -> int:
        """When one may leave: now, or when the next burst may."""
        return self.next_ns + self.ahead_ns if self.next_ns > now else now

    def left(self, now: int, size: int) -> None:
        """One of `size` bytes leaves now."""
        self.next_ns = max(self.next_ns, now - self.ahead_ns - self.catch_up_ns) + self.step_ns + size


@dataclass(slots=True)
class _Held(Generic[R]):
    """Requests that wait for the same others: `left` of these have not ended; `ended_ns` is the latest end so far."""

    left: int
    members: list[R]
    ended_ns: int = 0


class Turns(Generic[R]):
    """Decides which request is next. `requests` are in sending order; `slots`: the most in flight (None: no limit);
    the slots open one after the other over `ramp_s`. Slow work is done here, before the clock starts; `start` sets its
    zero. After `until_ns` the caller has to `stop`: it may move to an earlier time whenever a request ends."""

    def __init__(
        self,
        requests: Sequence[R],
        slots: int | None,
        ramp_s: float = 0.0,
        pace: Pace | None = None,
        ending: Ending = NEVER,
    ) -> None:
        self.pace = pace
        self.ending = ending
        self.until_ns: int | None = None
        self.wanted = 0 if ending.enough is None else ending.enough.requests  # still to end before it is enough
        self.slots = len(requests) if slots is None else slots
        self.ramp_ns = int(ramp_s * 1e9)
        self.place = {request.index: i for i, request in enumerate(requests)}
        self.free = deque(request for request in requests if not request.after)
        self.held_by: dict[int, list[_Held[R]]] = {}  # request -> those that wait for it
        held: dict[tuple[int, ...], _Held[R]] = {}
        for request in requests:
            if request.after:
                if request.after not in held:
                    held[request.after] = _Held(len(request.after), [])
                    for index in request.after:
                        self.held_by.setdefault(index, []).append(held[request.after])
                held[request.after].members.append(request)
        self.freed: list[tuple[int, int, R]] = []  # those that waited: a heap of (due, place, request)
        self.unsent, self.busy = len(requests), 0
        self.start_ns = 0

    def start(self, start_ns: int) -> None:
        self.start_ns = start_ns
        if self.pace is not None:
            self.pace.start(start_ns)
        if self.ending.duration_s is not None:
            self.until_ns = start_ns + int(self.ending.duration_s * 1e9)
        if self.ending.enough is not None and not self.wanted:  # a worker's share of few requests may be none
            self._stop_after(self.ending.enough.seconds)

    def _stop_after(self, seconds: float) -> None:
        at_ns = self.start_ns + int(seconds * 1e9)
        self.until_ns = at_ns if self.until_ns is None else min(self.until_ns, at_ns)

    def stop(self) -> None:
        """Nothing more is sent."""
        self.free.clear()
        self.freed.clear()
        self.held_by.clear()
        self.unsent = 0

    @property
    def waiting(self) -> bool:
        """Whether any is still to be sent."""
        return self.unsent > 0

    def due_ns(self, now: int) -> int | None:
        """When the next request may be sent; None: not before another ends, or none is left."""
        if self.busy >= self.slots or not (self.free or self.freed):
            return None
        _, due = self._first(now)
        if self.busy and now < self.start_ns + self.ramp_ns:
            opened = 1 + (now - self.start_ns) * self.slots // self.ramp_ns
            if self.busy >= opened:
                due = max(due, self.start_ns + opened * self.ramp_ns // self.slots + 1)
        return due

    def _first(self, now: int) -> tuple[R, int]:
        """The next request and when it may leave: the first of those that wait for none, or of those that have waited.

        If both may leave now, the one that was due first; one without a due time comes second."""
        if not self.freed:
            return self.free[0], self._leave_ns(self.free[0], now)
        waited = self.freed[0][2]
        at = self._leave_ns(waited, now)
        if not self.free:
            return waited, at
        other = self.free[0]
        other_at = self._leave_ns(other, now)
        if at <= now and other_at <= now:
            own = self._own_ns(other)
            return (waited, at) if own is None or self.freed[0][0] <= own else (other, other_at)
        return (waited, at) if at <= other_at else (other, other_at)

    def _leave_ns(self, request: R, now: int) -> int:
        """When one of the two candidates for the next send may leave: without a due time, according to the pace."""
        own = self._own_ns(request)
        due = self.start_ns if own is None else own
        if self.pace is not None and request.scheduled_s is None and not request.think_s:
            due = max(due, self.pace.due_ns(now))
        return due

    def _own_ns(self, request: R) -> int | None:
        """When one of the two candidates is due: scheduled, or when what it waited for ended; None: whenever a slot is
        free."""
        if request.after:
            return self.freed[0][0]
        return None if request.scheduled_s is None else self.start_ns + int(request.scheduled_s * 1e9)

    def take(self, now: int) -> tuple[R, int | None]:
        """Takes the next request and a slot for it; also returns when it was due (None: whenever a slot is free)."""
        first, _ = self._first(now)
        due = self._own_ns(first)
        if first.after:
            heapq.heappop(self.freed)
        else:
            self.free.popleft()
        self.unsent -= 1
        self.busy += 1
        return first, due

    def ended(self, request: R, at_ns: int) -> None:
        """Frees the slot of a request that ended, and the requests that waited for it if it was the last."""
        self.busy -= 1
        if self.wanted:
            self.wanted -= 1
            if not self.wanted and self.ending.enough is not None:
                self._stop_after(self.ending.enough.seconds)
        for group in self.held_by.pop(request.index, ()):
            group.left -= 1
            group.ended_ns = max(group.ended_ns, at_ns)  # threads may report two ends in the wrong order
            if group.left:
                continue
            for member in group.members:
                due = group.ended_ns + int(member.think_s * 1e9)
                if member.scheduled_s is not None:
                    due = max(due, self.start_ns + int(member.scheduled_s * 1e9))
                heapq.heappush(self.freed, (due, self.place[member.index], member))
