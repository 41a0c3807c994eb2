"""Finds contradictions in a workload or a profile before anything starts."""

from __future__ import annotations

from collections import Counter

from harness.errors import HarnessError
from harness.workload.lengths import check_lengths
from harness.workload.load_base import MOST_PROMPT_TOKENS
from harness.workload.loads import Key, Load, OpenLoop, check_positive
from harness.workload.profile import Profile
from harness.workload.spec import Workload


def check_profile(profile: Profile, cores: int, where: str, key: str) -> None:
    """Raises HarnessError for the first setting that is out of range; `key` is the prefix of its name."""
    for field in ("context_tokens", "concurrent_sequences", "batched_tokens", "gpus"):
        check_positive(f"{key}{field}", getattr(profile, field), where)
    if not 0 <= profile.threads <= cores:
        raise HarnessError(f"{where}: {key}threads is {profile.threads}; it must be from 0 to {cores}.")


def check_workload(
    workload: Workload, context_tokens: int | None, where: str, workers: int, cores: int, flags: bool = False
) -> None:
    """Raises HarnessError for the first contradiction: a length, a load, two loads of one name, more tokens than
    `context_tokens` (None: not known), more `workers` than there are `cores` or than the load can be split among.

    `where` (the file or the command) starts the message. `flags`: keys are named as command line flags."""

    def key_of(place: str) -> Key:
        return lambda field: f"--{field.replace('_', '-')}" if flags else f"{place}{field}"

    _check_lengths(workload, where, key_of("workload."))
    workers_key = key_of("")("workers")
    if not 1 <= workers <= cores:
        raise HarnessError(
            f"{where}: {workers_key} is {workers}; it must be from 1 to {cores}, the number of usable cores."
        )
    if not workload.load:
        raise HarnessError(f"{where}: workload.load is empty; name at least one load.")
    for i, load in enumerate(workload.load):
        key = key_of(f"workload.load[{i}].")
        _check_count(workload, load, where, key)
        _check_share(load, workload.count(load), workers, where, key, workers_key)
    for name, times in Counter(load.name for load in workload.load).items():
        if times > 1:
            raise HarnessError(f"{where}: load {name} is there twice; remove one of them.")
    if context_tokens is not None and not (workload.texts and not workload.encoded):  # how long they are comes later
        check_context(workload, context_tokens, where)


def _check_lengths(workload: Workload, where: str, key: Key) -> None:
    check_positive(key("warmup_output_tokens"), workload.warmup_output_tokens, where)
    for field, value in (("input_tokens", workload.input_tokens), ("trace", workload.trace)):
        if workload.texts and value:
            raise HarnessError(
                f"{where}: {key(field)} and {key('texts')} exclude each other: a text has its own length."
            )
    for field in ("input_tokens", "output_tokens"):
        value = getattr(workload, field)
        if value is not None:
            check_lengths(value, where, key(field))
        elif not workload.traced and not (workload.texts and field == "input_tokens"):
            raise HarnessError(f"{where}: {key(field)} is missing; only a trace brings its own lengths.")


def _check_count(workload: Workload, load: Load, where: str, key: Key) -> None:
    """Too few requests for the load, or for the trace."""
    if isinstance(load, OpenLoop):
        _check_open_loop_count(workload, load, where, key)
    count = workload.count(load)
    if (tokens := count * workload.mean_input) > MOST_PROMPT_TOKENS:
        raise HarnessError(
            f"{where}: load {load.name} has {count:,} requests with {tokens:,.0f} prompt tokens; at most "
            f"{MOST_PROMPT_TOKENS:,} are prepared before the clock starts. Lower {key('requests')} or the lengths."
        )
    if load.cancel_fraction and not round(load.cancel_fraction * count):
        raise HarnessError(f"{where}: {key('cancel_fraction')} is {load.cancel_fraction}; of {count} requests, none.")


def _check_open_loop_count(workload: Workload, load: OpenLoop, where: str, key: Key) -> None:
    if load.arrivals == "trace":
        held = len(workload.traced)
        if not held:
            raise HarnessError(f"{where}: {key('arrivals')} is trace, but no trace is named (workload.trace).")
        if load.requests is not None and load.requests > held:
            raise HarnessError(
                f"{where}: {key('requests')} is {load.requests}, but the trace {workload.trace} has times for {held}."
            )
        if load.cancel_fraction and any(request.cancel_after_s for request in workload.traced):
            raise HarnessError(
                f"{where}: {key('cancel_fraction')} is {load.cancel_fraction}, but the trace {workload.trace} already "
                "says which requests are cancelled."
            )
    count = workload.count(load)
    if not count:
        raise HarnessError(
            f"{where}: {key('rate')} {load.mean_rate or 0:g} for {key('duration_s')} {load.duration_s or 0:g} makes no "
            "request."
        )
    if load.arrivals == "trace" and load.rate is not None and not workload.traced[count - 1].at_s:
        raise HarnessError(
            f"{where}: {key('rate')} is {load.rate}, but the requests used of the trace {workload.trace} all came "
            "at the same time, so they cannot be stretched to a rate."
        )


def _check_share(load: Load, count: int, workers: int, where: str, key: Key, workers_key: str) -> None:
    """Raises HarnessError if the load cannot be split among the workers."""
    if workers > 1 and load.alone:
        raise HarnessError(f"{where}: {workers_key} is {workers}, but {key('batch')} needs 1: {load.alone}.")
    if load.slots is not None and load.slots < workers:
        raise HarnessError(
            f"{where}: {workers_key} is {workers}, but {key('concurrency')} is {load.slots}; each needs a slot."
        )
    if count < workers:
        raise HarnessError(f"{where}: {workers_key} is {workers}, but load {load.name} has {count} requests.")


def check_context(workload: Workload, context_tokens: int, where: str) -> None:
    """Raises HarnessError if the longest request does not fit `context_tokens`."""
    used = max(workload.count(load) for load in workload.load)
    inputs, outputs = workload.longest_pair(used)
    total = inputs + outputs
    if total <= context_tokens:
        return
    which = ""
    if workload.traced:
        over = sum(sum(pair) > context_tokens for pair in workload.lengths(used))
        which = f" in the longest request of {workload.trace} (of the {used} used, {over} are too long)"
    if workload.texts:
        over = sum(tokens + outputs > context_tokens for tokens in workload.text_tokens)
        which = f" with the longest of {workload.texts}'s {len(workload.text_tokens)} texts ({over} are too long)"
    raise HarnessError(
        f"{where}: {inputs} prompt + {outputs} output tokens = {total}{which} exceed "
        f"profile.context_tokens = {context_tokens}. Most engines would silently cut the "
        "output short; raise context_tokens or lower the lengths."
    )
