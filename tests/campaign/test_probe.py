"""What is learned of a server that already runs, and of one that is not what it seems."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import engines
from harness.adapter import Dialect, Engine, LogLine
from harness.campaign.contender import Contender
from harness.campaign.facts import Known, endpoint_facts
from harness.campaign.probe import Probe, look, read_settings, verify, with_model_name
from harness.campaign.target import Prompts, Target, target_of
from harness.driver.address import Address
from harness.errors import CannotStart
from harness.launch.attach import page_address
from harness.launch.endpoint import Endpoint
from harness.records.manifest import ModelFacts
from harness.workload.candidate import Candidate
from tests import wire_engines
from tests.openai_server import Server, answer, models, serving
from tests.wire_engines.dialect import Plan
from tests.wire_engines.onwire import tiny_texts
from tests.wire_engines.server import wire_engine

pytestmark = pytest.mark.live

ENGINES = engines.load()
OPENAI = ENGINES["openai"]
LONGEST = 400


def endpoint_at(address: Address, path: str = "", launch: Any = "attach") -> Endpoint:
    whole = replace(address, path=path)
    attached = launch == "attach"
    return Endpoint(
        requests=whole,
        pages=page_address(whole),
        launch=launch,
        device=None if attached else "cpu",
        gpus=None if attached else (),
        stopped=lambda: None,
    )


def target_at(endpoint: Endpoint, engine: Engine = OPENAI) -> Target:
    texts = tiny_texts()
    return target_of(endpoint, engine, Prompts(texts.vocabulary, texts.lead, texts.text), 5.0)


def probe_at(endpoint: Endpoint, engine: Engine = OPENAI, asked: Mapping[str, Any] | None = None) -> Probe:
    contender = Contender(Candidate(engine=engine.name, name=engine.name, url="x"), engine, asked or {}, ModelFacts())
    return Probe(contender, endpoint, target_at(endpoint, engine), LONGEST)


# -- prompts that grow --------------------------------------------------------------------------------------------

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("offset", "learned"),
    [
        (lambda sent: 0, 0),
        (lambda sent: 7, 7),
        (lambda sent: -1, -1),
        (lambda sent: sent // 8, None),
        (None, None),
    ],
    ids=["none", "template", "lost one", "varying", "not counted"],
)
@pytest.mark.parametrize("path", [CHAT, "/v1"])
def test_a_constant_offset_of_prompts_is_learned(
    path: str, offset: Callable[[int], int] | None, learned: int | None
) -> None:
    server = Server(offset)
    with serving(server) as address:
        seen = verify(probe_at(endpoint_at(address, path)))
    assert seen.prompt_offset == learned
    assert (seen.prompt_tokens is None) == (offset is None)
    assert (seen.output_tokens, seen.problem, seen.version) == (16, None, None)
    assert seen.first_token_s is not None and 0 < seen.first_token_s < 5
    assert all(("messages" in body) == (path == CHAT) for body in server.asked)


def test_an_offset_of_an_engine_that_was_started_here_is_refused() -> None:
    """It was asked for these very tokens: a server that adds one has another prompt than the others."""
    with serving(Server(lambda sent: 1)) as address:
        with pytest.raises(CannotStart, match="counts 33 prompt tokens, but 32 were sent"):
            verify(probe_at(endpoint_at(address, "/v1", "process")))
        assert verify(probe_at(endpoint_at(address, "/v1"))).prompt_offset == 1


def test_the_chat_template_of_a_started_engine_is_learned_if_it_leaves_the_requests_room() -> None:
    server = Server(lambda sent: 7)
    with serving(server) as address:
        endpoint = endpoint_at(address, CHAT, "process")
        whole = probe_at(endpoint, asked={"context_tokens": LONGEST + 7, "prefix_cache": False})
        assert verify(whole).prompt_offset == 7
        tight = probe_at(endpoint, asked={"context_tokens": LONGEST + 6, "prefix_cache": False})
        with pytest.raises(
            CannotStart, match="adds 7 tokens to each prompt, so that the longest request has 407: more"
        ):
            verify(tight)
    with serving(Server(lambda sent: sent // 8)) as address:
        assert verify(probe_at(endpoint_at(address, CHAT, "process"))).prompt_offset is None


@pytest.mark.parametrize("engine", [e for e in ENGINES.values() if e.name in ("vllm", "sglang")], ids=lambda e: e.name)
def test_where_answers_end_by_themselves_the_counting_requests_are_forced_and_the_answer_is_not(engine: Engine) -> None:
    """vllm and sglang return ids; their wire servers end an answer after 3 tokens where it may end."""
    wire = wire_engines.load()[engine.name]
    text = tiny_texts().encode(" word of a real text")
    assert text is not None
    with wire_engine(wire, Plan(version=engine.version), tiny_texts()) as server:
        probe = probe_at(replace(endpoint_at(server.endpoint, launch="process"), log=None), replace(engine, facts={}))
        natural = replace(probe, target=replace(probe.target, natural=True), text=text)
        seen = verify(natural)
        assert (seen.output_tokens, len(seen.answer_ids)) == (16, 3)
        assert [one.answer.asked.runs_on for one in server.served if one.answer] == [True, True, False]
        assert server.served[-1].answer is not None and server.served[-1].answer.asked.prompt == text


def test_the_probe_fits_into_the_longest_request() -> None:
    """Of an attached server nothing is known of its context but that the workload must fit."""
    server = Server()
    with serving(server) as address:
        verify(replace(probe_at(endpoint_at(address)), longest=20))
    assert max(len(body["prompt"]) + body["max_tokens"] for body in server.asked) <= 20


# -- its pages ----------------------------------------------------------------------------------------------------


def named(pages: Mapping[str, bytes], path: str = "/v1", wanted: str = "", engine: Engine = OPENAI) -> Target:
    with serving(Server(pages=pages)) as address:
        endpoint = endpoint_at(address, path)
        return with_model_name(replace(target_at(endpoint, engine), more={"seed": 1}), endpoint, wanted)


def test_the_only_model_that_it_lists_is_asked_for() -> None:
    assert named({"/v1/models": models("llama")}).more == {"model": "llama", "seed": 1}
    assert named({"/proxy/v1/models": models("llama")}, f"/proxy{CHAT}").more["model"] == "llama"


def test_the_model_that_the_user_names_is_asked_for_and_no_page_read() -> None:
    server = Server()
    with serving(server) as address:
        endpoint = endpoint_at(address, "/v1")
        assert with_model_name(target_at(endpoint), endpoint, "mine").more == {"model": "mine"}
    assert server.got == []


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ({"/v1/models": models("a", "b")}, r"lists 2 models \(a, b\); name one of them as served_model"),
        ({"/v1/models": models()}, r"lists no models; name .* as served_model"),
        ({}, r"does not list its models at /v1/models \(.*404.*\); give served_model"),
        ({"/v1/models": answer("<html>hello</html>", kind="text/html")}, "does not list its models at /v1/models"),
        ({"/v1/models": answer('{"data": 3}')}, "does not list its models at /v1/models"),
        ({"/v1/models": answer("[]")}, "lists no models; name"),
        ({"/v1/models": answer('{"data": [{"size": 3}]}')}, r"/v1/models \(it is no list of models\)"),
        ({"/v1/models": answer('{"data": [3]}')}, r"/v1/models \(it is no list of models\)"),
        ({"/v1/models": answer("no", "401 Unauthorized")}, "does not list its models at /v1/models .*401"),
    ],
    ids=["several", "none", "missing", "html", "number", "list", "no names", "numbers", "refused"],
)
def test_without_one_model_to_ask_for_the_user_is_told_what_to_give(pages: Mapping[str, bytes], said: str) -> None:
    with pytest.raises(CannotStart) as refused:
        named(pages)
    assert re.search(said, str(refused.value)) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "page",
    [
        '["llama"]',
        '[{"id": "llama"}]',
        '{"models": [{"name": "llama", "model": "llama", "details": {"family": "x"}}]}',
        '{"object": "list", "data": ["llama"]}',
        '{"data": [{"id": "llama", "type": "llm", "state": "loaded"}, {"id": "nomic", "type": "embeddings"}]}',
        '{"data": [{"id": "llama", "owned_by": "a"}, {"id": "llama", "owned_by": "b"}]}',
        '{"models": [{"key": "llama", "type": "llm"}], "has_more": false}',
    ],
    ids=["names", "bare list", "ollama", "names in data", "lm studio", "twice", "keys"],
)
def test_lists_of_models_have_several_shapes(page: str) -> None:
    assert named({"/v1/models": answer(page)}).more["model"] == "llama"
    assert named({"/api/v3/models": answer(page)}, "/api/v3/chat/completions").more["model"] == "llama"


def test_what_the_pages_show_is_kept_when_a_chat_is_refused() -> None:
    pages = {"/version": answer('{"version": "9.9"}')}
    with serving(Server(pages=pages, refuses=answer('{"error": "no"}', "400 Bad Request"))) as address:
        seen = look(probe_at(endpoint_at(address, CHAT), ENGINES["vllm"]))
    assert seen.version == "9.9" and seen.problem is not None and "HTTP 400" in seen.problem


def test_a_route_without_a_model_needs_no_list() -> None:
    assert named({}, "", engine=ENGINES["llamacpp"]).more == {"seed": 1}


def test_pages_of_html_are_no_facts_and_no_counters() -> None:
    html = answer("<!doctype html><html><body>Welcome</body></html>", kind="text/html")
    vllm = ENGINES["vllm"]
    with serving(Server(pages={"/version": html, "/metrics": html, "/v1/models": html})) as address:
        probe = probe_at(endpoint_at(address, "/v1"), vllm)
        seen = verify(probe)
    assert (seen.version, seen.settings, seen.cached_tokens) == (None, {}, None)
    facts = endpoint_facts(Known(probe.contender, probe.endpoint, seen))
    assert (facts.version, facts.device, facts.gpus) == (None, None, None)
    assert {"version", "context_tokens", "prefix_cache", "device", "gpus"} <= set(facts.unknown)
    assert all(facts.unknown.values()) and facts.unverified == ()


HOSTILE = {
    "deep": "[" * 100_000,
    "digits": '{"version": ' + "1" * 5000 + "}",
    "huge": '{"version": 1e999, "data": [{"id": 1e999}]}',
    "control": '{"version": "\\u001b[2J", "data": [{"id": "a\\u001b[2Jb"}, {"id": "c"}]}',
    "odd": '{"version": {}, "data": {"id": []}, "choices": [[]]}',
    "nan": '{"version": NaN, "choices": NaN}',
    "null": "null",
    "metrics": "vllm:prompt_tokens_total NaN\n" * 3 + "vllm:prefix_cache_hits_total{\\n\\x00",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("launch", ["attach", "process"])
def test_no_page_of_an_engine_ends_more_than_its_own_run(text: str, launch: str) -> None:
    """Of a server that already runs nothing is known then; one that was started here is left out with a reason."""
    pages = dict.fromkeys(("/version", "/metrics", "/v1/models", "/props", "/slots"), answer(text))
    with serving(Server(pages=pages)) as address:
        for engine in (ENGINES["vllm"], ENGINES["llamacpp"]):
            probe = probe_at(endpoint_at(address, "/v1", launch), engine)
            for step in (lambda p=probe: verify(p), lambda p=probe: with_model_name(p.target, p.endpoint, "")):
                try:
                    step()
                except CannotStart as problem:
                    said = str(problem)
                    assert said.isprintable() and len(said) < 500
    with serving(Server(refuses=answer(text))) as address:
        from harness.campaign.probe import answer as greedy

        assert greedy(probe_at(endpoint_at(address, "/v1")), (1, 2), 2).ids == ()


@pytest.mark.parametrize("digits", ["1" * 5000, "-5", "1e3", "٣", "", "18446744073709551616"])
def test_what_a_log_line_shows_is_a_number_or_nothing(digits: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(f"kv tokens: {digits}\n", encoding="utf-8")
    engine = replace(OPENAI, facts={"kv_tokens": LogLine(r"kv tokens: (.*)")})
    probe = probe_at(replace(endpoint_at(Address("x", 1)), log=log), engine)
    assert read_settings(probe) == {}
    log.write_text("kv tokens: 1,024\n", encoding="utf-8")
    assert read_settings(probe) == {"kv_tokens": 1024}


@pytest.mark.parametrize(
    ("refuses", "said"),
    [
        (answer('{"error": {"message": "the queue is full"}}', "503 Service Unavailable"), "HTTP 503: the queue is"),
        (answer('{"error": {"message": "no such model"}}', "404 Not Found"), "HTTP 404: no such model"),
        (answer("<html>Bad gateway</html>", "502 Bad Gateway", "text/html"), "HTTP 502"),
        (answer('{"choices": []}'), "failed the probe request: "),
    ],
    ids=["full", "model", "gateway", "no stream"],
)
def test_a_server_that_refuses_is_one_line(refuses: bytes, said: str) -> None:
    with serving(Server(refuses=refuses)) as address, pytest.raises(CannotStart) as refused:
        verify(probe_at(endpoint_at(address, "/v1")))
    assert said in str(refused.value) and str(refused.value).startswith("failed the probe request: ")
    assert "\n" not in str(refused.value)


def test_an_answer_without_a_content_type_is_read() -> None:
    bare = b'{"choices": [{"text": " a", "token_ids": [5, 6]}]}'
    plain = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(bare), bare)
    with serving(Server()) as address:
        probe = probe_at(endpoint_at(address, "/v1"))
        assert verify(probe).answer_ids == ()
    with serving(Server(refuses=plain)) as address:
        from harness.campaign.probe import answer as greedy

        assert greedy(probe_at(endpoint_at(address, "/v1")), (1, 2), 2).ids == (5, 6)


# -- the engines' own dialects, attached to and started here -------------------------------------------------------

SPOKEN = [e for e in ENGINES.values() if isinstance(e.dialect, Dialect) and not e.null and not e.attach_only]


@pytest.mark.slow
@pytest.mark.parametrize("engine", SPOKEN, ids=lambda e: e.name)
def test_what_makes_a_started_engine_another_measurement_is_noted_of_an_attached_one(engine: Engine) -> None:
    """Its counts, its version and the settings that its pages show are as they are; each cell's checks judge them."""
    wire = wire_engines.load()[engine.name]
    plan = Plan(version="0.0.7", added_prompt_tokens=1, prefix_cache=True, context_tokens=512)
    with wire_engine(wire, plan, tiny_texts()) as server:
        probe = probe_at(endpoint_at(server.endpoint), engine)
        seen = verify(probe)
        facts = endpoint_facts(Known(probe.contender, probe.endpoint, seen))
        started = replace(probe, endpoint=endpoint_at(server.endpoint, launch="process"))
        with pytest.raises(CannotStart, match="counts 33 prompt tokens, but 32 were sent"):
            verify(started)
    assert (seen.prompt_tokens, seen.prompt_offset, seen.output_tokens) == (33, 1, 16)
    assert "0.0.7" in (facts.version or "") or engine.version_reading is None
    assert seen.cached_tokens == (16 if wire.tells_cached or "cached_tokens" in engine.series else None)
    pages = {name for name, where in engine.facts.items() if not hasattr(where, "pattern")}
    assert set(seen.settings) == pages  # its log is not ours to read
    assert len(seen.answer_ids) in (0, 256)


def test_a_setting_without_a_limit_is_not_shown() -> None:
    engine = ENGINES["sglang"]
    plan = Plan(version=engine.version, batched_tokens=-1)
    with wire_engine(wire_engines.load()["sglang"], plan, tiny_texts()) as server:
        seen = read_settings(probe_at(endpoint_at(server.endpoint, launch="process"), engine))
    assert seen == {name: getattr(plan, name) for name in engine.facts if name != "batched_tokens"}


@pytest.mark.slow
@pytest.mark.parametrize("engine", SPOKEN, ids=lambda e: e.name)
def test_an_attached_engine_that_stops_early_is_noted(engine: Engine) -> None:
    wire = wire_engines.load()[engine.name]
    with wire_engine(wire, Plan(version=engine.version, stops_early=True), tiny_texts()) as server:
        seen = verify(probe_at(endpoint_at(server.endpoint), engine))
    assert seen.output_tokens == 3
