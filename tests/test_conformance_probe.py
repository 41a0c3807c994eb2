"""Every engine's file against its wire server: what the probe finds out before a run, and the engine's counters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from harness.adapter import Dialect, Engine
from harness.campaign.counters import increase, read_counters
from harness.campaign.facts import Known, endpoint_facts
from harness.campaign.probe import LIKELY_STEPS, Loaded, Probe, verify
from harness.errors import CannotStart
from harness.records.manifest import EndpointFacts, ProbeFacts
from harness.workload.schedule import Request, draw
from tests.conformance_parts import each_engine, endpoint_of, probe_of, replay, request, serving, wire_of
from tests.wire_engines.onwire import tiny_texts
from tests.wire_engines.server import WireServer

pytestmark = pytest.mark.slow  # as in test_conformance.py


@contextlib.contextmanager
def probed(engine: Engine, folder: Path, **changes: Any) -> Iterator[tuple[WireServer, Probe]]:
    with serving(engine, **changes) as server:
        log = folder / "engine.log"
        log.write_text("\n".join(["starting", *wire_of(engine).log(server.plan), "ready"]) + "\n")
        yield server, probe_of(engine, server, log)


@each_engine
def test_an_engine_as_asked_is_verified(engine: Engine, tmp_path: Path) -> None:
    with probed(engine, tmp_path) as (server, probe):
        seen = verify(probe)
    plan = server.plan
    assert seen.settings == {name: getattr(plan, name) for name in engine.facts}
    assert engine.version_reading is None or plan.version in (seen.version or "")
    assert (seen.prompt_tokens, seen.prompt_offset, seen.output_tokens) == (32, 0, 16)
    last = server.served[-1].answer
    assert last is not None and len(last.ids) == 256
    assert seen.answer_ids == (last.ids if wire_of(engine).tells_ids else ())
    assert isinstance(engine.dialect, Dialect)
    steps = [max(step, key=lambda pair: pair[1])[0] for step in seen.answer_likely]
    assert steps == list(last.ids[:LIKELY_STEPS] if engine.dialect.likely else ())
    assert {len(step) for step in seen.answer_likely} <= {5}
    assert seen.alone is None


@each_engine
def test_a_request_of_a_load_is_answered_alone_unless_a_cache_may_keep_its_prompt(
    engine: Engine, tmp_path: Path
) -> None:
    if not wire_of(engine).tells_ids:
        return
    loaded = Loaded("c4", Request(3, tuple(draw(Random(1), tiny_texts().vocabulary, 20)), 48))
    with probed(engine, tmp_path) as (server, probe):
        off = replace(probe.contender, settings={**probe.contender.settings, "prefix_cache": False})
        alone = verify(replace(probe, contender=off, loaded=loaded)).alone
        last = server.served[-1].answer
        on = replace(probe.contender, settings={**probe.contender.settings, "prefix_cache": True})
        assert verify(replace(probe, contender=on, loaded=loaded)).alone is None
    assert alone is not None and last is not None and (alone.load, alone.index) == ("c4", 3)
    assert (len(alone.ids), alone.ids, last.asked.prompt) == (48, last.ids, loaded.request.prompt_ids)


def refusal(engine: Engine, folder: Path, **changes: Any) -> str:
    with probed(engine, folder, **changes) as (_, probe), pytest.raises(CannotStart) as refused:
        verify(probe)
    return str(refused.value)


def facts_of(probe: Probe, seen: ProbeFacts) -> EndpointFacts:
    return endpoint_facts(Known(probe.contender, probe.endpoint, seen))


@each_engine
def test_another_version_is_measured_and_said(engine: Engine, tmp_path: Path) -> None:
    with probed(engine, tmp_path, version="0.0.7") as (_, probe):
        facts = facts_of(probe, verify(probe))
    assert facts.tested_version == engine.version
    if engine.version_reading is None:
        assert "version" in engine.declared  # it does not tell: then the reader is told so
        assert (facts.version, facts.version_from) == (None, "")
        return
    assert facts.version is not None and "0.0.7" in facts.version and facts.version_from == "the engine"


@each_engine
def test_the_tested_version_is_called_by_its_number(engine: Engine, tmp_path: Path) -> None:
    if engine.version_reading is None:
        return
    shown = engine.shows_version.replace("\\", "") or f"{engine.version}+cpu"
    with probed(engine, tmp_path, version=shown) as (_, probe):
        facts = facts_of(probe, verify(probe))
    assert (facts.version, facts.version_from) == (engine.version, "the engine")


@each_engine
def test_a_smaller_context_is_refused(engine: Engine, tmp_path: Path) -> None:
    if "context_tokens" in engine.facts:
        assert "context of 256 tokens" in refusal(engine, tmp_path, context_tokens=256)
        return
    if not wire_of(engine).tells_ids:  # nor how long its answer was
        assert "context tokens" in engine.declared
        return
    # It does not tell, and cuts what does not fit.
    found = refusal(engine, tmp_path, context_tokens=256)
    assert "answered a prompt of 32 tokens with 224 tokens instead of 256" in found


@each_engine
def test_a_cache_that_is_declared_off_and_is_not_is_refused(engine: Engine, tmp_path: Path) -> None:
    if wire_of(engine).tells_cached:
        assert "16 prompt tokens from its prefix cache" in refusal(engine, tmp_path, prefix_cache=True)
        return
    if "cached_tokens" in engine.series:  # its counter tells
        assert "16 prompt tokens from its prefix cache" in refusal(engine, tmp_path, prefix_cache=True)
        return
    with probed(engine, tmp_path, prefix_cache=True) as (server, probe):  # nothing of it can be seen, which is said
        assert "prefix_cache" in facts_of(probe, verify(probe)).unverified
    assert server.totals.cached_tokens == 16


@each_engine
def test_a_prompt_that_grew_is_refused(engine: Engine, tmp_path: Path) -> None:
    assert "counts 33 prompt tokens, but 32 were sent" in refusal(engine, tmp_path, added_prompt_tokens=1)


@each_engine
def test_an_output_that_is_short_is_refused(engine: Engine, tmp_path: Path) -> None:
    assert "returned 3 tokens to a request for 16" in refusal(engine, tmp_path, stops_early=True)


@each_engine
def test_an_engine_that_counts_other_tokens_than_it_sent_is_refused(engine: Engine, tmp_path: Path) -> None:
    with serving(engine, miscounted=1) as server:
        ((record,), _) = replay(engine, server, request())
    assert record.reported_tokens == 21  # beside what was seen, or as the only count there is
    assert record.output_tokens == (20 if record.count_source == "ids" else 21)
    seen = {"reports 17 output tokens but sent 16", "returned 17 tokens to a request for 16"}
    assert refusal(engine, tmp_path, miscounted=1) in seen


@each_engine
def test_an_engine_that_was_started_so_that_it_cannot_be_read_is_refused(engine: Engine, tmp_path: Path) -> None:
    for misstart in wire_of(engine).misstarts:
        assert "tokens to a request for 16" in refusal(engine, tmp_path, quirks=frozenset({misstart}))


@each_engine
def test_its_counters_are_found_and_count(engine: Engine) -> None:
    asked = [request(i, prompt_tokens=20, output_tokens=9 + i) for i in range(3)]
    with serving(engine, prefix_cache=True) as server:
        replay(engine, server, *asked)
        before = read_counters(endpoint_of(server), engine)
        replay(engine, server, *asked)  # all but the last block of 4 from the cache
        grown = increase(before, read_counters(endpoint_of(server), engine))
    assert None not in grown.values(), grown
    truth = {"prompt_tokens": 60, "cached_tokens": 48, "output_tokens": 30, "preemptions": 0, "requests": 3}
    assert {name: grown[name] for name in truth if name in grown} in (
        {name: truth[name] for name in truth if name in grown},
        # Where the counter of prompt tokens leaves out those from the cache.
        {name: truth[name] for name in truth if name in grown} | {"prompt_tokens": 12},
    )
