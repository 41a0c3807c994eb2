"""What the tests of engine files against wire servers need: the engines, their servers, requests and records."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import engines
from harness.adapter import Dialect, Engine, Profile
from harness.campaign.contender import Contender
from harness.campaign.probe import Probe
from harness.campaign.target import Prompts, Target, target_of
from harness.launch.endpoint import Endpoint
from harness.records.manifest import ModelFacts
from harness.records.request import RequestRecord
from harness.workload.candidate import Candidate
from harness.workload.schedule import Request, Schedule
from tests import wire_engines
from tests.wire_engines.dialect import Plan, WireDialect
from tests.wire_engines.onwire import tiny_texts
from tests.wire_engines.server import WireServer, wire_engine

# Those that are spoken to over HTTP and have a dialect of their own. The null server and the engines that are only
# attached to have none; one that is spoken to otherwise has tests of its own.
SPOKEN = [e for e in engines.load().values() if isinstance(e.dialect, Dialect) and not e.null and not e.attach_only]
WIRES = wire_engines.load()
each_engine = pytest.mark.parametrize("engine", SPOKEN, ids=lambda e: e.name)
DEADLINE_S = 20.0
WORDS = tiny_texts().vocabulary


def wire_of(engine: Engine) -> WireDialect:
    if engine.name not in WIRES:
        pytest.fail(f"{engine.name} has no dialect: add tests/wire_engines/{engine.name}.py")
    return WIRES[engine.name]


def plan_of(engine: Engine, **changes: Any) -> Plan:
    return Plan(version=engine.version, **changes)


def request(index: int = 0, prompt_tokens: int = 12, output_tokens: int = 20) -> Request:
    """Prompts of words that stay themselves as text; no two alike."""
    return Request(index, tuple(random.Random(index).choices(WORDS, k=prompt_tokens)), output_tokens)


def endpoint_of(server: WireServer, log: Path | None = None) -> Endpoint:
    """As if the server had been started here."""
    address = server.endpoint
    return Endpoint(
        requests=address, pages=address, launch="process", device="cpu", gpus=(), log=log, stopped=lambda: None
    )


def prompts() -> Prompts:
    return Prompts(WORDS, tiny_texts().lead, tiny_texts().text)


def target_to(engine: Engine, server: WireServer) -> Target:
    return target_of(endpoint_of(server), engine, prompts(), DEADLINE_S)


@contextlib.contextmanager
def serving(engine: Engine, **changes: Any) -> Iterator[WireServer]:
    with wire_engine(wire_of(engine), plan_of(engine), tiny_texts(), **changes) as server:
        yield server


def replay(engine: Engine, server: WireServer, *requests: Request, slots: int = 1) -> tuple[list[RequestRecord], int]:
    """The records in the order of the requests, and the monotonic time (ns) that they count from."""
    run = target_to(engine, server).replay(Schedule(requests, slots))
    return sorted(run.records, key=lambda r: r.index), run.start_ns


def counts(record: RequestRecord) -> tuple[Any, ...]:
    return (
        *(record.status, record.error, record.output_tokens, record.reported_tokens, record.prompt_tokens),
        *(record.finish_reason, record.sent_tokens, record.asked_tokens),
    )


def all_well(asked: Request) -> tuple[Any, ...]:
    n, p = asked.output_tokens, len(asked.prompt_ids)
    return ("ok", None, n, n, p, "length", p, n)


def probe_of(engine: Engine, server: WireServer, log: Path | None = None) -> Probe:
    asked = dataclasses.asdict(Profile())
    contender = Contender(Candidate(engine=engine.name, name=engine.name), engine, asked, ModelFacts())
    return Probe(contender, endpoint_of(server, log), target_to(engine, server), longest=512)


def shape(value: Any, prefix: str = "") -> set[str]:
    """The names in a JSON value, with the kinds of what they hold."""
    if isinstance(value, dict):
        return {path for key, inner in value.items() for path in shape(inner, f"{prefix}.{key}")}
    if isinstance(value, list):
        return {path for inner in value for path in shape(inner, f"{prefix}[]")} or {f"{prefix}[]"}
    kind = {int: "number", float: "number"}.get(type(value), type(value).__name__)
    return {f"{prefix}: {kind}"}


def shapes(body: bytes) -> list[set[str]]:
    """The different shapes of a stream's events, in the order in which they first came."""
    found: list[set[str]] = []
    for event in body.split(b"\n\n"):
        payload = event.removeprefix(b"data:").strip()
        if payload in (b"", b":", b"[DONE]"):
            continue
        names = shape(msgspec.json.decode(payload))
        if names not in found:
            found.append(names)
    return found
