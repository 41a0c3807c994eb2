"""The workload, the same for every candidate: lengths, loads, warm-up and the seed that fixes all of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.workload.loads import Load, OpenLoop
from harness.workload.traces import TraceRequest

# The most connections opened before the clock for an open loop without a cap: most of its requests are done before
# the last is sent, and one connection for each would exhaust ports and file descriptors for nothing.
OPEN_LOOP_CONNECTIONS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Prompt and output lengths in tokens, the loads in the order in which they are run.

    With a `trace` (a path, relative to the comparison file) every load takes its lengths from it, in order, starting
    over at the end; an open loop with `arrivals` "trace" takes the times as well. A length that is given here
    overrides the trace's."""

    input_tokens: int | None = None  # None: as the trace says
    output_tokens: int | None = None
    load: tuple[Load, ...]
    seed: int = 1
    # Without warm-up the first load of each candidate would include its lazy allocations and compilations.
    warmup_output_tokens: int = 8
    trace: str = ""
    trace_sha256: str = ""  # of the trace file; if the comparison file gives it, another file is an error
    # The file's requests. Left out of comparisons of plans: trace_sha256 stands for them.
    traced: tuple[TraceRequest, ...] = field(default=(), compare=False, repr=False)

    def count(self, load: Load) -> int:
        """How many requests the schedule of a load holds."""
        return load.count(self.traced)

    def in_flight(self, load: Load) -> int:
        """The most requests that can be in flight together at a load."""
        return load.most_in_flight(self.traced)

    def connections(self, load: Load) -> int:
        """Connections that the driver opens before the clock starts; the same as Schedule.connections."""
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
        """Whether prompts share prefixes as the trace says; not if `input_tokens` overrides the trace's lengths."""
        return self.input_tokens is None and any(request.blocks for request in self.traced)
