"""Reads a comparison file: which model, which load, how often, with which settings for every engine."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import tomllib
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from harness.errors import HarnessError, unknown
from harness.machine import usable_cores
from harness.workload.profile import Profile
from harness.workload.traces import parse_trace, trace_bytes
from harness.workload.workload import LoadPoint, Workload

PRESETS = Path(__file__).parents[1] / "presets"
LEAST_BURSTINESS = 0.01  # below, a gamma run is a single burst, and most of its gaps are too small for a float
MOST_REQUESTS = 10_000_000  # of one load point: their prompts are all in memory before the clock starts
Key = Callable[[str], str]  # a field -> what its user calls it: workload.load[0].ramp_to or --ramp-to


@dataclass(frozen=True, slots=True)
class Plan:
    """One comparison. `engines` empty means every engine that can start here."""

    name: str
    workload: Workload
    profile: Profile = Profile()
    engines: tuple[str, ...] = ()
    model: str = "tiny"
    rounds: int = 3
    request_deadline_s: float = 120.0
    port: int = 0  # 0: any free one
    workers: int = 1  # processes that send the requests
    launch: Literal["auto", "container", "process"] = "auto"  # auto: a container, where that cannot be a process
    device: Literal["auto", "cuda", "cpu"] = "auto"  # auto: the GPU where there is one


def read_plan(path: Path) -> Plan:
    """The plan with its trace, when it names one. Raises HarnessError naming the file and the line or key
    that is wrong."""
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        raise HarnessError(f"{path}: not TOML: not UTF-8 text.") from None
    except OSError as problem:
        presets = ", ".join(sorted(p.name for p in PRESETS.glob("*.toml")))
        raise HarnessError(
            f"{path}: cannot read the comparison file ({problem.strerror}). Presets in {PRESETS.name}/: {presets}."
        ) from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise HarnessError(f"{path}: not TOML: {problem}") from None
    _check_keys(data, Plan, str(path), "")
    try:
        plan = msgspec.convert(data, Plan)
    except msgspec.ValidationError as problem:
        raise HarnessError(f"{path}: {problem}") from None
    plan = replace(plan, workload=with_trace(plan.workload, path.parent, str(path)))
    _check_values(plan, str(path))
    return plan


def stored(plan: Plan) -> Plan:
    """The plan as `plan.json` keeps it: a trace by its path and SHA-256, without its requests."""
    return replace(plan, workload=replace(plan.workload, traced=()))


def with_trace(workload: Workload, folder: Path, where: str) -> Workload:
    """The workload with the requests and the SHA-256 of its trace, whose path counts from `folder`; without
    a trace as it is. Raises HarnessError for a file that is no trace, or not the one that was meant."""
    if not workload.trace:
        return workload
    file = folder / workload.trace
    data = trace_bytes(file)
    digest = hashlib.sha256(data).hexdigest()
    if workload.trace_sha256 not in ("", digest):
        raise HarnessError(
            f"{where}: {file} is another trace: its SHA-256 is {digest}, not {workload.trace_sha256} as "
            "workload.trace_sha256 says."
        )
    return replace(workload, trace_sha256=digest, traced=parse_trace(data, str(file)))


def _check_keys(data: dict[str, Any], kind: type, file: str, where: str) -> None:
    """Unknown keys are an error: a misspelt one would silently leave its default in force."""
    types_of = typing.get_type_hints(kind)
    hints = {f.name: types_of[f.name] for f in dataclasses.fields(kind) if f.compare}  # the rest is not asked
    for key, value in data.items():
        if key not in hints:
            raise unknown("key", f"{where}{key}", [f"{where}{name}" for name in hints], file)
        inner = _dataclass_in(hints[key])
        if inner is None:
            continue
        for i, item in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(item, dict):
                position = f"[{i}]" if isinstance(value, list) else ""
                _check_keys(item, inner, file, f"{where}{key}{position}.")


def _dataclass_in(hint: Any) -> type | None:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return hint
    if typing.get_origin(hint) in (tuple, typing.Union, types.UnionType):
        return next((d for arg in typing.get_args(hint) if (d := _dataclass_in(arg))), None)
    return None


def _check_values(plan: Plan, file: str) -> None:
    profile = plan.profile
    positive = {
        "rounds": plan.rounds,
        "request_deadline_s": plan.request_deadline_s,
        "profile.context_tokens": profile.context_tokens,
        "profile.concurrent_sequences": profile.concurrent_sequences,
        "profile.batched_tokens": profile.batched_tokens,
    }
    for name, value in positive.items():
        _check_positive(name, value, file)
    limits = {"port": (plan.port, 65535), "profile.threads": (profile.threads, len(usable_cores()))}
    for name, (value, most) in limits.items():
        if not 0 <= value <= most:
            raise HarnessError(f"{file}: {name} is {value}; it must be from 0 to {most}.")
    check_workload(plan.workload, profile.context_tokens, file, plan.workers)


def check_workload(
    workload: Workload, context_tokens: int | None, where: str, workers: int = 1, flags: bool = False
) -> None:
    """Raises HarnessError for the first thing that contradicts itself: a length, a load point, two load points
    of one name, more tokens than `context_tokens` (null: not known), more `workers` than the load can share.

    `where` opens the message: the file or the command. `flags`: keys are named as command line flags."""

    def key_of(place: str) -> Key:
        return lambda field: f"--{field.replace('_', '-')}" if flags else f"{place}{field}"

    _check_lengths(workload, where, key_of("workload."))
    workers_key, cores = key_of("")("workers"), len(usable_cores())
    if not 1 <= workers <= cores:
        raise HarnessError(
            f"{where}: {workers_key} is {workers}; it must be from 1 to {cores}, the cores that may be used here."
        )
    if not workload.load:
        raise HarnessError(f"{where}: workload.load is empty; name at least one load point.")
    for i, point in enumerate(workload.load):
        key = key_of(f"workload.load[{i}].")
        _check_point(point, where, key)
        _check_count(workload, point, where, key)
        _check_share(point, workload.count(point), workers, where, key, workers_key)
    names = [point.name for point in workload.load]
    for name in names:
        if names.count(name) > 1:
            raise HarnessError(f"{where}: load point {name} occurs twice; each may occur once.")
    if context_tokens is not None:
        _check_context(workload, context_tokens, where)


def _check_positive(name: str, value: float, where: str) -> None:
    if not 0 < value < math.inf:
        raise HarnessError(f"{where}: {name} is {value}; it must be above 0.")


def _check_lengths(workload: Workload, where: str, key: Key) -> None:
    for field in ("input_tokens", "output_tokens", "warmup_output_tokens"):
        value = getattr(workload, field)
        if value is not None:
            _check_positive(key(field), value, where)
        elif not workload.traced:
            raise HarnessError(f"{where}: {key(field)} is missing; only a trace has lengths of its own.")


def _check_point(point: LoadPoint, where: str, key: Key) -> None:
    for field in ("requests", "concurrency", "rate", "burstiness", "ramp_to", "batch", "duration_s"):
        if (value := getattr(point, field)) is not None:
            _check_positive(key(field), value, where)
    for field, most in (("ramp_s", math.inf), ("cancel_after_s", math.inf), ("cancel_fraction", 1.0)):
        value = getattr(point, field)
        if not 0 <= value <= most or math.isinf(value):
            bound = "0 or more" if math.isinf(most) else f"from 0 to {most:g}"
            raise HarnessError(f"{where}: {key(field)} is {value}; it must be {bound}.")
    if point.cancel_fraction and not point.cancel_after_s:
        raise HarnessError(
            f"{where}: {key('cancel_fraction')} needs {key('cancel_after_s')}: how long after they were sent the "
            "requests are given up."
        )
    if point.cancel_after_s and not point.cancel_fraction:
        raise HarnessError(f"{where}: {key('cancel_after_s')} needs {key('cancel_fraction')}: of how many requests.")
    if point.open_loop:
        _check_open_loop(point, where, key)
    elif point.batch is not None:
        _check_batches(point, where, key)
    elif point.concurrency is not None:
        _check_closed_loop(point, where, key)
    else:
        _check_offline(point, where, key)


def _refuse(point: LoadPoint, where: str, key: Key, why: dict[str, str]) -> None:
    """Raises HarnessError for the first field of `why` that was set, with what is to be said of it."""
    unset = LoadPoint()
    for field, reason in why.items():
        value = getattr(point, field)
        if value != getattr(unset, field):
            raise HarnessError(f"{where}: {key(field)} is {value}, but {reason}.")


def _check_open_loop(point: LoadPoint, where: str, key: Key) -> None:
    loop = "the times of a trace" if point.arrivals == "trace" else f"{key('rate')}"
    _refuse(
        point,
        where,
        key,
        {
            "batch": f"batches are sent when the one before has ended, and {loop} says when instead; give one of them",
            "ramp_s": f"it opens the slots of a closed loop one by one; beside {loop} there is none. A rising rate "
            f"is {key('ramp_to')}",
        },
    )
    if point.arrivals != "gamma":
        _refuse(point, where, key, {"burstiness": f"only gamma arrivals have one, not {point.arrivals}"})
    elif point.burstiness < LEAST_BURSTINESS:
        raise HarnessError(f"{where}: {key('burstiness')} is {point.burstiness}; the least is {LEAST_BURSTINESS}.")
    if point.arrivals == "trace":
        _refuse(point, where, key, {"ramp_to": "the trace says how its rate changes"})
    elif point.requests is None and point.duration_s is None:
        raise HarnessError(f"{where}: {key('rate')} needs an end: give {key('requests')} or {key('duration_s')}.")
    if point.mean_rate is not None and point.duration_s is not None:
        asked = point.mean_rate * point.duration_s
        if asked > MOST_REQUESTS:
            raise HarnessError(
                f"{where}: {key('rate')} {point.mean_rate:g} for {key('duration_s')} {point.duration_s:g} makes "
                f"{asked:.3g} requests; at most {MOST_REQUESTS} are prepared before the clock starts."
            )


def _check_batches(point: LoadPoint, where: str, key: Key) -> None:
    _refuse(
        point,
        where,
        key,
        {
            "concurrency": f"a batch sends its {point.batch} requests at once; give one of them",
            "ramp_s": "batches have no slots to open; leave it out",
            **_only_with_rate(key),
        },
    )
    _check_prepared(point, where, key)
    if point.requests is not None and point.batch is not None and point.requests % point.batch:
        # The latencies of a smaller last batch would go into the percentiles of this size.
        raise HarnessError(
            f"{where}: {key('requests')} is {point.requests}, which is no multiple of {key('batch')} = "
            f"{point.batch}; the last batch would be smaller."
        )


def _check_closed_loop(point: LoadPoint, where: str, key: Key) -> None:
    _refuse(point, where, key, _only_with_rate(key))
    _check_prepared(point, where, key)
    if point.duration_s is not None and point.ramp_s >= point.duration_s:
        raise HarnessError(
            f"{where}: {key('ramp_s')} is {point.ramp_s}, but sending stops after {key('duration_s')} = "
            f"{point.duration_s}; not all slots would open."
        )


def _check_offline(point: LoadPoint, where: str, key: Key) -> None:
    instead = f"give {key('concurrency')}, {key('rate')} or {key('batch')} as well, or leave it out"
    _refuse(
        point,
        where,
        key,
        {
            "duration_s": f"a load with neither slots nor times sends everything at once; {instead}",
            "ramp_s": f"it opens the slots of {key('concurrency')}, which is missing",
            **_only_with_rate(key),
        },
    )
    _check_prepared(point, where, key)


def _only_with_rate(key: Key) -> dict[str, str]:
    return {field: f"{key('rate')} is missing" for field in ("arrivals", "burstiness", "ramp_to")}


def _check_prepared(point: LoadPoint, where: str, key: Key) -> None:
    if point.requests is None:
        most = f", enough for {key('duration_s')}" if point.duration_s is not None else ""
        raise HarnessError(
            f"{where}: {key('requests')} is missing: how many prompts to prepare before the clock starts{most}."
        )


def _check_count(workload: Workload, point: LoadPoint, where: str, key: Key) -> None:
    """What only shows when requests are counted: too few for what was asked, or for the trace."""
    if point.arrivals == "trace":
        held = len(workload.traced)
        if not held:
            raise HarnessError(f"{where}: {key('arrivals')} is trace, but no trace is named (workload.trace).")
        if point.requests is not None and point.requests > held:
            raise HarnessError(
                f"{where}: {key('requests')} is {point.requests}, but the trace {workload.trace} has times for {held}."
            )
        if point.cancel_fraction and any(request.cancel_after_s for request in workload.traced):
            raise HarnessError(
                f"{where}: {key('cancel_fraction')} is {point.cancel_fraction}, but the trace {workload.trace} says "
                "itself which requests are given up."
            )
    count = workload.count(point)
    if not count:
        raise HarnessError(
            f"{where}: {key('rate')} {point.mean_rate:g} for {key('duration_s')} {point.duration_s:g} makes no request."
        )
    if point.arrivals == "trace" and point.rate is not None and not workload.traced[count - 1].at_s:
        raise HarnessError(
            f"{where}: {key('rate')} is {point.rate}, but the requests used of the trace {workload.trace} all came "
            "at one moment, which no factor draws out."
        )
    if point.cancel_fraction and not round(point.cancel_fraction * count):
        raise HarnessError(f"{where}: {key('cancel_fraction')} is {point.cancel_fraction}; of {count} requests, none.")


def _check_share(point: LoadPoint, count: int, workers: int, where: str, key: Key, workers_key: str) -> None:
    """Whether the load can be divided among the workers."""
    if workers > 1 and point.batch is not None:
        raise HarnessError(
            f"{where}: {workers_key} is {workers}, but {key('batch')} needs 1: a worker does not see when the others' "
            "requests have ended."
        )
    if point.concurrency is not None and point.concurrency < workers:
        raise HarnessError(
            f"{where}: {workers_key} is {workers}, but {key('concurrency')} is {point.concurrency}; each needs a slot."
        )
    if count < workers:
        raise HarnessError(f"{where}: {workers_key} is {workers}, but load point {point.name} has {count} requests.")


def _check_context(workload: Workload, context_tokens: int, where: str) -> None:
    used = max(workload.count(point) for point in workload.load)
    lengths = workload.lengths(used)
    inputs, outputs = max(lengths, key=sum)
    total = inputs + outputs
    if total <= context_tokens:
        return
    which = ""
    if workload.traced:
        over = sum(sum(pair) > context_tokens for pair in lengths)
        which = f" in the longest request of {workload.trace} (of the {used} used, {over} are too long)"
    raise HarnessError(
        f"{where}: {inputs} prompt + {outputs} output tokens = {total}{which} exceed "
        f"profile.context_tokens = {context_tokens}. Most engines would silently shorten the "
        "output; raise context_tokens or lower the lengths."
    )
