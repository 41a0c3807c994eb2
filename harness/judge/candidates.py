"""Facts about a candidate that are the same at every load."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.judge.checks.declared import declares_weights, settings_of
from harness.judge.checks.evidence import is_attached
from harness.judge.checks.lengths import Agreement, agreement
from harness.records.manifest import Manifest
from harness.records.resources import energy_source
from harness.records.run import RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateSummary:
    """One candidate. `reference`: the candidate that its ratios are against (its own name for the reference, None for
    a null engine)."""

    name: str
    engine: str
    title: str
    color: str
    version: str
    launch: str
    null: bool
    machine: str | None  # id of the machine it was measured from
    reference: str | None
    gpus: int | None
    cold_start_s: Mapping[str, float]  # phase -> mean over rounds
    settings: Mapping[str, str]
    unverified: tuple[str, ...]  # settings that the running engine does not show; assumed as asked
    unknown: Mapping[str, str]  # what is not known -> why
    declared: Mapping[str, str]
    launch_line: tuple[str, ...]
    env: Mapping[str, str]
    weight_dtype: str | None
    kv_dtype: str | None
    energy_from: str | None = None  # what its joules are measured by; None if by nothing
    price_usd_per_hour: float | None = None
    answers: Agreement | None  # with the reference; None for the reference and without a probe
    no_speed: str = ""  # why its latency and throughput say nothing of the engine's speed; empty: they do
    once: bool = False  # measured in one round only: its speed says nothing, and the user did not name it

    @property
    def ranked(self) -> bool:
        """Whether its speed is compared with others'."""
        return not (self.null or self.once)


def title_of(runs: Sequence[RunResult]) -> str:
    """The title in tables and charts, with the precision if the candidate declares other weights than the model's."""
    manifest = runs[0].manifest
    title, dtype = manifest.candidate.title, manifest.model.weight_dtype
    return f"{title} {dtype}" if declares_weights(manifest) and dtype and dtype not in title else title


def is_null(runs: Sequence[RunResult]) -> bool:
    """Whether it is the null engine, which emits tokens on a schedule."""
    return runs[0].manifest.candidate.null


def measured_once(runs: Sequence[RunResult], named: Collection[str]) -> bool:
    """Whether it is measured in one round only and not ranked; `named`: the candidates that the user named."""
    manifest = runs[0].manifest
    return bool(manifest.endpoint.no_speed) and manifest.candidate.name not in named


def candidate_summary(
    runs: Sequence[RunResult], reference: Sequence[RunResult] | None, title: str, named: Collection[str]
) -> CandidateSummary:
    """The summary of a candidate from all its runs and those of its reference (None for a null engine)."""
    first = runs[0].manifest
    against = reference[0].manifest.candidate.name if reference else None
    compared = reference is not None and against != first.candidate.name
    return CandidateSummary(
        name=first.candidate.name,
        engine=first.candidate.engine,
        title=title,
        color=first.candidate.color,
        version=joined(run.manifest.endpoint.version or "version not known" for run in runs),
        launch=joined(_launch(run.manifest) for run in runs),
        null=is_null(runs),
        machine=first.machine.id,
        reference=against,
        gpus=first.endpoint.gpus,
        cold_start_s=_cold_start(runs),
        settings=settings_of(runs),
        unverified=first.endpoint.unverified,
        unknown=first.endpoint.unknown,
        declared=first.endpoint.declared,
        launch_line=first.endpoint.launch_line,
        env=first.endpoint.env,
        weight_dtype=first.model.weight_dtype,
        kv_dtype=first.model.kv_dtype,
        energy_from=joined(source.title for run in runs if (source := energy_source(run))) or None,
        price_usd_per_hour=first.candidate.price_usd_per_hour,
        no_speed=first.endpoint.no_speed,
        once=measured_once(runs, named),
        answers=agreement(_one_per_round(runs), _one_per_round(reference)) if compared and reference else None,
    )


def joined(values: Iterable[str]) -> str:
    """The distinct values, sorted."""
    return " / ".join(sorted(set(values)))


def _launch(manifest: Manifest) -> str:
    endpoint = manifest.endpoint
    if endpoint.image:
        return f"{endpoint.launch}, {endpoint.image.name} ({endpoint.image.digest[:19]})"
    return f"{endpoint.launch}, {endpoint.url}" if endpoint.url else endpoint.launch


def _cold_start(runs: Sequence[RunResult]) -> dict[str, float]:
    """Mean seconds per phase. A candidate starts once a round and every run of the round repeats the times: only one
    run per round is taken, because a round with more loads would weigh more."""
    phases: dict[str, list[float]] = {}
    # A server that already ran was not started: its first token came from a warm server.
    for run in _one_per_round([run for run in runs if not is_attached(run.manifest)]):
        for phase, taken in run.manifest.endpoint.cold_start_s.items():
            phases.setdefault(phase, []).append(taken)
    return {phase: float(np.mean(taken)) for phase, taken in phases.items()}


def _one_per_round(runs: Sequence[RunResult]) -> list[RunResult]:
    return list({run.manifest.round: run for run in reversed(runs)}.values())[::-1]
