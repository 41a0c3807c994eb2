"""What is asked of every candidate: lengths, loads, warm-up and the seed that fixes all of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.workload.loads import Load, OpenLoop
from harness.workload.traces import TraceRequest

# Opened before the clock where nothing limits what is in flight but the number of requests: of an open loop
# most are done before the last is sent, and a connection for each would exhaust ports and files for nothing.
OPEN_LOOP_CONNECTIONS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Prompt and output lengths in tokens, the loads in the order in which they are run.

    With a `trace` (a path, relative to the comparison file) every load takes its lengths from it, in order and again
    from the start; an open loop with `arrivals` "trace" takes the times as well. A length that is given here holds for
    every request instead of the trace's."""

    input_tokens: int | None = None  # None: as the trace says
    output_tokens: int | None = None
    load: tuple[Load, ...]
    seed: int = 1
    # Without warm-up the first load of each candidate would carry its lazy allocations and compilations.
    warmup_output_tokens: int = 8
    trace: str = ""
    trace_sha256: str = ""  # of the trace file; where the comparison file gives it, another file is an error
    # What the file held. No part of what is asked: trace_sha256 says it in 64 characters.
    traced: tuple[TraceRequest, ...] = field(default=(), compare=False, repr=False)

    def count(self, load: Load) -> int:
        """How many requests the schedule of a load holds."""
        return load.count(self.traced)

    def in_flight(self, load: Load) -> int:
        """The most requests that can be in flight together at a load."""
        return load.most_in_flight(self.traced)

    def connections(self, load: Load) -> int:
        """Connections that the driver opens before the clock; as Schedule.connections."""
        most = self.in_flight(load)
        return min(most, OPEN_LOOP_CONNECTIONS) if isinstance(load, OpenLoop) and load.slots is None else most

    def lengths(self, count: int) -> list[tuple[int, int]]:
        """Prompt and output tokens of the first `count` requests, the same at every load."""
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
    def longest(self) -> int:
        """Tokens of the longest request, prompt and output together, over all loads."""
        lengths = self.lengths(max(map(self.count, self.load), default=0))
        return max(map(sum, lengths), default=0)

    @property
    def shares_blocks(self) -> bool:
        """Prompts begin alike where the trace says so; a length of our own leaves nothing of its blocks."""
        return self.input_tokens is None and any(request.blocks for request in self.traced)
