"""Every engine file, whichever there are: its data is sound and its recorded stream reads as it must."""

import json
import re
import string

import pytest

import engines
from harness.adapter import Engine, Profile
from harness.launch.values import settings
from harness.measure.decode import decode_exchange
from harness.measure.spool import Exchange, Read
from harness.records import RequestRecord
from harness.schedule import Request
from tests.record_streams import OUTPUT_TOKENS, PROMPT, STREAMS
from tests.wire import END, HEAD, chunked

ALL = list(engines.load().values())
STARTED = [engine for engine in ALL if not engine.attach_only]
# A field that each event with a token has, the most telling that the engine sends first.
MARKS = (b'"tokens_predicted"', b'"token_ids"', b'"text":" ')
FILLED_AT_LAUNCH = {"dtype_flag", "kv_flag", "kv_bytes", "cores", "env", "python", "model", "port"}


def read_recording(engine: Engine, per_read: int) -> RequestRecord:
    """The recorded stream in reads of `per_read` bytes, 1 ms apart."""
    body = (STREAMS / f"{engine.name}.sse").read_bytes()
    pieces = [body[i : i + per_read] for i in range(0, len(body), per_read)]
    data = [HEAD, *(chunked(p) for p in pieces), END]
    reads = [Read(0, (i + 1) * 1_000_000, 0, [], d) for i, d in enumerate(data)]
    exchange = Exchange(0, 0, 0, 0, len(reads) * 1_000_000, reads=reads)
    return decode_exchange(exchange, Request(0, PROMPT, OUTPUT_TOKENS), engine.dialect.parse, 0)


@pytest.mark.parametrize("per_read", [1, 7, 100, 1 << 20])
@pytest.mark.parametrize("engine", ALL, ids=lambda e: e.name)
def test_all_dialects_tell_the_same_counts(engine: Engine, per_read: int) -> None:
    got = read_recording(engine, per_read)
    assert (got.error, got.finish_reason) == (None, "length")
    assert (got.output_tokens, got.reported_tokens, got.prompt_tokens) == (OUTPUT_TOKENS, OUTPUT_TOKENS, len(PROMPT))
    assert got.cached_tokens in (0, None)


@pytest.mark.parametrize("engine", ALL, ids=lambda e: e.name)
def test_a_recording_that_is_cut_anywhere_is_never_taken_for_whole(engine: Engine) -> None:
    body = (STREAMS / f"{engine.name}.sse").read_bytes()
    last_token = body.rindex(next(mark for mark in MARKS if mark in body))
    for cut in range(10, last_token, max(1, last_token // 40)):
        reads = [Read(0, 1, 0, [], HEAD + chunked(body[:cut]) + END)]
        exchange = Exchange(0, 0, 0, 0, 1, reads=reads)
        got = decode_exchange(exchange, Request(0, PROMPT, OUTPUT_TOKENS), engine.dialect.parse, 0)
        assert got.status == "failed", cut


@pytest.mark.parametrize("engine", STARTED, ids=lambda e: e.name)
def test_the_launch_line_uses_only_what_is_filled_in(engine: Engine) -> None:
    known = FILLED_AT_LAUNCH | set(settings(engine, Profile(), 4))
    words = [*engine.native.command, *engine.native.env.values(), *sum(engine.native.prefix_cache, ())]
    used = {name for word in words for _, name, _, _ in string.Formatter().parse(word) if name}
    assert used <= known
    assert "port" in used


@pytest.mark.parametrize("engine", ALL, ids=lambda e: e.name)
def test_the_request_forces_length_and_greed(engine: Engine) -> None:
    body = json.loads(engine.dialect.body((1, 2), 9))
    assert body[engine.dialect.prompt_field] == [1, 2]
    assert body[engine.dialect.length_field] == 9
    assert body["temperature"] == 0 and body["stream"] is True
    assert engine.attach_only or body["ignore_eos"] is True
    assert "stream" not in json.loads(engine.dialect.body((1, 2), 9, stream=False))


def test_names_and_colours_are_their_engines_own() -> None:
    assert len({e.color for e in ALL}) == len(ALL)
    assert len({e.title for e in ALL}) == len(ALL)
    assert all(re.fullmatch(r"#[0-9a-f]{6}", e.color) and re.fullmatch(r"[a-z0-9]+", e.name) for e in ALL)


def test_each_file_holds_the_engine_of_its_name() -> None:
    assert all(name == engine.name for name, engine in engines.load().items())
