"""The exact requests of one run, decided before the clock starts. Same seed, same bytes."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import msgspec

from harness.workload.chains import chains_of, most_together
from harness.workload.enough import Enough
from harness.workload.loads import AllAtOnce, Batches, ClosedLoop, Load, OpenLoop
from harness.workload.spec import OPEN_LOOP_CONNECTIONS, Workload

WARMUP_OPEN_LOOP = 32  # requests: how many an open loop will have in flight is known only afterwards


@dataclass(frozen=True, slots=True)
class Request:
    """One request: prompt as token ids, forced output length, and the earliest time to send it.

    `scheduled_s` is in seconds from the start of the run; None means as soon as a slot is free. A request waits until
    `think_s` after all requests in `after` (indices, all smaller than its own) have ended: the batch before it, or
    the chat turn before it. `cancel_after_s` after the send its user cancels it: the connection is closed, which
    tells the engine to stop."""

    index: int
    prompt_ids: tuple[int, ...]
    output_tokens: int
    scheduled_s: float | None = None
    after: tuple[int, ...] = ()
    think_s: float = 0.0
    cancel_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """Requests in sending order; `slots`: the most in flight (None: no limit); `duration_s`: sending stops after it
    (None: when all are sent); `ramp_s`: the slots open one after the other over this time; `enough`: sending stops
    earlier, when that is reached (None: never)."""

    requests: tuple[Request, ...]
    slots: int | None
    duration_s: float | None = None
    ramp_s: float = 0.0
    enough: Enough | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over every id, length, time and limit. Two runs with the same digest sent the same requests."""
        return hashlib.sha256(msgspec.json.encode(_canonical(self))).hexdigest()

    @property
    def in_flight(self) -> int:
        """The most requests that can be in flight together."""
        most = len(self.requests)
        if any(request.after for request in self.requests):
            most = sum(map(most_together, chains_of(self.requests)))
        return most if self.slots is None else min(self.slots, most)

    @property
    def connections(self) -> int:
        """Connections that the driver opens before the clock starts."""
        by_the_clock = self.slots is None and any(request.scheduled_s is not None for request in self.requests)
        return min(self.in_flight, OPEN_LOOP_CONNECTIONS) if by_the_clock else self.in_flight


def _canonical(schedule: Schedule) -> dict[str, Any]:
    """What the digest is taken over. Fields that were added later are included only if they are not at their default,
    so that older schedules keep their digest; `batch`, which requests no longer have, is kept for the same reason."""
    requests = []
    for r in schedule.requests:
        line: dict[str, Any] = {
            "index": r.index,
            "prompt_ids": r.prompt_ids,
            "output_tokens": r.output_tokens,
            "scheduled_s": r.scheduled_s,
            "batch": 0,
        }
        if r.cancel_after_s is not None:
            line["cancel_after_s"] = r.cancel_after_s
        if r.after:
            line["after"] = r.after
        if r.think_s:
            line["think_s"] = r.think_s
        requests.append(line)
    whole: dict[str, Any] = {"requests": requests, "slots": schedule.slots}
    if schedule.duration_s is not None:
        whole["duration_s"] = schedule.duration_s
    if schedule.ramp_s:
        whole["ramp_s"] = schedule.ramp_s
    if schedule.enough is not None:
        whole["enough"] = {"requests": schedule.enough.requests, "seconds": schedule.enough.seconds}
    return whole


def build_schedule(
    workload: Workload, load: Load, round_index: int, vocabulary: Sequence[int], lead: Sequence[int] = ()
) -> Schedule:
    """The requests of one load in one round; prompts are drawn uniformly from `vocabulary`, after `lead`, or are the
    workload's texts, shuffled.

    Each round and load has different prompts: if they were repeated, the engine's prefix cache would skip the prefill
    and TTFT would be too low. Within a run, prompts share the prefixes that a trace says they share. Prompts, times
    and cancellations are drawn from separate random streams."""
    return _build(workload, load, f"{workload.seed}/{load.name}/{round_index}", vocabulary, lead)


def warmup_schedule(
    workload: Workload, load: Load, round_index: int, vocabulary: Sequence[int], lead: Sequence[int] = ()
) -> Schedule:
    """Full-length prompts, short outputs, sent together: as many as the load has in flight, at most 32 for an open
    loop; never counted."""
    requests = workload.in_flight(load)
    if load.open_loop:
        requests = min(requests, WARMUP_OPEN_LOOP)
    key = f"{-1 - workload.seed}/{load.name}/{round_index}"
    warmup: Load = AllAtOnce(requests=requests)
    if load.slots is not None:
        warmup = ClosedLoop(requests=requests, concurrency=load.slots)
    schedule = _build(workload, warmup, key, vocabulary, lead)
    most = workload.warmup_output_tokens  # no longer than the run's outputs, so that it fits the context
    shorter = tuple(replace(r, output_tokens=min(most, r.output_tokens)) for r in schedule.requests)
    return replace(schedule, requests=shorter)


def combined_digest(digests: Sequence[str]) -> str:
    """SHA-256 over the digests of every schedule of a comparison, by round and then by load."""
    whole = hashlib.sha256()
    for digest in digests:
        whole.update(digest.encode())
    return whole.hexdigest()


def _build(workload: Workload, load: Load, key: str, vocabulary: Sequence[int], lead: Sequence[int]) -> Schedule:
    count = workload.count(load)
    lengths = workload.lengths(count, key)
    prompts = _prompts(workload, [length for length, _ in lengths], key, vocabulary, lead)
    times = _times(workload, load, count, key)
    after = _after(load, count)
    given_up = _cancellations(workload, load, count, key)
    requests = tuple(
        Request(i, prompts[i], lengths[i][1], times[i], after[i], cancel_after_s=given_up[i]) for i in range(count)
    )
    ramp_s = load.opening_s if isinstance(load, ClosedLoop) else 0.0
    if isinstance(load, AllAtOnce):
        return Schedule(requests, load.slots)
    return Schedule(requests, load.slots, load.stops_after_s, ramp_s, load.enough)


