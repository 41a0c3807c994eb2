"""Triton over gRPC: runs against a real tritonserver and its own log.

How soon something comes is asked of the soonest of several, as in test_driver.py."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
import pytest

from engines.triton import ENGINE, LEGACY, LLM_API
from harness.adapter import Tensor, TritonDialect, TritonModel
from harness.campaign import triton
from harness.campaign.triton import replay_triton, served_model
from harness.decode.replay import InterruptedReplay, Measured
from harness.driver.address import Address, local
from harness.driver.triton.loop import said
from harness.errors import CannotStart
from harness.records.request import RequestRecord
from harness.workload.schedule import Request, Schedule
from tests import triton_server
from tests.parts import missing
from tests.triton_server import Served, Server, plan, serving

MS = 1_000_000


@pytest.mark.usefixtures("tritonclient_grpc")
def test_a_reason_is_one_line() -> None:
    from tritonclient.utils import InferenceServerException

    trace = "Traceback (most recent call last):\n  File 'model.py'\nValueError: too long\n"
    assert said(InferenceServerException(trace)) == "ValueError: too long"
    assert said(InferenceServerException("gone", status="StatusCode.UNAVAILABLE")) == "UNAVAILABLE: gone"
    assert said(InferenceServerException("")) == "no reason given"


# -- without a server ------------------------------------------------------------------------------------

assert isinstance(ENGINE.dialect, TritonDialect)
DIALECT = ENGINE.dialect
ONE = Schedule((Request(0, (0,), 4), Request(1, (0,), 4)), 1)


def test_tritonclient_is_asked_for_by_the_name_it_is_installed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(CannotStart, match=r"pip install '\.\[triton\]'"):
        served_model(local(9), DIALECT)
    with pytest.raises(CannotStart, match="tritonclient"):
        replay_triton(local(9), DIALECT, ONE, 5.0, str)


@pytest.mark.usefixtures("tritonclient_grpc")
@pytest.mark.live
def test_a_server_that_is_not_there_fails_every_request_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    began = time.monotonic()
    for endpoint, why in ((local(port), "does not answer gRPC"), (Address("x", 1, problem="x is no name"), "no name")):
        records = list(replay_triton(endpoint, DIALECT, ONE, 5.0, str).records)
        assert [r.status for r in records] == ["failed", "failed"]
        assert all(why in (r.error or "") and r.sent_s is None for r in records)
    assert time.monotonic() - began < 30
    with pytest.raises(CannotStart, match=r"does not answer gRPC at 127\.0\.0\.1"):
        served_model(local(port), DIALECT)


# -- against a real tritonserver ---------------------------------------------------------------------------


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


@pytest.fixture(scope="module")
def server(tritonclient_grpc: Any) -> Iterator[Server]:
    with real_server() as one:
        yield one


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


LEGACY_TOTAL = replace(LEGACY, counts="total")


@slow
@pytest.mark.parametrize(
    ("model", "how", "chunks", "source"),
    [
        (LLM_API, {}, [1] * 8, "events"),
        (replace(LLM_API, cumulative=False), {"delta": True}, [1] * 8, "events"),
        (LEGACY, {"delta": True}, [1] * 8, "running usage"),
        (LEGACY, {"delta": True, "per_response": 3}, [3, 3, 2], "running usage"),
        (LEGACY_TOTAL, {"delta": True, "per_response": 3, "counts": "running"}, [3, 3, 2], "running usage"),
        (LEGACY_TOTAL, {"delta": True, "per_response": 3, "counts": "final"}, [2, 3, 3], "final usage"),
        (LEGACY, {"mute": True}, [1] * 8, "running usage"),
    ],
    ids=["cumulative", "delta", "counted", "several", "running", "final", "mute"],
)
def test_tokens_are_counted_exactly(
    server: Server, model: TritonModel, how: dict[str, Any], chunks: list[int], source: str
) -> None:
    run = Run(server, [{"interval_s": 0.002, **how}] * 6, model, slots=3)
    legacy = model.name == LEGACY.name
    for got, name in zip(run.records, run.names, strict=True):
        assert (got.status, got.error) == ("ok", None)
        assert ([chunk.tokens for chunk in got.chunks], got.count_source) == (chunks, source)
        assert (got.output_tokens, got.asked_tokens) == (8, 8)
        assert got.reported_tokens == (8 if legacy else None)
        assert got.prompt_tokens == (len(name) if legacy else None)
        assert got.finish_reason == (None if legacy else "length")


@slow
def test_an_early_end_is_what_the_record_shows(server: Server) -> None:
    (got,) = Run(server, [{"stop_at": 3}]).records
    assert (got.status, got.output_tokens, got.asked_tokens) == ("ok", 3, 8)


@slow
@pytest.mark.parametrize("model", [LLM_API, LEGACY], ids=["llm-api", "legacy"])
def test_times_are_those_of_the_servers_log(server: Server, model: TritonModel) -> None:
    """Against the moments when the model let go of each response, which PyTriton and tritonserver then carried:
    2 to 3 ms of that, and under 1 ms of the client's own, on 2 cores at rest. Their spread is in the TPOT."""
    plans = [{"ttft_s": 0.05, "interval_s": 0.02, "delta": model is LEGACY}] * 10
    run = Run(server, plans, model, tokens=16, slots=1)
    late = [run.late_ms(got, served) for got, served in zip(run.records, run.served(), strict=True)]
    assert all(one.min() > 0 for one in late)  # nothing is read before it is sent
    assert min(np.median(one) for one in late) < 15.0
    bent, above = [], []
    for got, served in zip(run.records, run.served(), strict=True):
        assert got.first_token_s is not None and got.last_token_s is not None and got.sent_s is not None
        true_ms = (served.yielded_ns[-1] - served.yielded_ns[0]) / MS / 15
        bent.append(abs((got.last_token_s - got.first_token_s) * 1e3 / 15 - true_ms))
        in_model_ms = (served.yielded_ns[0] - served.arrived_ns) / MS
        above.append((got.first_token_s - got.sent_s) * 1e3 - in_model_ms)
    assert 0 < min(above) < 60.0
    assert np.median(bent) < 1.0


