"""Every engine's file against a server that speaks the engine's dialect (tests/wire_engines), without the engine.

The same tokens at the same times must be the same record, whoever says them: counts to the token, times to the
nanosecond where the test decides them and to the write that brought them where sockets do."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.adapter import Engine
from harness.records import latencies
from harness.records.request import RequestRecord
from harness.records.run import RunResult, open_run, write_records
from harness.workload.schedule import Request
from tests.conformance_parts import (
    SPOKEN,
    WIRES,
    all_well,
    counts,
    each_engine,
    plan_of,
    replay,
    request,
    serving,
    shapes,
    wire_of,
)
from tests.invented import ALPHA, manifest
from tests.loads import load
from tests.record_streams import STREAMS
from tests.wire_engines.dialect import WireDialect
from tests.wire_engines.onwire import MS, cut, framed, read_back, scripted
from tests.wire_engines.server import Served, WireServer, Write

pytestmark = pytest.mark.slow  # with those of the files beside it most of a minute
# Between the write of a chunk and its arrival as reported: the kernel stamps a packet of the loopback while it is
# written (0.1 ms). It is later where a busy machine leaves that to a thread of its own, or keeps the driver from
# reading: of packets that wait together the kernel keeps the time of the last.
TOLERANCE_NS, ATTEMPTS = 3 * MS, 6


def test_every_engine_brings_its_dialect() -> None:
    assert SPOKEN
    assert [e.name for e in SPOKEN if e.name not in WIRES] == []


# -- without sockets: the same times, exactly -----------------------------------------------------------------


def run_of(records: Sequence[RequestRecord], folder: Path) -> RunResult:
    write_records(folder, records)
    return open_run(folder, manifest(ALPHA, load(len(records))))  # as one batch: every request counts


def timed_record(engine: Engine, groups: Sequence[int], at_ns: Sequence[int], asked: Request) -> RequestRecord:
    """The record of an answer whose groups of tokens arrive at these times."""
    wire = wire_of(engine)
    _, events = scripted(engine, wire, plan_of(engine, groups=tuple(groups)), asked)
    last_of = [*accumulate(groups)]
    pieces = [(wire.head, at_ns[0] // 2)]
    for k, last in enumerate(last_of):
        due = [e for e in events if e.after + 1 == last]
        data = framed(wire, due).data.removeprefix(wire.head)
        pieces.append((data if k == len(last_of) - 1 else data.removesuffix(b"0\r\n\r\n"), at_ns[k]))
    return read_back(engine, asked, pieces)


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.integers(1, 5), min_size=1, max_size=12),
    gaps_ms=st.lists(st.integers(1, 500), min_size=12, max_size=12),
)
def test_the_same_tokens_at_the_same_times_are_the_same_record(groups: list[int], gaps_ms: list[int]) -> None:
    at_ns = [ms * MS for ms in accumulate(gaps_ms)][: len(groups)]
    asked = request(output_tokens=sum(groups))
    for engine in SPOKEN:
        got = timed_record(engine, groups, at_ns, asked)
        assert counts(got) == all_well(asked), engine.name
        assert [(c.arrival_ns, c.tokens) for c in got.chunks] == list(zip(at_ns, groups, strict=True)), engine.name
        times = (got.first_token_s, got.last_token_s, got.done_s, got.first_event_tokens)
        assert times == (at_ns[0] / 1e9, at_ns[-1] / 1e9, at_ns[-1] / 1e9, groups[0]), engine.name


def test_the_same_tokens_at_the_same_times_are_the_same_metrics(tmp_path: Path) -> None:
    groups, at_ns = [2, 1, 3, 1, 1, 4], [t * MS for t in (40, 55, 61, 90, 91, 130)]
    asked = request(output_tokens=sum(groups))
    for engine in SPOKEN:
        run = run_of([timed_record(engine, groups, at_ns, asked)], tmp_path / engine.name)
        assert latencies.ttft(run) == pytest.approx([0.040], abs=1e-12), engine.name
        assert latencies.tpot(run) == pytest.approx([0.090 / 10], abs=1e-12), engine.name
        assert latencies.itl(run) == pytest.approx([0.015, 0.006, 0.029, 0.001, 0.039], abs=1e-12), engine.name


@each_engine
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_grouping_quirk_or_split_loses_or_doubles_a_token(engine: Engine, data: st.DataObject) -> None:
    wire = wire_of(engine)
    tokens = data.draw(st.integers(1, 24), "tokens")
    # Where only the last event counts, nothing tells which token came without text.
    hidden = st.frozensets(st.integers(0, tokens - 1), max_size=6 if wire.tells_ids else 0)
    plan = plan_of(
        engine,
        groups=tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=6), "groups")),
        hidden=data.draw(hidden, "tokens without a whole character"),
        pings=data.draw(st.booleans(), "pings"),
        quirks=frozenset(q for q in wire.quirks if data.draw(st.booleans(), q)),
    )
    asked = request(output_tokens=tokens)
    _, events = scripted(engine, wire, plan, asked)
    offsets = st.lists(st.integers(0, 12_000), max_size=40)
    whole = framed(wire, events, data.draw(st.none() | offsets, "HTTP chunks cut at"))
    pieces = cut(whole.data, data.draw(offsets, "reads cut at"))
    got = read_back(engine, asked, pieces)
    assert counts(got) == all_well(asked)
    # A token arrives with the read that brings the end of the line of its event.
    ends = list(accumulate(len(piece) for piece, _ in pieces))
    expected: dict[int, int] = {}
    for offset, told in whole.told:
        at = next(at for end, (_, at) in zip(ends, pieces, strict=True) if end >= offset)
        expected[at] = expected.get(at, 0) + told
    assert [(c.arrival_ns, c.tokens) for c in got.chunks] == sorted(expected.items())


@each_engine
@pytest.mark.parametrize("sizes", [(1,), (3,), (1, 4, 2)], ids=str)
def test_tokens_of_a_chunk_are_those_that_the_engine_put_into_it(engine: Engine, sizes: tuple[int, ...]) -> None:
    wire, asked = wire_of(engine), request(output_tokens=20)
    written, events = scripted(engine, wire, plan_of(engine, groups=sizes), asked)
    got = read_back(engine, asked, [(piece, i * MS) for i, piece in enumerate(one_read_each(wire, events))])
    expected = [len(group) for group in written.groups] if wire.can_group else [1] * asked.output_tokens
    assert [c.tokens for c in got.chunks] == expected


def one_read_each(wire: WireDialect, events: Sequence[Any]) -> list[bytes]:
    body = [framed(wire, [e]).data.removeprefix(wire.head).removesuffix(b"0\r\n\r\n") for e in events]
    return [wire.head, *body, b"0\r\n\r\n"]


@each_engine
def test_a_stream_that_is_cut_is_never_taken_for_whole(engine: Engine) -> None:
    wire, asked = wire_of(engine), request(output_tokens=12)
    _, events = scripted(engine, wire, plan_of(engine), asked)
    for kept in range(len(events)):
        left = [e for e in events[:kept] if e.after < asked.output_tokens - 1]  # without the last token's
        got = read_back(engine, asked, [(framed(wire, left).data, MS)])
        assert got.status == "failed", kept
        assert got.output_tokens == sum(e.tokens for e in left), kept


# -- the driver over sockets ----------------------------------------------------------------------------------


def in_small_pieces(data: bytes) -> list[bytes]:
    """Writes of up to 90 bytes: within the head, a chunk's size, a line."""
    rng = random.Random(len(data))
    cuts = sorted(rng.sample(range(1, len(data)), min(len(data) - 1, len(data) // 90 + 1)))
    return [data[a:b] for a, b in pairwise([0, *cuts, len(data)])]


def served_to(server: WireServer, asked: Request) -> Served:
    """What the server did with this request."""
    (served,) = [s for s in server.served if s.answer and s.answer.asked.prompt == asked.prompt_ids]
    return served


@dataclasses.dataclass(frozen=True, slots=True)
class Truth:
    """Of one request, by the server's log: the writes that its first and last chunk end with, and how long
    after its write a chunk arrived at most (ns)."""

    first: Write
    last: Write
    late_ns: int


def truth_of(record: RequestRecord, served: Served, start_ns: int) -> Truth:
    """Checks that each chunk is whole writes, and arrived neither before they were written nor after it was read.

    Where the driver was kept from its core, what waited for it is one chunk."""
    told = served.told
    ends = dict(zip(accumulate(w.tokens for w in told), told, strict=True))
    assert sum(w.tokens for w in told) == record.output_tokens
    matched, late = [], []
    for total, chunk in zip(accumulate(c.tokens for c in record.chunks), record.chunks, strict=True):
        assert total in ends, "a chunk ends within a write"
        write, arrival_ns, read_ns = ends[total], start_ns + chunk.arrival_ns, start_ns + chunk.read_ns
        assert write.before_ns - MS // 10 <= arrival_ns <= read_ns  # less what two clocks differ
        matched.append(write)
        late.append(arrival_ns - write.after_ns)
    return Truth(matched[0], matched[-1], max(0, *late))


PATTERNS: dict[str, dict[str, Any]] = {
    "one at a time": {},
    "together": {"groups": (2, 1, 3)},
    "hidden, with pings": {"hidden": frozenset({0, 4, 5, 9}), "pings": True},
    "in small writes": {"split": in_small_pieces, "groups": (1, 2)},
    "all at once": {"interval_s": 0.0, "ttft_s": 0.0},
}


@each_engine
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_driver_reports_what_the_server_logged(engine: Engine, pattern: str, tmp_path: Path) -> None:
    """Counts hold every time. Times hold unless the machine kept the kernel from handing packets over, which
    it does not do every time."""
    asked = [request(i, prompt_tokens=4 + i, output_tokens=n) for i, n in enumerate((1, 2, 7, 20, 33, 15))]
    changes = {"ttft_s": 0.03, "interval_s": 0.004, "quirks": frozenset(wire_of(engine).quirks), **PATTERNS[pattern]}
    if not wire_of(engine).tells_ids:
        changes["hidden"] = frozenset()
    for attempt in range(ATTEMPTS):
        with serving(engine, **changes) as server:
            records, start_ns = replay(engine, server, *asked, slots=3)
        assert [counts(r) for r in records] == [all_well(a) for a in asked]
        assert {r.cached_tokens for r in records} == ({0} if wire_of(engine).tells_cached else {None})
        truths = [truth_of(r, served_to(server, a), start_ns) for r, a in zip(records, asked, strict=True)]
        check_metrics(run_of(records, tmp_path / str(attempt)), records, truths, start_ns)
        if max(truth.late_ns for truth in truths) < TOLERANCE_NS:
            return
    pytest.fail(f"no chunk was to arrive {TOLERANCE_NS / MS:g} ms after it was written, in one of {ATTEMPTS} runs")


def check_metrics(run: RunResult, records: Sequence[RequestRecord], truths: Sequence[Truth], start_ns: int) -> None:
    """TTFT and TPOT of each request are those of the log, but for how late its chunks arrived."""
    ttft, tpot = list(latencies.ttft(run)), list(latencies.tpot(run))
    for record, truth in zip(records, truths, strict=True):
        sent_ns, after_ns = start_ns + int((record.sent_s or 0) * 1e9), truth.first.after_ns - truth.first.before_ns
        off_s = (truth.late_ns + after_ns + MS) / 1e9
        assert ttft.pop(0) == pytest.approx((truth.first.before_ns - sent_ns) / 1e9, abs=off_s)
        if tokens := record.output_tokens - (record.first_event_tokens or 0):
            logged = (truth.last.before_ns - truth.first.before_ns) / tokens / 1e9
            off_s += (truth.last.after_ns - truth.last.before_ns) / 1e9
            assert tpot.pop(0) == pytest.approx(logged, abs=2 * off_s / tokens)
    assert (ttft, tpot) == ([], [])


@each_engine
def test_headers_that_come_early_are_no_token(engine: Engine) -> None:
    with serving(engine, ttft_s=0.15) as server:
        ((record,), start_ns) = replay(engine, server, request(output_tokens=1))
    assert (record.first_token_s or 0) - (record.sent_s or 0) >= 0.15
    truth_of(record, server.served[0], start_ns)


# -- the wire servers themselves ------------------------------------------------------------------------------


@each_engine
def test_the_wire_server_speaks_as_the_engine_was_recorded(engine: Engine) -> None:
    """Of engines that can run here this compares with the engine itself; of others with what is kept of them."""
    asked = request(output_tokens=24)
    _, events = scripted(engine, wire_of(engine), plan_of(engine), asked)
    assert shapes(b"".join(e.data for e in events)) == shapes((STREAMS / f"{engine.name}.sse").read_bytes())
