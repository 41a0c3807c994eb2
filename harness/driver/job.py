"""The input and the result of one driver."""

from __future__ import annotations

from dataclasses import dataclass

from harness.driver.address import Address
from harness.driver.spool import Spool
from harness.workload.enough import Enough


@dataclass(frozen=True, slots=True)
class Order:
    """One encoded HTTP/1.1 request and when it may be sent (see schedule.Request)."""

    index: int
    payload: bytes
    scheduled_s: float | None = None
    after: tuple[int, ...] = ()
    think_s: float = 0.0
    cancel_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What one driver replays. `orders` are in sending order; `slots`: the most in flight (None: no limit);
    `connections`: opened before the clock starts; a request is aborted after `deadline_s`; sending stops after
    `duration_s` (None: when all are sent), or earlier when `enough` is reached; the slots open one after the other over
    `ramp_s`; `drivers`: how many drivers share the load."""

    address: Address
    orders: tuple[Order, ...]
    slots: int | None
    connections: int
    deadline_s: float
    duration_s: float | None = None
    ramp_s: float = 0.0
    drivers: int = 1
    enough: Enough | None = None


@dataclass(frozen=True, slots=True)
class Replayed:
    """The exchanges of one driver, the clock's zero, when steps of the realtime clock were noticed (monotonic ns), and
    the CPU and wall-clock seconds from zero to the end of the last request."""

    spool: Spool
    start_ns: int
    steps_ns: tuple[int, ...]
    cpu_s: float
    wall_s: float


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while the clock ran; `replayed` is what had been received so far."""

    def __init__(self, replayed: list[Replayed]) -> None:
        super().__init__()
        self.replayed = replayed
