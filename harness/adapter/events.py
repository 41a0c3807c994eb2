"""One event of a stream in a form that all engines share, and the parsers of two stream formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True):  # not a dataclass: one is made for every token, and this is ten times faster
    """One event of a stream, in a form that all engines share.

    `tokens`: new in this event; if the event does not say, None, and `total` has the tokens so far. `content`: whether
    it carries any output. `ids` of the new tokens, and prompt and cached counts, if the engine reports them."""

    tokens: int | None = None
    total: int | None = None
    content: bool = False
    ids: tuple[int, ...] = ()
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    reported_tokens: int | None = None  # the engine's final count
    cached_tokens: int | None = None
    error: str | None = None
    end: bool = False  # the event says that the stream is complete (else `data: [DONE]` does)


# Parses the bytes of one event's data; ValueError if they are not an event of this engine.
Parse = Callable[[bytes], Event]


class _Delta(msgspec.Struct):
    # A chat's first event has only the role; reasoning and tool calls count as output like any other text.
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

    Tokens are counted by the ids if the engine sends them, else by the usage, running or final; never by the number
    of events, which engines merge under load."""
    event = _openai_event(data)
    if event.error or event.object == "error":  # either field, or the whole event
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


class _Finish(msgspec.Struct):
    type: str | None = None
    message: str | None = None


class _Meta(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None  # so far
    cached_tokens: int | None = None
    finish_reason: _Finish | None = None


class _Generated(msgspec.Struct):
    text: str | None = None
    output_ids: tuple[int, ...] | None = None  # new in this event
    meta_info: _Meta = msgspec.field(default_factory=_Meta)
    error: Any = None


_generated = msgspec.json.Decoder(_Generated).decode


def generate_stream(data: bytes) -> Event:
    """Reads one event of the /generate stream that SGLang introduced and LMDeploy adopted, or its answer without
    streaming. A request that the engine aborts ends with the finish reason `abort` or `error`, under HTTP 200.

    The ids must be those of the event alone: by default SGLang sends all ids so far; a flag at its start changes
    that."""
    sent = _generated(data)
    if sent.error:
        return Event(error=error_text(sent.error))
    ids, meta, finish = sent.output_ids or (), sent.meta_info, sent.meta_info.finish_reason or _Finish()
    if finish.type in ("abort", "error"):
        return Event(error=finish.message or "aborted by the engine")
    total = meta.completion_tokens
    return Event(len(ids), total, bool(sent.text), ids, finish.type, meta.prompt_tokens, total, meta.cached_tokens)


def error_text(error: object) -> str:
    """The message of an error event in either shape: an object with `message`, or a plain string."""
    if isinstance(error, Mapping):
        return str(error.get("message") or json.dumps(error))
    return str(error)
