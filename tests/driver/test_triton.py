"""Triton over gRPC: runs against a real tritonserver and its own log.

How soon something comes is asked of the soonest of several, as in test_loop.py."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engines.triton import LEGACY, LLM_API
from harness.adapter import TritonModel
from harness.campaign.triton import replay_triton, served_model
from harness.driver.address import Address, local
from harness.driver.triton.loop import said
from harness.errors import CannotStart
from harness.workload.schedule import Request, Schedule
from tests.driver.triton_parts import DIALECT, MS, Run, connections_to, later, slow, started_and_left
from tests.triton_server import Server


@pytest.mark.usefixtures("tritonclient_grpc")
def test_a_reason_is_one_line() -> None:
    from tritonclient.utils import InferenceServerException

    trace = "Traceback (most recent call last):\n  File 'model.py'\nValueError: too long\n"
    assert said(InferenceServerException(trace)) == "ValueError: too long"
    assert said(InferenceServerException("gone", status="StatusCode.UNAVAILABLE")) == "UNAVAILABLE: gone"
    assert said(InferenceServerException("")) == "no reason given"


# -- without a server ------------------------------------------------------------------------------------

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
