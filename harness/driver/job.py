"""What one driver is asked, and what it brings back."""

from __future__ import annotations

from dataclasses import dataclass

from harness.driver.address import Address
from harness.driver.spool import Spool


@dataclass(frozen=True, slots=True)
class Order:
    """One request, ready to be sent: a whole HTTP/1.1 request and when it may leave (see schedule.Request)."""

    index: int
    payload: bytes
    scheduled_s: float | None = None
    after: tuple[int, ...] = ()
    think_s: float = 0.0
    cancel_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What one driver replays: orders in sending order, the number of slots (None: no limit), connections to
    open before the clock, the seconds after which an unanswered request is cut off, those after which no
    more are sent (None: when all are), those over which the slots open one after the other, and how many
    drivers replay a load of which this is one part."""

    address: Address
    orders: tuple[Order, ...]
    slots: int | None
    connections: int
    deadline_s: float
    duration_s: float | None = None
    ramp_s: float = 0.0
    drivers: int = 1


@dataclass(frozen=True, slots=True)
class Replayed:
    """The exchanges of one driver, the clock's zero, when the clock had been stepped (monotonic ns), and the
    CPU and wall-clock seconds from zero to the last end."""

    spool: Spool
    start_ns: int
    steps_ns: tuple[int, ...]
    cpu_s: float
    wall_s: float


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while the clock ran; `replayed` is what had come back by then."""

    def __init__(self, replayed: list[Replayed]) -> None:
        super().__init__()
        self.replayed = replayed
