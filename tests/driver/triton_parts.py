"""Runs against a real tritonserver, and what its log says of them."""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import psutil
import pytest

from engines.triton import ENGINE, LLM_API
from harness.adapter import TritonDialect, TritonModel
from harness.campaign.triton import replay_triton
from harness.decode.replay import Measured
from harness.driver.address import local
from harness.errors import CannotStart
from harness.records.request import RequestRecord
from harness.workload.schedule import Request, Schedule
from tests.parts import missing
from tests.triton_server import Served, Server, plan, serving

MS = 1_000_000
assert isinstance(ENGINE.dialect, TritonDialect)
DIALECT = ENGINE.dialect


def slow(test: Any) -> Any:
    return pytest.mark.slow(pytest.mark.timeout(300)(test))


@contextlib.contextmanager
def real_server(verbose: bool = False) -> Iterator[Server]:
    """A skip where it cannot be had, and in CI a failure."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(serving(verbose))
        except CannotStart as problem:
            missing(f"no tritonserver: {problem}")
        yield server


_run = itertools.count()


class Run:
    """A replay of one request for each plan, of `tokens` tokens, and what the server's log says of each."""

    def __init__(
        self,
        server: Server,
        plans: Sequence[Mapping[str, Any]],
        model: TritonModel = LLM_API,
        tokens: int = 8,
        slots: int | None = None,
        requests: Sequence[Mapping[str, Any]] = (),
        deadline_s: float = 20.0,
        **schedule: Any,
    ) -> None:
        number = next(_run)
        self.names = [f"{number}-{i}" for i in range(len(plans))]
        self.server = server
        more = requests or [{}] * len(plans)
        orders = tuple(Request(i, (i,), tokens, **how) for i, how in enumerate(more))
        texts = [plan(name, **how) for name, how in zip(self.names, plans, strict=True)]
        began = time.monotonic()
        self.measured: Measured = replay_triton(
            local(server.grpc_port),
            TritonDialect((model,)),
            Schedule(orders, slots, **schedule),
            deadline_s,
            lambda ids: texts[ids[0]],
        )
        self.took_s = time.monotonic() - began
        self.records = sorted(self.measured.records, key=lambda r: r.index)

    def served(self) -> list[Served]:
        """Waits for the log: the server writes a line just after its last response."""
        until = time.monotonic() + 30.0
        while not set(self.names) <= self.server.log().keys() and time.monotonic() < until:
            time.sleep(0.02)
        log = self.server.log()
        return [log[name] for name in self.names]

    def late_ms(self, record: RequestRecord, served: Served) -> Any:
        """From when the model let go of each response until it was read, as an array."""
        read = np.array([chunk.arrival_ns for chunk in record.chunks]) + self.measured.start_ns
        return (read - np.array(served.yielded_ns)) / MS


def connections_to(server: Server) -> int:
    mine = psutil.Process().net_connections("tcp")
    return sum(bool(c.raddr) and c.raddr.port == server.grpc_port and c.status == "ESTABLISHED" for c in mine)


def started_and_left(before: set[threading.Thread]) -> set[threading.Thread]:
    """gRPC waits for none of its threads: they end some milliseconds after their connection was closed."""
    until = time.monotonic() + 10.0
    while (left := set(threading.enumerate()) - before) and time.monotonic() < until:
        time.sleep(0.01)
    return left


@contextlib.contextmanager
def later(seconds: float, do: Callable[[], Any]) -> Iterator[None]:
    timer = threading.Timer(seconds, do)
    # Ignored where the first of all was started with &.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer.start()
    try:
        yield
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
