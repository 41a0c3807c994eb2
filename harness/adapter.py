"""The types an engine file is written in. An engine is data: one `Engine` value, no base class."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

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


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream, in the words that all engines share.

    `tokens` new in this event; where the event does not say, null and `total` so far instead. `ids` of the
    new tokens where the engine shows them; prompt and cached counts where it reports them."""

    tokens: int | None = None
    total: int | None = None
    ids: tuple[int, ...] = ()
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    reported_tokens: int | None = None  # the engine's final count
    cached_tokens: int | None = None
    error: str | None = None
    end: bool = False  # the engine's own word that the stream is complete (else `data: [DONE]` is)


Parse = Callable[[Mapping[str, Any]], Event]


def openai_completion(payload: Mapping[str, Any]) -> Event:
    """Reads one event of an OpenAI-compatible completions stream.

    Counts are the ids where the engine sends them, else the running usage; never the number of events,
    which engines merge under load."""
    if error := payload.get("error"):
        return Event(error=error_text(error))
    usage = payload.get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    choices = payload.get("choices") or []
    choice = choices[0] if choices else {}
    ids = choice.get("token_ids")
    return Event(
        tokens=len(ids) if ids is not None else None,
        total=usage.get("completion_tokens"),
        ids=tuple(ids or ()),
        finish_reason=choice.get("finish_reason"),
        prompt_tokens=usage.get("prompt_tokens"),
        reported_tokens=usage.get("completion_tokens"),
        cached_tokens=details.get("cached_tokens"),
    )


def error_text(error: object) -> str:
    """The message of an error event in either shape: an object with `message`, or a plain string."""
    if isinstance(error, Mapping):
        return str(error.get("message") or json.dumps(error))
    return str(error)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a request is said to this engine and how its stream is read back."""

    route: str
    length_field: str  # the field that takes the number of output tokens
    exact_length: Mapping[str, Any]  # fields that make the engine go on to that length, whatever it samples
    greedy: Mapping[str, Any]  # fields that make it take the most likely token
    counting: Mapping[str, Any]  # fields that make it report token ids and counts
    streaming: Mapping[str, Any]  # fields that make it stream
    prompt_field: str = "prompt"
    parse: Parse = openai_completion

    def body(self, prompt_ids: Sequence[int], output_tokens: int, stream: bool = True) -> bytes:
        """The request's JSON: greedy, forced to `output_tokens`."""
        fields = {self.prompt_field: prompt_ids, self.length_field: output_tokens}
        fields |= {**self.exact_length, **self.greedy, **self.counting, **(self.streaming if stream else {})}
        return json.dumps(fields, separators=(",", ":")).encode()


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
    health: str
    version_reading: Reading
    version_matches: str  # regular expression that the reading must contain
    context_reading: Reading
    native: Native
    metrics: str = "/metrics"
    series: Mapping[str, str] = field(default_factory=dict)  # our counter -> the engine's series
    declared: Mapping[str, str] = field(default_factory=dict)  # what cannot be made equal, in words
    cannot: Callable[[Workload], str | None] = anything
    null: bool = False  # not an engine: a schedule of tokens to measure the client with
