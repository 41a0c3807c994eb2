"""The null server's protocol: parses requests, and encodes the events of answers."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

VOCABULARY = 8192
BODY_BYTES = 1 << 28
DEFAULT_LENGTH = 16  # OpenAI's, of a completion that does not say
_PROMPT_IDS = re.compile(rb'"prompt"\s*:\s*\[')


# -- HTTP ------------------------------------------------------------------------------------------------


class Refused(Exception):
    """A request that is answered with an error: the HTTP status and a message."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request; `length`: of the body, in bytes."""

    method: str
    path: str
    length: int
    close: bool
    waits: bool  # for `100 Continue` before it sends the body


def parse_head(raw: bytes) -> Head:
    """Parses a request's head. Raises Refused unless it is HTTP/1.1 with a body of known length."""
    lines = raw.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/"):
        raise Refused("400 Bad Request", "no HTTP request line")
    if words[2] != "HTTP/1.1":
        raise Refused("505 HTTP Version Not Supported", "only HTTP/1.1 is supported")
    fields = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise Refused("400 Bad Request", "a header field without a colon")
        fields[name.lower()] = value.strip().lower()
    if "transfer-encoding" in fields:
        raise Refused("411 Length Required", "a chunked body; send Content-Length")
    length = fields.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise Refused("400 Bad Request", "Content-Length is no number")
    if len(length) > 12 or int(length) > BODY_BYTES:
        raise Refused("413 Content Too Large", f"a body of more than {BODY_BYTES} bytes")
    path = words[1].partition("?")[0]
    close = "close" in fields.get("connection", "")
    return Head(words[0], path, int(length), close, fields.get("expect") == "100-continue")


def page(payload: object, status: str = "200 OK", content_type: str = "application/json", extra: str = "") -> bytes:
    """A complete response; `payload` is sent unchanged if it is bytes, else as JSON."""
    body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chunk(event: bytes) -> bytes:
    """One server-sent event as one HTTP chunk."""
    return b"%x\r\ndata: %s\n\n\r\n" % (len(event) + 8, event)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM_END = chunk(b"[DONE]") + b"0\r\n\r\n"


# -- what is asked ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StreamOptions:
    include_usage: bool = False
    continuous_usage_stats: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    content: str | list[Any] | None = None


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a request that are used; others are ignored."""

    prompt: str | list[Any] | None = None
    messages: list[Message] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    return_token_ids: bool | None = False


_decode = msgspec.json.Decoder(Fields).decode


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A parsed request: `start` of the walk, lengths in tokens."""

    chat: bool
    start: int
    prompt_tokens: int
    length: int
    stream: bool
    ids: bool
    running_usage: bool
    final_usage: bool


def parse_body(body: bytes | bytearray, chat: bool) -> CompletionRequest:
    """Parses a request's body. Raises Refused if it is not a completion request.

    The ids of a prompt are only counted, by their commas: parsing 50,000 of them would delay every other stream by
    5 ms, which would count as the client's error."""
    at = None if chat else _PROMPT_IDS.search(body)
    ids: bytes | bytearray | None = None
    if at is not None:
        end = body.find(b"]", at.end())
        inside = body[at.end() : end]
        if end >= 0 and inside.find(b"[") < 0 and inside.find(b'"') < 0:
            ids = inside
            body = body[: at.end()] + body[end:]
    try:
        fields = _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as problem:
        raise Refused("400 Bad Request", f"the body is no completion request: {problem}") from None
    if ids is not None and fields.prompt == [] and not ids.isspace() and ids:
        count, start = ids.count(b",") + 1, zlib.crc32(ids)
    else:
        count, start = _prompt(fields, chat)
    length = fields.max_tokens if fields.max_completion_tokens is None else fields.max_completion_tokens
    length = DEFAULT_LENGTH if length is None else length
    if length < 1:
        raise Refused("400 Bad Request", f"{length} tokens asked for; at least 1")
    options, with_ids = fields.stream_options or StreamOptions(), bool(fields.return_token_ids)
    running = with_ids or options.continuous_usage_stats
    return CompletionRequest(chat, start, count, length, bool(fields.stream), with_ids, running, options.include_usage)


