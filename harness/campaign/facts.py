"""Builds a run's manifest from what is known of the endpoint and from the run's outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from harness import __version__
from harness.adapter import LogLine, Reading
from harness.campaign.contender import Contender
from harness.campaign.probe import CACHE, SHOWABLE, declared
from harness.launch.endpoint import Endpoint
from harness.machine import describe_machine
from harness.records.manifest import (
    ClientFacts,
    EndpointFacts,
    MachineFacts,
    Manifest,
    ModelFacts,
    ProbeFacts,
    PromptText,
    ScheduleFacts,
)
from harness.secret_names import masked
from harness.workload.lengths import same, spread
from harness.workload.loads import Load
from harness.workload.schedule import Schedule
from harness.workload.slo import Slo
from harness.workload.spec import Workload

_NOT_OURS = "the server was not started by the harness and does not show it"


@dataclass(frozen=True, slots=True)
class Question:
    """The requests of one run. `whole`: the digest over all schedules of the comparison. `prompts`: of real text, those
    whose answers are kept."""

    workload: Workload
    load: Load
    schedule: Schedule
    whole: str
    slo: Slo | None = None
    prompts: tuple[PromptText, ...] = ()
    shared_prefix: int | None = None  # the most tokens that two prompts of the round begin with together


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """What one run measured, besides its records."""

    round: int
    started_at: str
    duration_s: float
    client: ClientFacts
    counters: Mapping[str, float | None]
    counters_unknown: str = ""  # why not all of them are known


def manifest_of(question: Question, known: Known, outcome: RunOutcome) -> Manifest:
    """The manifest of one run."""
    workload, schedule = question.workload, question.schedule
    return Manifest(
        harness=__version__,
        candidate=known.contender.facts(),
        endpoint=endpoint_facts(known, outcome.counters_unknown),
        model=_model(known),
        load=question.load,
        slo=question.slo,
        schedule=ScheduleFacts(
            digest=schedule.digest,
            whole=question.whole,
            seed=workload.seed,
            requests=len(schedule.requests),
            in_flight=schedule.in_flight,
            input_tokens=same(workload.input_tokens),
            output_tokens=same(workload.output_tokens),
            input_lengths=spread(workload.input_tokens),
            output_lengths=spread(workload.output_tokens),
            trace=workload.trace_facts,
            texts=workload.text_facts,
            prompts=question.prompts,
            shared_prefix=question.shared_prefix,
            ends=workload.ends,
        ),
        machine=machine_facts(),
        client=outcome.client,
        probe=known.probe,
        counters=outcome.counters,
        round=outcome.round,
        started_at=outcome.started_at,
        duration_s=outcome.duration_s,
    )


@dataclass(frozen=True, slots=True)
class Known:
    """A contender, its endpoint, and what the probe showed of it."""

    contender: Contender
    endpoint: Endpoint
    probe: ProbeFacts


def machine_facts() -> MachineFacts:
    """This machine."""
    return msgspec.convert(describe_machine(), MachineFacts)


def endpoint_facts(known: Known, counters_unknown: str = "") -> EndpointFacts:
    """What is known of the endpoint, and why the rest is not known; `counters_unknown`: of its counters."""
    endpoint, engine, probe = known.endpoint, known.contender.engine, known.probe
    attached = endpoint.launch == "attach"
    own = known.contender.candidate.python or known.contender.candidate.program  # it may have what ours has not
    version, version_from = _version(known)
    settings: dict[str, Any] = {**known.contender.settings, **probe.settings}  # as read back, if shown
    hidden = [name for name in SHOWABLE if name not in probe.settings]
    cache_seen = probe.cached_tokens is not None
    differences = dict(declared(engine, endpoint))
    if not attached and (how := _sent_otherwise(known)):
        differences["prompt"] = how
    return EndpointFacts(
        launch=endpoint.launch,
        device=endpoint.device,
        gpus=None if endpoint.gpus is None else len(endpoint.gpus),
        same_machine=endpoint.requests.loopback,
        version=version,
        version_from=version_from,
        tested_version=None if engine.attach_only else engine.tested_version(version, endpoint.device),
        image=endpoint.image,
        url=endpoint.url,
        launch_line=masked(endpoint.launch_line, known.contender.secrets),
        env=masked(endpoint.env, known.contender.secrets),
        settings=masked(settings, known.contender.secrets),
        unverified=() if attached else tuple(n for n in hidden if not (n == CACHE and cache_seen)),
        declared=differences,
        unknown={
            **(_unknown(version, hidden, known) if attached else {}),
            **({"counters": counters_unknown} if counters_unknown else {}),
        },
        cold_start_s={**endpoint.cold_start_s, **_first_token(probe)},
        no_speed="" if own or endpoint.device is None else engine.no_speed_on.get(endpoint.device, ""),
    )


def _sent_otherwise(known: Known) -> str:
    """How prompts are sent to a candidate that asks for another form than its engine takes; empty if it does not."""
    wanted, probe = known.contender.candidate.prompt, known.probe
    if wanted == "chat":
        more = "" if probe.prompt_offset is None else f", which adds {probe.prompt_offset} tokens to each"
        return f"one user message, through the engine's chat template{more}"
    if wanted == "text" and known.contender.engine.dialect.prompt != "text":
        return "sent as text and tokenised again by the engine"
    return ""


def _first_token(probe: ProbeFacts) -> dict[str, float]:
    return {} if probe.first_token_s is None else {"first_token": probe.first_token_s}


def _unknown(version: str | None, hidden: list[str], known: Known) -> dict[str, str]:
    """What a server that already ran does not report."""
    engine = known.contender.engine
    readings = {**engine.facts, **({"version": engine.version_reading} if engine.version_reading else {})}
    names = [*(["version"] if version is None else []), *hidden, "device", "gpus"]
    names += [] if engine.series else ["counters"]
    return {name: _why(readings.get(name)) for name in names}


def _why(reading: Reading | LogLine | None) -> str:
    return f"its page {reading.path} does not show it" if isinstance(reading, Reading) else _NOT_OURS


def _version(known: Known) -> tuple[str | None, str]:
    """The version and its source: the running engine, its image's tag, or the package that was installed."""
    endpoint, engine, shown = known.endpoint, known.contender.engine, known.probe.version
    if shown and engine.version_reading is not None and not engine.grpc:
        return engine.tested_as(shown, endpoint.device) or shown, "the engine"
    if endpoint.image is not None:
        return _tag(endpoint.image.name), "its image"
    if endpoint.package:
        return endpoint.package, "its package"
    return (shown, "the engine") if shown else (None, "")


def _tag(image: str) -> str | None:
    """The tag of an image's name; None if it has none. A colon before the last slash is a registry's port."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2] or None


def _model(known: Known) -> ModelFacts:
    model = known.contender.model
    kv_dtype = model.kv_dtype or known.contender.settings.get("kv_dtype")
    return replace(model, kv_dtype=None if kv_dtype is None else str(kv_dtype))