@slow
def test_closed_loop_keeps_its_slots_each_with_a_connection_of_its_own(server: Server) -> None:
    established: list[int] = []
    with later(0.6, lambda: established.append(connections_to(server))):
        run = Run(server, [{"ttft_s": 0.1, "interval_s": 0.02}] * 24, slots=4)
    assert all(got.status == "ok" for got in run.records)
    assert most_at_once([(s.arrived_ns, s.yielded_ns[-1]) for s in run.served()]) == 4
    assert len({got.connect_s for got in run.records}) == 4
    assert established == [4]
    assert connections_to(server) == 0


def connections_to(server: Server) -> int:
    mine = psutil.Process().net_connections("tcp")
    return sum(bool(c.raddr) and c.raddr.port == server.grpc_port and c.status == "ESTABLISHED" for c in mine)


def most_at_once(spans: Sequence[tuple[int, int]]) -> int:
    return max(sum(a <= at <= b for a, b in spans) for at, _ in spans)


@slow
def test_slots_open_over_the_ramp(server: Server) -> None:
    run = Run(server, [{"ttft_s": 3.0}] * 4, slots=4, ramp_s=1.2)
    late = [(got.sent_s or -1.0) - at for at, got in zip((0.0, 0.3, 0.6, 0.9), run.records, strict=True)]
    assert min(late) >= 0 and min(late[1:]) < 0.05


@slow
def test_scheduled_times_are_kept_whatever_the_server_does(server: Server) -> None:
    times = [0.0, 0.3, 0.6, 0.9, 1.2]
    run = Run(server, [{"ttft_s": 3.0}] * 5, requests=[{"scheduled_s": at} for at in times])
    late = [(got.sent_s or -1.0) - at for at, got in zip(times, run.records, strict=True)]
    assert min(late) >= 0 and min(late[1:]) < 0.03
    assert max(got.sent_s or 9.0 for got in run.records) < min(got.first_token_s or 0 for got in run.records)


@slow
def test_static_batches_wait_for_the_slowest_of_the_batch_before(server: Server) -> None:
    batches: list[dict[str, Any]] = [{}, {}, {"after": (0, 1)}, {"after": (0, 1)}]
    run = Run(server, [{"ttft_s": 0.3}, {}, {}, {}], requests=batches)
    first = run.served()[0].yielded_ns[-1] - run.measured.start_ns
    assert all((got.sent_s or 0) * 1e9 > first for got in run.records[2:])


