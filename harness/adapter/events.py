"""One event of a stream in a form that all engines share, and the parsers of two stream formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

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
    reasoning: bool = False  # the output is reasoning
    reasoned: int = 0  # tokens of reasoning among the reported ones, whether or not their text was sent


# Parses the bytes of one event's data; ValueError if they are not an event of this engine.
Parse = Callable[[bytes], Event]


# Counts beyond this do not fit into what is stored; no engine has them.
COUNT_LIMIT = 2**31 - 1
_Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_LIMIT)]


class _Delta(msgspec.Struct):
    # A chat's first event has only the role; reasoning and tool calls count as output like any other text.
    role: Any = None
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: Any = None
    function_call: Any = None
    refusal: Any = None


class _Details(msgspec.Struct):
    cached_tokens: _Count | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: _Count | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _OutputDetails | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None
    token_ids: tuple[int, ...] | None = None
    finish_reason: str | None = None
    usage: _Usage | None = None  # some servers put it here


class _OpenAIEvent(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    object: str | None = None
    message: Any = None


_openai_event = msgspec.json.Decoder(_OpenAIEvent).decode
_NO_USAGE, _NO_DETAILS = _Usage(), _Details()
_NO_REASONING: Mapping[str, Any] = {}


def openai_stream(data: bytes) -> Event:
    """Reads one event of an OpenAI-compatible stream, of completions or of chat.

    Tokens are counted by the ids if the engine sends them, else by the usage, running or final; never by the number
    of events, which engines merge under load."""
    try:
        event = _openai_event(data)
    except ValueError:  # slow path: a field is not what it should be
        event = _openai_tolerant(_loose(data))
    if event.error or event.object == "error":  # either field, or the whole event
        return Event(error=error_text(event.error or event.message or "no reason given"))
    choice = event.choices[0] if event.choices else None
    usage = event.usage or (choice and choice.usage) or _NO_USAGE
    cached = (usage.prompt_tokens_details or _NO_DETAILS).cached_tokens
    total = reported = usage.completion_tokens
    reasoned = 0
    if usage.completion_tokens_details is not None:
        reasoned = usage.completion_tokens_details.reasoning_tokens or 0
    if choice is None:
        return Event(None, total, False, (), None, usage.prompt_tokens, total, cached, reasoned=reasoned)
    ids, text, reasoning = choice.token_ids, choice.text, False
    if not text and choice.delta is not None:
        delta = choice.delta
        text = delta.content or delta.tool_calls or delta.function_call or delta.refusal
        if not text:
            text = delta.reasoning_content or delta.reasoning
            reasoning = bool(text)
        if not text and delta.role and not choice.finish_reason:
            total = None  # who speaks is no token, whatever the usage beside it says
    if choice.finish_reason == "error":  # a gateway whose own server failed
        return Event(error="the server ended the answer with finish_reason error")
    tokens = None if ids is None else len(ids)
    finish = choice.finish_reason
    prompt = usage.prompt_tokens
    if reasoning or reasoned:
        return Event(
            tokens,
            total,
            bool(text),
            ids or (),
            finish,
            prompt,
            reported,
            cached,
            reasoning=reasoning,
            reasoned=reasoned,
        )
    return Event(tokens, total, bool(text), ids or (), finish, prompt, reported, cached)


def _openai_tolerant(sent: Mapping[str, Any]) -> _OpenAIEvent:
    """The same fields where one is not of its type: a field that is not needed is left out, an odd count is none."""
    choices = sent.get("choices")
    first = _mapping(choices[0]) if isinstance(choices, list) and choices else None
    event = _OpenAIEvent(usage=_usage(sent.get("usage")), error=sent.get("error"), message=sent.get("message"))
    event.object = _text(sent.get("object"))
    if first is not None:
        delta, ids = first.get("delta"), first.get("token_ids")
        choice = _Choice(_text(first.get("text")), finish_reason=_text(first.get("finish_reason")))
        choice.usage = _usage(first.get("usage"))
        if isinstance(delta, Mapping):
            choice.delta = _Delta(**{name: delta.get(name) for name in _Delta.__struct_fields__})
        choice.token_ids = tuple(ids) if isinstance(ids, list) else None  # how many there are counts, odd or not
        event.choices = [choice]
    return event


def _usage(value: Any) -> _Usage | None:
    if not isinstance(value, Mapping):
        return None
    cached = count(_mapping(value.get("prompt_tokens_details")).get("cached_tokens"))
    reasoned = count(_mapping(value.get("completion_tokens_details")).get("reasoning_tokens"))
    prompt, output = count(value.get("prompt_tokens")), count(value.get("completion_tokens"))
    return _Usage(prompt, output, _Details(cached), _OutputDetails(reasoned))


class _Finish(msgspec.Struct):
    type: str | None = None
    message: str | None = None


class _Meta(msgspec.Struct):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None  # so far
    cached_tokens: _Count | None = None
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
    try:
        sent = _generated(data)
    except ValueError:  # slow path: a field is not what it should be
        sent = _generate_tolerant(_loose(data))
    if sent.error:
        return Event(error=error_text(sent.error))
    ids, meta, finish = sent.output_ids, sent.meta_info, sent.meta_info.finish_reason or _Finish()
    if finish.type in ("abort", "error"):
        return Event(error=finish.message or "aborted by the engine")
    total, tokens = meta.completion_tokens, None if ids is None else len(ids)
    return Event(tokens, total, bool(sent.text), ids or (), finish.type, meta.prompt_tokens, total, meta.cached_tokens)


def _generate_tolerant(sent: Mapping[str, Any]) -> _Generated:
    meta, ids = _mapping(sent.get("meta_info")), sent.get("output_ids")
    reason = meta.get("finish_reason")
    finish = _mapping(reason) if isinstance(reason, Mapping) else {"type": reason}
    found = _Meta(count(meta.get("prompt_tokens")), count(meta.get("completion_tokens")))
    found.cached_tokens = count(meta.get("cached_tokens"))
    found.finish_reason = _Finish(_text(finish.get("type")), _text(finish.get("message")))
    return _Generated(
        text=_text(sent.get("text")),
        output_ids=tuple(ids) if isinstance(ids, list) else None,
        meta_info=found,
        error=sent.get("error"),
    )


def _loose(data: bytes) -> Mapping[str, Any]:
    """An event's JSON object, read by the tolerant reader of Python: NaN, halves of a character, control characters
    and numbers of any size up to what int() takes. Raises ValueError if it is no JSON object."""
    value = json.loads(data.decode(errors="replace"), strict=False)
    if not isinstance(value, Mapping):
        raise msgspec.ValidationError(f"Expected `object`, got `{type(value).__name__}`")
    return value


def count(value: Any) -> int | None:
    """A count as it came over the wire; None for what cannot be one: a truth value, text, a fraction, a negative number
    or one that is too large to be stored."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= COUNT_LIMIT:
        return None
    return int(value) if value == int(value) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def error_text(error: object) -> str:
    """The message of an error event in either shape: an object with `message`, or a plain string."""
    if isinstance(error, Mapping):
        error = error.get("message") or error
    return error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
