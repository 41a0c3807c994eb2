"""`harness replay`: one workload against one endpoint that is already served.

What is imported at the top is what must be there before the first request; the rest comes when the clock has
stopped, because a second of imports would be a second of waiting for the first request."""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import __version__
from harness.adapter import Dialect, Engine
from harness.driver.address import Address, resolve_url
from harness.driver.connection import allow_connections
from harness.driver.http import Body, job_of
from harness.driver.job import Interrupted, Job, Replayed
from harness.driver.loop import replay
from harness.driver.workers import replay_split
from harness.errors import DONE, INVALID_CELLS, HarnessError, Stopped, unknown
from harness.model.tokenizer import Texts, find_tokenizer, vocabulary
from harness.paths import cache_folder
from harness.workload.plan import check_workload, read_plan, with_trace
from harness.workload.schedule import Request, Schedule, build_schedule, warmup_schedule
from harness.workload.spec import LoadPoint, Workload

if TYPE_CHECKING:
    from harness.records.calibration import Floor
from harness.records.run import RunResult

KEY = "OPENAI_API_KEY"


@dataclass(frozen=True, slots=True)
class Asked:
    """The command line of `harness replay`."""

    url: str
    engine: str
    model: str
    tokenizer: str
    out: Path
    workload: Path | None
    input_tokens: int | None
    output_tokens: int | None
    point: LoadPoint
    seed: int
    warmup: bool
    workers: int
    ray: str | None
    deadline_s: float
    prompt: str | None  # "ids" or "text"; null: as the route wants it
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go and how they are said."""

    endpoint: Address
    engine: Engine
    model: str
    dialect: Dialect
    body: Body
    vocabulary: Sequence[int]
    key: str | None

    def job(self, schedule: Schedule, deadline_s: float) -> Job:
        return job_of(self.endpoint, self.dialect, schedule, deadline_s, self.key, self.body)


def replay_url(known: Mapping[str, Engine], asked: Asked) -> int:
    """Replays and reports; returns the exit status. Raises HarnessError for what cannot be asked."""
    if asked.engine not in known:
        raise unknown("engine", asked.engine, known, "--engine")
    if asked.out.is_dir() and any(asked.out.iterdir()):
        raise HarnessError(f"--out {asked.out} is not empty; name another folder.")
    workload = workload_of(asked)
    target = target_of(known[asked.engine], asked)
    if reason := target.engine.cannot(workload):
        raise HarnessError(f"{target.engine.title}: {reason}")
    allow_connections()
    single = len(workload.load) == 1
    return max(
        _run(target, workload, point, asked, asked.out if single else asked.out / point.name) for point in workload.load
    )


def workload_of(asked: Asked) -> Workload:
    """The workload of the file, of the flags, or the file's under the load point of the flags."""
    where = "harness replay"
    flagged = asked.point != LoadPoint(requests=asked.point.requests)
    if asked.workload is None:
        workload = Workload(
            input_tokens=asked.input_tokens, output_tokens=asked.output_tokens, load=(asked.point,), seed=asked.seed
        )
    else:
        workload = read_workload(asked.workload)
        if flagged:
            point = asked.point
            if point.requests is None and point.duration_s is None and point.arrivals != "trace":
                point = replace(point, requests=max(map(workload.count, workload.load), default=None))
            workload = replace(workload, load=(point,))
    if not 0 < asked.deadline_s < math.inf:
        raise HarnessError(f"{where}: --deadline-s is {asked.deadline_s}; it must be above 0.")
    workers = 1 if asked.ray else asked.workers  # those on other machines are no matter of the cores of this one
    check_workload(workload, None, where, workers, flags=asked.workload is None)
    return workload


def read_workload(file: Path) -> Workload:
    """The workload of a comparison file, or that of a trace, whose load point is its own times."""
    if file.suffix == ".toml":
        return read_plan(file).workload
    alone = Workload(load=(LoadPoint(arrivals="trace"),), trace=file.name)
    return with_trace(alone, file.parent, str(file))


def target_of(engine: Engine, asked: Asked) -> Target:
    """The URL's path says which API is spoken; without one the engine's own."""
    endpoint = resolve_url(asked.url)
    if not isinstance(engine.dialect, Dialect):
        raise HarnessError(f"--engine {engine.name}: its requests go over gRPC; measure it with harness compare.")
    dialect = replace(engine.dialect, route=route_of(endpoint.path, engine.dialect.route))
    chat = dialect.route.endswith("/chat/completions")
    kind = asked.prompt or ("text" if chat else dialect.prompt)
    if chat and kind == "ids":
        raise HarnessError("--prompt ids: a chat takes text; leave it out, or name a completions route.")
    file = find_tokenizer(asked.tokenizer, cache_folder())
    key = os.environ.get(KEY, "").strip() or None
    more = {"model": asked.model, **asked.fields}
    if kind == "ids":

        def write_ids(request: Request) -> bytes:
            return dialect.body(request.prompt_ids, request.output_tokens, more=more)

        return Target(endpoint, engine, asked.model, dialect, write_ids, vocabulary(file), key)
    texts = Texts(file)
    if chat:
        dialect = replace(dialect, prompt_field="messages")

    def write_text(request: Request) -> bytes:
        text = texts.text(request.prompt_ids)
        prompt = [{"role": "user", "content": text}] if chat else text
        return dialect.body(prompt, request.output_tokens, more=more)

    return Target(endpoint, engine, asked.model, dialect, write_text, texts.vocabulary, key)