@slow
def test_the_next_turn_leaves_its_think_time_after_the_one_before(server: Server) -> None:
    turns: list[dict[str, Any]] = [{}, {"after": (0,), "think_s": 0.5}, {"after": (1,)}]
    run = Run(server, [{"ttft_s": 0.05}] * 3, requests=turns)
    first, second, third = run.records
    assert first.due_s is None and [got.status for got in run.records] == ["ok"] * 3
    assert (second.sent_s or 0) >= (second.due_s or 9) > (first.done_s or 9) + 0.5 - 1e-8
    assert (third.sent_s or 0) >= (third.due_s or 9) > (second.done_s or 9) - 1e-8
    assert (second.sent_s or 9) - (second.due_s or 0) < 0.2


@slow
def test_sending_stops_after_the_duration_and_what_was_sent_is_answered(server: Server) -> None:
    run = Run(server, [{"ttft_s": 0.2}] * 40, slots=2, duration_s=0.7)
    assert len(run.records) <= 8
    assert all(got.status == "ok" and (got.sent_s or 9) < 0.7 for got in run.records)
    slots = {got.connect_s for got in run.records}  # by the connection, which is a slot's own
    assert len(slots) == 2
    assert all(max(got.done_s or 0 for got in run.records if got.connect_s == slot) >= 0.7 for slot in slots)
    assert 0.7 < run.measured.duration_s < 3


@slow
def test_offline_everything_is_sent_at_once_and_the_client_leaves_nothing_behind(server: Server) -> None:
    before = set(threading.enumerate())
    run = Run(server, [{"ttft_s": 2.0}] * 40, tokens=2)
    assert all(got.status == "ok" for got in run.records)
    # All within 0.02 s on a machine that is idle.
    assert max(got.sent_s or 9.0 for got in run.records) < min(got.first_token_s or 0 for got in run.records)
    assert not started_and_left(before)
    client = run.measured.client
    assert client.cpu_s is not None and 0 < client.cpu_s < 10
    assert (client.workers, client.clock_steps) == (1, 0)


@slow
def test_a_deadline_ends_only_the_request_that_missed_it(server: Server) -> None:
    plans = [{"ttft_s": 0.05}, {"ttft_s": 30.0}, {"ttft_s": 0.05, "interval_s": 1.0}, {"ttft_s": 0.1}]
    run = Run(server, plans, slots=4, deadline_s=1.5)
    assert [got.status for got in run.records] == ["ok", "failed", "failed", "ok"]
    assert [got.error for got in run.records[1:3]] == ["no end after 1.5 s"] * 2
    assert [got.output_tokens for got in run.records] in ([8, 0, 2, 8], [8, 0, 1, 8])
    assert run.took_s < 20


@slow
def test_a_model_that_breaks_down_fails_its_request_and_no_other(server: Server) -> None:
    plans = [{"interval_s": 0.01, "fail_at": 3} if i % 2 else {"interval_s": 0.01} for i in range(8)]
    run = Run(server, plans, slots=2)
    for i, got in enumerate(run.records):
        assert (got.status, got.output_tokens) == (("failed", 3) if i % 2 else ("ok", 8))
        assert got.error == ("ValueError: the model broke down" if i % 2 else None)


@slow
@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (Tensor("streaming", "INT32", 1), "data-type is 'INT32'"),
        (Tensor("beam_width", "INT32", 1), "unexpected inference input 'beam_width'"),
    ],
    ids=["wrong type", "unknown"],
)
def test_a_refused_tensor_is_a_failed_record_with_the_servers_reason(server: Server, tensor: Tensor, why: str) -> None:
    run = Run(server, [{}] * 3, replace(LLM_API, constants=(tensor,)), slots=1)
    assert [got.status for got in run.records] == ["failed"] * 3
    assert all(why in (got.error or "") and got.sent_s is not None for got in run.records)


@slow
def test_the_first_model_that_is_ready_and_streams_is_taken(server: Server) -> None:
    endpoint = local(server.grpc_port)
    whole, missing = TritonModel(triton_server.WHOLE), TritonModel("not_there")
    assert served_model(endpoint, DIALECT).model is LLM_API
    assert served_model(endpoint, TritonDialect((missing, whole, LEGACY, LLM_API))).model is LEGACY
    with pytest.raises(CannotStart, match=r"model whole is not decoupled.*set `decoupled: True`"):
        served_model(endpoint, TritonDialect((missing, whole)))
    with pytest.raises(CannotStart, match="has none of these models ready: not_there"):
        served_model(endpoint, TritonDialect((missing,)))
    (got,) = Run(server, [{}], whole).records
    assert got.status == "failed" and "not decoupled" in (got.error or "")


