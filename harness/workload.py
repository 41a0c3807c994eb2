"""What is asked of every engine: lengths, load points, warm-up and the seed that fixes all of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """One offered load. `concurrency` slots, each sending its next request when the last one is done
    (closed loop); `concurrency` null sends all requests at once (offline batch)."""

    requests: int
    concurrency: int | None = None

    @property
    def name(self) -> str:
        """`c4` for a closed loop of 4, `offline` for everything at once; names folders and rows."""
        return "offline" if self.concurrency is None else f"c{self.concurrency}"

    @property
    def in_flight(self) -> int:
        """The most requests that can be in flight together."""
        return self.requests if self.concurrency is None else min(self.concurrency, self.requests)


@dataclass(frozen=True, slots=True)
class Workload:
    """Prompt and output lengths in tokens, the load points in the order in which they are run."""

    input_tokens: int
    output_tokens: int
    load: tuple[LoadPoint, ...]
    seed: int = 1
    # Without warm-up the first point of each engine would carry its lazy allocations and compilations.
    warmup_output_tokens: int = 8
