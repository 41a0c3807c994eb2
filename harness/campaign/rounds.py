"""Carries one comparison out: every engine, every load point, several rounds, one engine at a time."""

from __future__ import annotations

import contextlib
import datetime
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness import __version__
from harness.adapter import Engine
from harness.campaign.pages import increase, read_counters
from harness.campaign.probe import Place, verify
from harness.campaign.recording import record, seal
from harness.campaign.sampler import observe, read_samples, sampling
from harness.campaign.target import Line, Text
from harness.driver.address import Address
from harness.errors import CannotStart
from harness.machine import describe_machine
from harness.records.campaign import Campaign, run_folder
from harness.records.manifest import MANIFEST, SCHEMA, Manifest
from harness.records.stored import write_json
from harness.workload.plan import Plan
from harness.workload.schedule import build_schedule, warmup_schedule
from harness.workload.spec import LoadPoint

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Served:
    """An engine that answers, and what is known of how it came to."""

    endpoint: Address  # where requests go
    pages: Address  # where its health, facts and counters are
    launch: str  # "container", "process" or "attach"
    device: str  # "cuda" or "cpu"
    pid: int | None  # whose descendants it is; null where they cannot be seen
    log: Path
    image: Mapping[str, str]  # name and digest, of a container
    files: Mapping[str, Any]  # of how it was started, for the run folder: JSON or text by file name
    cold_start_s: Mapping[str, float]
    alive: Callable[[], str | None]  # null while it runs, else its last words


Serve = Callable[[Engine, Path], contextlib.AbstractContextManager[Served]]


@dataclass(frozen=True, slots=True)
class Setting:
    """What one comparison holds fixed."""

    plan: Plan
    model: Mapping[str, Any]  # provenance, as it goes into every manifest
    vocabulary: Sequence[int]
    lead: Sequence[int]  # ids that every prompt begins with
    text: Text  # writes a prompt out, for engines that take no ids
    settings: Mapping[str, Mapping[str, Any]]  # engine -> its settings table
    schedules_digest: str
    folder: Path
    started_at: str


