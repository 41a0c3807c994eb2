"""A dialect's stream as bytes on the wire, without a socket: every split and every moment is decided."""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import msgspec

from harness.adapter import Dialect, Engine
from harness.decode.exchange import decode_exchange
from harness.driver.spool import Exchange, Read
from harness.model.tokenizer import Texts, find_tokenizer
from harness.paths import cache_folder
from harness.records.request import RequestRecord
from harness.workload.schedule import Request
from tests.wire import END
from tests.wire_engines.dialect import Answer, Plan, Sent, WireDialect, generate, with_faults

MS = 1_000_000  # ns


@functools.cache
def tiny_texts() -> Texts:
    """The tokenizer of the model `tiny`, which every server here counts with."""
    return Texts(find_tokenizer("tiny", cache_folder()))


def body_of(engine: Engine, request: Request, stream: bool = True) -> bytes:
    """The request as the harness would send it."""
    dialect = engine.dialect
    assert isinstance(dialect, Dialect)
    prompt = tiny_texts().text(request.prompt_ids) if dialect.prompt == "text" else request.prompt_ids
    return dialect.body(prompt, request.output_tokens, stream=stream)


def scripted(engine: Engine, wire: WireDialect, plan: Plan, request: Request) -> tuple[Answer, list[Sent]]:
    """What the engine would generate for this request, and the events it would say it in."""
    assert isinstance(engine.dialect, Dialect)
    body = msgspec.json.decode(body_of(engine, request))
    answer = generate(wire.read(engine.dialect.route, body, plan, tiny_texts()), plan, tiny_texts(), set())
    return answer, with_faults(wire, answer)


@dataclass(frozen=True, slots=True)
class Framed:
    """A response's bytes, and for each event that tells of tokens where its line ends in them."""

    data: bytes
    told: tuple[tuple[int, int], ...]  # (offset after the line, tokens)


def framed(wire: WireDialect, events: Sequence[Sent], cuts: Sequence[int] | None = None) -> Framed:
    """HTTP chunks of one event each, or cut at `cuts` of the body."""
    body = b"".join(e.data for e in events)
    starts = [0, *accumulate(len(e.data) for e in events)]  # and where the last one ends
    edges = starts if cuts is None else sorted({0, len(body), *(c for c in cuts if c < len(body))})
    chunks = [wire.chunk(body[a:b]) for a, b in pairwise(edges)]
    at = [len(wire.head), *accumulate((len(c) for c in chunks), initial=len(wire.head))][1:]

    def on_wire(offset: int) -> int:
        """Where the body's byte before `offset` ends."""
        k = bisect_right(edges, offset - 1) - 1
        size_line = chunks[k].index(b"\r\n") + 2
        return at[k] + size_line + offset - edges[k]

    told = [
        (on_wire(start + e.data.index(b"\n") + 1), e.tokens)
        for start, e in zip(starts, events, strict=False)
        if e.tokens
    ]
    return Framed(wire.head + b"".join(chunks) + END, tuple(told))


def read_back(engine: Engine, request: Request, pieces: Sequence[tuple[bytes, int]]) -> RequestRecord:
    """The record of a response whose pieces arrived at these times (ns); it was sent at 0."""
    assert isinstance(engine.dialect, Dialect)
    reads = [Read(0, at, 0, None, data) for data, at in pieces]
    exchange = Exchange(0, connect_ns=0, sent_ns=0, uploaded_ns=0, done_ns=pieces[-1][1], reads=reads)
    return decode_exchange(exchange, request, engine.dialect.parse, 0)


def cut(data: bytes, at: Sequence[int]) -> list[tuple[bytes, int]]:
    """Pieces of the bytes, cut at these offsets, 1 ms apart."""
    edges = sorted({0, len(data), *(c for c in at if c < len(data))})
    return [(data[a:b], (i + 1) * MS) for i, (a, b) in enumerate(pairwise(edges))]
