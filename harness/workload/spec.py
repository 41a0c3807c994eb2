"""The workload, the same for every candidate: lengths, loads, warm-up and the seed that fixes all of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Literal

from harness.workload.lengths import BLOCK, Given, Lengths, dealt, longest
from harness.workload.loads import AllAtOnce, Batches, Load, OpenLoop
from harness.workload.texts import TextFacts, deal, rough_tokens
from harness.workload.traces import Part, TraceFacts, TraceRequest

# The most connections opened before the clock for an open loop without a cap: most of its requests are done before
# the last is sent, and one connection for each would exhaust ports and file descriptors for nothing.
OPEN_LOOP_CONNECTIONS = 1024
PREPARED_IDS = 2_000_000  # prompt tokens of a load by time: they are in memory, and in a file for every round


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Prompt and output lengths in tokens, the loads in the order in which they are run.

    With a `trace` (a path, relative to the comparison file) every load takes its lengths from it, in order, starting
    over at the end; an open loop with `arrivals` "trace" takes the times as well. A length that is given here
    overrides the trace's.

    With `texts` ("built-in", or a path like that of a trace) prompts are real text, and as long as that is."""

    input_tokens: Given = None  # None: as the trace or the texts say
    output_tokens: Given = None
    load: tuple[Load, ...]
    # "natural": an answer ends where the model ends it, at `output_tokens` at the latest.
    ends: Literal["exact", "natural"] = "exact"
    seed: int = 1
    # Without warm-up the first load of each candidate would include its lazy allocations and compilations.
    warmup_output_tokens: int = 8
    trace: str = ""
    trace_sha256: str = ""  # of the trace file; if the comparison file gives it, another file is an error
    trace_format: str = ""  # one of traces.FORMATS; empty: told by its keys or columns
    trace_from_s: float = 0.0  # only what comes this long after the trace's first request, or later
    trace_for_s: float | None = None  # and only over this time
    # The file's requests. Left out of comparisons of plans: trace_sha256 stands for them.
    traced: tuple[TraceRequest, ...] = field(default=(), compare=False, repr=False)
    trace_facts: TraceFacts | None = field(default=None, compare=False)  # how many were read and left out
    texts: str = ""
    texts_sha256: str = ""  # of the file, as with a trace
    written: tuple[str, ...] = field(default=(), compare=False, repr=False)  # the texts of the file
    # The same as ids, once the model's tokenizer is known; without those that it cannot take.
    encoded: tuple[tuple[int, ...], ...] = field(default=(), compare=False, repr=False)
    text_facts: TextFacts | None = field(default=None, compare=False)

    @property
    def part(self) -> Part:
        """The part of the trace that is replayed."""
        return Part(format=self.trace_format, from_s=self.trace_from_s, for_s=self.trace_for_s)

    def count(self, load: Load) -> int:
        """How many requests the schedule of a load holds. That of a load by time has at most 2 million prompt tokens,
        or enough for the requests that the load needs at least."""
        count = load.count(self.traced)
        if not isinstance(load, AllAtOnce) and (enough := load.enough) is not None:
            held = max(enough.requests, int(PREPARED_IDS / self.mean_input))
            if isinstance(load, Batches):
                held = -(-held // load.batch) * load.batch
            count = min(count, held)
        return count

    @property
    def mean_input(self) -> float:
        """Tokens of a prompt, on average."""
        if self.texts:
            return fmean(self.text_tokens)
        if self.input_tokens is None:
            return fmean(request.input_tokens for request in self.traced) if self.traced else 1.0
        return fmean(dealt(self.input_tokens, BLOCK, ""))

    @property
    def text_tokens(self) -> list[int]:
        """Tokens of each text; until the model's tokenizer is known, about as many as English has."""
        return [len(ids) for ids in self.encoded] if self.encoded else list(map(rough_tokens, self.written))

    @property
    def first_text(self) -> tuple[int, ...]:
        """The ids of the first text; empty without texts."""
        return self.encoded[0] if self.encoded else ()

    @property
    def by_lengths(self) -> Workload:
        """The same without its texts: prompts of about as many tokens, for a server that reads none of them."""
        if not self.texts:
            return self
        held = self.text_tokens
        return replace(self, texts="", written=(), encoded=(), input_tokens=Lengths(min(held), max(held)))

    def in_flight(self, load: Load) -> int:
        """The most requests that can be in flight together at a load."""
        return load.most_in_flight(self.traced)

    def connections(self, load: Load) -> int:
        """Connections that the driver opens before the clock starts; the same as Schedule.connections."""
        most = self.in_flight(load)
        return min(most, OPEN_LOOP_CONNECTIONS) if isinstance(load, OpenLoop) and load.slots is None else most

    def lengths(self, count: int, key: str = "") -> list[tuple[int, int]]:
        """Prompt and output tokens of the first `count` requests; `key` shuffles those that are drawn from a range."""
        if self.texts:
            held = self.text_tokens
            inputs = [held[i] for i in self.dealt_texts(count, key)]
        else:
            inputs = self._drawn(self.input_tokens, "input_tokens", count, f"{key}/input")
        outputs = self._drawn(self.output_tokens, "output_tokens", count, f"{key}/output")
        return list(zip(inputs, outputs, strict=True))

    def dealt_texts(self, count: int, key: str) -> list[int]:
        """Which text each of the first `count` requests has."""
        return deal(len(self.text_tokens), count, key)

    def _drawn(self, given: Given, of_trace: str, count: int, key: str) -> list[int]:
        if given is not None or not self.traced:
            return dealt(given or 0, count, key)
        whole = [getattr(request, of_trace) for request in self.traced[:count]]
        return [whole[i % len(whole)] for i in range(count)]

    def longest_pair(self, count: int) -> tuple[int, int]:
        """Prompt and output tokens of the longest request among the first `count`, whichever way they are shuffled."""
        if self.texts:
            return max(self.text_tokens), longest(self.output_tokens or 0)
        pairs = [
            (
                request.input_tokens if self.input_tokens is None else longest(self.input_tokens),
                request.output_tokens if self.output_tokens is None else longest(self.output_tokens),
            )
            for request in self.traced[:count]
        ]
        return max(pairs, key=sum, default=(longest(self.input_tokens or 0), longest(self.output_tokens or 0)))

    @property
    def longest(self) -> int:
        """Tokens of the longest request, prompt and output together, over all loads."""
        return sum(self.longest_pair(max(map(self.count, self.load), default=0))) if self.load else 0

    @property
    def most_input_tokens(self) -> int:
        """Of the longest prompt, over all loads."""
        if self.texts:
            return max(self.text_tokens)
        return self._most(self.input_tokens, "input_tokens")

    @property
    def most_output_tokens(self) -> int:
        """Of the longest answer, over all loads."""
        return self._most(self.output_tokens, "output_tokens")

    def _most(self, given: Given, of_trace: str) -> int:
        if given is not None:
            return longest(given)
        used = max(map(self.count, self.load), default=0)
        return max((getattr(request, of_trace) for request in self.traced[:used]), default=0)

    @property
    def shares_blocks(self) -> bool:
        """Whether prompts share prefixes as the trace says; not if `input_tokens` overrides the trace's lengths."""
        return self.input_tokens is None and any(request.blocks for request in self.traced)
