"""How fast an engine can be at most: the roofline of Williams, Waterman and Patterson ("Roofline: an insightful visual
performance model for multicore architectures", CACM 52(4), 2009). A step takes at least as long as reading what it
needs from memory, and at least as long as its arithmetic.

One decode step reads the weights once, for everyone in the batch, and the KV cache of each request; it gives each of
them one token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.records.calibration import Peak

# Bytes of one number. A quantised type of llama.cpp has the scales of its blocks in it (ggml: 32 values and one or two
# 16-bit scales a block).
KV_BYTES: Mapping[str, float] = {
    "float32": 4.0,
    "f32": 4.0,
    "bfloat16": 2.0,
    "bf16": 2.0,
    "float16": 2.0,
    "f16": 2.0,
    "fp8": 1.0,
    "fp8_e4m3": 1.0,
    "fp8_e5m2": 1.0,
    "int8": 1.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
}
CACHED_SLACK = 1.02  # a working set was measured in whole rows: as large as the weights, up to this


@dataclass(frozen=True, slots=True)
class Costs:
    """What a token costs at least. `step_bytes`: of the weights that a decode step reads; `kv_bytes`: of the KV cache
    for each token of context (0: not known, so nothing is assumed); `flops`: of a token (0: not known)."""

    step_bytes: float
    kv_bytes: float = 0.0
    flops: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the machine can do at most. `flops_per_s`: None if not known."""

    bytes_per_s: float
    flops_per_s: float | None = None


def step_s(costs: Costs, limits: Limits, in_flight: float, context: float) -> float:
    """The least seconds of one decode step: max((weights + in flight x context x KV bytes) / bandwidth, in flight x
    FLOPs of a token / FLOP/s). `context`: tokens of each request so far."""
    memory = (costs.step_bytes + in_flight * context * costs.kv_bytes) / limits.bytes_per_s
    return max(memory, in_flight * costs.flops / limits.flops_per_s if limits.flops_per_s else 0.0)


def most_tokens_per_s(costs: Costs, limits: Limits, in_flight: float, context: float) -> float:
    """The most output tokens/s with `in_flight` requests in the mean: in flight / step. It holds for the mean, whatever
    the batches were, because the rate rises ever more slowly with the batch (Jensen)."""
    return in_flight / step_s(costs, limits, in_flight, context)


def least_tpot_s(costs: Costs, limits: Limits, context: float) -> float:
    """The least seconds a token, for one request that is decoded alone; in a batch it takes no less."""
    return step_s(costs, limits, 1.0, context)


def least_ttft_s(costs: Costs, limits: Limits, prompt_tokens: float) -> float | None:
    """The least seconds to the first token: prompt tokens that are not in a cache x FLOPs of a token / FLOP/s, and one
    step. None if the FLOP/s are not known."""
    if not limits.flops_per_s or not costs.flops:
        return None
    return max(prompt_tokens * costs.flops / limits.flops_per_s, costs.step_bytes / limits.bytes_per_s)


def peak_for(peaks: Sequence[Peak], device: str | None, step_bytes: float) -> Peak | None:
    """The peak of a device with a working set no larger than these weights, so that caches are allowed for; None if
    there is none."""
    found = sorted((p for p in peaks if p.device == device), key=lambda p: p.working_set_bytes or 0)
    fitting = [p for p in found if (p.working_set_bytes or 0) <= step_bytes * CACHED_SLACK]
    return fitting[-1] if fitting else found[0] if found else None
