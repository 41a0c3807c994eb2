"""A job split over driver processes on several machines of a Ray cluster (extra `ray`)."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.driver.connection import allow_connections
from harness.driver.job import Interrupted, Job, Replayed
from harness.driver.spool import Spool
from harness.driver.workers import Worker, split
from harness.errors import HarnessError

PINGS = 20
_LEAD_NS = 500_000_000  # from the moment all are ready to the common zero: Ray calls take milliseconds
_BLOCK_BYTES = 32 << 20
_TOKEN = "If the cluster needs a token, set RAY_AUTH_MODE=token and put it into RAY_AUTH_TOKEN or ~/.ray/auth_token"
_READY_S, _INTERRUPT_S, _CLOSE_S = 120.0, 30.0, 5.0


class Member:
    """A driver process on the machine on which Ray put this actor.

    The driver is a separate process there as well: in the actor's process, Ray's threads would take the interpreter
    from it and add to the client's lag."""

    def __init__(self) -> None:
        allow_connections()
        self.worker = Worker()
        self.done: Replayed | None = None

    def clock(self) -> int:
        """This machine's monotonic clock, nanoseconds."""
        return time.monotonic_ns()

    def prepare(self, job: Job) -> None:
        """Opens the connections."""
        self.worker.prepare(job)
        self.worker.wait_ready()

    def run(self, start_ns: int) -> Fact:
        """The facts of Replayed, times on this machine's clock, and the size of the spool."""
        self.worker.start(start_ns)
        self.done = self.worker.result()
        size = self.done.spool.file.seek(0, 2)
        return self.done.start_ns, self.done.steps_ns, self.done.cpu_s, self.done.wall_s, size

    def interrupt(self) -> None:
        """Aborts the requests in flight, which ends `run`."""
        self.worker.interrupt()

    def read(self, at: int, size: int) -> bytes:
        """A piece of the spool."""
        assert self.done is not None
        file = self.done.spool.file
        file.seek(at)
        return file.read(size)

    def close(self) -> None:
        """Ends the driver process."""
        self.worker.__exit__()


def replay_on_ray(
    job: Job, workers: int, address: str, folder: Path | None
) -> tuple[list[Replayed], list[dict[str, Any]]]:
    """`replay` by `workers` actors spread over the cluster at `address` ("auto": the cluster of this machine). Also
    returns, for each, its node and the offset of its clock from this machine's.

    All start at the same time: each gets the start on its own clock, whose offset is measured by the fastest of 20
    calls, to within half of that call's duration. All times in the records count from that start. Raises HarnessError,
    and Interrupted with what was received so far if Ctrl-C comes after the start."""
    try:
        import ray
    except ImportError:
        raise HarnessError("--ray needs the extra: pip install 'inference-engine-comparison[ray]'.") from None
    with _connected(ray, address):
        actor: Any = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(Member)
        # Two calls at once: `interrupt` while `run` waits for the driver.
        crew: list[Any] = [actor.options(max_concurrency=2).remote() for _ in range(workers)]
        try:
            parts = split(job, workers)
            ready = [m.prepare.remote(part) for m, part in zip(crew, parts, strict=True)]
            ray.get(ready, timeout=_READY_S)  # with too few free CPUs an actor would wait forever
            before = [_offset(ray, member) for member in crew]
            start_ns = time.monotonic_ns() + _LEAD_NS
            runs = [m.run.remote(start_ns + offset) for m, (offset, _) in zip(crew, before, strict=True)]
            try:
                facts = ray.get(runs)
                after = [_offset(ray, member) for member in crew]
                replayed = [_fetch(ray, m, fact, folder) for m, fact in zip(crew, facts, strict=True)]
                nodes = [str(ray.get(m.__ray_call__.remote(_node))) for m in crew]
            except KeyboardInterrupt:
                if found := _rescued(ray, crew, runs, folder):
                    raise Interrupted(found) from None
                raise
        except ray.exceptions.RayError as problem:
            raise HarnessError(f"a driver on the Ray cluster failed: {_line(problem)}.") from None
        finally:
            ray.wait([m.close.remote() for m in crew], num_returns=len(crew), timeout=_CLOSE_S)
            for member in crew:  # if one did not close, its driver ends with it
                ray.kill(member)
    machines = [
        {
            "node": node,
            "clock_offset_ns": offset,
            "clock_uncertainty_ns": unsure,
            "clock_drift_ns": later - offset,  # over the run, its own uncertainty included
        }
        for node, (offset, unsure), (later, _) in zip(nodes, before, after, strict=True)
    ]
    return replayed, machines


def _node(_: object) -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


@contextlib.contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    host, _, port = address.rpartition(":")
    if port.isdigit():  # otherwise Ray would retry for minutes
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as problem:
            raise HarnessError(f"--ray {address}: no Ray cluster there ({problem.strerror or problem}).") from None
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except ray.exceptions.AuthenticationError:
        raise HarnessError(f"--ray {address}: no token is set. {_TOKEN}.") from None
    except (ConnectionError, ValueError, RuntimeError) as problem:
        refused = port.isdigit() and isinstance(problem, ConnectionError)  # something listens there but refuses
        hint = f" {_TOKEN}." if refused else ""
        raise HarnessError(f"--ray {address}: no connection to a Ray cluster ({_line(problem)}).{hint}") from None
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own handler would exit and lose the results so far
    try:
        yield
    finally:
        ray.shutdown()


def _offset(ray: Any, member: Any) -> tuple[int, int]:
    """(its clock - this one, half of the fastest call), nanoseconds."""
    best: tuple[int, int] | None = None
    for _ in range(PINGS):
        asked = time.monotonic_ns()
        theirs: int = ray.get(member.clock.remote())
        took = time.monotonic_ns() - asked
        if best is None or took // 2 < best[1]:
            best = theirs - (asked + took // 2), took // 2
    assert best is not None
    return best


Fact = tuple[int, tuple[int, ...], float, float, int]


def _fetch(ray: Any, member: Any, fact: Fact, folder: Path | None) -> Replayed:
    start_ns, steps_ns, cpu_s, wall_s, size = fact
    spool = Spool(folder=folder)
    for at in range(0, size, _BLOCK_BYTES):
        spool.write(ray.get(member.read.remote(at, _BLOCK_BYTES)))
    return Replayed(spool, start_ns, steps_ns, cpu_s, wall_s)


def _rescued(ray: Any, crew: list[Any], runs: list[Any], folder: Path | None) -> list[Replayed]:
    """What the drivers that still answer have received so far, after they were interrupted."""
    for member in crew:
        member.interrupt.remote()
    ended, _ = ray.wait(runs, num_returns=len(runs), timeout=_INTERRUPT_S)
    found = []
    for member, run in zip(crew, runs, strict=True):
        if run in ended:
            with contextlib.suppress(ray.exceptions.RayError):
                found.append(_fetch(ray, member, ray.get(run), folder))
    return found


def _line(problem: BaseException) -> str:
    return str(problem).strip().splitlines()[-1][:200] if str(problem).strip() else type(problem).__name__
