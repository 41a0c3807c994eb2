"""Every engine's file against a server that speaks the engine's dialect (tests/wire_engines), without the engine.

The same tokens at the same times must be the same record, whoever says them: counts to the token, times to the
nanosecond where the test decides them and to the write that brought them where sockets do."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engines
from harness.adapter import Dialect, Engine, Profile
from harness.campaign.contender import Contender
from harness.campaign.counters import increase, read_counters
from harness.campaign.facts import Known, endpoint_facts
from harness.campaign.probe import Probe, answer, verify
from harness.campaign.target import Prompts, Target, target_of
from harness.errors import CannotStart
from harness.launch.endpoint import Endpoint
from harness.launch.running import healthy
from harness.records import latencies
from harness.records.manifest import EndpointFacts, ModelFacts, ProbeFacts
from harness.records.request import RequestRecord
from harness.records.run import RunResult, open_run, write_records
from harness.workload.candidate import Candidate
from harness.workload.schedule import Request, Schedule
from tests import wire_engines
from tests.record_streams import STREAMS
from tests.wire_engines.dialect import FAULT_MESSAGE, Plan, WireDialect
from tests.wire_engines.onwire import MS, cut, framed, read_back, scripted, tiny_texts
from tests.wire_engines.server import Served, WireServer, Write, wire_engine

pytestmark = pytest.mark.slow  # together most of a minute
# Those that are spoken to over HTTP and have a dialect of their own. The null server and the engines that are only
# attached to have none; one that is spoken to otherwise has tests of its own.
SPOKEN = [e for e in engines.load().values() if isinstance(e.dialect, Dialect) and not e.null and not e.attach_only]
WIRES = wire_engines.load()
each_engine = pytest.mark.parametrize("engine", SPOKEN, ids=lambda e: e.name)
# Between the write of a chunk and its arrival as reported: the kernel stamps a packet of the loopback while it is
# written (0.1 ms). It is later where a busy machine leaves that to a thread of its own, or keeps the driver from
# reading: of packets that wait together the kernel keeps the time of the last.
TOLERANCE_NS, ATTEMPTS = 3 * MS, 6
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


def message_in(payload: Any) -> str:
    """What an error says, in whichever place."""
    if isinstance(payload, dict):
        reason = (payload.get("meta_info") or {}).get("finish_reason") or {}
        return message_in(payload.get("error") or payload.get("message") or reason.get("message"))
    return str(payload)


def test_every_engine_brings_its_dialect() -> None:
    assert SPOKEN
    assert [e.name for e in SPOKEN if e.name not in WIRES] == []


# -- without sockets: the same times, exactly -----------------------------------------------------------------


def run_of(records: Sequence[RequestRecord], folder: Path) -> RunResult:
    write_records(folder, records)
    return open_run(folder, None)  # type: ignore[arg-type]  # no metric of one request reads the manifest


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
    plan = plan_of(
        engine,
        groups=tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=6), "groups")),
        hidden=data.draw(st.frozensets(st.integers(0, tokens - 1), max_size=6), "tokens without a whole character"),
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
    careless = dataclasses.replace(engine, dialect=dataclasses.replace(engine.dialect, greedy={}))
    with serving(engine) as server:
        same = {answer(probe_of(engine, server), request().prompt_ids, 20) for _ in range(3)}
        others = {answer(probe_of(careless, server), request().prompt_ids, 20) for _ in range(3)}
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
        got = answer(probe_of(engine, server), asked.prompt_ids, asked.output_tokens)
    understood = server.served[0].answer
    assert understood is not None and understood.asked.greedy and understood.asked.runs_on
    assert got == understood.ids and len(got) == asked.output_tokens


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


# -- operations -----------------------------------------------------------------------------------------------


def probe_of(engine: Engine, server: WireServer, log: Path | None = None) -> Probe:
    asked = dataclasses.asdict(Profile())
    contender = Contender(Candidate(engine=engine.name, name=engine.name), engine, asked, ModelFacts())
    return Probe(contender, endpoint_of(server, log), target_to(engine, server), longest=512)


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
    assert len(seen.answer_ids) == 256
    last = server.served[-1].answer
    assert last is not None and seen.answer_ids == last.ids


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


# -- the wire servers themselves ------------------------------------------------------------------------------


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


@each_engine
def test_the_wire_server_speaks_as_the_engine_was_recorded(engine: Engine) -> None:
    """Of engines that can run here this compares with the engine itself; of others with what is kept of them."""
    asked = request(output_tokens=24)
    _, events = scripted(engine, wire_of(engine), plan_of(engine), asked)
    assert shapes(b"".join(e.data for e in events)) == shapes((STREAMS / f"{engine.name}.sse").read_bytes())
