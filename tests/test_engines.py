"""Every engine file, whichever there are: its data is sound and the stream that is kept of it reads as it must."""

import json
import re
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import engines
from harness.adapter import Dialect, Engine, Native, Profile
from harness.decode.exchange import decode_exchange
from harness.driver.spool import Exchange, Read
from harness.launch.docker_host import COMPOSE
from harness.launch.values import DTYPE_BYTES, Places, launch_values, settings
from harness.records.request import RequestRecord
from harness.workload.schedule import Request
from harness.workload.spec import Workload
from tests.loads import load
from tests.record_streams import OUTPUT_TOKENS, PROMPT, STREAMS
from tests.wire import END, HEAD, chunked

ALL = list(engines.load().values())
SPOKEN = [(engine, engine.dialect) for engine in ALL if isinstance(engine.dialect, Dialect)]
NATIVES = [
    (engine, native) for engine in ALL for native in (engine.native, engine.native_cuda) if native and native.command
]
# What each event with a token has.
TOKEN = re.compile(rb'"tokens_predicted"|"token":\{|"(token|output)_ids":\[\d|"text":" ')
WORK = Workload(input_tokens=8, output_tokens=4, load=(load(1),))
GREEDY = {("temperature", 0), ("do_sample", False), ("top_k", 1)}

each_dialect = pytest.mark.parametrize(("engine", "dialect"), SPOKEN, ids=lambda v: getattr(v, "name", ""))
each_native = pytest.mark.parametrize(("engine", "native"), NATIVES, ids=lambda v: getattr(v, "name", ""))
each_engine = pytest.mark.parametrize("engine", ALL, ids=lambda e: e.name)


def read_kept(engine: Engine, dialect: Dialect, per_read: int) -> RequestRecord:
    """The stream that is kept, in reads of `per_read` bytes, 1 ms apart."""
    body = (STREAMS / f"{engine.name}.sse").read_bytes()
    pieces = [body[i : i + per_read] for i in range(0, len(body), per_read)]
    data = [HEAD, *(chunked(p) for p in pieces), END]
    reads = [Read(0, (i + 1) * 1_000_000, 0, None, d) for i, d in enumerate(data)]
    exchange = Exchange(0, 0, 0, 0, len(reads) * 1_000_000, reads=reads)
    return decode_exchange(exchange, Request(0, PROMPT, OUTPUT_TOKENS), dialect.parse, 0)


@pytest.mark.parametrize("per_read", [1, 7, 100, 1 << 20])
@each_dialect
def test_all_dialects_tell_the_same_counts(engine: Engine, dialect: Dialect, per_read: int) -> None:
    got = read_kept(engine, dialect, per_read)
    assert (got.error, got.finish_reason) == (None, "length")
    assert (got.output_tokens, got.reported_tokens, got.prompt_tokens) == (OUTPUT_TOKENS, OUTPUT_TOKENS, len(PROMPT))
    assert got.cached_tokens in (0, None)