@slow
def test_ctrl_c_keeps_what_came_back(server: Server) -> None:
    with later(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)), pytest.raises(InterruptedReplay) as stop:
        Run(server, [{}, {"ttft_s": 30.0}, {"ttft_s": 30.0}], slots=2)
    by_index = {got.index: got for got in stop.value.measured.records}
    assert (by_index[0].status, by_index[0].output_tokens) == ("ok", 8)
    assert [by_index[i].error for i in (1, 2)] == ["interrupted"] * 2
    assert connections_to(server) == 0


@slow
def test_what_its_user_gives_up_ends_then_and_keeps_what_came(server: Server) -> None:
    plans = [{"interval_s": 0.1}, {"ttft_s": 0.05, "interval_s": 0.2}, {"interval_s": 0.05}, {"ttft_s": 1.0}]
    given_up = [{}, {"cancel_after_s": 0.5}, {}, {"cancel_after_s": 0.3}]
    run = Run(server, plans, slots=2, requests=given_up)
    assert [got.status for got in run.records] == ["ok", "cancelled", "ok", "cancelled"]
    for got, after_s, tokens in zip(run.records[1::2], (0.5, 0.3), ({1, 2, 3}, {0}), strict=True):
        assert got.error == "cancelled by its user" and got.output_tokens in tokens
        assert got.sent_s is not None and got.done_s is not None
        assert after_s <= got.done_s - got.sent_s < after_s + 0.6  # they would end 1 s later
    assert run.records[2].connect_s not in {got.connect_s for got in run.records[:2]}  # its slot has a new connection


@slow
def test_what_its_user_gives_up_ends_at_the_server_too(tritonclient_grpc: Any) -> None:
    """By its own word, as it goes on to get tokens from the model; having it say that costs it much time."""
    dropped = "skipping response generation as grpc transaction was cancelled"
    with real_server(verbose=True) as server:
        Run(server, [{}] * 3, slots=2)
        assert dropped not in server.output()
        run = Run(server, [{"ttft_s": 1.0, "interval_s": 0.1}], requests=[{"cancel_after_s": 0.5}])
        until = time.monotonic() + 60.0  # what it says comes through a pipe that is far behind
        while dropped not in server.output() and time.monotonic() < until:
            time.sleep(0.1)
        assert dropped in server.output()
    assert [got.status for got in run.records] == ["cancelled"]


@slow
def test_a_server_that_hangs_or_dies_ends_the_run_in_time(
    tritonclient_grpc: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with real_server() as server:
        tree = psutil.Process(server.pid).children(recursive=True)
        (process,) = [one for one in tree if one.name() == "tritonserver"]
        before = set(threading.enumerate())
        with later(1.0, process.suspend):
            hung = Run(server, [{"interval_s": 0.1}] * 4, tokens=50, slots=2, deadline_s=2.0)
        monkeypatch.setattr(triton, "ASK_S", 1.0)
        (deaf,) = Run(server, [{}]).records  # as it is asked for its models
        monkeypatch.undo()
        process.resume()
        with later(1.0, process.kill):
            # Two die under way, one has ended and leaves its connection, which the next would be sent on.
            plans: list[dict[str, Any]] = [{"interval_s": 0.1}, {"interval_s": 0.1}, {"stop_at": 1}, {}, {}]
            dead = Run(server, plans, tokens=50, requests=[{}, {}, {}, {"scheduled_s": 2.5}, {"scheduled_s": 2.6}])
    assert [got.error for got in hung.records[:2]] == ["no end after 2 s"] * 2
    assert all(0 < got.output_tokens < 50 for got in hung.records[:2])
    assert all(got.status == "failed" for got in hung.records) and hung.took_s < 30
    assert deaf.status == "failed" and "DEADLINE_EXCEEDED" in (deaf.error or "")
    assert [got.status for got in dead.records] == ["failed", "failed", "ok", "failed", "failed"]
    assert all(0 < got.output_tokens < 50 and "UNAVAILABLE" in (got.error or "") for got in dead.records[:2])
    assert all("connection failed: UNAVAILABLE" in (got.error or "") for got in dead.records[3:])
    assert dead.took_s < 20
    assert not started_and_left(before)


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
