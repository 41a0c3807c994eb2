"""What is asked of every engine: lengths, load points, warm-up and the seed that fixes all of it."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Literal

from harness.workload.traces import TraceRequest

Arrivals = Literal["poisson", "constant", "gamma", "trace"]

# Opened before the clock where nothing limits what is in flight but the number of requests: of an open loop
# most are done before the last is sent, and a connection for each would exhaust ports and files for nothing.
OPEN_LOOP_CONNECTIONS = 1024


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """One offered load.

    Closed loop: `concurrency` slots, each sending its next request when the last one is done; they open one
    after the other over `ramp_s`. Open loop: `rate` requests/s by `arrivals`, rising (or falling) linearly to
    `ramp_to`; or the times of the workload's trace (`arrivals` "trace"), drawn out to a mean of `rate` where
    one is given; a `concurrency` beside it caps what is in flight, and what waits is late by dispatch delay.
    Static batches: `batch` requests at once, the next batch when all have ended. None of them: everything at
    once (offline batch). Sending stops after `requests` or `duration_s`, whichever is first."""

    requests: int | None = None  # the most; null: as many as `duration_s` or the trace holds
    concurrency: int | None = None
    rate: float | None = None  # requests/s
    arrivals: Arrivals = "poisson"
    burstiness: float = 1.0  # gamma: its shape; 1 is Poisson, less comes in bursts, more is more even
    ramp_to: float | None = None  # requests/s at the end
    ramp_s: float = 0.0
    batch: int | None = None
    duration_s: float | None = None
    cancel_fraction: float = 0.0  # of the requests, given up by their user
    cancel_after_s: float = 0.0  # this long after they were sent

    @property
    def open_loop(self) -> bool:
        """Requests are sent by the clock, whether or not earlier ones have been answered."""
        return self.rate is not None or self.arrivals == "trace"

    @property
    def mean_rate(self) -> float | None:
        """Requests/s over the whole run; null where the engine's speed or the trace decides."""
        if self.rate is None:
            return None
        return self.rate if self.ramp_to is None else (self.rate + self.ramp_to) / 2

    @property
    def name(self) -> str:
        """`c4` for a closed loop of 4, `r2` for 2 requests/s, `b8` for batches of 8, `trace`, `offline`, and
        what else sets the load apart; names folders and rows."""
        parts = [self._kind]
        if self.open_loop:
            if self.arrivals == "gamma":
                parts.append(f"gamma{_number(self.burstiness)}")
            elif self.arrivals == "constant":
                parts.append("constant")
            if self.ramp_to is not None:
                parts.append(f"to-{_number(self.ramp_to)}")
            if self.concurrency is not None:
                parts.append(f"c{self.concurrency}")
        if self.ramp_s:
            parts.append(f"ramp{_number(self.ramp_s)}s")
        if self.duration_s is not None and self.requests is None:
            parts.append(f"{_number(self.duration_s)}s")
        if self.cancel_fraction:
            parts.append(f"cancel{_number(100 * self.cancel_fraction)}pct")
        return "-".join(parts)

    @property
    def _kind(self) -> str:
        if self.arrivals == "trace":
            return "trace" if self.rate is None else f"trace-r{_number(self.rate)}"
        if self.rate is not None:
            return f"r{_number(self.rate)}"
        if self.batch is not None:
            return f"b{self.batch}"
        return "offline" if self.concurrency is None else f"c{self.concurrency}"

    def count(self, trace: tuple[TraceRequest, ...] = ()) -> int:
        """How many requests the schedule holds; `trace` is looked at where its times are replayed.

        At a rate, `duration_s` holds rate x duration of them, rounded: so many that their mean rate is the
        one asked for. A closed loop holds `requests`, of which fewer may be sent."""
        most = [] if self.requests is None else [self.requests]
        if self.arrivals == "trace":
            most.append(len(trace))
        if self.duration_s is not None:
            if self.mean_rate is not None:
                most.append(round(self.mean_rate * self.duration_s))
            elif self.arrivals == "trace":
                most.append(bisect_left(trace, self.duration_s, key=lambda request: request.at_s))
        return min(most, default=0)

    def most_in_flight(self, trace: tuple[TraceRequest, ...] = ()) -> int:
        """The most requests that can be in flight together."""
        limits = (self.concurrency, self.batch, self.count(trace))
        return min(limit for limit in limits if limit is not None)

    @property
    def in_flight(self) -> int:
        """The most requests that can be in flight together. Raises ValueError for a load point that replays the
        times of a trace, which only `Workload.in_flight` knows."""
        if self.arrivals == "trace":
            raise ValueError(f"{self.name}: how many are in flight depends on the trace; ask Workload.in_flight.")
        return self.most_in_flight()


def _number(value: float) -> str:
    return f"{value:.12g}"  # 100 x 0.07 is 7, not 7.000000000000001


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Prompt and output lengths in tokens, the load points in the order in which they are run.

    With a `trace` (a path, relative to the comparison file) every load point takes its lengths from it, in
    order and again from the start; load points with `arrivals` "trace" take the times as well. A length that
    is given here holds for every request instead of the trace's."""

    input_tokens: int | None = None  # null: as the trace says
    output_tokens: int | None = None
    load: tuple[LoadPoint, ...]
    seed: int = 1
    # Without warm-up the first point of each engine would carry its lazy allocations and compilations.
    warmup_output_tokens: int = 8
    trace: str = ""
    trace_sha256: str = ""  # of the trace file; where the comparison file gives it, another file is an error
    # What the file held. No part of what is asked: trace_sha256 says it in 64 characters.
    traced: tuple[TraceRequest, ...] = field(default=(), compare=False, repr=False)

    def count(self, point: LoadPoint) -> int:
        """How many requests the schedule of a load point holds."""
        return point.count(self.traced)

    def in_flight(self, point: LoadPoint) -> int:
        """The most requests that can be in flight together at a load point."""
        return point.most_in_flight(self.traced)

    def connections(self, point: LoadPoint) -> int:
        """Connections that the driver opens before the clock; as Schedule.connections."""
        most = self.in_flight(point)
        return min(most, OPEN_LOOP_CONNECTIONS) if point.open_loop and point.concurrency is None else most

    def lengths(self, count: int) -> list[tuple[int, int]]:
        """Prompt and output tokens of the first `count` requests, the same at every load point."""
        if not self.traced:
            return [(self.input_tokens or 0, self.output_tokens or 0)] * count
        whole = [
            (
                request.input_tokens if self.input_tokens is None else self.input_tokens,
                request.output_tokens if self.output_tokens is None else self.output_tokens,
            )
            for request in self.traced[:count]
        ]
        return [whole[i % len(whole)] for i in range(count)]

    @property
    def shares_blocks(self) -> bool:
        """Prompts begin alike where the trace says so; a length of our own leaves nothing of its blocks."""
        return self.input_tokens is None and any(request.blocks for request in self.traced)
