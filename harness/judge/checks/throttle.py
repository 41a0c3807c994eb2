"""Whether the GPU's clocks were held down while it was measured: THROTTLE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.judge.checks.evidence import Evidence, Outcome
from harness.records.samples import series_of

SERIES = "gpu_clock_limits"
# NVML's clocks event reasons (nvml.h, nvmlClocksEventReasons). Others hold clocks down by choice or without load.
FAULTS: Mapping[int, str] = {
    0x08: "hardware slowdown",
    0x20: "temperature (driver)",
    0x40: "temperature (hardware)",
    0x80: "power brake",
}
POWER_CAP = 0x04  # the card's power limit: what it is set to, and the same for every candidate


def throttle(evidence: Evidence) -> Outcome | None:
    """A GPU that was slowed down gives the numbers of its cooling, not of the engine. None if that was not sampled."""
    by_round = {run.manifest.round: series_of(run.folder).get(SERIES) for run in evidence.runs}
    bits = {r: found.values.astype(np.int64) for r, found in by_round.items() if found is not None}
    if not bits:
        return None
    every = np.concatenate(list(bits.values()))
    shares = {reason: float(np.mean(every & bit != 0)) for bit, reason in FAULTS.items()}
    seen = [reason for reason, share in shares.items() if share]
    capped = float(np.mean(every & POWER_CAP != 0))
    numbers: dict[str, Any] = {"samples": int(every.size), "shares": shares, "power_limit_share": capped}
    if seen:
        fault = sum(FAULTS)
        rounds = [r for r, values in bits.items() if (values & fault != 0).any()]
        held = float(np.mean(every & fault != 0))
        return Outcome(
            "doubt",
            f"The GPU was slowed down in {held:.0%} of the samples ({', '.join(seen)}; "
            f"round{'s' if len(rounds) > 1 else ''} {', '.join(map(str, rounds))}).",
            {**numbers, "rounds": rounds},
            "Cool it, lock its clocks (nvidia-smi --lock-gpu-clocks), and measure again.",
        )
    if capped:
        text = f"The power limit of the GPU held its clocks down in {capped:.0%} of the samples."
        return Outcome("note", text, numbers)
    return Outcome("ok", f"The GPU was never slowed down ({every.size} samples).", numbers)
