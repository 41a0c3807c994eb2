"""What a check is given and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from harness.judge.stats import Estimate
from harness.records.calibration import Floor
from harness.records.latencies import Floats, column
from harness.records.manifest import Manifest
from harness.records.run import RunResult

# note: declared and harmless. doubt: to be read before the number is relied on. invalid: never ranked.
Verdict = Literal["ok", "note", "doubt", "invalid"]
SEVERITY: Mapping[Verdict, int] = {"ok": 0, "note": 1, "doubt": 2, "invalid": 3}
AGAINST: tuple[Verdict, ...] = ("doubt", "invalid")  # what speaks against a number


@dataclass(frozen=True, slots=True)
class Check:
    """One verdict on one cell, with the numbers that it rests on and what to do about it."""

    code: str
    verdict: Verdict
    numbers: Mapping[str, Any]
    message: str
    advice: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the function of a check found."""

    verdict: Verdict
    message: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Peers:
    """The runs of each real candidate at one load that were measured on one machine, and their titles. Null engines
    are left out before."""

    runs: Mapping[str, Sequence[RunResult]]
    titles: Mapping[str, str]
    reference: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All rounds of one candidate at one load and the metrics taken from them.

    `floor` is the client's own at that load, None if it was not calibrated; `everywhere` are the candidate's runs
    at all loads; `peers` are the candidates beside it, itself among them, None for a run by itself."""

    runs: Sequence[RunResult]
    metrics: Mapping[str, Estimate]
    floor: Floor | None = None
    everywhere: Sequence[RunResult] = ()
    peers: Peers | None = None

    @property
    def manifest(self) -> Manifest:
        """Of the first round."""
        return self.runs[0].manifest

    @property
    def name(self) -> str:
        return self.manifest.candidate.name

    @property
    def attached(self) -> bool:
        return is_attached(self.manifest)


def is_attached(manifest: Manifest) -> bool:
    """Whether the server already ran, and says of itself only what it chooses to."""
    return manifest.endpoint.launch == "attach"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The gravest of them; "ok" of none."""
    return max(verdicts, key=SEVERITY.__getitem__, default="ok")


def pooled(runs: Sequence[RunResult], values: Callable[[RunResult], Floats]) -> Floats:
    """One array over all rounds."""
    return np.concatenate([values(run) for run in runs])


def pooled_column(runs: Sequence[RunResult], name: str) -> Floats:
    """One column over all rounds' ok requests, NaN if missing."""
    return pooled(runs, lambda run: column(run, name))