def _after(load: Load, count: int) -> list[tuple[int, ...]]:
    """For each request, those that must end before it is sent: in a batch, the whole batch before it."""
    if not isinstance(load, Batches):
        return [()] * count
    batches = [tuple(range(first, min(first + load.batch, count))) for first in range(0, count, load.batch)]
    before = [(), *batches]
    return [before[i // load.batch] for i in range(count)]


# -- prompts --------------------------------------------------------------------------------------------------


def draw(rng: random.Random, vocabulary: Sequence[int], length: int, lead: Sequence[int] = ()) -> tuple[int, ...]:
    """A prompt of `length` ids that begins with `lead`: the ids that a tokenizer puts before every text."""
    return (*lead[:length], *rng.choices(vocabulary, k=max(0, length - len(lead))))


def _prompts(
    workload: Workload, lengths: Sequence[int], key: str, vocabulary: Sequence[int], lead: Sequence[int]
) -> list[tuple[int, ...]]:
    """Token ids of the given lengths."""
    if workload.texts:
        return [workload.encoded[i] for i in workload.dealt_texts(len(lengths), key)]
    rng = random.Random(key)
    if not workload.shares_blocks:
        return [draw(rng, vocabulary, length, lead) for length in lengths]
    blocks: dict[str, list[int]] = {}

    def block(block_key: str, tokens: int) -> list[int]:
        if block_key not in blocks:
            blocks[block_key] = random.Random(f"{key}/block/{block_key}").choices(vocabulary, k=tokens)
        return blocks[block_key]

    prompts = []
    for i, length in enumerate(lengths):
        # A second pass through the trace gets new blocks; otherwise all its prompts would come from the cache.
        again, at = divmod(i, len(workload.traced))
        traced = workload.traced[at]
        ids = list(lead) + [token for name in traced.blocks for token in block(f"{again}/{name}", traced.block_tokens)]
        ids += rng.choices(vocabulary, k=max(0, length - len(ids)))
        prompts.append(tuple(ids[:length]))
    return prompts


# -- times ----------------------------------------------------------------------------------------------------


def _times(workload: Workload, load: Load, count: int, key: str) -> Sequence[float | None]:
    """When each request may be sent, in seconds; None: as soon as a slot is free."""
    if not isinstance(load, OpenLoop):
        return [None] * count
    if load.rate is None:
        return [request.at_s for request in workload.traced[:count]]
    return _warped(_arrivals(workload, load, count, key), load, count)


def _arrivals(workload: Workload, load: OpenLoop, count: int, key: str) -> Sequence[float]:
    """Arrivals at 1 request/s: the first at 0, the last at count - 1, the others according to `load.arrivals`.

    Random gaps are drawn with a mean of 1 and then scaled so that their mean is exactly 1: the sum of n gaps is off by
    1/sqrt(n), 10 % at 100 requests, and near saturation a rate that is 10 % too high changes every latency. (`vllm
    bench serve` scales for the same reason.) The first arrives at 0, so that n requests have n - 1 gaps, and constant
    and random arrivals end at the same time."""
    rng = random.Random(f"{key}/arrivals")
    match load.arrivals:
        case "constant":
            return range(count)
        case "trace":
            raw = [request.at_s for request in workload.traced[:count]]
        case "poisson":
            raw = _summed(count, lambda: -math.log(1 - rng.random()))
        case "gamma":
            shape = load.burstiness
            raw = _summed(count, lambda: rng.gammavariate(shape, 1 / shape))
    last = raw[-1] if raw else 0.0
    return [at / last * (count - 1) for at in raw] if last else raw


def _summed(count: int, gap: Callable[[], float]) -> list[float]:
    """Arrivals with the gaps that `gap` draws; drawn again if all gaps together are too small for a float, as a few
    very bursty ones can be."""
    while True:
        times = list(accumulate((gap() for _ in range(count - 1)), initial=0.0))
        if count < 2 or times[-1] > 1e-300:
            return times[:count]


def _warped(unit: Sequence[float], load: OpenLoop, count: int) -> list[float]:
    """Arrivals at 1 request/s, mapped to the times at which as many requests have arrived at the load's own rate.

    At rate a, rising linearly to b over T seconds, a t + s t^2 / 2 have arrived by t, where s = (b - a) / T.
    That is u at t = 2 u / (a + sqrt(a^2 + 2 s u)), the form of the root that also holds for s = 0: u / a.
    T is the duration, or the time that all requests take at the mean rate (a + b) / 2."""
    a, mean = load.rate, load.mean_rate
    assert a is not None and mean is not None
    if load.ramp_to is None:
        return [u / a for u in unit]
    whole = load.duration_s if load.duration_s is not None else count / mean
    slope = (load.ramp_to - a) / whole
    return [2 * u / (a + math.sqrt(a * a + 2 * slope * u)) for u in unit]


# -- cancellations --------------------------------------------------------------------------------------------


def _cancellations(workload: Workload, load: Load, count: int, key: str) -> Sequence[float | None]:
    """After how many seconds each request is cancelled; None: never. A trace's own apply only with its times."""
    if isinstance(load, OpenLoop) and load.arrivals == "trace" and not load.cancel_fraction:
        return [request.cancel_after_s for request in workload.traced[:count]]
    cancelled = random.Random(f"{key}/cancel").sample(range(count), k=round(load.cancel_fraction * count))
    given_up: list[float | None] = [None] * count
    for i in cancelled:
        given_up[i] = load.cancel_after_s
    return given_up
