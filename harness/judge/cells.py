"""One candidate at one load over all its rounds: its numbers and its checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.judge.checks.evidence import Check, Evidence, Verdict, pooled_column, worst
from harness.judge.checks.table import judge
from harness.judge.stats import Estimate
from harness.records.latencies import cancelled_requests, failed_requests, ok_requests


@dataclass(frozen=True, slots=True)
class Cell:
    """One candidate at one load over all its rounds. `schedule_digests` is in the order of `rounds`;
    request counts are sums over rounds."""

    candidate: str
    load: str
    rounds: tuple[int, ...]
    metrics: Mapping[str, Estimate]
    checks: tuple[Check, ...]
    verdict: Verdict
    requests_ok: int
    requests_failed: int
    schedule_digests: tuple[str, ...]
    output_tokens_per_request: tuple[int, ...]  # every distinct length
    requests_cancelled: int = 0  # by their user, as planned
    starts: int = 0  # independent starts behind the rounds; 1 for a server that already ran


def cell_of(evidence: Evidence) -> Cell:
    """The cell of this evidence, with its checks."""
    runs, checks = evidence.runs, judge(evidence)
    lengths = np.unique(pooled_column(runs, "output_tokens"))
    return Cell(
        candidate=evidence.name,
        load=evidence.manifest.load.name,
        rounds=tuple(run.manifest.round for run in runs),
        metrics=evidence.metrics,
        checks=tuple(checks),
        verdict=worst(check.verdict for check in checks),
        requests_ok=sum(int(ok_requests(run).sum()) for run in runs),
        requests_failed=sum(int(failed_requests(run).sum()) for run in runs),
        schedule_digests=tuple(run.manifest.schedule.digest for run in runs),
        output_tokens_per_request=tuple(int(length) for length in lengths),
        requests_cancelled=sum(int(cancelled_requests(run).sum()) for run in runs),
        starts=1 if evidence.attached else len(runs),
    )