@each_dialect
def test_a_stream_that_is_cut_anywhere_is_never_taken_for_whole(engine: Engine, dialect: Dialect) -> None:
    body = (STREAMS / f"{engine.name}.sse").read_bytes()
    last_token = [found.start() for found in TOKEN.finditer(body)][-1]
    for cut in range(10, last_token, max(1, last_token // 40)):
        reads = [Read(0, 1, 0, None, HEAD + chunked(body[:cut]) + END)]
        exchange = Exchange(0, 0, 0, 0, 1, reads=reads)
        got = decode_exchange(exchange, Request(0, PROMPT, OUTPUT_TOKENS), dialect.parse, 0)
        assert got.status == "failed", cut


@each_native
def test_the_launch_line_uses_only_what_is_filled_in(engine: Engine, native: Native, tmp_path: Path) -> None:
    places = Places(tmp_path, tmp_path, "program", tmp_path, 2 * 2 * 64)
    known = launch_values(engine, settings(engine, Profile(dtype="bfloat16"), WORK), places, (1, 2), ("0",))
    words = [*native.command, *native.env.values(), *sum(engine.prefix_cache, ()), *engine.gpu_flags]
    used = {name for word in words for _, name, _, _ in string.Formatter().parse(word) if name}
    assert used <= set(known)
    assert "port" in used


@each_dialect
def test_the_request_forces_length_and_greed(engine: Engine, dialect: Dialect) -> None:
    body = flat(json.loads(dialect.body([1, 2], 9)))
    assert body[dialect.prompt_field] == [1, 2]
    assert body[dialect.length_field] == 9
    assert GREEDY & {(name.rpartition(".")[2], value) for name, value in body.items() if not isinstance(value, list)}
    # Where no request can force the length, something else must, and the reader is told what.
    assert dialect.exact_length or engine.attach_only or "end of sequence" in engine.declared
    assert all(body[name] == value for name, value in flat(dialect.exact_length).items())
    assert all(body[name] == value for name, value in flat(dialect.streaming).items())
    whole = flat(json.loads(dialect.body([1, 2], 9, stream=False)))
    assert not set(whole) & set(flat(dialect.streaming))
    assert all(whole[name] == value for name, value in flat(dialect.answering).items())


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key, inner in value.items() for k, v in flat(inner, f"{prefix}.{key}" if prefix else key).items()}


@each_engine
def test_its_words_are_those_that_all_share(engine: Engine) -> None:
    table = settings(engine, Profile(), WORK)
    assert set(engine.facts) <= set(table)
    assert set(engine.dtypes) | set(engine.kv_dtypes) | set(engine.kv_dtypes.values()) <= set(DTYPE_BYTES)
    assert set(engine.series) <= {"requests", "prompt_tokens", "cached_tokens", "output_tokens", "steps", "preemptions"}
    assert engine.shows_version == "" or engine.version_reading is not None


@each_engine
def test_its_version_is_the_one_that_it_was_tested_with(engine: Engine) -> None:
    tested = engine.shows_version.replace("\\", "") or engine.version
    builds = (tested, f"{tested}+cpu", f"{tested}-6bad9af", f"{tested}-unknown")
    assert {engine.tested_as(shown, None) for shown in builds} == {engine.version}
    others = (f"{tested}1", f"{tested}.1", f"{tested}rc1", f"{tested}-fork", "0.0.7", "")
    assert [engine.tested_as(shown, None) for shown in others] == [None] * len(others)


def test_a_device_may_have_a_tested_version_of_its_own() -> None:
    engine = replace(engines.load()["vllm"], versions={"cuda": "0.33.0"})
    assert [engine.tested_on(device) for device in ("cpu", "cuda", None)] == [engine.version, "0.33.0", engine.version]
    assert engine.tested_as("0.33.0", "cuda") == "0.33.0" and engine.tested_as("0.33.0", "cpu") is None
    # An attached server does not show its device.
    assert engine.tested_version("0.33.0", None) == "0.33.0" and engine.tested_version("0.31.0", None) == engine.version


# What keeps an engine from writing a line for each request, in its launch line or its compose file.
QUIET = re.compile(
    r"--disable-uvicorn-access-log|--log-level-http\W+warning|UVICORN_LOG_LEVEL\W+warning|logging\.disable\(logging\.INFO\)"
    r"|LOG_LEVEL: info,text_generation_router::server=warn|no line for a request"
)


@each_engine
def test_a_line_for_each_request_is_switched_off_or_declared(engine: Engine) -> None:
    starts = [repr((native.command, native.env)) for of, native in NATIVES if of is engine]
    starts += [(COMPOSE / f"{engine.name}.yaml").read_text()] if engine.containers else []
    assert "log" in engine.declared or engine.null or all(map(QUIET.search, starts))


@each_engine
def test_what_is_true_of_one_device_is_said_of_that_device(engine: Engine) -> None:
    devices = {device for device in ("cpu", "cuda") if device in engine.containers or engine.native_on(device)}
    assert {*engine.versions, *engine.declared_on} <= devices
    assert all(not set(own) & set(engine.declared) for own in engine.declared_on.values())
    # Some engines would take every GPU that they see.
    assert engine.gpu_flags or engine.null or "cuda" not in devices


def test_names_and_colours_are_their_engines_own() -> None:
    assert len({e.color for e in ALL}) == len(ALL)
    assert len({e.title for e in ALL}) == len(ALL)
    assert all(re.fullmatch(r"#[0-9a-f]{6}", e.color) and re.fullmatch(r"[a-z0-9]+", e.name) for e in ALL)


def test_each_file_holds_the_engine_of_its_name() -> None:
    assert all(name == engine.name for name, engine in engines.load().items())
