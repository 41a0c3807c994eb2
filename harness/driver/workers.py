"""Splits a job over driver processes on this machine, starts them together, and merges the results."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from harness.driver.job import Interrupted, Job, Replayed
from harness.driver.loop import driver, replay
from harness.driver.spool import Spool
from harness.errors import HarnessError
from harness.workload.chains import chains_of
from harness.workload.enough import Enough

_LEAD_NS = 50_000_000  # from the moment the last worker is ready to the common zero
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def split(job: Job, workers: int) -> list[Job]:
    """One job for each worker: every n-th order, and an equal share of slots and connections. Orders that wait for
    each other stay together: no worker sees when a request of another has ended.

    Raises HarnessError if a share would be empty."""
    most = len(job.orders) if job.slots is None else min(job.slots, len(job.orders))
    if workers > most:
        raise HarnessError(f"{workers} workers for {most} requests in flight; use at most {most}.")
    chains = chains_of(job.orders)
    if workers > len(chains):
        raise HarnessError(
            f"{workers} workers, but the requests wait for each other in {len(chains)} chains, as static batches do; "
            f"use at most {len(chains)}."
        )
    worker_of = {order.index: i % workers for i, chain in enumerate(chains) for order in chain}

    def share(whole: int, worker: int) -> int:
        return whole // workers + (worker < whole % workers)

    return [
        replace(
            job,
            orders=tuple(order for order in job.orders if worker_of[order.index] == worker),
            slots=None if job.slots is None else share(job.slots, worker),
            connections=share(job.connections, worker),
            drivers=workers,
            enough=None if job.enough is None else Enough(share(job.enough.requests, worker), job.enough.seconds),
        )
        for worker in range(workers)
    ]


def replay_split(job: Job, workers: int, folder: Path | None = None) -> list[Replayed]:
    """`replay` by several processes, or by this one if `workers` is 1. Raises HarnessError if one fails."""
    if workers == 1:
        return [replay(job, folder)]
    with contextlib.ExitStack() as stack:
        crew = [stack.enter_context(Worker(folder)) for _ in range(workers)]
        for worker, part in zip(crew, split(job, workers), strict=True):
            worker.prepare(part)
        for worker in crew:
            worker.wait_ready()
        start_ns = time.monotonic_ns() + _LEAD_NS
        for worker in crew:
            worker.start(start_ns)
        try:
            return [worker.result() for worker in crew]
        except KeyboardInterrupt:
            for worker in crew:
                worker.interrupt()
            raise Interrupted([worker.result() for worker in crew]) from None


class Worker:
    """A driver in a separate process. It ends when this process ends in any way."""

    def __init__(self, folder: Path | None = None) -> None:
        self.spool = Spool(folder=folder)
        self.facts: _Facts | None = None
        number = self.spool.file.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "harness.driver.workers", str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(number,),
            start_new_session=True,  # Ctrl-C is for the process that will close the connections
        )
        assert self.process.stdin and self.process.stdout
        self.asking, self.answering = self.process.stdin, self.process.stdout

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.asking.close()
        self.answering.close()

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has died: _answer raises for the missing answer
            self.asking.write(data)
            self.asking.flush()

    def _answer(self) -> dict[str, object]:
        line = self.answering.readline()
        if not line:
            raise HarnessError(f"a driver process exited unexpectedly (status {self.process.wait()}).")
        answer: dict[str, object] = json.loads(line)
        if "error" in answer:
            raise HarnessError(f"a driver process failed: {answer['error']}.")
        return answer

    def prepare(self, job: Job) -> None:
        """Sends it the job; it opens the connections."""
        data = msgspec.msgpack.encode(job)
        self._write(len(data).to_bytes(8, "little") + data)

    def wait_ready(self) -> None:
        """Waits until its connections are open."""
        self._answer()

    def start(self, start_ns: int) -> None:
        """Sends it the clock's zero, on this machine's monotonic clock."""
        self._write(start_ns.to_bytes(8, "little"))

    def result(self) -> Replayed:
        """Waits for the end; after `interrupt`, returns what was received so far."""
        if self.facts is None:
            self.facts = msgspec.convert(self._answer(), _Facts)
        facts = self.facts
        return Replayed(self.spool, facts.start_ns, facts.steps_ns, facts.cpu_s, facts.wall_s)

    def interrupt(self) -> None:
        """Aborts the requests in flight, or the whole job if it has not started."""
        if self.facts is None:
            self.process.send_signal(signal.SIGINT)


class _Facts(msgspec.Struct):
    start_ns: int
    steps_ns: tuple[int, ...]
    cpu_s: float
    wall_s: float


def _say(facts: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(facts) + b"\n")
    sys.stdout.buffer.flush()


def main(arguments: Sequence[str]) -> None:
    """The worker's side: job in, ready out, zero in, facts out; the exchanges go to the inherited file."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    reading = sys.stdin.buffer
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored if the harness was started with &
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # except while requests are in flight
    if not (head := reading.read(8)):
        return
    job = msgspec.msgpack.decode(reading.read(int.from_bytes(head, "little")), type=Job)
    with os.fdopen(int(arguments[0]), "r+b", buffering=0) as file:
        try:
            with driver(job, Spool(file)) as run:
                _say({"ready": True})
                if zero := reading.read(8):
                    try:
                        done = run(int.from_bytes(zero, "little"))
                    except Interrupted as stop:
                        (done,) = stop.replayed
                    _say(_Facts(done.start_ns, done.steps_ns, done.cpu_s, done.wall_s))
        except OSError as problem:
            _say({"error": problem.strerror or str(problem)})


if __name__ == "__main__":
    main(sys.argv[1:])
