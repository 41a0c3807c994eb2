"""`harness replay`: a comparison of one candidate that already runs, with one round.

Only what the first request needs is imported at the top; the rest is imported after the clock has stopped, because a
second of imports would delay the first request by a second."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.adapter import Engine
from harness.campaign.contender import Contender
from harness.campaign.schedules import in_memory
from harness.campaign.session import Runs, Setting, measure_endpoint, now_utc
from harness.campaign.target import Prompts, no_text, takes_text
from harness.commands.alone import LOCK, new_folder
from harness.decode.replay import Drivers
from harness.driver.address import resolve_url
from harness.driver.connection import allow_connections
from harness.errors import DONE, INVALID_CELLS, HarnessError, unknown
from harness.launch.attach import attach, read_key
from harness.machine import usable_cores
from harness.model.tokenizer import Texts, find_tokenizer, vocabulary
from harness.paths import cache_folder
from harness.records.manifest import ModelFacts
from harness.workload.candidate import Candidate
from harness.workload.checks import check_workload
from harness.workload.lengths import Given
from harness.workload.load_keys import LoadKeys, load_of
from harness.workload.loads import Load, OpenLoop
from harness.workload.plan import read_plan, with_trace
from harness.workload.spec import Workload

if TYPE_CHECKING:
    from harness.records.calibration import Calibration

KEY = "OPENAI_API_KEY"
WHERE = "harness replay"


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """The command line of `harness replay`."""

    url: str
    engine: str
    model: str
    tokenizer: str
    out: Path
    workload: Path | None
    input_tokens: Given
    output_tokens: Given
    load: LoadKeys
    seed: int
    warmup: bool
    workers: int
    ray: str | None
    deadline_s: float
    prompt: Literal["ids", "text"] | None  # None: whatever the route takes
    fields: Mapping[str, Any]
    ca_file: str = ""


def replay_url(known: Mapping[str, Engine], options: ReplayOptions) -> int:
    """Replays and reports; returns the exit status. Raises HarnessError for options that contradict each other."""
    if options.engine not in known:
        raise unknown("engine", options.engine, known, "--engine")
    if options.out.is_dir() and any(path.name != LOCK for path in options.out.iterdir()):
        raise HarnessError(f"--out {options.out} is not empty; name another folder.")
    workload = workload_of(options)
    engine = known[options.engine]
    if reason := engine.cannot(workload):
        raise HarnessError(f"{engine.title}: {reason}")
    candidate = Candidate(
        engine=engine.name,
        name=engine.name,
        url=options.url,
        served_model=options.model,
        prompt=options.prompt or "",
        fields=options.fields,
    )
    contender = Contender(candidate, engine, {}, ModelFacts(name=options.model, shown=False))
    prompts = _prompts(contender, options.tokenizer)
    allow_connections()
    single = len(workload.load) == 1
    with new_folder(options.out):
        return max(
            _run(
                contender,
                replace(workload, load=(load,)),
                prompts,
                options,
                options.out if single else options.out / load.name,
            )
            for load in workload.load
        )


def _prompts(contender: Contender, tokenizer: str) -> Prompts:
    path = resolve_url(contender.candidate.url).path
    as_text = takes_text(contender.engine, path, contender.candidate.prompt)
    file = find_tokenizer(tokenizer, cache_folder())
    if not as_text:
        return Prompts(vocabulary(file), (), no_text)
    texts = Texts(file)
    return Prompts(texts.vocabulary, (), texts.text)


def workload_of(options: ReplayOptions) -> Workload:
    """The file's workload, with the load of the flags if any; without a file, the workload of the flags."""
    flagged = options.load != LoadKeys(requests=options.load.requests)
    if options.workload is None:
        load = load_of(options.load, WHERE, _flag)
        workload = Workload(
            input_tokens=options.input_tokens, output_tokens=options.output_tokens, load=(load,), seed=options.seed
        )
    else:
        workload = read_workload(options.workload)
        if flagged:
            workload = replace(workload, load=(_load_over(workload, options.load),))
    if not 0 < options.deadline_s < math.inf:
        raise HarnessError(f"{WHERE}: --deadline-s is {options.deadline_s}; it must be above 0.")
    workers = 1 if options.ray else options.workers  # Ray's workers use other machines' cores
    check_workload(workload, None, WHERE, workers, len(usable_cores()), flags=options.workload is None)
    return workload


def _load_over(workload: Workload, keys: LoadKeys) -> Load:
    """The load of the flags; without --requests, as many requests as the file's largest load."""
    ends = (keys.requests, keys.duration_s, keys.at_least_s)
    if ends == (None, None, None) and keys.arrivals != "trace":
        keys = replace(keys, requests=max(map(workload.count, workload.load), default=None))
    return load_of(keys, WHERE, _flag)


def _flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def read_workload(file: Path) -> Workload:
    """The workload of a comparison file, or of a trace, which is replayed at its own times."""
    if file.suffix == ".toml":
        return read_plan(file).workload
    alone = Workload(load=(OpenLoop(arrivals="trace"),), trace=file.name)
    return with_trace(alone, file.parent, str(file))


def _run(contender: Contender, workload: Workload, prompts: Prompts, options: ReplayOptions, folder: Path) -> int:
    (load,) = workload.load
    setting = Setting(
        workload=workload,
        prompts=prompts,
        schedules=in_memory(workload, load, prompts),
        deadline_s=options.deadline_s,
        drivers=Drivers(options.workers, options.ray),
        warmup=options.warmup,
        strict=False,
    )
    started_at = now_utc()
    key = read_key(KEY, os.environ)
    with attach(options.url, key, options.ca_file) as endpoint:
        measure_endpoint(setting, contender, endpoint, Runs(1, [(load, folder)]))
    calibrated = None
    if options.ray is None:  # a calibration of this machine says nothing about the machines of a Ray cluster
        calibrated = _calibrate(workload, options.workers, started_at, folder)
    return _judge(folder, calibrated)


def _calibrate(workload: Workload, workers: int, measured_at: str, folder: Path) -> Calibration:
    from harness.nullengine.calibrate import calibrate
    from harness.records.calibration import CALIBRATION
    from harness.records.stored import write_json

    found = calibrate(workload, workers, measured_at, lambda _: None)
    write_json(folder / CALIBRATION, found)
    return found


def _judge(folder: Path, calibrated: Calibration | None) -> int:
    from harness.commands.show import terminal
    from harness.records.run import read_run
    from harness.report.single import judge_run, single_table

    run = read_run(folder)
    metrics, checks = judge_run(run, calibrated)
    console = terminal()
    console.print(single_table(run, metrics, checks))
    console.print(f"data    {run.folder}", soft_wrap=True)
    return INVALID_CELLS if any(check.verdict == "invalid" for check in checks) else DONE
