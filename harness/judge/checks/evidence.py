"""The input and the result of a check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from harness.judge.stats import Estimate
from harness.records.calibration import Floor, Peak
from harness.records.latencies import Floats, column
from harness.records.manifest import Manifest
from harness.records.run import RunResult

# note: declared and harmless. doubt: read it before relying on the number. invalid: never ranked.
Verdict = Literal["ok", "note", "doubt", "invalid"]
SEVERITY: Mapping[Verdict, int] = {"ok": 0, "note": 1, "doubt": 2, "invalid": 3}
AGAINST: tuple[Verdict, ...] = ("doubt", "invalid")  # verdicts against a number


@dataclass(frozen=True, slots=True)
class Check:
    """One verdict on one cell, with the numbers behind it and what to do about it."""

    code: str
    verdict: Verdict
    numbers: Mapping[str, Any]
    message: str
    advice: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check's function found."""

    verdict: Verdict
    message: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Peers:
    """The runs of all real candidates at one load that were measured on one machine, and their titles; without null
    engines."""

    runs: Mapping[str, Sequence[RunResult]]
    titles: Mapping[str, str]
    reference: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All rounds of one candidate at one load and their metrics.

    `floor`: the client's own floor at that load and rate, None if not calibrated; `peaks`: the most that the machine
    can do, empty if not measured; `everywhere`: the candidate's runs at all loads; `peers`: all candidates at that
    load, including this one, None for a single run."""

    runs: Sequence[RunResult]
    metrics: Mapping[str, Estimate]
    floor: Floor | None = None
    peaks: Sequence[Peak] = ()
    everywhere: Sequence[RunResult] = ()
    peers: Peers | None = None
    once: bool = False  # measured in one round only: its speed says nothing, and the user did not name it

    @property
    def manifest(self) -> Manifest:
        """The manifest of the first round."""
        return self.runs[0].manifest

    @property
    def name(self) -> str:
        return self.manifest.candidate.name

    @property
    def attached(self) -> bool:
        return is_attached(self.manifest)


def is_attached(manifest: Manifest) -> bool:
    """Whether the server already ran, so that only what it reports is known."""
    return manifest.endpoint.launch == "attach"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The most severe verdict; "ok" if there is none."""
    return max(verdicts, key=SEVERITY.__getitem__, default="ok")


def pooled(runs: Sequence[RunResult], values: Callable[[RunResult], Floats]) -> Floats:
    """One array over all rounds."""
    return np.concatenate([values(run) for run in runs])


def pooled_column(runs: Sequence[RunResult], name: str) -> Floats:
    """One column over all rounds' ok requests, NaN if missing."""
    return pooled(runs, lambda run: column(run, name))
