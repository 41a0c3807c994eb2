"""Measures one endpoint: probes it, samples it, and replays load after load. The same for every command."""

from __future__ import annotations

import contextlib
import datetime
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.adapter import Dialect
from harness.campaign.contender import Contender
from harness.campaign.counters import Counters, increase, read_counters, why_unknown
from harness.campaign.facts import Known, Question, RunOutcome, manifest_of
from harness.campaign.gauges import read_gauges, watching
from harness.campaign.probe import Loaded, Probe, look, verify, with_model_name
from harness.campaign.sampler import Sampled, observe, read_samples, sampling
from harness.campaign.schedules import Schedules
from harness.campaign.target import Prompts, Target, asking, target_of
from harness.decode.replay import Drivers, InterruptedReplay, Measured, hidden
from harness.errors import CannotStart, Stopped
from harness.launch.endpoint import Endpoint
from harness.records.manifest import Manifest, ProbeFacts, PromptText
from harness.records.refused import advice
from harness.records.request import TEXT_SHOWN
from harness.secret_names import masked
from harness.visible import visible
from harness.workload.kept import kept
from harness.workload.loads import Load
from harness.workload.schedule import Schedule
from harness.workload.slo import Slo
from harness.workload.spec import Workload

LOG_KEPT = 4 << 20  # bytes of an engine's log that a run keeps from its beginning, and from its end


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is the same for every candidate of a comparison. `warmup`: send warm-up requests before each load. `strict`:
    probe every endpoint, and leave out one that does not answer as it should; otherwise send hardly more than the
    workload and measure the endpoint whatever it does: the records show its errors."""

    workload: Workload
    prompts: Prompts
    schedules: Schedules
    deadline_s: float
    drivers: Drivers = Drivers()
    slo: Slo | None = None
    warmup: bool = True
    strict: bool = True
    power_command: tuple[str, ...] = ()  # prints watts


@dataclass(frozen=True, slots=True)
class Session:
    """An endpoint that has been probed. `sampled`: what is sampled of it, None if its processes cannot be seen."""

    setting: Setting
    known: Known
    target: Target
    sampled: Sampled | None
    gauges: Path | None = None  # the readings so far


def now_utc() -> str:
    """ISO 8601, seconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs to do at one endpoint in one round: loads and their folders. `ran` is called after each."""

    round: int
    loads: Sequence[tuple[Load, Path]]
    ran: Callable[[Load, Manifest], None] = lambda load, manifest: None


def measure_endpoint(setting: Setting, contender: Contender, endpoint: Endpoint, runs: Runs) -> None:
    """Measures every load into its folder. Raises CannotStart if the endpoint cannot be measured, and Stopped at
    Ctrl-C, after writing what was measured so far into the run's folder, without a manifest."""
    try:
        _measure(setting, contender, endpoint, runs)
    except CannotStart as problem:  # the message is stored, and a server may have echoed the key in it
        raise CannotStart(hidden(str(problem), endpoint.key)) from None


def _measure(setting: Setting, contender: Contender, endpoint: Endpoint, runs: Runs) -> None:
    candidate = contender.candidate
    target = target_of(endpoint, contender.engine, setting.prompts, setting.deadline_s, candidate.prompt)
    work = setting.workload
    target = replace(asking(target, candidate), natural=work.ends == "natural", keeps_text=bool(work.texts))
    if candidate.attached and isinstance(target.dialect, Dialect):
        url = endpoint.requests.shown(target.dialect.route)
        endpoint = replace(endpoint, url=url, files={"launch.json": {"url": url}})
    try:
        if candidate.attached:
            target = with_model_name(target, endpoint, candidate.served_model)
        probing = Probe(contender, endpoint, target, work.longest, _loaded(setting, runs), work.first_text)
        probe = verify(probing) if setting.strict else look(probing)
        probe = replace(probe, problem=hidden(probe.problem, endpoint.key) if probe.problem else None)
    except CannotStart as problem:
        if setting.strict:
            more = advice(str(problem), target.facts(ProbeFacts()), endpoint.url) if candidate.attached else ""
            raise CannotStart(f"{problem}. {more}".removesuffix(". ")) from None
        probe = ProbeFacts(problem=hidden(str(problem), endpoint.key))
    probe = target.facts(probe)
    sampled = Sampled.of(endpoint, setting.power_command)
    with sampling(sampled) if sampled else contextlib.nullcontext(), watching(endpoint, contender.engine) as gauges:
        session = Session(setting, Known(contender, endpoint, probe), target, sampled, gauges)
        for load, folder in runs.loads:
            runs.ran(load, measure_run(session, load, runs.round, folder))