def route_of(path: str, route: str) -> str:
    """`path` of the given URL and the dialect's own route, put together: the path may be a whole route, end
    in the version that the route begins with, or be a prefix."""
    if path.endswith(("/completions", route)):
        return path
    if path.endswith("/v1") and route.startswith("/v1/"):
        return path + route.removeprefix("/v1")
    return path + route


def _run(target: Target, workload: Workload, point: LoadPoint, asked: Asked, folder: Path) -> int:
    schedule = build_schedule(workload, point, 1, target.vocabulary)
    job = target.job(schedule, asked.deadline_s)
    if asked.warmup:
        replay(target.job(warmup_schedule(workload, point, 1, target.vocabulary), asked.deadline_s))
    folder.mkdir(parents=True, exist_ok=True)
    started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    try:
        replayed, machines = _replay(job, asked, folder)
    except Interrupted as stop:
        from harness.campaign.recording import measured, record

        record(folder, measured(stop.replayed, schedule, target.dialect.parse), target.key)
        raise Stopped(f"interrupted; the requests until then are in {folder}, which has no manifest.") from None
    run = _keep(target, workload, point, schedule, replayed, machines, started_at, folder)
    floor = None
    if asked.ray is None:  # of this machine, at this load; it says nothing of others
        floor = _calibrate(replace(workload, load=(point,)), asked.workers, started_at, folder)
    return _judge(run, floor)


def _calibrate(workload: Workload, workers: int, measured_at: str, folder: Path) -> Floor:
    from harness.nullengine.calibrate import calibrate
    from harness.records.calibration import CALIBRATION
from harness.records.stored import write_json

    found = calibrate(workload, workers, measured_at, lambda _: None)
    write_json(folder / CALIBRATION, found)
    return found.floors[0]


def _judge(run: RunResult, floor: Floor | None) -> int:
    from harness.commands.show import terminal
    from harness.report.single import judge_run, single_table

    metrics, checks = judge_run(run, floor)
    console = terminal()
    console.print(single_table(run, metrics, checks))
    console.print(f"data    {run.folder}", soft_wrap=True)
    return INVALID_CELLS if any(check.verdict == "invalid" for check in checks) else DONE


def _replay(job: Job, asked: Asked, folder: Path) -> tuple[list[Replayed], list[dict[str, Any]]]:
    if asked.ray is None:
        return replay_split(job, asked.workers, folder), []
    from harness.driver.ray_workers import replay_on_ray

    return replay_on_ray(job, asked.workers, asked.ray, folder)


def _keep(
    target: Target,
    workload: Workload,
    point: LoadPoint,
    schedule: Schedule,
    replayed: Sequence[Replayed],
    machines: Sequence[Mapping[str, Any]],
    started_at: str,
    folder: Path,
) -> RunResult:
    """Writes the run folder, its manifest last."""
    from harness.campaign.recording import measured, record, seal
    from harness.machine import describe_machine
    from harness.records.manifest import SCHEMA, Manifest

    engine, endpoint = target.engine, target.endpoint
    measured_run = measured(replayed, schedule, target.dialect.parse)
    client = record(folder, measured_run, target.key)
    manifest = Manifest(
        schema=SCHEMA,
        harness=__version__,
        engine=engine.name,
        engine_title=engine.title,
        engine_color=engine.color,
        engine_version="unknown",
        launch="attach",
        model={"name": target.model, "null_engine": engine.null},
        load_point=point.name,
        concurrency=point.concurrency,
        in_flight=schedule.in_flight,
        requests=len(schedule.requests),
        input_tokens=workload.input_tokens,
        output_tokens=workload.output_tokens,
        round=1,
        seed=workload.seed,
        schedule_digest=schedule.digest,
        schedules_digest=schedule.digest,
        machine=describe_machine(),
        settings={},
        probe={},
        cold_start_s={},
        counters={},
        client={**client, "same_machine": endpoint.loopback, "machines": list(machines)},
        started_at=started_at,
        duration_s=measured_run.duration_s,
        load=asdict(point),
    )
    return seal(folder, manifest, [], {"launch.json": {"url": endpoint.url + target.dialect.route}})
