"""Measures the client's own floor: the driver's times against a server that knows when it really wrote each token."""

from __future__ import annotations

import contextlib
import hashlib
import math
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx
import msgspec
import numpy as np

from harness import __version__
from harness.adapter import Dialect
from harness.decode.replay import Drivers, replay_job
from harness.driver.address import Address, local
from harness.driver.http import by_ids, job_of
from harness.errors import CannotStart
from harness.machine import describe_machine
from harness.records.calibration import CALIBRATION, Calibration, Floor
from harness.records.latencies import Floats, tpot_s
from harness.records.manifest import MachineFacts
from harness.records.request import RequestRecord
from harness.records.upgrade import CURRENT
from harness.workload.loads import AllAtOnce, Batches, ClosedLoop, Load, OpenLoop
from harness.workload.schedule import build_schedule
from harness.workload.spec import Workload

TTFT_S, INTERVAL_S = 0.010, 0.005  # the slowest pace
OUTPUT_TOKENS = 32
MOST_TOKENS = 256  # of an answer in an open loop
REPEATS, REPEAT_S = 3, 0.4  # of each load and pace; seconds of one in a closed loop
OPEN_LOOP_S, OPEN_LOOP_MORE = 1.0, 1.25  # seconds of one in an open loop; times the rate that is asked for
MOST_REQUESTS = 2048
DISTURBED, DISTURBED_S = 5.0, 0.0002  # a disturbed repeat's error over the median one: times, and seconds more
_ERRORS = {  # of a floor
    "ttft_error_p50_s": "TTFT error p50",
    "ttft_error_p99_s": "TTFT error p99",
    "tpot_error_p50_s": "TPOT error p50",
    "tpot_error_p99_s": "TPOT error p99",
    "lag_p99_s": "lag p99",
    "dispatch_delay_p99_s": "dispatch delay p99",
}
_OTHERS = ("client_cpu_s_per_token",)
_DEADLINE_S = 30.0
_READY_S = 10.0

DIALECT = Dialect(
    route="/v1/completions",
    length_field="max_tokens",
    exact_length={"ignore_eos": True},
    greedy={"temperature": 0},
    counting={"return_token_ids": True},
    streaming={"stream": True},
)


class Truth(msgspec.Struct):
    """What the null server did for one request: when it had received all of it, and when it wrote each token."""

    key: str
    arrived_ns: int
    write_ns: list[int]
    cut: bool = False


@contextlib.contextmanager
def null_server(ttft_s: float, interval_s: float, context_tokens: int = 1 << 20) -> Iterator[Address]:
    """A null server on a free port, until the block or this process ends. Raises CannotStart."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-P", "-m", "harness.nullengine.server", "--port", str(port), "--until-eof"]
    command += ["--ttft", str(ttft_s), "--interval", str(interval_s), "--context", str(context_tokens)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            until = time.monotonic() + _READY_S
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > until:
                    raise CannotStart("the null server did not start")
                time.sleep(0.01)
            yield local(port)
        finally:
            process.kill()


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def key_of(body: bytes) -> str:
    """The key of a request in the null server's log."""
    return hashlib.blake2b(body, digest_size=8).hexdigest()


def read_truth(address: Address) -> dict[str, Truth]:
    """What the null server did since the last call, by request."""
    text = httpx.get(address.url + "/truth", timeout=60.0, trust_env=False, verify=False).content
    decode_line = msgspec.json.Decoder(Truth).decode
    return {truth.key: truth for truth in map(decode_line, text.splitlines())}


@dataclass(frozen=True, slots=True)
class Errors:
    """Measured minus true times, in seconds, one of each request that succeeded."""

    ttft_s: np.ndarray
    ttft_true_s: np.ndarray
    tpot_s: np.ndarray
    lateness_s: np.ndarray  # of the server's first token, behind its plan


