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

from harness.adapter import Dialect, Engine
from harness.campaign.contender import Contender
from harness.campaign.schedules import in_memory
from harness.campaign.session import Runs, Setting, measure_endpoint, now_utc
from harness.campaign.target import Prompts, check_changes, dialect_at, no_text, takes_text
from harness.commands.alone import LOCK, new_folder
from harness.commands.texts import encoded
from harness.decode.replay import Drivers
from harness.driver.address import resolve_url
from harness.driver.connection import allow_connections
from harness.errors import DONE, INVALID_CELLS, HarnessError, unknown
from harness.launch.attach import attach, read_key
from harness.machine import usable_cores
from harness.model.tokenizer import Texts, find_tokenizer, vocabulary
from harness.records.manifest import ModelFacts
from harness.workload.candidate import Candidate, check_request
from harness.workload.checks import check_workload
from harness.workload.given_files import check_folder
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
    seed: int | None  # None: the file's, or the default
    warmup: bool
    workers: int
    ray: str | None
    deadline_s: float
    prompt: Literal["ids", "text", "chat"] | None  # None: whatever the route takes
    fields: Mapping[str, Any]
    drop: tuple[str, ...] = ()
    length_field: str = ""
    ca_file: str = ""
    trace_format: str = ""
    trace_from_s: float | None = None
    trace_for_s: float | None = None


def replay_url(known: Mapping[str, Engine], options: ReplayOptions) -> int:
    """Replays and reports; returns the exit status. Raises HarnessError for options that contradict each other."""
    if options.engine not in known:
        raise unknown("engine", options.engine, known, "--engine")
    check_folder(options.out)
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
        drop=options.drop,
        length_field=options.length_field,
    )
    check_request(candidate, WHERE)
    contender = Contender(candidate, engine, {}, ModelFacts(name=options.model, shown=False))
    prompts = _prompts(contender, options.tokenizer, bool(workload.texts))
    if workload.texts:
        workload = encoded(workload, Texts(find_tokenizer(options.tokenizer)))
    allow_connections()
    single = len(workload.load) == 1
    with new_folder(options.out, resumable=False):
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


def _prompts(contender: Contender, tokenizer: str, of_text: bool) -> Prompts:
    engine, candidate = contender.engine, contender.candidate
    path = resolve_url(candidate.url).path
    own = engine.dialect
    dialect = dialect_at(engine, own, path, candidate.prompt) if isinstance(own, Dialect) else own
    check_changes(candidate, dialect)
    as_text = takes_text(engine, path, candidate.prompt) or of_text
    file = find_tokenizer(tokenizer)
    if not as_text:
        return Prompts(vocabulary(file), (), no_text)
    texts = Texts(file)
    # The server's tokenizer puts its BOS before a text: a prompt that has none would be counted as one token more. A
    # chat's text comes after the template, which has the BOS.
    chat = isinstance(dialect, Dialect) and dialect.route.endswith("/chat/completions")
    return Prompts(texts.vocabulary, () if chat else texts.lead, texts.text)


def workload_of(options: ReplayOptions) -> Workload:
    """The file's workload, with the load, the lengths and the seed of the flags if any; without a file, the workload of
    the flags."""
    given = {name: getattr(options, name) for name in ("input_tokens", "output_tokens", "seed")}
    given = {name: value for name, value in given.items() if value is not None}
    if options.workload is None:
        if part := next(iter(_part_flags(options)), ""):
            raise HarnessError(f"{WHERE}: {_flag(part)} is for a trace; name it with --workload.")
        load = load_of(options.load, WHERE, _flag)
        workload = Workload(load=(load,), **given)
    else:
        workload = replace(read_workload(options.workload, options), **given)
        keys = _keys_over(options.workload, options.load)
        if keys != LoadKeys():
            workload = replace(workload, load=(_load_over(workload, keys),))
    if not 0 < options.deadline_s < math.inf:
        raise HarnessError(f"{WHERE}: --deadline-s is {options.deadline_s}; it must be above 0.")
    workers = 1 if options.ray else options.workers  # Ray's workers use other machines' cores
    check_workload(workload, None, WHERE, workers, len(usable_cores()), flags=options.workload is None)
    return workload


def _keys_over(file: Path, keys: LoadKeys) -> LoadKeys:
    """The flags of the load beside a file. A trace is replayed at its own times unless they say otherwise."""
    if (keys.concurrency, keys.rate, keys.batch) != (None, None, None):
        return keys
    if not _is_plan(file):
        return replace(keys, arrivals="trace")
    if keys.requests is not None and keys == LoadKeys(requests=keys.requests):
        raise HarnessError(
            f"{WHERE}: --requests is {keys.requests}, but the loads of {file} say how many; name a load as well: "
            "--concurrency, --rate or --batch."
        )
    return keys


def _is_plan(file: Path) -> bool:
    return file.suffix.lower() == ".toml"


def _load_over(workload: Workload, keys: LoadKeys) -> Load:
    """The load of the flags; without --requests, as many requests as the file's largest load."""
    ends = (keys.requests, keys.duration_s, keys.at_least_s)
    if ends == (None, None, None) and keys.arrivals != "trace":
        keys = replace(keys, requests=max(map(workload.count, workload.load), default=None))
    return load_of(keys, WHERE, _flag)


def _flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _part_flags(options: ReplayOptions) -> dict[str, Any]:
    """The flags that choose a part of a trace, those that are given."""
    values = {name: getattr(options, name) for name in ("trace_format", "trace_from_s", "trace_for_s")}
    return {name: value for name, value in values.items() if value not in (None, "")}


def read_workload(file: Path, options: ReplayOptions) -> Workload:
    """The workload of a comparison file, or of a trace, which is replayed at its own times. The flags for a part of the
    trace replace what the comparison file says of it."""
    flags = _part_flags(options)
    if _is_plan(file):
        workload = read_plan(file).workload
        return with_trace(replace(workload, traced=(), **flags), file.parent, WHERE, _flag) if flags else workload
    alone = Workload(load=(OpenLoop(arrivals="trace"),), trace=file.name, **flags)
    return with_trace(alone, file.parent, str(file), _flag)


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