def _prompt(fields: Fields, chat: bool) -> tuple[int, int]:
    """Number of tokens and start of the walk for a prompt that is not a flat list of ids: its words count as tokens."""
    if chat:
        if fields.messages is None:
            raise Refused("400 Bad Request", "no messages")
        text = " ".join(_texts(fields.messages))
    else:
        prompt = fields.prompt
        if isinstance(prompt, list) and len(prompt) == 1:
            prompt = prompt[0]
        if isinstance(prompt, list) and prompt and all(type(i) is int for i in prompt):
            return len(prompt), zlib.crc32(msgspec.json.encode(prompt)[1:-1])
        if not isinstance(prompt, str):
            raise Refused("400 Bad Request", "the prompt is neither one text nor one list of token ids")
        text = prompt
    return max(1, len(text.split())), zlib.crc32(text.encode(errors="surrogatepass"))


def _texts(messages: Sequence[Message]) -> Iterator[str]:
    for message in messages:
        if isinstance(message.content, str):
            yield message.content
        for part in message.content if isinstance(message.content, list) else ():
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                yield part["text"]


# -- what is answered ------------------------------------------------------------------------------------


def walk(start: int, length: int) -> list[int]:
    """The ids that this server answers with, from the walk's start."""
    return [(start + 2049 * i) % VOCABULARY for i in range(length)]


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, object]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def whole_answer(asked: CompletionRequest, number: int) -> bytes:
    """The response to a request without streaming."""
    text = " x" * asked.length
    choice: dict[str, object] = {"index": 0, "finish_reason": "length"}
    choice |= {"message": {"role": "assistant", "content": text}} if asked.chat else {"text": text}
    if asked.ids:
        choice["token_ids"] = walk(asked.start, asked.length)
    kind = "chat.completion" if asked.chat else "text_completion"
    named = {"id": f"{_id_prefix(asked)}-{number}", "object": kind, "created": 0, "model": "bench"}
    return page({**named, "choices": [choice], "usage": usage(asked.prompt_tokens, asked.length)})


def _id_prefix(asked: CompletionRequest) -> str:
    return "chatcmpl" if asked.chat else "cmpl"


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """The events of one answer, as far as they are known before it starts."""

    numbers: int  # to format into a token's event: 3 with the id, 2 with usage alone, 0: it is a complete chunk
    token: bytes
    last: bytes
    before: bytes  # chunks that are sent with the first token
    after: bytes  # and with the last one


def answer_shape(asked: CompletionRequest, number: int) -> AnswerShape:
    named = ""
    if not asked.ids:
        kind = "chat.completion.chunk" if asked.chat else "text_completion"
        named = f'"id":"{_id_prefix(asked)}-{number}","object":"{kind}","created":0,"model":"bench",'
    counted = ""
    if asked.running_usage:
        counted = (
            f',"usage":{{"prompt_tokens":{asked.prompt_tokens},"completion_tokens":%d,"total_tokens":%d,'
            '"prompt_tokens_details":{"cached_tokens":0}}'
        )

    def event(content: str, finish: str, counted: str, ids: str = "") -> bytes:
        choice = f'{{"index":0,{content}{ids},"finish_reason":{finish}}}'
        return f'{{{named}"choices":[{choice}]{counted}}}'.encode()

    ids = ',"token_ids":[%d]' if asked.ids else ""
    text = '"delta":{"content":" x"}' if asked.chat else '"text":" x"'
    token = event(text, "null", counted, ids)
    before = STREAM_HEAD
    after = b""
    if asked.chat:
        before += chunk(event('"delta":{"role":"assistant","content":""}', "null", ""))
        after += chunk(event('"delta":{}', '"length"', ""))
    if asked.final_usage:
        total = msgspec.json.encode(usage(asked.prompt_tokens, asked.length))
        after += chunk(b'{%s"choices":[],"usage":%s}' % (named.encode(), total))
    last = token if asked.chat else event(text, '"length"', counted, ids)
    after += STREAM_END
    if asked.running_usage:
        return AnswerShape(3 if asked.ids else 2, token, last, before, after)
    return AnswerShape(0, chunk(token), chunk(last), before, after)
