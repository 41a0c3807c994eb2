"""What a check is given and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from harness.judge.stats import Estimate
from harness.records.metrics import Floats, column
from harness.records.run import Floor, RunResult

Verdict = Literal["ok", "doubt", "invalid"]
SEVERITY: Mapping[Verdict, int] = {"ok": 0, "doubt": 1, "invalid": 2}


@dataclass(frozen=True, slots=True)
class Check:
    """One verdict on one cell, with the numbers that it rests on and what to do about it."""

    code: str
    verdict: Verdict
    numbers: Mapping[str, Any]
    message: str
    advice: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All rounds of one engine at one load point, the metrics taken from them, and the client's own floor at
    that load; null where it was not calibrated."""

    runs: Sequence[RunResult]
    metrics: Mapping[str, Estimate]
    floor: Floor | None = None


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The gravest of them; "ok" of none."""
    return max(verdicts, key=SEVERITY.__getitem__, default="ok")


def pooled(runs: Sequence[RunResult], values: Callable[[RunResult], Floats]) -> Floats:
    """One array over all rounds."""
    return np.concatenate([values(run) for run in runs])


def pooled_column(runs: Sequence[RunResult], name: str) -> Floats:
    """One column over all rounds' ok requests, NaN for null."""
    return pooled(runs, lambda run: column(run, name))
