"""A server with the OpenAI routes of which every word is decided here: it counts prompts as it is told to."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.driver.address import Address
from tests.wire import END, HEAD, chunked, wire_server
from tests.wire_engines.onwire import tiny_texts


def answer(text: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


@dataclass
class Server:
    """`offset`: tokens that it counts beside those of a prompt of so many; null: it counts none. `pages`: what GET
    answers, else 404."""

    offset: Callable[[int], int] | None = lambda sent: 0
    pages: Mapping[str, bytes] = field(default_factory=dict)
    refuses: bytes = b""
    asked: list[dict[str, Any]] = field(default_factory=list)
    got: list[str] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)  # what requests have as Authorization


def models(*names: str) -> bytes:
    return answer(json.dumps({"object": "list", "data": [{"id": name} for name in names]}))


@contextlib.contextmanager
def serving(server: Server, tls: ssl.SSLContext | None = None) -> Iterator[Address]:
    heard: list[bytes] = []

    def script(n: int) -> list[bytes]:
        head = heard[-1].split(b"\r\n\r\n")[0].decode()
        server.keys.update(re.findall(r"(?im)^authorization: *(.*?)\r?$", head) or [None])
        method, path, _ = heard[-1].split(b"\r\n")[0].decode().split(" ")
        if method == "GET":
            server.got.append(path)
            return [server.pages.get(path, answer("{}", "404 Not Found"))]
        server.asked.append(json.loads(heard[-1].split(b"\r\n\r\n", 1)[1]))
        return [server.refuses or completion(server, server.asked[-1])]

    with wire_server(script, tls, heard) as address:
        yield address


def completion(server: Server, body: Mapping[str, Any]) -> bytes:
    """As many words as were asked for, and the usage."""
    prompt, words = body.get("prompt"), body.get("max_completion_tokens") or body["max_tokens"]
    if prompt is None:
        prompt = body["messages"][0]["content"]
    sent = len(tiny_texts().tokenizer.encode(prompt).ids) if isinstance(prompt, str) else len(prompt)
    usage: dict[str, Any] = {"completion_tokens": words}
    if server.offset:
        usage["prompt_tokens"] = sent + server.offset(sent)
    if not body.get("stream"):
        return answer(json.dumps({"choices": [{"text": " a" * words, "finish_reason": "length"}], "usage": usage}))
    chat = "messages" in body
    says = {"delta": {"content": " a"}} if chat else {"text": " a"}
    events = [{"choices": [{**says, "finish_reason": "length" if i + 1 == words else None}]} for i in range(words)]
    lines = [f"data: {json.dumps(event)}\n\n" for event in [*events, {"choices": [], "usage": usage}]]
    return HEAD + b"".join(chunked(line.encode()) for line in [*lines, "data: [DONE]\n\n"]) + END
