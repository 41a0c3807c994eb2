"""Measures the client's own floor: the driver's times against a server that knows when it really wrote each token."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

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

# Faster than most engines, so that the floor is that of a harder load; about half a second for each load.
TTFT_S, INTERVAL_S = 0.010, 0.005
OUTPUT_TOKENS = 32
OPEN_LOOP_S = 2.0
MOST_REQUESTS = 2048
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
    command = [sys.executable, "-m", "harness.nullengine.server", "--port", str(port), "--until-eof"]
    command += ["--ttft", str(ttft_s), "--interval", str(interval_s), "--context", str(context_tokens)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            until = time.monotonic() + _READY_S
            while socket.socket().connect_ex(("127.0.0.1", port)):
                if process.poll() is not None or time.monotonic() > until:
                    raise CannotStart("the null server did not start")
                time.sleep(0.01)
            yield local(port)
        finally:
            process.kill()


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


def shortened(workload: Workload, load: Load) -> tuple[Workload, Load]:
    """The same load, cut to about a second."""
    shape = replace(workload, output_tokens=OUTPUT_TOKENS, seed=-2 - workload.seed)
    slots = min(workload.in_flight(load), MOST_REQUESTS)
    match load:
        case OpenLoop():
            # At a rate, the requests of that time; for a trace, those that its own times put there.
            rate = load.mean_rate
            requests = min(MOST_REQUESTS, max(2, round(rate * OPEN_LOOP_S))) if rate else MOST_REQUESTS
            fixed = {"requests": requests, "duration_s": None if rate else OPEN_LOOP_S}
            by_time = dict.fromkeys(("at_least_s", "at_least_requests", "at_most_s"))
            return shape, msgspec.structs.replace(load, **fixed, **by_time)
        case ClosedLoop():
            return shape, ClosedLoop(requests=max(3, 2 * slots), concurrency=load.concurrency)
        case Batches():
            return shape, Batches(requests=max(3, 2 * slots), batch=load.batch)
        case AllAtOnce():
            return shape, AllAtOnce(requests=max(3, slots))


def floor_of(address: Address, workload: Workload, load: Load, workers: int) -> Floor:
    """Replays the load against a null server and compares with its log."""
    shape, short = shortened(workload, load)
    schedule = build_schedule(shape, short, 1, range(8000))
    job = job_of(address, by_ids(DIALECT), schedule, _DEADLINE_S)
    most = len(job.orders) if job.slots is None else min(job.slots, len(job.orders))
    drivers = Drivers(max(1, min(workers, most)))  # so short a load may have fewer slots than workers
    run = replay_job(job, schedule, DIALECT.parse, drivers)
    records = list(run.records)
    keys = {order.index: key_of(order.payload.split(b"\r\n\r\n", 1)[1]) for order in job.orders}
    found = errors(records, keys, read_truth(address))
    ok = [r for r in records if r.status == "ok"]
    tokens = sum(r.output_tokens for r in ok)
    window = max((r.done_s or 0.0 for r in ok), default=0.0) - min((r.sent_s or 0.0 for r in ok), default=0.0)
    lag = [(chunk.read_ns - chunk.arrival_ns) / 1e9 for r in ok for chunk in r.chunks]
    delay = [r.sent_s - r.scheduled_s for r in ok if r.scheduled_s is not None and r.sent_s is not None]
    each_s = TTFT_S + (OUTPUT_TOKENS - 1) * INTERVAL_S
    return Floor(
        load=load.name,
        requests=len(records),
        failed=sum(r.status == "failed" for r in records),
        tokens_per_s=tokens / window if window else 0.0,
        offered_tokens_per_s=None if load.open_loop else schedule.in_flight * OUTPUT_TOKENS / each_s,
        ttft_error_p50_s=_percentile(found.ttft_s, 50),
        ttft_error_p99_s=_percentile(found.ttft_s, 99),
        tpot_error_p50_s=_percentile(found.tpot_s, 50),
        tpot_error_p99_s=_percentile(found.tpot_s, 99),
        lag_p99_s=_percentile(lag, 99),
        dispatch_delay_p99_s=_percentile(delay, 99),
        client_cpu_s_per_token=(run.client.cpu_s or 0.0) / tokens if tokens else None,
    )


def _percentile(values: Sequence[float] | np.ndarray, q: float) -> float | None:
    return float(np.percentile(values, q)) if len(values) else None


def calibrate(workload: Workload, workers: int, measured_at: str, say: Callable[[str], None]) -> Calibration:
    """The floor at every load of a workload."""
    floors = []
    with null_server(TTFT_S, INTERVAL_S) as address:
        for load in workload.load:
            say(f"the client's own floor at {load.name}")
            floors.append(floor_of(address, workload, load, workers))
    return Calibration(
        schema=CURRENT[CALIBRATION],
        harness=__version__,
        machine=msgspec.convert(describe_machine(), MachineFacts),
        measured_at=measured_at,
        workers=workers,
        ttft_s=TTFT_S,
        interval_s=INTERVAL_S,
        floors=tuple(floors),
    )