def _loaded(setting: Setting, runs: Runs) -> Loaded | None:
    """A request of the load with most requests in flight, of those whose answers are kept."""
    load = max((load for load, _ in runs.loads), key=setting.workload.in_flight, default=None)
    if load is None or not setting.strict:
        return None
    schedule = setting.schedules.get(load, runs.round)
    keep = kept(schedule)
    return Loaded(load.name, schedule.requests[keep[0]]) if keep else None


def measure_run(session: Session, load: Load, round_index: int, folder: Path) -> Manifest:
    """One run: warm-up, replay, and the files of its folder, the manifest last."""
    setting, known = session.setting, session.known
    endpoint, engine = known.endpoint, known.contender.engine
    schedule = setting.schedules.get(load, round_index)
    if setting.warmup:
        _warm_up(session, load, round_index)
    before, seen_before = read_counters(endpoint, engine), observe(session.sampled)
    log_at = endpoint.log.stat().st_size if endpoint.log else 0
    started_at = now_utc()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        run = session.target.replay(schedule, setting.drivers, folder)
    except InterruptedReplay as stop:
        raise _rescued(folder, stop.measured, endpoint.key) from None
    if setting.strict and (why := endpoint.stopped()):  # refused requests would count as a measured load
        _keep(folder, run, endpoint.key)
        log = f". Log: {endpoint.log}" if endpoint.log else ""
        raise CannotStart(f"stopped on its own at load {load.name}: {why}{log}")
    after, seen_after = read_counters(endpoint, engine), observe(session.sampled)
    # Imported only now: a second of imports would delay the first request by a second.
    from harness.campaign.recording import record, seal

    outcome = RunOutcome(
        round=round_index,
        started_at=started_at,
        duration_s=run.duration_s,
        client=record(folder, run, endpoint.key),
        counters=increase(before, after),
        counters_unknown=why_unknown(before, after, engine),
    )
    manifest = manifest_of(
        Question(
            workload=setting.workload,
            load=load,
            schedule=schedule,
            whole=setting.schedules.whole,
            slo=setting.slo,
            prompts=_prompt_texts(setting, schedule),
            shared_prefix=setting.schedules.shared_prefix(round_index),
        ),
        known,
        outcome,
    )
    end_ns = run.start_ns + int(run.duration_s * 1e9)
    rows = read_samples(session.sampled, (seen_before, seen_after), run.start_ns, end_ns)
    rows += read_gauges(session.gauges, run.start_ns, end_ns)
    files = masked(dict(endpoint.files), known.contender.secrets)
    rows += _totals(0.0, before) + _totals(run.duration_s, after)
    seal(folder, manifest, rows, {**files, **_log_of_run(endpoint.log, log_at)})
    return manifest


def _prompt_texts(setting: Setting, schedule: Schedule) -> tuple[PromptText, ...]:
    """The prompts of real text whose answers are kept."""
    if not setting.workload.texts:
        return ()
    text = setting.prompts.text
    return tuple(
        PromptText(index=i, text=visible(text(schedule.requests[i].prompt_ids), TEXT_SHOWN)) for i in kept(schedule)
    )


def _warm_up(session: Session, load: Load, round_index: int) -> None:
    warmup = session.setting.schedules.warmup(load, round_index)
    failed = [one for one in session.target.replay(warmup).records if one.status == "failed"]
    if failed and session.setting.strict:  # the run would be measured cold
        first = min(failed, key=lambda one: math.inf if one.done_s is None else one.done_s)  # the cause, by time
        raise CannotStart(f"failed in the warm-up of load {load.name}: {first.error}")


def _keep(folder: Path, run: Measured, key: str | None) -> None:
    """Writes what was measured so far, without a manifest: it is not a finished run."""
    from harness.campaign.recording import record

    record(folder, run, key)


def _rescued(folder: Path, run: Measured, key: str | None) -> Stopped:
    _keep(folder, run, key)
    return Stopped(f"interrupted; the requests so far are in {folder}, without a manifest.")


def _totals(at_s: float, counters: Counters) -> list[tuple[float, str, float]]:
    return [(at_s, f"engine_{name}_total", value) for name, value in counters.items() if value is not None]


def _log_of_run(log: Path | None, start: int) -> dict[str, bytes]:
    """What the engine wrote to its log during the run; of a long log the beginning and the end."""
    if log is None:
        return {}
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END) - start
        file.seek(start)
        if size <= 2 * LOG_KEPT:
            return {"engine.log": file.read(max(size, 0))}
        head = file.read(LOG_KEPT)
        file.seek(-LOG_KEPT, os.SEEK_END)
        left_out = f"\n... {size - 2 * LOG_KEPT} bytes are left out here; the whole log is {log}\n"
        return {"engine.log": head + left_out.encode() + file.read(LOG_KEPT)}
