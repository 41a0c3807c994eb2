"""The keys of a load in a comparison file and on the command line, and the load that they describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import HarnessError
from harness.workload.loads import AllAtOnce, Arrivals, Batches, ClosedLoop, Key, Load, OpenLoop

ENDS = ("duration_s", "at_least_s", "at_least_requests", "at_most_s")  # keys of loads that go on for a time


@dataclass(frozen=True, slots=True)
class LoadKeys:
    """One `[[workload.load]]` table, or the load flags of `harness replay`. The kind follows from the keys given."""

    requests: int | None = None  # at most; None: as many as `duration_s` or the trace holds
    concurrency: int | None = None  # of a closed loop; with a rate: the most in flight
    rate: float | None = None  # requests/s
    arrivals: Arrivals = "poisson"
    burstiness: float = 1.0
    ramp_to: float | None = None  # requests/s at the end
    ramp_s: float = 0.0
    batch: int | None = None
    duration_s: float | None = None
    at_least_s: float | None = None
    at_least_requests: int | None = None
    at_most_s: float | None = None
    cancel_fraction: float = 0.0
    cancel_after_s: float = 0.0


def load_of(keys: LoadKeys, where: str, key: Key) -> Load:
    """The load that these keys describe. Raises HarnessError for a key that does not belong to its kind, and for
    values that contradict each other; `where` starts the message, `key` gives a field's name as the user wrote it."""
    if keys.rate is not None or keys.arrivals == "trace":
        load = _open_loop(keys, where, key)
    elif keys.batch is not None:
        load = _batches(keys, keys.batch, where, key)
    elif keys.concurrency is not None:
        load = _closed_loop(keys, keys.concurrency, where, key)
    else:
        load = _all_at_once(keys, where, key)
    load.check(where, key)
    return load


def _open_loop(keys: LoadKeys, where: str, key: Key) -> Load:
    loop = "the times of a trace" if keys.arrivals == "trace" else f"{key('rate')}"
    why = {
        "batch": f"a batch is sent when the one before has ended, not by {loop}; give one of them",
        "ramp_s": f"it opens the slots of a closed loop one by one, and {loop} makes it an open loop. For a rising "
        f"rate use {key('ramp_to')}",
    }
    _refuse(keys, why, where, key)
    return OpenLoop(
        requests=keys.requests,
        rate=keys.rate,
        arrivals=keys.arrivals,
        burstiness=keys.burstiness,
        ramp_to=keys.ramp_to,
        cap=keys.concurrency,
        duration_s=keys.duration_s,
        at_least_s=keys.at_least_s,
        at_least_requests=keys.at_least_requests,
        at_most_s=keys.at_most_s,
        cancel_fraction=keys.cancel_fraction,
        cancel_after_s=keys.cancel_after_s,
    )


def _batches(keys: LoadKeys, batch: int, where: str, key: Key) -> Load:
    why = {
        "concurrency": f"a batch sends its {batch} requests at once; give one of them",
        "ramp_s": "batches have no slots to open; leave it out",
        **_only_with_rate(key),
    }
    _refuse(keys, why, where, key)
    return Batches(
        requests=keys.requests,
        batch=batch,
        duration_s=keys.duration_s,
        at_least_s=keys.at_least_s,
        at_least_requests=keys.at_least_requests,
        at_most_s=keys.at_most_s,
        cancel_fraction=keys.cancel_fraction,
        cancel_after_s=keys.cancel_after_s,
    )


def _closed_loop(keys: LoadKeys, concurrency: int, where: str, key: Key) -> Load:
    _refuse(keys, _only_with_rate(key), where, key)
    return ClosedLoop(
        requests=keys.requests,
        concurrency=concurrency,
        ramp_s=keys.ramp_s,
        duration_s=keys.duration_s,
        at_least_s=keys.at_least_s,
        at_least_requests=keys.at_least_requests,
        at_most_s=keys.at_most_s,
        cancel_fraction=keys.cancel_fraction,
        cancel_after_s=keys.cancel_after_s,
    )


def _all_at_once(keys: LoadKeys, where: str, key: Key) -> Load:
    instead = f"give {key('concurrency')}, {key('rate')} or {key('batch')} as well, or leave it out"
    why = {
        **dict.fromkeys(ENDS, f"a load without slots or times sends everything at once; {instead}"),
        "ramp_s": f"it opens the slots of {key('concurrency')}, which is missing",
        **_only_with_rate(key),
    }
    _refuse(keys, why, where, key)
    return AllAtOnce(requests=keys.requests, cancel_fraction=keys.cancel_fraction, cancel_after_s=keys.cancel_after_s)


def _only_with_rate(key: Key) -> dict[str, str]:
    return {field: f"{key('rate')} is missing" for field in ("arrivals", "burstiness", "ramp_to")}


def _refuse(keys: LoadKeys, why: Mapping[str, str], where: str, key: Key) -> None:
    """Raises HarnessError for the first field of `why` that was set, with the reason."""
    unset = LoadKeys()
    for field, reason in why.items():
        value = getattr(keys, field)
        if value != getattr(unset, field):
            raise HarnessError(f"{where}: {key(field)} is {value}, but {reason}.")
