"""The only way from a schedule to records over HTTP: the drivers, then the decoding of what they read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.adapter import Parse
from harness.decode.exchange import decode
from harness.driver.job import Interrupted, Job, Replayed
from harness.driver.workers import replay_split
from harness.records.manifest import ClientFacts
from harness.records.request import RequestRecord
from harness.redact import Secret
from harness.workload.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Measured:
    """`records` are decoded while they are iterated, once; `client`: what the driver itself used."""

    records: Iterable[RequestRecord]
    start_ns: int  # this machine's monotonic clock at the run's zero
    duration_s: float
    client: ClientFacts


class InterruptedReplay(KeyboardInterrupt):
    """Ctrl-C while the clock ran; `measured` is what had been measured so far."""

    def __init__(self, measured: Measured) -> None:
        super().__init__()
        self.measured = measured


def hidden(text: str, secret: str | None) -> str:
    """The text without an API key that a server may have echoed."""
    return Secret(secret).hide(text)


@dataclass(frozen=True, slots=True)
class Drivers:
    """Who sends the requests: processes on this machine, or on a Ray cluster."""

    workers: int = 1
    ray: str | None = None  # its address


ONE = Drivers()


def replay_job(
    job: Job,
    schedule: Schedule,
    parse: Parse,
    drivers: Drivers = ONE,
    folder: Path | None = None,
    key: str | None = None,
    keep_text: bool = False,
) -> Measured:
    """Sends every request of the schedule at its time, over HTTP; raw reads spill to disk in `folder`. `key`: the API
    key, which is in no text of a record; `keep_text`: of the answers that are kept, also their text. Raises OSError
    if the disk is full, HarnessError if a driver fails, InterruptedReplay at Ctrl-C with what was measured so far; a
    server's errors are failed records."""

    def measured(replayed: Sequence[Replayed], machines: Sequence[Mapping[str, Any]] = ()) -> Measured:
        return _measured(replayed, decode(replayed, schedule, parse, key, keep_text), machines)

    try:
        if drivers.ray is None:
            return measured(replay_split(job, drivers.workers, folder))
        from harness.driver.ray_workers import replay_on_ray

        replayed, machines = replay_on_ray(job, drivers.workers, drivers.ray, folder)
        return measured(replayed, machines)
    except Interrupted as stop:
        raise InterruptedReplay(measured(stop.replayed)) from None


def _measured(
    replayed: Sequence[Replayed], decoded: Iterator[RequestRecord], machines: Sequence[Mapping[str, Any]]
) -> Measured:
    """The exchanges of the HTTP driver as records; the raw bytes are dropped once they are decoded. `machines`: the
    nodes of a Ray cluster that sent them."""

    def records() -> Iterator[RequestRecord]:
        yield from decoded
        for part in replayed:
            part.spool.close()

    return Measured(
        records=records(),
        start_ns=replayed[0].start_ns,
        duration_s=max(part.wall_s for part in replayed),
        client=ClientFacts(
            cpu_s=sum(part.cpu_s for part in replayed),
            workers=len(replayed),
            clock_steps=sum(len(part.steps_ns) for part in replayed),
            machines=tuple(machines),
        ),
    )
