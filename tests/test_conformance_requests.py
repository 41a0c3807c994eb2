"""Every engine's file against its wire server: what a request asks for, and what becomes of one that goes wrong."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from harness.adapter import Dialect, Engine
from harness.campaign.probe import answer
from harness.launch.running import healthy
from harness.records.request import RequestRecord
from tests.conformance_parts import all_well, counts, each_engine, probe_of, replay, request, serving, wire_of
from tests.wire_engines.dialect import FAULT_MESSAGE
from tests.wire_engines.server import WireServer

pytestmark = pytest.mark.slow  # as in test_conformance.py


def message_in(payload: Any) -> str:
    """What an error says, in whichever place."""
    if isinstance(payload, dict):
        reason = (payload.get("meta_info") or {}).get("finish_reason") or {}
        return message_in(
            payload.get("error") or payload.get("detail") or payload.get("message") or reason.get("message")
        )
    return str(payload)


# -- requests -------------------------------------------------------------------------------------------------


@each_engine
def test_the_request_asks_for_what_is_measured(engine: Engine) -> None:
    asked = request(output_tokens=200)  # more than any engine's default of output tokens that is a number
    with serving(engine) as server:
        replay(engine, server, asked)
    understood = server.served[0].answer
    assert understood is not None, server.served[0].body
    got = understood.asked
    assert (got.prompt, got.output_tokens, got.stream) == (asked.prompt_ids, asked.output_tokens, True)
    assert got.greedy and got.runs_on


@each_engine
def test_the_server_notices_a_request_that_is_not_greedy(engine: Engine) -> None:
    assert isinstance(engine.dialect, Dialect)
    if not wire_of(engine).tells_ids:
        return
    careless = dataclasses.replace(engine, dialect=dataclasses.replace(engine.dialect, greedy={}))
    with serving(engine) as server:
        same = {answer(probe_of(engine, server), request().prompt_ids, 20).ids for _ in range(3)}
        others = {answer(probe_of(careless, server), request().prompt_ids, 20).ids for _ in range(3)}
    assert len(same) == 1
    assert len(others) == (1 if wire_of(engine).greedy_by_default else 3)


@each_engine
def test_an_output_that_is_not_forced_is_seen_to_be_short(engine: Engine) -> None:
    assert isinstance(engine.dialect, Dialect)
    asked = request(output_tokens=20)
    careless = dataclasses.replace(engine, dialect=dataclasses.replace(engine.dialect, exact_length={}))
    changes = {} if engine.dialect.exact_length else {"stops_early": True}  # not a matter of the request there
    with serving(engine, **changes) as server:
        ((record,), _) = replay(careless, server, asked)
    assert (record.status, record.output_tokens, record.reported_tokens) == ("ok", 3, 3)
    assert record.finish_reason == "stop"
    assert record.output_tokens < record.asked_tokens


@each_engine
def test_all_ids_of_an_answer_come_back(engine: Engine) -> None:
    asked = request()
    with serving(engine, hidden=frozenset({0, 3, 19})) as server:
        got = answer(probe_of(engine, server), asked.prompt_ids, asked.output_tokens).ids
    understood = server.served[0].answer
    assert understood is not None and understood.asked.greedy and understood.asked.runs_on
    assert got == (understood.ids if wire_of(engine).tells_ids else ())
    assert len(understood.ids) == asked.output_tokens


@each_engine
def test_the_running_usage_is_asked_for_only_where_no_ids_count(engine: Engine) -> None:
    """It costs an engine's front end time on every event."""
    assert isinstance(engine.dialect, Dialect)
    with serving(engine) as server:
        ((record,), _) = replay(engine, server, request())
    running = bool(engine.dialect.streaming.get("stream_options", {}).get("continuous_usage_stats"))
    assert running <= (record.count_source == "running usage")
    assert record.count_source in (("ids", "running usage") if wire_of(engine).tells_ids else ("final usage",))


# -- what goes wrong ------------------------------------------------------------------------------------------


def failed(record: RequestRecord, message: str) -> bool:
    return record.status == "failed" and message in (record.error or "")


@each_engine
def test_an_engine_that_takes_no_more_is_a_failure_with_its_words(engine: Engine) -> None:
    with serving(engine, fault="overloaded") as server:
        ((record,), _) = replay(engine, server, request())
    check_refused(record, server)


@each_engine
def test_a_prompt_that_does_not_fit_is_a_failure_with_the_engines_words(engine: Engine) -> None:
    with serving(engine, context_tokens=40) as server:
        ((record,), _) = replay(engine, server, request(prompt_tokens=41))
    check_refused(record, server)


def check_refused(record: RequestRecord, server: WireServer) -> None:
    refused = server.served[0].refused
    assert refused is not None
    assert failed(record, message_in(refused.payload)[:150]), record.error
    assert (record.http_status, record.output_tokens, record.chunks) == (refused.status, 0, ())


@each_engine
def test_a_prompt_and_output_that_do_not_fit_are_refused_or_seen_to_be_short(engine: Engine) -> None:
    asked = request(prompt_tokens=12, output_tokens=20)
    with serving(engine, context_tokens=25) as server:
        ((record,), _) = replay(engine, server, asked)
    if wire_of(engine).overlong == "refused":
        assert record.status == "failed" and record.output_tokens == 0
        assert "25" in (record.error or "")
    else:
        assert (record.status, record.output_tokens, record.reported_tokens) == ("ok", 13, 13)
        assert record.output_tokens < record.asked_tokens


@each_engine
@pytest.mark.parametrize("after", [1, 5])
def test_an_error_under_way_is_a_failure_with_the_engines_words(engine: Engine, after: int) -> None:
    with serving(engine, fault="error", fault_after=after) as server:
        ((record,), _) = replay(engine, server, request())
    assert failed(record, FAULT_MESSAGE), record.error
    assert (record.http_status, record.output_tokens) == (200, after)


@each_engine
def test_a_connection_that_is_cut_is_a_failure(engine: Engine) -> None:
    with serving(engine, fault="cut", fault_after=5) as server:
        ((record,), _) = replay(engine, server, request())
    assert failed(record, "connection closed in mid-response"), record.error
    assert record.output_tokens == 5


@each_engine
def test_after_a_failure_the_connection_or_a_new_one_serves_the_next(engine: Engine) -> None:
    with serving(engine, context_tokens=40) as server:
        asked = (request(0, 41), request(1, 12), request(2, 41), request(3, 12))
        records, _ = replay(engine, server, *asked)
    assert [r.status for r in records] == ["failed", "ok", "failed", "ok"]
    assert [counts(r) for r in records[1::2]] == [all_well(a) for a in asked[1::2]]


@each_engine
@pytest.mark.parametrize("listening", [True, False])
def test_an_engine_that_loads_is_not_ready_and_serves_nothing(engine: Engine, listening: bool) -> None:
    """Most bind their port and do not listen until they are ready; others listen and answer 503 to everything."""
    with serving(engine, loading=True, listening=listening) as server:
        address = server.endpoint
        assert not healthy(engine, address)
        ((record,), _) = replay(engine, server, request())
        assert (record.status, record.http_status) == ("failed", 503 if listening else None)
        assert "refused" in (record.error or "") or listening
        server.get_ready()
        assert healthy(engine, address)
        ((record,), _) = replay(engine, server, request())
        assert counts(record) == all_well(request())
    assert not healthy(engine, address)
