"""Triton over gRPC: what fails, is given up or interrupted, and a server that hangs or dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from typing import Any

import psutil
import pytest

from engines.triton import LEGACY, LLM_API
from harness.adapter import Tensor, TritonDialect, TritonModel
from harness.campaign import triton
from harness.campaign.triton import served_model
from harness.decode.replay import InterruptedReplay
from harness.driver.address import local
from harness.errors import CannotStart
from tests import triton_server
from tests.driver.triton_parts import DIALECT, Run, connections_to, later, real_server, slow, started_and_left
from tests.triton_server import Server


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
