"""Where requests go under every kind of URL, and how they are encoded there."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

import engines
from harness.adapter import Dialect, Engine
from harness.campaign.target import Prompts, Target, asking, dialect_at, route_of, takes_text, target_of
from harness.driver.address import Address
from harness.errors import HarnessError
from harness.launch.attach import page_address
from harness.launch.endpoint import Endpoint
from harness.records.manifest import ProbeFacts
from harness.workload.candidate import Candidate
from tests.wire_engines.onwire import tiny_texts

ENGINES = engines.load()
SPOKEN = [engine for engine in ENGINES.values() if isinstance(engine.dialect, Dialect)]
NATIVE = [e for e in SPOKEN if isinstance(e.dialect, Dialect) and not e.dialect.route.endswith("/completions")]
each_engine = pytest.mark.parametrize("engine", SPOKEN, ids=lambda e: e.name)
each_native = pytest.mark.parametrize("engine", NATIVE, ids=lambda e: e.name)


def own_of(engine: Engine) -> Dialect:
    assert isinstance(engine.dialect, Dialect)
    return engine.dialect


def at(engine: Engine, path: str) -> Dialect:
    return dialect_at(engine, own_of(engine), path)


def target(engine: Engine, path: str, wanted: str = "") -> Target:
    address = Address("x", 80, path=path)
    endpoint = Endpoint(
        requests=address, pages=page_address(address), launch="attach", stopped=lambda: None, key="sk-secret"
    )
    texts = tiny_texts()
    return target_of(endpoint, engine, Prompts(texts.vocabulary, texts.lead, texts.text), 5.0, wanted)


def body(one: Target) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(one.body(tiny_texts().vocabulary[:3], 9))
    return found


@pytest.mark.parametrize("prefix", ["", "/proxy", "/a/b"])
@each_engine
def test_an_engines_own_route_is_taken_from_its_root_and_by_its_name(engine: Engine, prefix: str) -> None:
    own = own_of(engine)
    for path in (prefix, prefix + own.route):
        assert at(engine, path) == replace(own, route=prefix + own.route)


@pytest.mark.parametrize("prefix", ["", "/proxy", "/a/b"])
@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1", "/v1/completions"),
        ("/v1/completions", "/v1/completions"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/chat/completions", "/chat/completions"),
    ],
)
@each_engine
def test_openai_routes_are_spoken_in_their_dialect(engine: Engine, prefix: str, path: str, route: str) -> None:
    own = own_of(engine)
    if not own.route.endswith("/completions"):
        with pytest.raises(HarnessError) as refused:
            dialect_at(replace(engine, openai=None), own, prefix + path)
        assert f"{engine.title}: this engine file only knows {own.route}" in str(refused.value)
        assert "openai" in str(refused.value) and "\n" not in str(refused.value)
        assert engine.openai is not None
        own = engine.openai
    chat: dict[str, Any] = {"answering": {}, "likely": {}} if "/chat" in path else {}
    assert at(engine, prefix + path) == replace(own, route=prefix + route, **chat)


ONLY_NATIVE = replace(ENGINES["llamacpp"], openai=None)


@pytest.mark.parametrize(
    ("name", "wanted", "route", "field"),
    [
        ("vllm", "", "/v1/completions", "prompt"),
        ("vllm", "text", "/v1/completions", "prompt"),
        ("vllm", "chat", "/v1/chat/completions", "messages"),
        ("llamacpp", "text", "/completion", "prompt"),
        ("llamacpp", "chat", "/v1/chat/completions", "messages"),
        ("sglang", "", "/generate", "input_ids"),
        ("sglang", "text", "/v1/completions", "prompt"),
        ("sglang", "chat", "/v1/chat/completions", "messages"),
        ("lmdeploy", "chat", "/v1/chat/completions", "messages"),
        ("transformers", "chat", "/v1/chat/completions", "messages"),
        ("tgi", "", "/generate_stream", "inputs"),
        ("tgi", "chat", "/v1/chat/completions", "messages"),
        ("fake", "chat", "/v1/chat/completions", "messages"),
    ],
)
def test_a_started_engine_gets_prompts_in_the_form_that_its_candidate_asks_for(
    name: str, wanted: str, route: str, field: str
) -> None:
    one = target(ENGINES[name], "", wanted)
    assert isinstance(one.dialect, Dialect) and one.dialect.route == route and field in body(one)
    assert takes_text(ENGINES[name], "", wanted) == (
        wanted in ("text", "chat") or own_of(ENGINES[name]).prompt == "text"
    )
    asked = one.facts(ProbeFacts()).prompt_as
    assert asked == (wanted or own_of(ENGINES[name]).prompt)


@each_engine
def test_answers_that_end_by_themselves_are_asked_for_without_what_forces_their_length(engine: Engine) -> None:
    for wanted in ("", "chat"):
        forced = target(engine, "", wanted)
        natural = replace(forced, natural=True)
        assert isinstance(forced.dialect, Dialect)
        names = {name.partition(".")[0] for name in forced.dialect.exact_length}
        left = {
            name for name in forced.facts(ProbeFacts()).asked_for if name not in natural.facts(ProbeFacts()).asked_for
        }
        assert left <= names and all("ignore_eos" not in name for name in body(natural))
        assert body(natural).keys() >= body(forced).keys() - names


@pytest.mark.parametrize(
    ("engine", "path", "wanted", "said"),
    [
        (
            ONLY_NATIVE,
            "",
            "chat",
            "llama.cpp: prompt is chat, but this engine file only knows /completion; leave the prompt",
        ),
        (
            ENGINES["vllm"],
            "/v1/completions",
            "chat",
            "prompt is chat, but /v1/completions is the route for completions",
        ),
        (ENGINES["vllm"], "/v1/chat/completions", "ids", "prompt is ids, but chat takes text"),
    ],
)
def test_a_form_that_cannot_be_is_refused_in_one_line(engine: Engine, path: str, wanted: str, said: str) -> None:
    with pytest.raises(HarnessError) as refused:
        target(engine, path, wanted)
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("path", "route", "whole"),
    [
        ("", "/v1/completions", "/v1/completions"),
        ("/v1", "/v1/completions", "/v1/completions"),
        ("/openai/v1", "/v1/completions", "/openai/v1/completions"),
        ("/v1/chat/completions", "/v1/completions", "/v1/chat/completions"),
        ("/openai/deployments/a/completions", "/v1/completions", "/openai/deployments/a/completions"),
        ("/proxy", "/completion", "/proxy/completion"),
        ("/completion", "/completion", "/completion"),
        ("/proxy/completion", "/completion", "/proxy/completion"),
        ("/v1", "/generate", "/v1/generate"),
    ],
)
def test_the_route_is_the_paths_or_the_dialects(path: str, route: str, whole: str) -> None:
    assert route_of(path, route) == whole


def test_a_chat_gets_messages_of_text() -> None:
    one = target(ENGINES["vllm"], "/v1/chat/completions")
    assert (one.chat, one.as_text, one.key) == (True, True, "sk-secret")
    asked = body(one)
    text = tiny_texts().text(tiny_texts().vocabulary[:3])
    assert asked["messages"] == [{"role": "user", "content": text}] and "prompt" not in asked
    assert asked["max_tokens"] == 9 and "sk-secret" not in json.dumps(asked)
    with pytest.raises(HarnessError, match="prompt is ids, but chat takes text"):
        target(ENGINES["vllm"], "/v1/chat/completions", "ids")


@pytest.mark.parametrize(("wanted", "sent"), [("", "ids"), ("ids", "ids"), ("text", "text")])
def test_prompts_are_ids_unless_text_is_wanted(wanted: str, sent: str) -> None:
    prompt = body(target(ENGINES["vllm"], "/v1", wanted))["prompt"]
    assert isinstance(prompt, str if sent == "text" else list)
    assert takes_text(ENGINES["vllm"], "/v1", wanted) == (sent == "text")


@each_engine
def test_what_takes_text_is_known_before_there_is_a_server(engine: Engine) -> None:
    assert takes_text(engine, "") == target(engine, "").as_text == (own_of(engine).prompt == "text")
    if engine.openai or engine not in NATIVE:
        assert takes_text(engine, "/v1/chat/completions") and target(engine, "/v1/chat/completions").as_text


def test_over_grpc_prompts_are_text_whatever_the_path() -> None:
    triton = ENGINES["triton"]
    assert takes_text(triton, "") and takes_text(triton, "/v1")
    one = target(triton, "")
    assert one.as_text and one.dialect is triton.dialect


def test_fields_of_the_user_win_over_the_dialects_own() -> None:
    one = replace(target(ENGINES["openai"], ""), more={"temperature": 0.5, "ignore_eos": True, "extra.deep": 1})
    asked = body(one)
    assert (asked["temperature"], asked["ignore_eos"], asked["extra"]) == (0.5, True, {"deep": 1})


# -- requests that a candidate's table changes --------------------------------------------------------------------


def asked(engine: str = "openai", path: str = "/v1", **changes: Any) -> dict[str, Any]:
    """The body of a request of 9 tokens, without its prompt."""
    one = asking(target(ENGINES[engine], path), Candidate(engine=engine, url="x", **changes))
    found = body(one)
    return {key: value for key, value in found.items() if key not in ("prompt", "messages", "inputs")}


PLAIN = {"max_tokens": 9, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}


def test_only_fields_of_the_openai_api_are_sent_to_a_server_of_which_nothing_is_known() -> None:
    assert asked() == asked(path="/v1/chat/completions") == PLAIN


@pytest.mark.parametrize(
    ("changes", "left_out", "added"),
    [
        ({"drop": ("stream_options",)}, ["stream_options"], {}),
        ({"drop": ("stream_options.include_usage",)}, ["stream_options"], {}),
        ({"drop": ("temperature", "not.there")}, ["temperature"], {}),
        ({"length_field": "max_completion_tokens"}, ["max_tokens"], {"max_completion_tokens": 9}),
        ({"length_field": "options.num_predict"}, ["max_tokens"], {"options": {"num_predict": 9}}),
        ({"length_field": "n", "drop": ("max_tokens",)}, ["max_tokens"], {"n": 9}),
        ({"fields": {"stream_options.extra": 1}}, [], {"stream_options": {"include_usage": True, "extra": 1}}),
        ({"fields": {"stream_options": {"include_usage": False}}}, [], {"stream_options": {"include_usage": False}}),
        ({"fields": {"a.b": 1, "a.c": {"d.e": 2}}}, [], {"a": {"b": 1, "c": {"d.e": 2}}}),
        ({"fields": {"extra.b": 1}, "drop": ("temperature", "stream_options")}, ["temperature", "stream_options"],
         {"extra": {"b": 1}}),
    ],
)  # fmt: skip
def test_fields_are_added_left_out_and_renamed(
    changes: dict[str, Any], left_out: list[str], added: dict[str, Any]
) -> None:
    assert asked(**changes) == {key: value for key, value in PLAIN.items() if key not in left_out} | added
    assert asked() == PLAIN  # the engine file's own tables are as they were


def test_an_object_of_the_engine_file_is_added_to() -> None:
    found = asked("tgi", "", fields={"parameters": {"seed": 7}}, drop=("parameters.details",))
    assert found == {"parameters": {"max_new_tokens": 9, "do_sample": False, "seed": 7}}


def test_how_requests_were_asked_is_recorded() -> None:
    changed = Candidate(engine="openai", url="x", drop=("temperature",), length_field="max_completion_tokens")
    facts = asking(target(ENGINES["openai"], "/v1/chat/completions"), changed).facts(ProbeFacts())
    assert (facts.prompt_as, facts.length_field) == ("chat", "max_completion_tokens")
    assert facts.asked_for == {"stream": True, "stream_options": {"include_usage": True}}
    assert target(ENGINES["vllm"], "").facts(ProbeFacts()).prompt_as == "ids"


@pytest.mark.parametrize(
    ("engine", "changes", "said"),
    [
        ("triton", {"drop": ("a",)}, "drop changes a request of JSON"),
        ("triton", {"fields": {"a": 1}}, "fields changes a request of JSON"),
        ("openai", {"drop": ("max_tokens",)}, "max_tokens takes each request's length; give the server's own field"),
    ],
)
def test_changes_that_cannot_be_made_are_refused(engine: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(HarnessError) as refused:
        asked(engine, "", **changes)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_the_table_itself_is_not_changed() -> None:
    """It is the same for every request, and stored in the manifest."""
    fields = {"a": {"b": {"c": 1}}, "a.b.d": 2}
    assert asked(fields=fields) == PLAIN | {"a": {"b": {"c": 1, "d": 2}}}
    assert fields == {"a": {"b": {"c": 1}}, "a.b.d": 2}