def errors(
    records: Sequence[RequestRecord],
    keys: Mapping[int, str],
    truths: Mapping[str, Truth],
    plan: tuple[float, float] = (TTFT_S, INTERVAL_S),
) -> Errors:
    """Compares each record with the null server's log; `keys`: index of the request -> its key."""
    whole = [
        (record, truth)
        for record in records
        if record.status == "ok" and record.sent_s is not None and record.first_token_s is not None
        if (truth := truths.get(keys[record.index])) is not None
    ]

    def column(name: str) -> Floats:
        return np.array([getattr(record, name) for record, _ in whole], dtype=np.float64)

    first = np.array([truth.write_ns[0] for _, truth in whole], dtype=np.int64)
    true = (first - np.array([truth.arrived_ns for _, truth in whole], dtype=np.int64)) / 1e9
    span = (np.array([truth.write_ns[-1] for _, truth in whole], dtype=np.int64) - first) / 1e9
    written = [len(truth.write_ns) for _, truth in whole]
    ones, start = np.ones(len(whole)), np.zeros(len(whole))  # the null server writes its first token alone
    reported = tpot_s(*(column(n) for n in ("first_token_s", "last_token_s", "output_tokens", "first_event_tokens")))
    off = np.abs(reported - tpot_s(start, span, written, ones))
    return Errors(column("first_token_s") - column("sent_s") - true, true, off[np.isfinite(off)], true - plan[0])


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the null server writes: seconds to the first token and between tokens."""

    ttft_s: float
    interval_s: float

    @property
    def answer_s(self) -> float:
        """Seconds of one answer in a closed loop."""
        return self.ttft_s + (OUTPUT_TOKENS - 1) * self.interval_s


# A factor of 5 apart: a CPU, a GPU, and as fast as the client can take it. A cell is held against the pace that is just
# faster than itself.
PACES = (Pace(TTFT_S, INTERVAL_S), Pace(0.002, 0.001), Pace(0.0004, 0.0002))


def paces_for(load: Load) -> tuple[Pace, ...]:
    """The paces that a load is calibrated at: one where the clock sets the rate, whatever the engine does."""
    return PACES[:1] if load.open_loop else PACES


def shortened(workload: Workload, load: Load, pace: Pace = PACES[0]) -> tuple[Workload, Load]:
    """The same load, cut to about REPEAT_S. A closed loop keeps its slots and loses its time limits and its ramp: every
    slot sends short answers of one length, one after the other. An open loop keeps its rate in tokens/s, a quarter
    above the one asked for: arrivals are random, and the calibration must not be at a lower rate than the cell."""
    shape = replace(workload, output_tokens=OUTPUT_TOKENS, seed=-2 - workload.seed)
    slots = min(workload.in_flight(load), MOST_REQUESTS)
    each = max(2, math.ceil(REPEAT_S / pace.answer_s))  # answers of one slot
    enough = max(3, min(MOST_REQUESTS, each * slots))
    match load:
        case OpenLoop():
            return _shortened_open(workload, shape, load)
        case ClosedLoop():
            return shape, ClosedLoop(requests=max(enough, 2 * slots), concurrency=load.concurrency)
        case Batches():
            return shape, Batches(requests=max(enough // load.batch, 2) * load.batch, batch=load.batch)
        case AllAtOnce():
            return shape, AllAtOnce(requests=max(3, slots))


def _shortened_open(workload: Workload, shape: Workload, load: OpenLoop) -> tuple[Workload, Load]:
    tokens = [tokens for _, tokens in workload.lengths(min(workload.count(load), MOST_REQUESTS))]
    mean = sum(tokens) / len(tokens) if tokens else OUTPUT_TOKENS
    shape = replace(shape, output_tokens=min(MOST_TOKENS, max(1, round(mean))))
    by_time = dict.fromkeys(("at_least_s", "at_least_requests", "at_most_s"))
    if load.mean_rate is None:  # a trace at its own times: those that fall into that time
        return shape, msgspec.structs.replace(load, requests=MOST_REQUESTS, duration_s=OPEN_LOOP_S, **by_time)
    more = OPEN_LOOP_MORE * max(1.0, mean / MOST_TOKENS)
    rates = {name: rate * more for name in ("rate", "ramp_to") if (rate := getattr(load, name)) is not None}
    requests = min(MOST_REQUESTS, max(2, round(load.mean_rate * more * OPEN_LOOP_S)))
    return shape, msgspec.structs.replace(load, requests=requests, duration_s=None, **by_time, **rates)


def floor_of(address: Address, workload: Workload, load: Load, workers: int, pace: Pace = PACES[0]) -> Floor:
    """Replays the load once against a null server of this pace and compares with its log."""
    shape, short = shortened(workload, load, pace)
    schedule = build_schedule(shape, short, 1, range(8000))
    job = job_of(address, by_ids(DIALECT), schedule, _DEADLINE_S)
    most = len(job.orders) if job.slots is None else min(job.slots, len(job.orders))
    drivers = Drivers(max(1, min(workers, most)))  # so short a load may have fewer slots than workers
    run = replay_job(job, schedule, DIALECT.parse, drivers)
    records = list(run.records)
    keys = {order.index: key_of(order.payload.split(b"\r\n\r\n", 1)[1]) for order in job.orders}
    found = errors(records, keys, read_truth(address), (pace.ttft_s, pace.interval_s))
    ok = [r for r in records if r.status == "ok"]
    tokens = sum(r.output_tokens for r in ok)
    window = _window_s(ok, load.open_loop)
    lag = [(chunk.read_ns - chunk.arrival_ns) / 1e9 for r in ok for chunk in r.chunks]
    delay = [r.sent_s - r.scheduled_s for r in ok if r.scheduled_s is not None and r.sent_s is not None]
    return Floor(
        load=load.name,
        requests=len(records),
        failed=sum(r.status == "failed" for r in records),
        tokens_per_s=tokens / window if window else 0.0,
        offered_tokens_per_s=None if load.open_loop else schedule.in_flight * OUTPUT_TOKENS / pace.answer_s,
        ttft_error_p50_s=_percentile(found.ttft_s, 50),
        ttft_error_p99_s=_percentile(found.ttft_s, 99),
        tpot_error_p50_s=_percentile(found.tpot_s, 50),
        tpot_error_p99_s=_percentile(found.tpot_s, 99),
        lag_p99_s=_percentile(lag, 99),
        dispatch_delay_p99_s=_percentile(delay, 99),
        client_cpu_s_per_token=(run.client.cpu_s or 0.0) / tokens if tokens else None,
        interval_s=pace.interval_s,
    )


def _window_s(ok: Sequence[RequestRecord], open_loop: bool) -> float:
    """Seconds that the tokens of a repeat took. In an open loop the time in which requests were sent: with the wait for
    the last answers, the rate of so short a run would be far below that of the load."""
    sent = [r.sent_s for r in ok if r.sent_s is not None]
    if open_loop and len(sent) > 1:
        return (max(sent) - min(sent)) * len(sent) / (len(sent) - 1)
    return max((r.done_s or 0.0 for r in ok), default=0.0) - min(sent, default=0.0)


def _percentile(values: Sequence[float] | np.ndarray, q: float) -> float | None:
    return float(np.percentile(values, q)) if len(values) else None


def combined(repeats: Sequence[Floor]) -> Floor:
    """One floor from the repeats of one load and pace: the median of each number, without disturbed repeats. A repeat
    is disturbed if one of its errors is DISTURBED times the median of all, and DISTURBED_S more: something else ran on
    the machine, and in the cell it may not. At most half of the repeats are left out."""
    middle = {name: _median([getattr(one, name) for one in repeats]) for name in _ERRORS}
    why: dict[int, str] = {}
    for i, one in enumerate(repeats):
        for name, usual in middle.items():
            value = getattr(one, name)
            if value is None or usual is None:
                continue
            if abs(value) > DISTURBED * abs(usual) and abs(value) > abs(usual) + DISTURBED_S:
                text = f"{_ERRORS[name]} {value * 1e3:.3g} ms, {usual * 1e3:.3g} ms in the median repeat"
                why.setdefault(i, f"repeat {i + 1}: {text}")
    if len(why) > len(repeats) / 2:
        why = {}
    kept = [one for i, one in enumerate(repeats) if i not in why]
    medians: dict[str, Any] = {name: _median([getattr(one, name) for one in kept]) for name in (*_ERRORS, *_OTHERS)}
    return replace(
        repeats[0],
        **medians,
        requests=sum(one.requests for one in repeats),
        failed=sum(one.failed for one in repeats),
        tokens_per_s=_median([one.tokens_per_s for one in kept]) or 0.0,
        repeats=len(kept),
        disturbed=tuple(why.values()),
    )


def _median(values: Sequence[float | None]) -> float | None:
    return _percentile([value for value in values if value is not None], 50)


def calibrate(workload: Workload, workers: int, measured_at: str, say: Callable[[str], None]) -> Calibration:
    """The floor at every load of a workload and every pace. The repeats of one load are spread over the whole time, so
    that a disturbance of a few seconds hits one of them."""
    workload = workload.by_lengths  # the null server reads no text
    found: dict[tuple[str, Pace], list[Floor]] = {(load.name, p): [] for load in workload.load for p in paces_for(load)}
    with contextlib.ExitStack() as servers:
        wanted = dict.fromkeys(pace for _, pace in found)
        at = {pace: servers.enter_context(null_server(pace.ttft_s, pace.interval_s)) for pace in wanted}
        for repeat in range(1, REPEATS + 1):
            for load in workload.load:
                say(f"the client's own floor at {load.name}, {repeat} of {REPEATS}")
                for pace in paces_for(load):
                    found[load.name, pace].append(floor_of(at[pace], workload, load, workers, pace))
    return Calibration(
        schema=CURRENT[CALIBRATION],
        harness=__version__,
        machine=msgspec.convert(describe_machine(), MachineFacts),
        measured_at=measured_at,
        workers=workers,
        ttft_s=TTFT_S,
        interval_s=INTERVAL_S,
        floors=tuple(map(combined, found.values())),
    )