def now_utc() -> str:
    """ISO 8601, seconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def engine_order(engines: Sequence[str], seed: int, round_index: int) -> list[str]:
    """The order of one round. Shuffled, or whoever always ran second would always meet a warmer machine."""
    order = list(engines)
    random.Random(f"{seed}/order/{round_index}").shuffle(order)
    return order


def run_campaign(
    setting: Setting,
    engines: Mapping[str, Engine],
    skipped: dict[str, str],
    serve: Serve,
    say: Say,
    ran: Callable[[str, LoadPoint, int, float], None],
) -> Campaign:
    """Runs what is not on disk yet; adds to `skipped` each engine that failed, with its reason.

    `campaign.json` is written first and last, so that an interrupted comparison can be reported and
    resumed. Raises KeyboardInterrupt through; no run folder is left half-written."""
    plan, folder = setting.plan, setting.folder
    campaign = Campaign(
        schema=SCHEMA,
        name=plan.name,
        started_at=setting.started_at,
        engines=tuple(engines),
        skipped=dict(skipped),
        load_points=tuple(point.name for point in plan.workload.load),
        rounds=plan.rounds,
        schedules_digest=setting.schedules_digest,
        finished=False,
    )
    write_json(folder / "campaign.json", campaign)
    for round_index in range(1, plan.rounds + 1):
        for name in engine_order(list(engines), plan.workload.seed, round_index):
            missing = [p for p in plan.workload.load if not on_disk(folder, name, p, round_index)]
            if name in skipped or not missing:
                continue
            log = folder / "launches" / f"{name}-round-{round_index}.log"
            try:
                with serve(engines[name], log) as served:
                    _run_engine(setting, engines[name], served, missing, round_index, say, ran)
            except CannotStart as problem:
                skipped[name] = f"round {round_index}: {problem}" if round_index > 1 else str(problem)
                campaign = replace(campaign, skipped=dict(skipped))
                write_json(folder / "campaign.json", campaign)
    campaign = replace(campaign, skipped=dict(skipped), finished=True)
    write_json(folder / "campaign.json", campaign)
    return campaign


def on_disk(folder: Path, engine: str, point: LoadPoint, round_index: int) -> bool:
    """Whether this run has been measured, wholly."""
    return (run_folder(folder, engine, point.name, round_index) / MANIFEST).is_file()


def _run_engine(
    setting: Setting,
    engine: Engine,
    served: Served,
    points: Sequence[LoadPoint],
    round_index: int,
    say: Say,
    ran: Callable[[str, LoadPoint, int, float], None],
) -> None:
    plan = setting.plan
    say(f"{engine.title}: verifying")
    line = Line(served.endpoint, engine.dialect, plan.request_deadline_s, setting.text)
    place = Place(line, served.pages, served.log)
    probe = verify(place, engine, setting.settings[engine.name], setting.vocabulary, setting.lead)
    served = replace(served, cold_start_s={**served.cold_start_s, "first_token": probe["first_token_s"]})
    samples = served.log.with_suffix(".samples")
    with sampling(served.pid, samples):
        for point in points:
            manifest = _run_point(setting, engine, served, line, probe, point, round_index, samples)
            ran(engine.name, point, round_index, manifest.duration_s)


def _version(engine: Engine, served: Served, probe: Mapping[str, Any]) -> str:
    """The pinned one where the engine has shown that it is; else what its image is called."""
    if (probe["version"] and engine.version_matches) or not served.image:
        return engine.version
    return f"{served.image['name'].rpartition(':')[2]}, by its image's tag"


def _unverified(probe: Mapping[str, Any]) -> dict[str, str]:
    names = ", ".join(name.replace("_", " ") for name in probe["unverified"])
    return {"as asked, not shown by the running engine": names} if names else {}


def _run_point(
    setting: Setting,
    engine: Engine,
    served: Served,
    line: Line,
    probe: Mapping[str, Any],
    point: LoadPoint,
    round_index: int,
    samples: Path,
) -> Manifest:
    plan = setting.plan
    warmup = warmup_schedule(plan.workload, point, round_index, setting.vocabulary, setting.lead)
    schedule = build_schedule(plan.workload, point, round_index, setting.vocabulary, setting.lead)
    for warmed in line.replay(warmup).records:
        if warmed.status == "failed":  # the run would be measured cold, or not at all
            raise CannotStart(f"failed in the warm-up of load point {point.name}: {warmed.error}")
    before, seen_before = read_counters(served.pages, engine), observe(served.pid)
    log_at = served.log.stat().st_size
    started_at = now_utc()
    folder = run_folder(setting.folder, engine.name, point.name, round_index)
    run = line.replay(schedule, plan.workers, setting.folder)
    if last_words := served.alive():  # its refusals would pass for a measured load point
        raise CannotStart(f"ended by itself at load point {point.name}: {last_words}. Log: {served.log}")
    after, seen_after = read_counters(served.pages, engine), observe(served.pid)
    client = record(folder, run)
    manifest = Manifest(
        schema=SCHEMA,
        harness=__version__,
        engine=engine.name,
        engine_title=engine.title,
        engine_color=engine.color,
        engine_version=_version(engine, served, probe),
        launch=served.launch,
        model={
            **setting.model,
            "null_engine": engine.null,
            "kv_dtype": setting.settings[engine.name]["kv_dtype"],
        },
        load_point=point.name,
        concurrency=point.concurrency,
        in_flight=schedule.in_flight,
        requests=len(schedule.requests),
        input_tokens=plan.workload.input_tokens,
        output_tokens=plan.workload.output_tokens,
        round=round_index,
        seed=plan.workload.seed,
        schedule_digest=schedule.digest,
        schedules_digest=setting.schedules_digest,
        machine=describe_machine(),
        settings={
            **setting.settings[engine.name],
            **probe["settings"],  # as it runs, where it shows that; else as asked
            "launch": served.launch,
            "device": served.device,
            "declared": {**engine.declared, **_unverified(probe)},
        },
        probe=probe,
        cold_start_s=served.cold_start_s,
        counters=increase(before, after),
        client={**client, "same_machine": True},
        started_at=started_at,
        duration_s=run.duration_s,
        load=asdict(point),
        image=served.image,
    )
    end_ns = run.start_ns + int(run.duration_s * 1e9)
    rows = read_samples(samples, seen_before, seen_after, run.start_ns, end_ns)
    rows += [(0.0, f"engine_{k}_total", v) for k, v in before.items() if v is not None]
    rows += [(run.duration_s, f"engine_{k}_total", v) for k, v in after.items() if v is not None]
    with served.log.open("rb") as log:
        log.seek(log_at)
        seal(folder, manifest, rows, {**served.files, "engine.log": log.read()})
    return manifest
